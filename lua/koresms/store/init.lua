--- A store: messages that survive the process, and one quota for all who send from it.
--
-- A row is marked `sending` durably before the first byte of its message leaves. What a crash
-- leaves in that state becomes `unknown`, and no `unknown` row is sent again unless a person says
-- so. Adding, resolving and the rest wait for the database, which inside nginx holds up a worker.
-- @module koresms.store
local adding = require "koresms.store.adding"
local limits = require "koresms.store.limits"
local link = require "koresms.store.link"
local location = require "koresms.store.location"
local misuse = require "koresms.misuse"
local moment = require "koresms.store.moment"
local output = require "koresms.store.text"
local sources = require "koresms.sources"
local config = require "koresms.config"
local e164 = require("koresms.core").e164

local M = {}

local NAME = "koresms.store"

local store = {}

local function check_self(self, method)
  if getmetatable(self) ~= NAME then
    misuse.raise(("calling '%s' without a store (write store:%s)"):format(method, method))
  end
end

local function check_string(method, place, value, what)
  if type(value) ~= "string" then
    misuse.raise(("bad argument #%d to '%s' (%s: string expected, got %s)"):format(place, method,
      what, type(value)))
  end
end

-- Keeps why the store failed, and returns it as this API does.
local function failed(self, text)
  self.own().problem = text
  return nil, text, "store"
end

-- The open link. `create` makes a missing store, with the limits of this program's settings.
local function open(self, create)
  local own = self.own()
  local conn = own.link
  local ok, made, code = conn:open(create)
  if not ok then return nil, made, code end
  if made then
    local wanted, fault = limits.of_settings()
    if not wanted then return nil, fault, "config" end
    ok, made, code = limits.set(conn, wanted)
    if not ok then return nil, made, code end
  end
  return conn
end

-- The link and a campaign's row. An unknown campaign is "config".
local function open_campaign(self, method, name, create)
  check_self(self, method)
  check_string(method, 1, name, "the campaign's name")
  local conn, text = open(self, create)
  if not conn then return failed(self, text) end
  local rows
  rows, text = conn:run("campaign", name)
  if not rows then return failed(self, text) end
  if rows[1] then return conn, rows[1] end
  return nil, ("no campaign is called %s in store %s"):format(output.name(name),
    conn.location.shown), "config"
end

-- Runs one of the statements that write in pieces until there is nothing left. Returns how many
-- rows were written.
local function in_pieces(self, conn, statement, ...)
  local total = 0
  while true do
    local rows, text = conn:run(statement, ...)
    if not rows then return failed(self, text) end
    total = total + rows.changes
    if rows.changes == 0 then return total end
  end
end

local create_types = { name = "string", from = "string", expires = "string", importing = "boolean" }

--- Makes a campaign, which is paused.
-- @function store:create
-- @tparam table campaign `name`; `from`: the sender of messages that name none; `expires`: when
--   what has not been sent is not sent any more (RFC 3339 with a zone)
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config", "invalid_number" or "store"
function store:create(campaign, ...)
  check_self(self, "create")
  misuse.no_more("create", 2, ...)
  local where = "bad argument #1 to 'create'"
  misuse.check(where, "field", campaign, create_types)
  if campaign.name == nil then misuse.raise(where .. " (field 'name': string expected, got nil)") end
  local fault = output.name_fault(campaign.name)
  if fault then return nil, "name: " .. fault, "config" end
  if campaign.from then
    local ok, why = e164(campaign.from)
    if not ok then return nil, "from: " .. why, "invalid_number" end
  end
  local expires
  if campaign.expires then
    expires, fault = moment.parse(campaign.expires)
    if not expires then return nil, "expires: " .. fault, "config" end
    if expires <= require("koresms.core").time() then
      return nil, "expires: this time is over", "config"
    end
  end
  local conn, text = open(self, true)
  if not conn then return failed(self, text) end
  local rows
  rows, text = conn:run("create", campaign.name, campaign.from, expires,
    campaign.importing and "importing" or "paused", campaign.importing and "its import has not ended"
      or "new")
  if not rows then return failed(self, text) end
  if not rows[1] then
    return nil, ("there is a campaign called %s already"):format(output.name(campaign.name)), "config"
  end
  conn:run("event", rows[1].id, "create")
  return true
end

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
  misuse.no_more("add", 3, ...)
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

-- Changes a campaign's state, and writes down that it was changed.
local function change(self, conn, campaign, state, reason, from, what)
  local rows, text = conn:run("set_state", campaign.id, state, reason, from)
  if not rows then return failed(self, text) end
  if rows.changes == 0 then
    return nil, ("campaign %s is %s"):format(output.name(campaign.name), campaign.state), "config"
  end
  rows, text = conn:run("event", campaign.id, what, reason)
  if not rows then return failed(self, text) end
  return true
end

local resume_types = { accept = "boolean", imported = "boolean" }

--- Has a campaign run: workers take its messages.
-- @function store:resume
-- @tparam string name
-- @tparam[opt] table options `accept`: the database was promoted or restored, and what the last
--   marks were may be lost; go on all the same
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function store:resume(name, options, ...)
  misuse.no_more("resume", 3, ...)
  options = options or {}
  misuse.check("bad argument #2 to 'resume'", "option", options, resume_types)
  local conn, row, code = open_campaign(self, "resume", name)
  if not conn then return nil, row, code end
  if row.state == "importing" and not options.imported then
    return nil, ("the import of campaign %s has not ended; run it again, which goes on where it "
      .. "was, or cancel the campaign"):format(output.name(name)), "config"
  end
  if options.accept then
    local ok, text = require("koresms.store.origin").accept(conn)
    if not ok then return failed(self, text) end
  end
  if row.state == "running" then return true end
  return change(self, conn, row, "running", nil, nil, "resume")
end

--- Has a campaign wait. What is in flight ends; a worker sees it one turn later at most.
-- @function store:pause
-- @tparam string name
-- @tparam[opt] string reason
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function store:pause(name, reason, ...)
  misuse.no_more("pause", 3, ...)
  if reason ~= nil then check_string("pause", 2, reason, "the reason") end
  local conn, row, code = open_campaign(self, "pause", name)
  if not conn then return nil, row, code end
  if row.state == "importing" then
    return nil, ("campaign %s is being imported; no worker takes it"):format(output.name(name)), "config"
  end
  return change(self, conn, row, "paused", output.reason(reason or "paused"), nil, "pause")
end

--- Ends a campaign: what has not been sent is skipped.
-- @function store:cancel
-- @tparam string name
-- @treturn[1] number how many messages were skipped
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function store:cancel(name, ...)
  misuse.no_more("cancel", 2, ...)
  local conn, row, code = open_campaign(self, "cancel", name)
  if not conn then return nil, row, code end
  if row.id == 1 then return nil, "the outbox cannot be cancelled; pause it", "config" end
  if row.state ~= "cancelled" then
    local ok, text
    ok, text, code = change(self, conn, row, "cancelled", "cancelled", nil, "cancel")
    if not ok then return nil, text, code end
  end
  return in_pieces(self, conn, "skip_cancelled")
end

local resolve_types = { unknown = "string", rejected = "string", code = "string", shown = "number",
  count = "boolean" }

local resolutions = { unknown = { resend = "pending", skip = "skipped" },
  rejected = { retry = "pending" } }

-- Which rows, and what becomes of them: `from`, `to`. Raises on misuse.
local function resolution(options)
  local where = "bad argument #2 to 'resolve'"
  misuse.check(where, "option", options, resolve_types)
  local from = options.unknown and "unknown" or "rejected"
  if (options.unknown == nil) == (options.rejected == nil) then
    misuse.raise(where .. " (one of the options 'unknown' and 'rejected' expected)")
  end
  local to = resolutions[from][options[from]]
  if not to then
    misuse.raise(("%s (option '%s': %s expected)"):format(where, from,
      from == "unknown" and "\"resend\" or \"skip\"" or "\"retry\""))
  end
  if options.code and from == "unknown" then
    misuse.raise(where .. " (option 'code' goes with 'rejected' alone)")
  end
  return from, to
end

--- Decides about messages of which nobody knows whether they were sent, or that were rejected.
-- A person's decision: a message that is sent again may arrive twice.
-- @function store:resolve
-- @tparam string name
-- @tparam table options `unknown`: "resend" or "skip"; or `rejected`: "retry", with `code`: only
--   those with this code
-- @treturn[1] number how many rows were changed
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function store:resolve(name, options, ...)
  misuse.no_more("resolve", 3, ...)
  check_self(self, "resolve")
  local from, to = resolution(options)
  local conn, row, code = open_campaign(self, "resolve", name)
  if not conn then return nil, row, code end
  local rows, text = conn:run("now")
  if not rows then return failed(self, text) end
  local shown = options.shown or rows[1].now
  if options.count then
    rows, text = conn:run("count_" .. from, row.id, shown, from == "rejected" and options.code or nil)
    if from == "unknown" then rows, text = conn:run("count_unknown", row.id, shown) end
    if not rows then return failed(self, text) end
    return rows[1].n, shown
  end
  conn:run("event", row.id, "resolve", from .. " " .. options[from])
  if from == "unknown" then return in_pieces(self, conn, "resolve_unknown", row.id, shown, to) end
  return in_pieces(self, conn, "retry_rejected", row.id, shown, options.code)
end

--- How far a campaign has come.
-- @function store:status
-- @tparam string name
-- @treturn[1] table `name`, `state`, `reason`, `total`, the number of messages in each state, and
--   `eta`: seconds until all are sent at the store's limits, or nil
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function store:status(name, ...)
  misuse.no_more("status", 2, ...)
  local conn, row, code = open_campaign(self, "status", name)
  if not conn then return nil, row, code end
  local found, text = require("koresms.store.status").of(conn, row)
  if not found then return failed(self, text) end
  return found
end

--- The names of the campaigns, in the order in which they were made.
-- @function store:campaigns
-- @treturn[1] table array of `name`, `state`, `reason`
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "store"
function store:campaigns(...)
  check_self(self, "campaigns")
  misuse.no_more("campaigns", 1, ...)
  local conn, text = open(self)
  if not conn then return failed(self, text) end
  local rows
  rows, text = conn:run("campaigns")
  if not rows then return failed(self, text) end
  rows.changes = nil
  return rows
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
  misuse.no_more("rows", 3, ...)
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
  local at = 0
  return function()
    at = at + 1
    if page and at > #page and #page > 0 then
      local why
      page, why = conn:run("rows", row.id, state, page[#page].id)
      at = 1
      if not page then failed(self, why) end
    end
    local found = page and page[at]
    if found then found.id, found.ref = found.ref, nil end
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
-- @treturn[2] ?number the place of the number that is none
function store:suppress(numbers, options, ...)
  check_self(self, "suppress")
  misuse.no_more("suppress", 3, ...)
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

--- Sets the limits of the store, for all who send from it.
-- @function store:quota
-- @tparam table limits `per_minute`, `per_hour`: numbers, or false for none; what is not named
--   stays
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function store:quota(wanted, ...)
  check_self(self, "quota")
  misuse.no_more("quota", 2, ...)
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
  misuse.no_more("failure", 1, ...)
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
  misuse.no_more("run", 2, ...)
  self.own().problem = nil
  return require("koresms.store.run").open(self, options or {}, open, failed)
end

--- Closes the store. It may be called twice, and is opened again when it is used.
-- @function store:close
function store:close(...)
  check_self(self, "close")
  misuse.no_more("close", 1, ...)
  self.own().link:close()
end

local metatable = {
  __index = store, __name = NAME, __metatable = NAME,
  __close = function(self) self:close() end,
  __tostring = function(self) return ("koresms.store (%s)"):format(self.own().link.location.shown) end,
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
-- @function koresms.store
-- @tparam[opt] string where a file of SQLite, or `postgres://...`; default: the setting `store`
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function M.open(where, ...)
  misuse.no_more("store", 2, ...)
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
  local own = { link = made, problem = nil }
  -- Behind a function: whatever prints tables may print a store, and its address may hold a password.
  local self = setmetatable({ own = function() return own end }, metatable)
  if not made:is_absent() then
    local ok, why, code = made:open(false)
    if not ok and code ~= "none" then return nil, why, "store" end
  end
  return self
end

return M
