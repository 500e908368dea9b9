--- Runs a piece of Lua in a process of its own, with the Lua and the modules of this one.
-- The piece has `bed_support` and `faults`; what it prints comes back.

local faults = require "spec.support.faults"
local paths = require "spec.support.paths"
local run = require "spec.support.run"

local M = {}

M.interpreter = paths.version == "jit" and "luajit" or "lua" .. paths.version

local PREAMBLE = [[
require "spec.support.paths"
local bed_support = require "spec.support.fault_bed"
local faults = require "spec.support.faults"
io.stdout:setvbuf("line")
]]

--- The shell command that runs a piece of Lua from the file that it is written to.
function M.command(name, text)
  return ("%s LUA_PATH=%s %s %s 2>&1"):format(run.preload(), run.quote("./?.lua;;"),
    M.interpreter, run.quote(run.write(name, PREAMBLE .. text)))
end

--- Runs it and returns what it printed, standard error included.
-- @tparam string text
-- @tparam[opt=""] string environment shell assignments, such as "A=1 B=2"
-- @tparam[opt] table namespace options of faults.in_namespace
-- @treturn ?string nil where this machine permits no private network
function M.run(text, environment, namespace)
  local directory = run.directory()
  local command = M.command(directory .. "/piece.lua", text)
  if namespace then
    command = faults.in_namespace(namespace, command)
    if not command then return nil end
  end
  local output = run.output((environment and "export " .. environment .. "; " or "") .. command)
  run.clean()
  return output
end

return M
