-- Random sequences of faults. SEED=n begins with the sequence of that seed, and
-- FAULTS_COUNT=n plays so many; FAULTS=long plays 20,000.

local random = require "spec.support.fault_random" -- first: see support/breaker.lua
local bed_support = require "spec.support.fault_bed"

local LONG, SHORT = 20000, 600

describe("random faults", function()
  local bed

  setup(function() bed = bed_support.start() end)
  teardown(function() bed:stop() end)

  local seed = tonumber(os.getenv("SEED")) or os.time() % 1000000 * 1000
  local count = tonumber(os.getenv("FAULTS_COUNT")) or bed_support.long and LONG or SHORT
  local part, parts = bed_support.part, bed_support.parts
  local first = seed + math.floor(count * (part - 1) / parts)
  local last = seed + math.floor(count * part / parts) - 1

  it(("keep the promise: SEED=%d, %d sequences"):format(first, last - first + 1), function()
    print(("\nrandom faults: SEED=%d, %d sequences"):format(first, last - first + 1))
    local problems, messages = {}, 0
    for one = first, last do
      local told, problem, sent = random.play(bed, one)
      messages = messages + sent
      if problem then
        problems[#problems + 1] = ("SEED=%d FAULTS_COUNT=1 (%s): %s"):format(one, told, problem)
      end
      -- What a long run has seen is of no more use.
      if one % 500 == 0 then bed.bench:forget() end
    end
    assert(messages >= last - first + 1)
    assert(#problems == 0, table.concat(problems, "\n"))
  end)
end)
