--- Runs each row while every step of the collector is a whole collection, and each collection
-- runs a finalizer, in lua_host:
--
--     lua_host spec/support/memory/collecting.lua MODULE
--
-- A finalizer lets go of the next one, so that one runs at every place where a call may collect.
-- For every n the n-th of them uses the objects of the call, and then all of them do. Prints a
-- line for each row and kind of finalizer: ok or failed, its name, and the number of finalizers
-- or what was wrong.

require "spec.support.paths"

local rows = require "spec.support.memory.rows"

-- Compiled code runs no finalizers.
if rawget(_G, "jit") then rawget(_G, "jit").off() end

-- No call collects that often; a long one may.
local MOST, LONG = 400, 100000

local unpack = table.unpack or rawget(_G, "unpack")

local function nothing() end

-- An object that calls a function when it is collected.
local marked
local newproxy = rawget(_G, "newproxy")
if newproxy then
  function marked(f)
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = f
    return proxy
  end
else
  function marked(f) return setmetatable({}, { __gc = f }) end
end

-- Every step is a whole collection, and the next begins at once.
local version = rawget(_G, "jit") and "jit" or _VERSION

local function force()
  if version == "Lua 5.4" then collectgarbage("incremental", 0, 0, 100) end
  local pause = collectgarbage("setpause", 0)
  -- No limit, where 0 says so.
  local multiplier = collectgarbage("setstepmul", (version == "Lua 5.1" or version == "jit") and 0
    or 1000000)
  return pause, multiplier
end

local function relax(pause, multiplier)
  collectgarbage("setpause", pause)
  collectgarbage("setstepmul", multiplier)
  if version == "Lua 5.4" then collectgarbage("incremental", 0, 0, 13) end
end

-- Lua 5.2 lets some bytes pass between two steps: there each call is made after fillers of
-- these lengths, so that the next step comes now here, now there.
local fillers = { 0 }
if version == "Lua 5.2" then
  for length = 40, 3000, 40 do fillers[#fillers + 1] = length end
end

-- Calls f(self). The n-th finalizer that runs inside of it, or where n is nil each one, calls
-- 'disturb'. Leaves their number, their first complaint, and what 'pcall' leaves.
local function call(f, self, disturb, filler, n)
  local inside, count, complaint, pool = false, 0, nil, {}
  local last = MOST
  local finalize
  function finalize()
    if not pool then return end
    pool[last], last = nil, last - 1
    if last == 1 and count < LONG then
      for i = 2, MOST do pool[i] = marked(finalize) end
      last = MOST
    end
    if not inside then return end
    count = count + 1
    if not n or count == n then
      local ok, text = pcall(disturb, self)
      if not ok then complaint = complaint or tostring(text) end
    end
  end
  local function leave(...)
    inside = false
    return ...
  end
  local function enter()
    inside = true
    return leave(f(self))
  end
  for i = 1, MOST do pool[i] = marked(finalize) end
  local pause, multiplier = force()
  collectgarbage()
  pool[last], last = nil, last - 1
  if filler > 0 then ("x"):rep(filler) end
  local results = { pcall(enter) }
  pool, inside = nil, false
  relax(pause, multiplier)
  if last <= 0 then error(("it collects more than %d times"):format(MOST), 0) end
  return count, complaint, results
end

-- Whether n is past the last finalizer, and how many there were.
local function once(row, disturb, filler, n)
  local self = row.new and row.new() or {}
  local count, complaint, results = call(row.run, self, disturb, filler, n)
  local right = disturb ~= nothing and row.disturbed or row.right
  local wrong = complaint
  if results[1] then
    wrong = right(self, unpack(results, 2, 8)) or wrong
  elseif disturb == nothing or not (row.may_raise and tostring(results[2]):find(row.may_raise)) then
    wrong = "it raises: " .. tostring(results[2])
  end
  if wrong then error(("finalizer %s: %s"):format(n or "of all", wrong), 0) end
  if not row.once and disturb == nothing then
    wrong = row.right(self, row.run(self))
    if wrong then error("then another call: " .. wrong, 0) end
  end
  ;(row.close or nothing)(self)
  return n ~= nil and count < n, count
end

-- The n-th finalizer for every n, then all of them.
local function play_all(row, disturb, filler)
  local n, past = 0, disturb == nothing
  while not past do
    n = n + 1
    past = once(row, disturb, filler, n)
  end
  return select(2, once(row, disturb, filler))
end

-- All of them, then some that lie evenly.
local SOME = 8
local function play_some(row, disturb)
  local most = select(2, once(row, disturb, 0))
  for i = 1, disturb == nothing and 0 or SOME do
    once(row, disturb, 0, math.floor(most * i / (SOME + 1)))
  end
  return most
end

local function pass(row, disturb)
  local most = 0
  if row.long then
    most = play_some(row, disturb)
  else
    for _, filler in ipairs(fillers) do most = math.max(most, play_all(row, disturb, filler)) end
  end
  if most <= 0 and not row.quiet then error("no finalizer ran", 0) end
  return most
end

local function report(row, kind, disturb)
  local ok, answer = pcall(pass, row, disturb)
  io.write(("%s\t%s\t%s: %s\n"):format(ok and "ok" or "failed", row.name, kind,
    (tostring(answer):gsub("%s+", " "))))
  io.flush()
end

for _, row in ipairs(rows.of(arg[1])) do
  if not arg[2] or row.name == arg[2] then
    report(row, "nothing", nothing)
    for kind, disturb in pairs(row.disturb or {}) do report(row, kind, disturb) end
  end
end
