--- The result of a message: a table of fields, and one line for people.
local mask = require "koresms.mask"

local M = {}

--- One line for people, on which nothing steers a terminal. The number is masked.
-- @tparam table result
-- @treturn string
function M.line(result)
  local parts = { result.outcome, mask.number(result.to) }
  if result.code then parts[#parts + 1] = result.code end
  if result.outcome ~= "accepted" and result.message then
    parts[#parts + 1] = mask.printable(result.message)
  end
  if result.retry_after then
    parts[#parts + 1] = ("again after %.0f s"):format(math.ceil(result.retry_after))
  end
  if result.id then parts[#parts + 1] = "id " .. mask.printable(result.id) end
  parts[#parts + 1] = ("%.2f s"):format(result.elapsed or 0)
  return table.concat(parts, "  ")
end

local metatable = { __tostring = M.line }

--- Makes a table of fields a result.
-- @tparam table fields
-- @treturn table the same
function M.new(fields)
  return setmetatable(fields, metatable)
end

return M
