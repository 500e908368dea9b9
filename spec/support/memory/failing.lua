--- Runs each row with memory that fails at the n-th request, for every n, in lua_host:
--
--     lua_host spec/support/memory/failing.lua MODULE
--
-- Each call succeeds, or raises "not enough memory", or where a library failed says so. After
-- it the object is whole: another call gives what is right; once all is closed, blocks and
-- descriptors are as before. Two passes, each over every n: one request fails, and all from
-- there on. Where a row has thousands of them, MEMORY=long plays each, else one in some is
-- played. Prints a line for each row: ok or failed, its name, and the number of requests or
-- what was wrong.

require "spec.support.paths"

-- LuaJIT 2.1 itself crashes where memory fails in compiled code, whatever C module there is.
if rawget(_G, "jit") then rawget(_G, "jit").off() end

local host = rawget(_G, "host")
local rows = require "spec.support.memory.rows"

-- No call asks for memory that often; a pass that does not end would be one that never fails.
local MOST = 20000

-- From the first number on, only one in so many is played.
local FEW, STRIDE = 200, os.getenv("MEMORY") == "long" and 1 or 41

local function nothing() end

-- Lua's memory, and that of all who are asked to help.
local KINDS = "lmcos"

local function fail(form, ...) error(form:format(...), 0) end

local function collect()
  collectgarbage()
  collectgarbage()
end

local function check(right, self, what, ...)
  local wrong = right(self, ...)
  if wrong then fail("%s: %s", what, wrong) end
end

-- What became of one call whose memory failed; whether n is past the last request.
local function judge(row, self, n, requests, failed, ok, ...)
  local what = ("request %d of memory fails"):format(n)
  local right = row.right
  self.failed = failed > 0
  if not ok then
    local text = tostring((...))
    if failed == 0 then fail("nothing fails: it raises: %s", text) end
    if text ~= "not enough memory" then fail("%s: it raises: %s", what, text) end
  elseif failed > 0 and row.soft and select(1, ...) == nil and type(select(2, ...)) == "string" then
    right = row.refused or right
  else
    check(right, self, what, ...)
  end
  self.failed = false
  if row.again then
    check(row.again, self, what .. ", then", not ok)
  elseif not row.once or not ok then
    check(right, self, what .. ", then a call", row.run(self))
  end
  return requests < n
end

-- One call, from making what it needs to giving it back. Whether n is past the last request.
local function once(row, n, from)
  collect()
  local live, descriptors = host.live(), host.descriptors()
  local self = row.new and row.new() or {}
  local past = judge(row, self, n, host.try(n, row.kinds or KINDS, from, row.run, self))
  ;(row.close or nothing)(self)
  for name in pairs(self) do self[name] = nil end
  collect()
  if host.live() ~= live then
    fail("request %d of memory fails: %d blocks are left", n, host.live() - live)
  elseif host.descriptors() ~= descriptors then
    fail("request %d of memory fails: %d descriptors are left", n,
      host.descriptors() - descriptors)
  end
  return past
end

local function pass(row)
  -- What is made at the first use and stays is made here.
  for _ = 1, 2 do
    local self = row.new and row.new() or {}
    check(row.right, self, "nothing fails", row.run(self))
    ;(row.close or nothing)(self)
  end
  local most = 0
  for _, from in ipairs({ false, true }) do
    local n = 1
    while not once(row, n, from) do
      n = n + (n < FEW and 1 or STRIDE)
      if n > MOST then fail("it asks for memory more than %d times", MOST) end
    end
    most = math.max(most, n - 1)
  end
  return most
end

for _, row in ipairs(rows.of(arg[1])) do
  if not arg[2] or row.name == arg[2] then
    local ok, answer = pcall(pass, row)
    io.write(("%s\t%s\t%s\n"):format(ok and "ok" or "failed", row.name,
      (tostring(answer):gsub("%s+", " "))))
    io.flush()
  end
end
