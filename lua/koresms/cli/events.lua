--- What --verbose prints: the events of a client, a line each, on standard error.
local output = require "koresms.cli.output"

local M = {}

local fields = { "id", "to", "attempt", "attempts", "outcome", "code", "status", "seconds",
  "elapsed", "reused" }

-- An event for people; its numbers are masked.
local function line(event)
  local parts = { event.kind }
  for _, name in ipairs(fields) do
    local value = event[name]
    if type(value) == "number" and value % 1 ~= 0 then value = ("%.3f"):format(value) end
    if value ~= nil then parts[#parts + 1] = name .. "=" .. tostring(value) end
  end
  return table.concat(parts, " ")
end

--- Makes a listener for `on_event`.
-- @tparam ?function before called before each line
-- @treturn function
function M.listener(before)
  return function(event)
    if before then before() end
    output.complain(line(event))
  end
end

return M
