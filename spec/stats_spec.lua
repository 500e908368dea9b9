-- What a client says of itself, the end of a pause by hand, and the age of connections.
local beds = require "spec.support.sandbox_bed"
local clock = require("koresms.core").clock

local TO = beds.TO

-- Raised by a hook in the middle of a send.
local BROKEN = "broken off"

describe("client:stats", function()
  local bed, made

  setup(function() bed = beds.start() end)
  teardown(function() bed:stop() end)

  local function new(changes)
    local settings = { retries = 0 }
    for name, value in pairs(changes or {}) do settings[name] = value end
    made = bed:new(settings)
    return made
  end
  after_each(function() if made then made:close() end end)

  it("counts nothing at first", function()
    assert.same({ in_flight = 0, waiting = 0, accepted = 0, rejected = 0, not_sent = 0, unknown = 0,
      connections_opened = 0, connections_reused = 0 }, new():stats())
  end)

  it("counts each outcome, permits and connections", function()
    local c = new { per_minute = 60, timeout = 1 }
    local before = os.time()
    for _, to in ipairs { TO, TO, "+15005550403", "+15005551001", "911" } do c:send { to = to } end
    local s = c:stats()
    assert.truthy(s.last_accepted >= before and s.last_accepted <= os.time() + 1)
    s.last_accepted = nil
    assert.same({ in_flight = 0, waiting = 0, accepted = 2, rejected = 1, not_sent = 1, unknown = 1,
      permits = 56, connections_opened = 1, connections_reused = 3 }, s)
  end)

  it("counts what is in flight, and what waits for a permit", function()
    local c = new { per_minute = 2, timeout = 5 }
    local seen
    local list = { { to = "+15005551007" }, { to = "+15005551007" }, { to = TO } }
    local stop = function()
      local now = c:stats()
      if now.waiting == 1 then seen = seen or now end
      return seen ~= nil
    end
    for _ in c:send_many(list, { stop = stop }) do end
    assert.equal(2, seen.in_flight)
    assert.equal(0, seen.permits)
    assert.equal(0, c:stats().in_flight)
    assert.equal(0, c:stats().waiting)
  end)

  it("counts a send that an error breaks off by whether bytes may have left", function()
    local c = new()
    local told, broken, n = 0, 0, 0
    while told == 0 do
      n = n + 23
      local ok, text = pcall(function()
        debug.sethook(function()
          debug.sethook()
          error(BROKEN, 0)
        end, "", n)
        local result = c:send { to = TO }
        debug.sethook()
        return result
      end)
      debug.sethook()
      if ok then told = told + 1 else
        assert.equal(BROKEN, text)
        broken = broken + 1
      end
    end
    local s = c:stats()
    assert.truthy(broken > 4)
    assert.truthy(s.not_sent > 0 and s.unknown > 0)
    -- Before its time began nothing is counted.
    assert.truthy(s.not_sent + s.unknown + s.accepted <= broken + told)
    assert.truthy(s.accepted >= told)
    assert.equal(0, s.in_flight)
  end)

  it("tells a pause, which resume ends", function()
    local c = new { timeout = 0.5 }
    bed:play({ times = 1, status = 429, retry_after = 30 })
    local _, _, code = c:send { to = TO }
    assert.equal("rate_limited", code)
    local paused = c:stats().paused
    assert.truthy(paused > 25 and paused <= 30)
    _, _, code = c:send { to = TO }
    assert.equal("rate_limited", code)
    c:resume()
    assert.is_nil(c:stats().paused)
    assert(c:send { to = TO })
  end)

  it("is a method without arguments", function()
    local c = new()
    assert.has_error(function() c.stats() end,
      "calling 'stats' without a client (write client:stats)")
    assert.has_error(function() c:resume(1) end)
  end)

  it("shows that a connection is not used again once it is max_age old", function()
    local c = new { max_age = 1 }
    local last = clock() + 1.1
    repeat assert(c:send { to = TO }) until clock() > last
    local s = c:stats()
    assert.equal(2, s.connections_opened)
    assert.equal(s.accepted - 2, s.connections_reused)
  end)
end)
