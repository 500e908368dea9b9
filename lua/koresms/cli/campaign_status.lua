--- `koresms campaign status`: how far campaigns have come.
local core = require "koresms.core"
local output = require "koresms.cli.output"
local progress = require "koresms.cli.progress"

local M = {}

M.summary = "Show how far campaigns have come."

local USAGE = 2

-- Seconds between two looks with --watch.
local OFTEN = 2

local fields = { "name", "state", "reason", "pending", "sending", "accepted", "rejected", "unknown",
  "skipped", "expired", "total", "eta" }

local counts = { "pending", "sending", "accepted", "rejected", "unknown", "skipped", "expired" }

function M.define(command)
  command:description(M.summary .. " Each message is in one of the states, so that they add up to "
    .. "the total.")
  command:argument("name"):argname("NAME"):args("?"):description("One campaign; default: all.")
  command:flag("--watch"):description("Go on until interrupted.")
  command:flag("--json"):description("Print a JSON object for each campaign.")
end

local function line(status)
  local parts = { ("%-20s  %-9s"):format(output.plain(status.name), status.state) }
  for _, state in ipairs(counts) do
    if status[state] > 0 then parts[#parts + 1] = ("%s %d"):format(state, status[state]) end
  end
  parts[#parts + 1] = "total " .. status.total
  if status.state == "running" and status.pending > 0 and status.eta then
    parts[#parts + 1] = "ETA " .. progress.duration(status.eta)
  end
  if status.reason and status.state ~= "running" then
    parts[#parts + 1] = "(" .. output.plain(status.reason) .. ")"
  end
  return table.concat(parts, "  ")
end

-- Prints once. Returns nil and a text where the store failed.
local function show(store, name, as_json)
  local names = { name }
  if not name then
    local list, text = store:campaigns()
    if not list then return nil, text end
    for i, row in ipairs(list) do names[i] = row.name end
  end
  for _, each in ipairs(names) do
    local status, text = store:status(each)
    if not status then return nil, text end
    output.print(as_json and output.json(fields, status) or line(status))
  end
  return true
end

function M.run(store, arguments)
  local catcher = arguments.watch and core.catch_interrupts()
  local clear = arguments.watch and not arguments.json
  local ok, text
  repeat
    if clear then output.print("") end
    ok, text = show(store, arguments.name, arguments.json)
    if not ok then output.complain(text) end
    local written = io.stdout:flush()
    if not written then break end
    if arguments.watch and core.interrupted() == 0 then core.sleep(OFTEN) end
  until not arguments.watch or core.interrupted() > 0 or not ok
  if catcher then catcher:close() end
  return ok and 0 or USAGE
end

return M
