--- The methods of a store that are about whole campaigns.
-- @module koresms.store.campaigns
local base = require "koresms.store.base"
local e164 = require("koresms.core").e164
local misuse = require "koresms.misuse"
local moment = require "koresms.store.moment"
local origin = require "koresms.store.origin"
local output = require "koresms.store.text"
local time = require("koresms.core").time

local campaigns = {}

local create_types = { name = "string", from = "string", expires = "string", importing = "boolean" }

--- Makes a campaign, which is paused.
-- @function store:create
-- @tparam table campaign `name`; `from`: the sender of messages that name none; `expires`: when
--   what has not been sent is not sent any more (RFC 3339 with a zone)
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config", "invalid_number" or "store"
function campaigns:create(campaign, ...)
  base.check_self(self, "create")
  misuse.check_arity("create", 2, ...)
  local where = "bad argument #1 to 'create'"
  misuse.check(where, "field", campaign, create_types)
  if campaign.name == nil then
    misuse.raise(where .. " (field 'name': string expected, got nil)")
  end
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
    if expires <= time() then
      return nil, "expires: this time is over", "config"
    end
  end
  local conn, text = base.open(self, true)
  if not conn then return base.failed(self, text) end
  local rows
  rows, text = conn:run("create", campaign.name, campaign.from, expires,
    campaign.importing and "importing" or "paused",
    campaign.importing and "its import has not ended" or "new")
  if not rows then return base.failed(self, text) end
  if not rows[1] then
    return nil, ("there is a campaign called %s already"):format(output.name(campaign.name)),
      "config"
  end
  rows, text = conn:run("event", rows[1].id, "create", nil)
  if not rows then return base.failed(self, text) end
  return true
end

-- Changes a campaign's state, and writes down that it was changed.
local function change(self, conn, campaign, state, reason, from, what)
  local rows, text = conn:run("set_state", campaign.id, state, reason, from)
  if not rows then return base.failed(self, text) end
  if rows.changes == 0 then
    return nil, ("campaign %s is %s"):format(output.name(campaign.name), campaign.state), "config"
  end
  rows, text = conn:run("event", campaign.id, what, reason)
  if not rows then return base.failed(self, text) end
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
function campaigns:resume(name, options, ...)
  misuse.check_arity("resume", 3, ...)
  options = options or {}
  misuse.check("bad argument #2 to 'resume'", "option", options, resume_types)
  local conn, row, code = base.open_campaign(self, "resume", name)
  if not conn then return nil, row, code end
  if row.state == "importing" and not options.imported then
    return nil, ("the import of campaign %s has not ended; run it again, which goes on where it "
      .. "was, or cancel the campaign"):format(output.name(name)), "config"
  end
  local ok, text
  if options.accept then
    ok, text = origin.accept(conn)
  else
    ok, text = origin.is_original(conn)
    if ok == false then return nil, origin.REASON, "config" end
  end
  if not ok then return base.failed(self, text) end
  if row.state == "running" then return true end
  return change(self, conn, row, "running", nil, nil, "resume")
end

--- Ends the import of a campaign, which is paused from then on.
-- @function store:finish_import
-- @local
function campaigns:finish_import(name)
  local conn, row, code = base.open_campaign(self, "finish_import", name)
  if not conn then return nil, row, code end
  return change(self, conn, row, "paused", "imported", "importing", "import")
end

--- Has a campaign wait. What is in flight ends; a worker sees it one turn later at most.
-- @function store:pause
-- @tparam string name
-- @tparam[opt] string reason
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function campaigns:pause(name, reason, ...)
  misuse.check_arity("pause", 3, ...)
  if reason ~= nil then base.check_string("pause", 2, reason, "the reason") end
  local conn, row, code = base.open_campaign(self, "pause", name)
  if not conn then return nil, row, code end
  if row.state == "importing" then
    return nil, ("campaign %s is being imported; no worker takes it"):format(output.name(name)),
      "config"
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
function campaigns:cancel(name, ...)
  misuse.check_arity("cancel", 2, ...)
  local conn, row, code = base.open_campaign(self, "cancel", name)
  if not conn then return nil, row, code end
  if row.id == 1 then return nil, "the outbox cannot be cancelled; pause it", "config" end
  if row.state ~= "cancelled" then
    local ok, text
    ok, text, code = change(self, conn, row, "cancelled", "cancelled", nil, "cancel")
    if not ok then return nil, text, code end
  end
  return base.in_pieces(self, conn, "skip_cancelled")
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
function campaigns:resolve(name, options, ...)
  misuse.check_arity("resolve", 3, ...)
  base.check_self(self, "resolve")
  local from, to = resolution(options)
  local conn, row, code = base.open_campaign(self, "resolve", name)
  if not conn then return nil, row, code end
  local rows, text = conn:run("now")
  if not rows then return base.failed(self, text) end
  local shown = options.shown or rows[1].now
  if options.count then
    if from == "unknown" then
      rows, text = conn:run("count_unknown", row.id, shown)
    else
      rows, text = conn:run("count_rejected", row.id, shown, options.code)
    end
    if not rows then return base.failed(self, text) end
    return rows[1].n, shown
  end
  rows, text = conn:run("event", row.id, "resolve", from .. " " .. options[from])
  if not rows then return base.failed(self, text) end
  if from == "unknown" then
    return base.in_pieces(self, conn, "resolve_unknown", row.id, shown, to)
  end
  return base.in_pieces(self, conn, "retry_rejected", row.id, shown, options.code)
end

--- How far a campaign has come.
-- @function store:status
-- @tparam string name
-- @treturn[1] table `name`, `state`, `reason`, `total`, the number of messages in each state, and
--   `eta`: seconds until all are sent at the store's limits, or nil
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function campaigns:status(name, ...)
  misuse.check_arity("status", 2, ...)
  local conn, row, code = base.open_campaign(self, "status", name)
  if not conn then return nil, row, code end
  local found, text = require("koresms.store.status").of(conn, row)
  if not found then return base.failed(self, text) end
  return found
end

--- The names of the campaigns, in the order in which they were made.
-- @function store:campaigns
-- @treturn[1] table array of `name`, `state`, `reason`
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "store"
function campaigns:campaigns(...)
  base.check_self(self, "campaigns")
  misuse.check_arity("campaigns", 1, ...)
  local conn, text = base.open(self)
  if not conn then return base.failed(self, text) end
  local rows
  rows, text = conn:run("campaigns")
  if not rows then return base.failed(self, text) end
  rows.changes = nil
  return rows
end

return campaigns
