--- Writing to files, where it must be known for certain whether it went well.
--
-- A compiled trace of LuaJIT that sees a write fail does the call again in the interpreter.
-- The C library has dropped what it could not write by then, and the second call succeeds. So
-- these functions are never compiled.
local M = {}

--- Writes into a file's buffer.
-- @treturn boolean
-- @treturn ?string why not
function M.write(file, text)
  local ok, why = file:write(text)
  return ok and true or false, why
end

--- Writes, and empties the buffer; only that is certain to tell.
function M.write_now(file, text)
  local ok, why = file:write(text)
  if ok then ok, why = file:flush() end
  return ok and true or false, why
end

local jit = rawget(_G, "jit")
if jit then
  for _, write in pairs(M) do jit.off(write) end
end

return M
