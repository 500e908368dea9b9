-- Runs bin/koresms as a process, with the Lua that runs the specs.

local paths = require "spec.support.paths"

local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"

local M = { interpreter = paths.version == "jit" and "luajit" or "lua" .. paths.version }

function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

function M.lines(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

--- The start of a command line that sees nothing but these variables. LUA_CPATH matters
-- only where the tree was built into another directory.
function M.prefix(env)
  local words = { "env", "-i", "PATH=" .. os.getenv("PATH"), "LUA_CPATH=" .. paths.cpath }
  -- Our modules may be built with sanitizers. What argparse ends, such as help, leaves its
  -- memory to the system, which is no leak.
  local preload = os.getenv("LD_PRELOAD")
  if preload then
    words[#words + 1] = "LD_PRELOAD=" .. preload
    words[#words + 1] = "ASAN_OPTIONS=detect_leaks=0"
  end
  for name, value in pairs(env) do words[#words + 1] = name .. "=" .. value end
  for i, word in ipairs(words) do words[i] = shell.quote(word) end
  return table.concat(words, " ")
end

local Command = {}
Command.__index = Command

--- A sandbox and a directory for files, for the specs of one file.
-- @treturn table with `box`, `work`, and the methods below
function M.start()
  local _, work = shell.run("mktemp -d")
  return setmetatable({ box = assert(sandbox.start()), work = work }, Command)
end

function Command:stop()
  self.box:stop()
  shell.run("rm -rf " .. shell.quote(self.work))
end

--- Puts the sandbox back to where it began.
function Command:reset()
  assert(self.box:control("DELETE", "/_sandbox/messages"))
  assert(self.box:control("DELETE", "/_sandbox/play"))
  assert(self.box:control("PUT", "/_sandbox/settings", { scope = true, enforce_jti = false }))
end

function Command:play(what)
  assert(self.box:control("POST", "/_sandbox/play", what))
end

--- The number of messages that the sandbox processed.
function Command:processed()
  return self.box:get("/_sandbox/state").count
end

--- The sandbox's environment with changes; false takes a variable out.
function Command:environment(changes)
  local env = {}
  for _, pair in ipairs(self.box.env) do env[pair[1]] = pair[2] end
  for name, value in pairs(changes or {}) do env[name] = value or nil end
  return env
end

--- Runs the command; returns exit status, standard output, standard error.
function Command:run(arguments, env, stdout)
  local words = { M.prefix(env or self:environment()), M.interpreter, "bin/koresms" }
  for _, word in ipairs(arguments) do words[#words + 1] = shell.quote(word) end
  local out, err = self.work .. "/out", self.work .. "/err"
  local _, status = shell.run(("%s >%s 2>%s </dev/null; echo $?"):format(
    table.concat(words, " "), stdout or out, err))
  return tonumber(status), stdout and "" or M.read(out), M.read(err)
end

return M
