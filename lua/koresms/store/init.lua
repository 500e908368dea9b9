--- A store: messages that survive the process, and one quota for all who send from it.
--
-- A row is marked `sending` durably before the first byte of its message leaves. What a crash
-- leaves in that state becomes `unknown`, and no `unknown` row is sent again unless a person says
-- so. Adding, resolving and the rest wait for the database, which inside nginx holds up a worker.
-- @module koresms.store
local adding = require "koresms.store.adding"
local base = require "koresms.store.base"
local campaigns = require "koresms.store.campaigns"
local limits = require "koresms.store.limits"
local link = require "koresms.store.link"
local location = require "koresms.store.location"
local misuse = require "koresms.misuse"
local output = require "koresms.store.text"
local sources = require "koresms.sources"
local config = require "koresms.config"
local e164 = require("koresms.core").e164

local M = {}

local check_self, check_string, failed = base.check_self, base.check_string, base.failed
local open, open_campaign = base.open, base.open_campaign

local store = {}
for name, method in pairs(campaigns) do store[name] = method end

--- Adds messages to a campaign. Whoever is there already, by `dedupe`, else `id`, else `to`, is
-- counted and left as it is, so that adding the same again goes on where it was.
-- @function store:add
-- @tparam string name of the campaign
-- @param messages an array, or a function that returns the next one, of `to`, `from`, `id`,
--   `dedupe`, `expires` (RFC 3339 with a zone)
-- @treturn[1] number how many were added
-- @treturn[1] number how many were there
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "invalid_number", "config" or "store"
-- @treturn[2] ?number the place of the message that will not do; those before it were added
function store:add(name, messages, ...)
  misuse.check_arity("add", 3, ...)
  local given = type(messages)
  if given ~= "table" and given ~= "function" then
    misuse.raise(("bad argument #2 to 'add' (table or function expected, got %s)"):format(given))
  end
  local conn, row, code = open_campaign(self, "add", name, true)
  if not conn then return nil, row, code end
  if row.state == "cancelled" then
    return nil, ("campaign %s is cancelled"):format(output.name(name)), "config"
  end
  local added, duplicates, reason, index = adding.run(conn, row.id, messages)
  if added then return added, duplicates end
  if reason == "store" then return failed(self, duplicates) end
  return nil, duplicates, reason, index
end

--- The messages of a campaign, one after another.
-- @function store:rows
-- @tparam string name
-- @tparam[opt] string state only those in this state
-- @treturn[1] function an iterator of tables: `to`, `from`, `id`, `dedupe`, `state`, `code`,
--   `attempts`, `at`, `detail`. Where the store fails on the way, it ends, and `store:failure`
--   says why
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function store:rows(name, state, ...)
  misuse.check_arity("rows", 3, ...)
  if state ~= nil then
    check_string("rows", 2, state, "the state")
    if not output.states[state] then
      misuse.raise(("bad argument #2 to 'rows' (%s)"):format(misuse.unknown("state", state,
        output.states)))
    end
  end
  local conn, row, code = open_campaign(self, "rows", name)
  if not conn then return nil, row, code end
  local page, text = conn:run("rows", row.id, state, 0)
  if not page then return failed(self, text) end
  local at, last = 0, 0
  return function()
    at = at + 1
    if page and at > #page and #page > 0 then
      local why
      page, why = conn:run("rows", row.id, state, last)
      at = 1
      if not page then failed(self, why) end
    end
    local found = page and page[at]
    if not found then return nil end
    last = found.id
    found.id, found.ref = found.ref, nil
    return found
  end
end

local suppress_types = { remove = "boolean" }

--- Numbers that get nothing from this store, whatever is added; looked at when a message is about
-- to be sent.
-- @function store:suppress
-- @tparam table numbers an array
-- @tparam[opt] table options `remove`: take them off the list
-- @treturn[1] number how many were put on the list, or taken off
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "invalid_number" or "store"
-- @treturn[2] ?number the place of the invalid number
function store:suppress(numbers, options, ...)
  check_self(self, "suppress")
  misuse.check_arity("suppress", 3, ...)
  options = options or {}
  misuse.check("bad argument #2 to 'suppress'", "option", options, suppress_types)
  if type(numbers) ~= "table" then
    misuse.raise(("bad argument #1 to 'suppress' (table expected, got %s)"):format(type(numbers)))
  end
  for i, number in ipairs(numbers) do
    if type(number) ~= "string" then
      misuse.raise(("bad argument #1 to 'suppress' (number %d: string expected, got %s)"):format(i,
        type(number)))
    end
    local ok, why = e164(number)
    if not ok then return nil, why, "invalid_number", i end
  end
  local conn, text = open(self, true)
  if not conn then return failed(self, text) end
  local changed
  changed, text = adding.suppress(conn, numbers, options.remove)
  if not changed then return failed(self, text) end
  return changed
end

local quota_types = {
  per_minute = { number = true, boolean = true, text = "number or false" },
  per_hour = { number = true, boolean = true, text = "number or false" },
}

-- The limits that a store has.
local function limits_of(self)
  local conn, text = open(self)
  if not conn then return failed(self, text) end
  local rows
  rows, text = conn:run("account")
  if not rows then return failed(self, text) end
  return { per_minute = rows[1].per_minute or false, per_hour = rows[1].per_hour or false }
end

--- Sets the limits of the store, for all who send from it; or says what they are.
-- @function store:quota
-- @tparam[opt] table limits `per_minute`, `per_hour`: numbers, or false for none; what is not
--   named stays. Without it nothing is changed.
-- @treturn[1] boolean true; without limits a table of those that there are
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function store:quota(wanted, ...)
  check_self(self, "quota")
  misuse.check_arity("quota", 2, ...)
  if wanted == nil then return limits_of(self) end
  misuse.check("bad argument #1 to 'quota'", "option", wanted, quota_types)
  for name, limit in pairs(wanted) do
    local fault = limit and (limit == true and "expected a number or false"
      or config.settings[name].check(limit))
    if fault then return nil, ("%s: %s"):format(name, fault), "config" end
  end
  local conn, text = open(self, true)
  if not conn then return failed(self, text) end
  local ok
  ok, text = limits.set(conn, wanted)
  if not ok then return failed(self, text) end
  return true
end

--- Why the last loop over `run` or `rows` ended early: where the store failed.
-- @function store:failure
-- @treturn ?string nil where it did not
-- @treturn ?string the code "store"
function store:failure(...)
  check_self(self, "failure")
  misuse.check_arity("failure", 1, ...)
  local problem = self.own().problem
  if problem then return problem, "store" end
  return nil
end

--- Sends what is due, until the campaigns have nothing left, and gives each result once it is
-- stored. See the page on campaigns.
-- @function store:run
-- @tparam[opt] table options `client`; `campaigns`: an array of names (default: all);
--   `concurrency` (16); `stay`: go on waiting for what comes; `stop`: a function that is asked
--   at least twice a second, and once it returns true nothing more starts
-- @treturn function an iterator of results, as of `client:send_many`, with `campaign`
function store:run(options, ...)
  check_self(self, "run")
  misuse.check_arity("run", 2, ...)
  self.own().problem = nil
  return require("koresms.store.run").open(self, options or {}, open, failed)
end

--- Closes the store. It may be called twice, and is opened again when it is used.
-- @function store:close
function store:close(...)
  check_self(self, "close")
  misuse.check_arity("close", 1, ...)
  self.own().link:close()
end

local metatable = {
  __index = store, __name = base.NAME, __metatable = base.NAME,
  __close = function(self) self:close() end,
  __tostring = function(self)
    return ("koresms.store (%s)"):format(self.own().link.location.shown)
  end,
}

-- The location that the settings name.
local function configured()
  local levels, _, fault = sources.levels(config.settings, {})
  if not levels then return nil, fault end
  for _, level in ipairs(levels) do
    if level.values.store then return level.values.store end
  end
  return nil, "no store is named: set KORESMS_STORE, or the file key store, to a file of SQLite or "
    .. "to postgres://..."
end

--- Opens a store. A file that is not there yet is made by what puts something into it.
-- @function open
-- @local
-- @tparam function new_client `koresms.new`, for runs that are given no client
-- @tparam[opt] string where a file of SQLite, or `postgres://...`; default: the setting `store`
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function M.open(new_client, where, ...)
  misuse.check_arity("store", 2, ...)
  local text
  if where == nil then
    where, text = configured()
    if not where then return nil, text, "config" end
  else
    check_string("store", 1, where, "the store's location")
  end
  local parsed
  parsed, text = location.parse(where)
  if not parsed then return nil, text, "config" end
  local made
  made, text = link.new(parsed)
  if not made then return nil, text, "config" end
  local own = { link = made, problem = nil, new_client = new_client }
  -- Behind a function: whatever prints tables may print a store, and its address may hold a
  -- password.
  local self = setmetatable({ own = function() return own end }, metatable)
  if not made:is_absent() then
    local ok, why, code = made:open()
    if not ok and code ~= "none" then return nil, why, "store" end
  end
  return self
end

return M
