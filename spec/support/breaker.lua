--- Breaks a call off: raises an error at its n-th place. A place is an instruction of the
-- virtual machine, or the begin or the end of a function, C functions included, which is where
-- the signal handler of the stock interpreters raises its error, too.
--
-- Coroutines that are made meanwhile are watched like the call itself. Load this before what
-- makes them.

local jit = rawget(_G, "jit")

local M = {}

--- The error, as the stock interpreters raise it at an interrupt.
M.ERROR = "interrupted!"

--- More places than any call has.
M.NEVER = 1e9

-- Places that are left before the error; nil: nothing is counted.
local left
local fired, watching, passed = false, false, 0

-- Functions in which nothing is raised.
local spared = setmetatable({}, { __mode = "k" })

local function hook()
  if not left or spared[debug.getinfo(2, "f").func] then return end
  left = left - 1
  if left > 0 then return end
  left, fired = nil, true
  error(M.ERROR, 0)
end

local create = coroutine.create

-- A hook belongs to one coroutine (in LuaJIT to all of them), and stays when it counts no more.
local function create_watched(f)
  local thread = create(f)
  if watching and not jit then debug.sethook(thread, hook, "cr", 1) end
  return thread
end

coroutine.create = create_watched -- luacheck: ignore 122

--- Sees from now on which coroutines are made. Compiled code has no hooks.
function M.start()
  coroutine.create = create_watched -- luacheck: ignore 122
  if jit then
    jit.off()
    jit.flush()
  end
end

function M.stop()
  coroutine.create = create -- luacheck: ignore 122
  if jit then jit.on() end
end

--- Raises nothing in this function, of which an error would be its own.
-- @treturn function the same
function M.spare(f)
  spared[f] = true
  return f
end

local function end_count(n, ...)
  passed = n and left and n - left
  left = nil
  return ...
end

local function watch(n, f, ...)
  watching = true
  debug.sethook(hook, "cr", 1)
  left = n
  return end_count(n, pcall(f, ...))
end

-- What the outer pcall gives, and in it the inner one.
local function end_watch(ok, inner, ...)
  left, watching = nil, false
  debug.sethook()
  if not ok then return fired, false, inner end
  return fired, inner, ...
end

--- Calls a function and breaks it off at its n-th place.
-- @tparam ?number n nil: nowhere, but what coroutines it makes can be broken off later
-- @tparam function f
-- @param ... what it is given
-- @treturn boolean whether there was an n-th place
-- @treturn boolean as of pcall, with what else it gives
function M.run(n, f, ...)
  fired = false
  return end_watch(pcall(watch, n, f, ...))
end

--- Lua 5.1 keeps the hooks of coroutines that are long gone: lets go of them. What coroutines are
-- left is not broken off any more.
function M.forget()
  if _VERSION ~= "Lua 5.1" or jit then return end
  local registry = debug.getregistry()
  for key, value in pairs(registry) do
    if type(key) == "userdata" and type(value) == "table" and select(2, next(value)) == hook then
      registry[key] = {}
    end
  end
end

--- The number of places that the last call had, where it was not broken off.
function M.passed() return passed end

return M
