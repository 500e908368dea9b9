--- Standard input, output and errors, which may be closed when the command starts. What is
-- opened next would get their numbers, and what is written for people would go there.
local core = require "koresms.core"

local M = {}

--- By number: which of them were closed.
M.closed = {}

--- Opens the null device where one of them is closed. It is to be called before all else.
-- @treturn ?string what keeps the command from running
function M.secure()
  local input, output, errors = core.secure_descriptors()
  if input == nil then return "the standard descriptors cannot be used: " .. output end
  M.closed = { [0] = input, [1] = output, [2] = errors }
  return output and "standard output is closed or cannot be written; nothing is done, since no "
    .. "result could be told" or nil
end

return M
