--- `koresms campaign`: messages that survive the process.
--
-- Each action is a row here: `define(command)` for its options, `run(store, arguments)`, which
-- returns the exit status; `bare` where it needs no store.
local core = require "koresms.core"
local koresms = require "koresms"
local location = require "koresms.store.location"
local manage = require "koresms.cli.campaign_manage"
local output = require "koresms.cli.output"

local M = {}

M.summary = "Send many messages durably: a store keeps what became of each."

M.broken_text = "what the store has marked is not sent again by itself; see `koresms campaign status`"

local USAGE = 2

local actions = {
  { name = "import", module = require "koresms.cli.campaign_import" },
  { name = "run", module = require "koresms.cli.campaign_run" },
  { name = "status", module = require "koresms.cli.campaign_status" },
  { name = "pause", module = manage.pause },
  { name = "resume", module = manage.resume },
  { name = "cancel", module = manage.cancel },
  { name = "resolve", module = manage.resolve },
  { name = "export", module = require "koresms.cli.campaign_export" },
  { name = "suppress", module = manage.suppress },
  { name = "quota", module = manage.quota },
  { name = "schema", module = manage.schema },
}

local PASSWORD = "--store holds a password, and every user of the machine can read a command line; "
  .. "set KORESMS_STORE instead, or keep the password in ~/.pgpass"

function M.define(command)
  command:description(M.summary .. [[


   export KORESMS_STORE=campaigns.db          or postgres://...
   koresms campaign import people.csv --name diwali --start
   koresms campaign run diwali
   koresms campaign status

A message is marked in the store before its first byte leaves. Where a run is broken off, what
was in flight is called unknown and left alone; `resolve` decides about it.]])
  command:command_target("action")
  for _, action in ipairs(actions) do
    local sub = command:command(action.name):summary(action.module.summary)
    sub.error = command.error
    if not action.module.bare then
      sub:option("--store"):argname("STORE"):overwrite(false)
        :description("A file of SQLite, or postgres://...; default: KORESMS_STORE.")
    end
    action.module.define(sub)
    actions[action.name] = action.module
  end
end

-- Opens the store that the arguments or the settings name.
local function open(arguments)
  local where = arguments.store
  if where then
    local parsed = location.parse(where)
    if parsed and parsed.password then return nil, PASSWORD end
  end
  return koresms.store(where)
end

function M.run(arguments)
  local module = actions[arguments.action]
  if module.bare then return module.run(arguments) end
  local store, text = open(arguments)
  if not store then
    output.complain(text)
    return USAGE
  end
  local status = module.run(store, arguments)
  store:close()
  -- From here on a pipe that nobody reads must not end the program before it has said so.
  if arguments.action ~= "run" then M.catcher = core.catch_interrupts() end
  return status
end

return M
