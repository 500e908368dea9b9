--- Looks at the fault bench from outside: commands, and POSTs over raw sockets.

local cjson = require("cjson").new()

local M = {}

function M.quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Runs shell text.
-- @treturn string its output
-- @treturn number its exit status
function M.run(command)
  local pipe = assert(io.popen(command .. "; echo \"|$?\""))
  local out = pipe:read("*a")
  pipe:close()
  local text, code = out:match("^(.*)|(%d+)%s*$")
  return text, tonumber(code)
end

--- Makes the tries that rawpost.py describes.
-- @treturn table what became of each
-- @treturn number length of the request that carries the number +911
function M.post(tries)
  local text, code = M.run("python3 -B spec/support/rawpost.py "
    .. M.quote(cjson.encode(tries)))
  assert(code == 0, "rawpost.py failed")
  local out = cjson.decode(text)
  return out.tries, out.request_bytes
end

return M
