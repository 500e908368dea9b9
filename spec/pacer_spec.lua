local pacer = require "koresms.pacer"

-- Who asks: a message without a permit.
local job = {}

-- A clock and a source of numbers of our own: a run can be repeated by its seed.
local function generator(seed)
  local state = seed
  return function(n)
    state = (state * 16807) % 2147483647
    return state / 2147483647 * n
  end
end

-- The largest number of times in any rolling window.
local function most_in_any(times, span)
  local first, most = 1, 0
  for i = 1, #times do
    while times[i] - times[first] >= span do first = first + 1 end
    most = math.max(most, i - first + 1)
  end
  return most
end

describe("pacer", function()
  it("gives the limit at once, then makes the next one wait for the first to leave", function()
    local p = pacer.new(3, false)
    for _ = 1, 3 do assert.is_nil(p:take(1000, false, job)) end
    local when = p:take(1000, false, job)
    assert.truthy(when >= 1060.1 and when <= 1060.1 + 0.06 + 1e-6, when)
    assert.equal(when, p:take(when - 0.01, false, job))
    assert.is_nil(p:take(when, false, job))
  end)

  it("does nothing where both limits are off", function()
    local p = pacer.new(false, false)
    for i = 1, 100000 do assert.is_nil(p:take(i * 1e-9, false, job)) end
  end)

  it("takes from both windows or from none", function()
    local p = pacer.new(10, 15)
    for _ = 1, 10 do assert.is_nil(p:take(0, false, job)) end
    local now = p:take(0, false, job)
    for _ = 1, 5 do assert.is_nil(p:take(now, false, job)) end
    assert.truthy(p:take(now, false, job) > 3600)
    -- The refused ones spent nothing of the minute's window.
    assert.equal(5, p.windows[1].total)
  end)

  it("pauses, and a shorter pause does not end a longer one", function()
    local p = pacer.new(false, false)
    p:pause(100, 50)
    p:pause(101, 3)
    assert.equal(150, p:take(101, false, job))
    assert.is_nil(p:take(150, false, job))
  end)

  it("forgets old permits, however long nothing was sent", function()
    local p = pacer.new(1000, 1000)
    for i = 1, 1000 do assert.is_nil(p:take(i / 1000, false, job)) end
    for _ = 1, 1000 do assert.is_nil(p:take(1e6, false, job)) end
    assert.is_not_nil(p:take(1e6, false, job))
  end)

  it("lets one message go first after a pause, also one that has its permit", function()
    local p, first, other = pacer.new(100, false), { index = 1, told = false }, { index = 2 }
    other.permit = true
    p:pause(0, 10)
    assert.equal(10, p:take(9, true, first))
    assert.equal(10, p:take(9, false, other))
    assert.is_nil(p:take(10, true, first))
    assert.equal(10.05, p:take(10, false, other))
    -- It is asked for again by the one who has it, and by others where it was broken off.
    assert.is_nil(p:take(10, true, first))
    first.told = true
    assert.is_nil(p:take(10, false, other))
    assert.equal(10.05, p:take(10, false, first))
    p:ended(first, true)
    assert.equal(10.05, p:take(10, false, first))
    p:ended(other, false)
    first.told = false
    assert.is_nil(p:take(10, false, first))
    assert.equal(10.05, p:take(10, false, other))
    -- All go where nothing is heard of it for a second.
    local third = { index = 3 }
    assert.is_nil(p:take(11, false, other))
    assert.is_nil(p:take(11, true, third))
    p:ended(first, false)
    assert.is_nil(p:take(11, true, third))
  end)

  it("keeps a share for single sends, which a stream cannot take", function()
    local p = pacer.new(600, false)
    local streamed = 0
    while not p:take(0, true, job) do streamed = streamed + 1 end
    assert.equal(590, streamed)
    for _ = 1, 10 do assert.is_nil(p:take(0, false, job)) end
    assert.is_not_nil(p:take(0, false, job))
  end)

  local seed = tonumber(os.getenv("SEED")) or os.time() % 1000000 + 1

  it("stays under each limit in any rolling window and uses 98 % of it; seed " .. seed, function()
    local random = generator(seed)
    for _ = 1, 12 do
      local minute = math.floor(random(300)) + 1
      local hour = random(1) < 0.5 and math.floor(random(minute * 60)) + 1 or false
      local p = pacer.new(minute, hour)
      local begin = random(1e6)
      local now, times = begin, {}
      local span = hour and 8 * 3600 or 1200
      local stream = random(1) < 0.5
      while now < begin + span do
        local when = p:take(now, stream, job)
        if when then
          assert.truthy(when > now)
          now = when
        else
          times[#times + 1] = now
          if random(1) < 0.1 then now = now + random(0.05) end
        end
      end
      local what = ("seed %d, %d a minute, %s an hour"):format(seed, minute, tostring(hour))
      assert.truthy(most_in_any(times, 60) <= minute, what)
      if hour then assert.truthy(most_in_any(times, 3600) <= hour, what) end
      local rate = math.min(minute / 60, hour and hour / 3600 or math.huge)
      assert.truthy(#times >= 0.98 * math.floor(span * rate), what .. ": " .. #times)
    end
  end)

  it("spends without pressure never more than the limit either; seed " .. seed, function()
    local random = generator(seed + 1)
    for _ = 1, 20 do
      local limit = math.floor(random(50)) + 1
      local p, now, times = pacer.new(limit, false), random(1000), {}
      for _ = 1, 3000 do
        now = now + random(120 / limit)
        if not p:take(now, false, job) then times[#times + 1] = now end
      end
      assert.truthy(most_in_any(times, 60) <= limit, seed)
    end
  end)
end)
