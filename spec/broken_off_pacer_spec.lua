-- Errors that are thrown through the pacer, at each place: it goes on giving permits, and never
-- more than its limit in any window.

local breaker = require "spec.support.breaker"
local pacer = require "koresms.pacer"

local SPAN = 60

local JOB = { permit = false, told = false }

-- Takes permits under one limit, one of them broken off at its n-th place, and then for some
-- minutes all that there are. Returns what does not hold; true where there is no n-th place.
local function play(limit, before, n)
  local mine, now, times = pacer.new(limit, false), 1000, {}
  local function take()
    local when = mine:take(now, false, JOB)
    if not when then times[#times + 1] = now end
    return when
  end
  for _ = 1, before do
    take()
    now = now + 0.01
  end
  -- Those from before have just left the window.
  if before > 0 then now = now + SPAN + pacer.GUARD end
  local fired, ok, when = breaker.run(n, mine.take, mine, now, false, JOB)
  if not fired then return true end
  if ok and not when then times[#times + 1] = now end
  local ends = now + 4 * SPAN
  while now < ends do
    ok, when = pcall(take)
    if not ok then return "raises " .. tostring(when) end
    now = when and math.max(when, now) or now + 0.001
  end
  for i = 1, #times - limit do
    local span = times[i + limit] - times[i]
    if span < SPAN then return ("%d permits in %.3f s"):format(limit + 1, span) end
  end
  -- One may be lost.
  if #times < 4 * limit - 1 then return ("gives %d permits"):format(#times) end
end

describe("a pacer that is broken off", function()
  setup(breaker.start)
  teardown(breaker.stop)

  for _, limit in ipairs { 1, 3 } do
    for _, before in ipairs { 0, 1, 3 } do
      it(("keeps its limit of %d, after %d permits"):format(limit, before), function()
        local n = 1
        while true do
          local problem = play(limit, before, n)
          if problem == true then break end
          if problem then error(("place %d: %s"):format(n, problem), 0) end
          n = n + 1
        end
        assert.truthy(n > 20)
      end)
    end
  end
end)
