--- `koresms campaign export`: the messages of a campaign, and what became of them.
local csv = require "koresms.cli.csv_writer"
local output = require "koresms.cli.output"
local states = require("koresms.store.text").states

local M = {}

M.summary = "Print the messages of a campaign."

local USAGE = 2

local fields = { "to", "from", "id", "dedupe", "state", "code", "attempts", "at", "detail" }

function M.define(command)
  command:description(M.summary .. " CSV with a header, or JSON lines with the same keys. Numbers "
    .. "are whole: it is as secret as the file that was imported.")
  command:argument("name"):argname("NAME")
  command:option("--state"):argname("STATE"):overwrite(false)
    :description("Only those in this state.")
  command:flag("--json"):description("Print a JSON object for each message.")
end

function M.run(store, arguments)
  local state = arguments.state
  if state and not states[state] then
    local known = {}
    for name in pairs(states) do known[#known + 1] = name end
    table.sort(known)
    output.complain("--state: one of " .. table.concat(known, ", ") .. " expected")
    return USAGE
  end
  local rows, text = store:rows(arguments.name, state)
  if not rows then
    output.complain(text)
    return USAGE
  end
  if not arguments.json then output.print(table.concat(fields, ",")) end
  for row in rows do
    output.print(arguments.json and output.json(fields, row) or csv.line(fields, row))
  end
  text = store:failure()
  if not text then return 0 end
  output.complain(text .. "; rows are missing")
  return USAGE
end

return M
