--- `koresms sandbox`: the stand-in of the platform, in the foreground.
--
-- It ends on Ctrl-C or SIGTERM, and, where /proc tells, when the process that started it
-- ends: a script that is killed leaves no sandbox behind. Standard input plays no part,
-- since a script's background job has an empty or an inherited one.
local core = require "koresms.core"
local output = require "koresms.cli.output"

local M = {}

M.summary = "Run a local stand-in of the platform."

local POLL = 0.5

local function integer(low, high)
  return function(text)
    local number = text:match("^%d+$") and tonumber(text)
    if number and number >= low and number <= high then return number end
    return nil, ("'%s' is not a whole number from %d to %d"):format(text, low, high)
  end
end

function M.define(command)
  command:description(M.summary .. [[
 It listens on loopback only, and prints the environment
to export:

   koresms sandbox > sandbox.env &          then, once the file has its lines,
   . ./sandbox.env && koresms send --to +911234567890

It stays in the foreground until Ctrl-C or SIGTERM, or (on Linux) until the process that
started it ends. It needs nginx with ngx_lua.]])
  command:option("--port"):argname("N"):convert(integer(1, 65535))
    :description("HTTPS port; default: a free one.")
  command:option("--plain-port"):argname("N"):convert(integer(1, 65535))
    :description("HTTP port; default: a free one.")
  command:option("--per-minute"):argname("N"):convert(integer(1, 1000000))
    :description("Refuse more requests than this a minute; default: no limit.")
  command:flag("--enforce-jti")
    :description("Refuse a token without jti, and one seen before.")
end

-- The process that started this one, where /proc tells.
local function parent()
  local file = io.open("/proc/self/stat")
  local text = file and file:read("*a")
  if file then file:close() end
  -- The name of the program stands in parentheses and may hold anything.
  return text and text:match("^.*%) %S (%d+)")
end

local function wait(started_by)
  while parent() == started_by do core.sleep(POLL) end
end

function M.run(arguments)
  local started_by = parent()
  local box, text = require("koresms.sandbox").start {
    port = arguments.port, plain_port = arguments.plain_port,
    per_minute = arguments.per_minute, enforce_jti = arguments.enforce_jti,
  }
  if not box then
    output.complain(text)
    return 1
  end
  io.stdout:write(box:exports())
  io.stdout:flush()
  output.complain("sandbox on " .. box.host .. " and " .. box.plain .. "; export the lines "
    .. "above, and `koresms send --to +911234567890`. Ctrl-C or SIGTERM stops it")
  local ok, problem = pcall(wait, started_by)
  box:stop()
  if not ok and not tostring(problem):find("interrupted!", 1, true) then error(problem, 0) end
  return 0
end

return M
