--- Sends and streams while Lua's memory fails at the n-th request, under lua_host (see
-- support/lua_host.c): the same sweeps and the same ledger as of the calls that an error breaks
-- off. Prints a line for each sweep: ok or failed, its name, and how many places or what was wrong.

require "spec.support.paths"

local host = rawget(_G, "host")

-- Stands for support/breaker.lua.
local breaker = { ERROR = "not enough memory", NEVER = 0, from = false }
package.loaded["spec.support.breaker"] = breaker

local passed = 0

local function look(requests, failed, ...)
  passed = requests
  return failed > 0, ...
end

--- As in support/breaker.lua; `from`: each later request for memory fails, too.
function breaker.run(n, f, ...)
  if not n then return false, pcall(f, ...) end
  return look(host.try(n, "l", breaker.from, f, ...))
end

function breaker.passed() return passed end
function breaker.spare(f) return f end

-- LuaJIT itself crashes where memory fails in some compiled code.
function breaker.start()
  local jit = rawget(_G, "jit")
  if jit then jit.off() end
end

function breaker.stop() end
function breaker.forget() end

local broken_off = require "spec.support.broken_off"

local ground = broken_off.start()

local function report(case)
  local problems, played, most = ground:sweep(case)
  if #problems == 0 then
    print(("ok\t%s\t%d of %d"):format(case.name, played, most))
  else
    local ok, text = pcall(broken_off.assert_none, problems)
    print(("failed\t%s\t%s"):format(case.name, tostring(not ok and text):gsub("%s+", " ")))
  end
end

local TWENTY = {}
for i = 1, 20 do
  TWENTY[i] = ({ "ok", "refused", "cut", "ok", "reset" })[(i - 1) % 5 + 1]
end

-- Takes all results, in one call. The place of each is there already.
local function take_all(stream, results)
  local count = 0
  for result in stream.iterator do
    count = count + 1
    results[count] = result
  end
  return count
end

local function play_stream(ledger, n)
  local stream, results = ledger:stream { kinds = TWENTY, concurrency = 4 }, {}
  for i = 1, 20 do results[i] = false end
  local fired, ok, problem = breaker.run(n, take_all, stream, results)
  if not ok and not (fired and problem == breaker.ERROR) then
    ledger:problem("raised %s", tostring(problem))
  end
  for i = 1, 20 do
    if results[i] then stream:take(results[i]) end
  end
  stream:finish(fired and 1 or 0)
  for _, kind in ipairs { "refused", "ok" } do ledger:send(kind) end
end

for _, from in ipairs { false, true } do
  breaker.from = from
  local how = from and "every request from there on" or "one request"
  for _, kind in ipairs { "ok", "refused", "throttled", "cut" } do
    report { name = ("a send, %s, %s"):format(kind, how), few = 20, play = function(ledger, n)
      ledger:break_off(kind, n)
    end }
  end
  report { name = "a send on a new connection, " .. how, few = 20, settings = { max_idle = 0 },
    play = function(ledger, n) ledger:break_off("ok", n) end }
  report { name = "a stream of 20, " .. how, few = 20, play = play_stream }
end

ground:stop()
