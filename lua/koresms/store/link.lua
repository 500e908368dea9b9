--- The connection of a store: opened when it is needed, checked, brought to this version.
-- @module koresms.store.link
local mask = require "koresms.mask"
local utf8 = require "koresms.utf8"

local M = {}

--- Seconds that a statement may take.
M.LIMIT = 30

-- Seconds that a step of a migration may take.
local MIGRATION_LIMIT = 3600

local packages = {
  sqlite = { "koresms-sqlite", "libsqlite3-dev" },
  postgres = { "koresms-postgres", "libpq-dev" },
}

local Link = {}
Link.__index = Link

-- A text about this store, for people.
local function tell(self, text)
  return ("store %s: %s"):format(self.location.shown, utf8.clean(mask.text(text)))
end

local drivers = {
  sqlite = function() return require "koresms.sqlite" end,
  postgres = function() return require "koresms.postgres" end,
}

local function load_driver(kind)
  local ok, driver = pcall(drivers[kind])
  if ok then return driver end
  local why = tostring(driver):match("^[^\n]*")
  return nil, ("the module koresms.%s is not there%s; install the rock %s, or the Debian package "
    .. "lua-%s, or, for the source tree, %s, then make and make install again"):format(kind,
    why:find("not found", 1, true) and "" or " (" .. mask.text(why) .. ")", packages[kind][1],
    packages[kind][1], packages[kind][2])
end

--- Makes a link; nothing is opened.
-- @tparam table location of koresms.store.location
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
function M.new(location)
  local driver, text = load_driver(location.kind)
  if not driver then return nil, text end
  return setmetatable({ location = location, driver = driver, conn = nil, limit = M.LIMIT,
    dialect = require("koresms.store." .. location.kind) }, Link)
end

-- A statement failed. A connection of which nobody knows what became of its last statement is not
-- used again.
local function fail(self, text, code)
  if self.dialect.is_lost(code) then self:close() end
  return nil, tell(self, text), code
end

-- Takes the answer for the messages that the server is still adding. It belongs to whoever added
-- them, whatever is run in between.
local function settle_adding(self)
  local part = self.adding
  if not part then return end
  local rows, text, code = self.conn:finish()
  if rows then
    part.added = rows.changes
  else
    part.text, part.code = tell(self, text), code
  end
  self.adding = nil
  if not rows then fail(self, text, code) end
end

local function is_closed(self)
  settle_adding(self)
  return not self.conn
end

local CLOSED = "the connection is closed"

--- Runs a statement by its name.
-- @treturn[1] table rows
-- @treturn[2] nil
-- @treturn[2] string for people
-- @treturn[2] string the database's code
function Link:run(name, ...)
  if is_closed(self) then return nil, tell(self, CLOSED), "08003" end
  local rows, text, code = self.conn:run(self.dialect.statements[name], ...)
  if rows then return rows end
  return fail(self, text, code)
end

local function transact(self, body)
  local ok, text, code = self:run("begin")
  if not ok then return nil, text, code end
  local conn, result = self.conn
  result, text, code = body()
  if self.conn ~= conn then return nil, text or tell(self, CLOSED), code or "08003" end
  if result ~= nil then
    ok, text, code = self:run("commit")
    if ok then return result end
  end
  if self.conn then self:run("rollback") end
  return nil, text, code
end

-- Where an error broke off a transaction, it may still be open, and all that is run would belong to
-- it. Its connection is closed, which rolls it back.
local function leave_unsettled(self)
  if self.unsettled then self:close() end
end

--- Runs a function between `begin` and `commit`; it returns nil, text, code where it fails. It
-- must not open the link.
function Link:transaction(body)
  leave_unsettled(self)
  self.unsettled = true
  local result, text, code = transact(self, body)
  self.unsettled = false
  return result, text, code
end

-- Whether there is a store, and of which version. Returns a number, 0 where there is none.
local function version_of(self)
  local rows, text, code = self:run("has_schema")
  if not rows then return nil, text, code end
  local there = rows[1].there
  if there == true or there == 1 then
    rows, text, code = self:run("version")
    return rows and rows[1].version, text, code
  end
  if self.dialect.statements.tables then
    rows, text, code = self:run("tables")
    if not rows then return nil, text, code end
    if rows[1].n > 0 then
      return nil, tell(self, "the file is a database of another program"), "foreign"
    end
  end
  return 0
end

local function migrate(self, create)
  self.dialect.limit(self.conn, MIGRATION_LIMIT, self.location)
  local ok, text, code = self:transaction(function()
    local locked, why, reason = self:run("lock_schema")
    if not locked then return nil, why, reason end
    -- Another may have done it meanwhile.
    local version
    version, why, reason = version_of(self)
    if not version then return nil, why, reason end
    local made = version == 0
    for step = version + 1, #self.dialect.steps do
      for _, statement in ipairs(self.dialect.steps[step]) do
        local done
        done, why, reason = self.conn:run(statement)
        if not done then return fail(self, why, reason) end
      end
      if step > 1 then
        local set
        set, why, reason = self:run("set_version", step)
        if not set then return nil, why, reason end
      end
    end
    if made then return create(self) end
    return true
  end)
  if self.conn then self.dialect.limit(self.conn, self.limit, self.location) end
  return ok, text, code
end

-- What must be so before anything is promised.
local function check(self)
  if not self.dialect.statements.durability then return true end
  local rows, text, code = self:run("durability")
  if not rows then return nil, text, code end
  if rows[1].fsync ~= "on" then
    return nil, tell(self, "the server runs with fsync = off, so that a mark may be lost with its "
      .. "power, and a message be sent twice; set it to on"), "settings"
  end
  return true
end

local function connect(self, create)
  local conn, text, code = self.dialect.connect(self.driver, self.location,
    { create = create ~= nil, limit = self.limit })
  if not conn then return nil, tell(self, text), code end
  self.conn = conn
  return true
end

local NONE = "there is no store here; `koresms campaign import`, or store:create, makes one"

local function is_missing_file(self)
  if self.location.kind ~= "sqlite" then return false end
  local file = io.open(self.location.where, "rb")
  if file then file:close() end
  return file == nil
end

--- Is there a file, or a server, to ask whether there is a store?
function Link:is_absent()
  return is_missing_file(self)
end

--- Opens the connection, where it is not open.
-- @tparam ?function create makes a store where there is none: called inside the transaction that
--   makes it, with the link
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string the database's code, or "none", "newer", "foreign", "settings"
function Link:open(create)
  leave_unsettled(self)
  if self.conn and self.ready then return true end
  self:close()
  if not create and is_missing_file(self) then return nil, tell(self, NONE), "none" end
  local ok, text, code = connect(self, create)
  if not ok then return nil, text, code end
  local version
  version, text, code = version_of(self)
  local newest = #self.dialect.steps
  if version and version > newest then
    version, text, code = nil, tell(self, ("it is of version %d, and this koresms knows versions "
      .. "up to %d; a newer koresms is needed"):format(version, newest)), "newer"
  elseif version == 0 and not create then
    version, text, code = nil, tell(self, NONE), "none"
  end
  if version and version < newest then
    ok, text, code = migrate(self, create)
    if not ok then version = nil end
  end
  if version then
    ok, text, code = check(self)
    if not ok then version = nil end
  end
  if not version then
    self:close()
    return nil, text, code
  end
  self.ready = true
  return true
end

--- The connection, for as long as nothing may be open on it that an error broke off.
-- @treturn ?userdata nil where it is closed
function Link:connection()
  leave_unsettled(self)
  return self.conn
end

--- How long each statement may take from now on.
-- @tparam number seconds
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
function Link:set_limit(seconds)
  self.limit = seconds
  if not self:connection() or is_closed(self) then return true end
  local ok, text, code = self.dialect.limit(self.conn, seconds, self.location)
  if ok then return true end
  return fail(self, text, code)
end

--- Runs a turn; see koresms.store.postgres. Where an error breaks it off, nobody knows which rows
-- it took: the connection is closed before anything else.
function Link:turn(turn)
  leave_unsettled(self)
  if is_closed(self) then return nil, tell(self, CLOSED), "08003" end
  self.unsettled = true
  local rows, text, code = self.dialect.turn(self.conn, turn)
  self.unsettled = false
  if rows then return rows end
  return fail(self, text, code)
end

--- Adds messages; see koresms.store.postgres. The server works at it when this returns.
-- @treturn[1] table what `added` takes
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string
function Link:add(campaign, list)
  leave_unsettled(self)
  if is_closed(self) then return nil, tell(self, CLOSED), "08003" end
  local part = { added = nil, text = nil, code = nil }
  local rows, text, code = self.dialect.add(self.conn, campaign, list)
  if not rows then return fail(self, text, code) end
  if rows == true then self.adding = part else part.added = rows.changes end
  return part
end

--- Waits until messages have been added.
-- @tparam table part of `add`
-- @treturn[1] number how many were new
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string
function Link:added(part)
  if self.adding == part then settle_adding(self) end
  if part.added then return part.added end
  return nil, part.text, part.code
end

function Link:is_lost(code) return self.dialect.is_lost(code) end
function Link:is_bad_data(code) return self.dialect.is_bad_data(code) end

--- Closes the connection. It may be opened again.
function Link:close()
  local conn, part = self.conn, self.adding
  self.conn, self.ready, self.unsettled, self.adding = nil, false, false, nil
  if part then part.text, part.code = tell(self, CLOSED), "08003" end
  if conn then conn:close() end
end

return M
