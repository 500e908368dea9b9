--- `koresms campaign`: messages that survive the process.
--
-- Each action is a row here: `define(command)` for its options, `run(store, arguments)`, which
-- returns the exit status; `bare` where it needs no store.
local core = require "koresms.core"
local manage = require "koresms.cli.campaign_manage"
local open_store = require "koresms.cli.store_option"
local output = require "koresms.cli.output"

local M = {}

M.summary = "Send many messages durably: a store keeps what became of each."

M.broken_text = "what the store has marked is not sent again by itself; "
  .. "see `koresms campaign status`"

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

function M.run(arguments)
  local module = actions[arguments.action]
  if module.bare then return module.run(arguments) end
  local store, text = open_store(arguments.store)
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
