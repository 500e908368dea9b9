--- The little of the shell that plain Lua needs to start a process.
-- @module koresms.sandbox.shell

local M = {}

--- One word of a shell command.
function M.quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Runs a command and waits for it.
-- @tparam string command
-- @treturn boolean whether its exit status was 0
-- @treturn string what it wrote to standard output, without the last line ends
function M.run(command)
  -- Lua 5.1's close gives no exit status, so the shell prints it behind the output.
  -- What is preloaded into this Lua, such as a sanitizer, is not meant for other programs.
  local pipe = io.popen("unset LD_PRELOAD; { " .. command .. "\n}; echo \":$?\"", "r")
  if not pipe then return false, "" end
  local output = pipe:read("*a")
  pipe:close()
  local text, status = output:match("^(.*):(%d+)\n$")
  return status == "0", text and text:match("^(.*%S)") or ""
end

--- Random bytes, in text.
-- @tparam string form "-hex" or "-base64"
-- @tparam number count of bytes
-- @treturn ?string nil where there is no openssl command
function M.random(form, count)
  local ok, text = M.run(("openssl rand %s %d 2>/dev/null"):format(form, count))
  return ok and text ~= "" and text or nil
end

--- An absolute path for one that may be relative.
function M.absolute(path)
  if path:sub(1, 1) == "/" then return path end
  local _, here = M.run("pwd")
  return here .. "/" .. path
end

return M
