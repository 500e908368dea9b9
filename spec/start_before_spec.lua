-- Messages that must not leave after some time: whoever marked them elsewhere takes them back then.

local bed_support = require "spec.support.fault_bed"
local koresms = require "koresms"

describe("a message that must start before some time", function()
  local bed

  setup(function() bed = bed_support.start() end)
  teardown(function() bed:stop() end)

  local function not_sent(server, result)
    assert.same({ "not_sent", "timeout", 0 }, { result.outcome, result.code, result.attempts })
    assert.is_nil(server:stats({ settle = 1 }).to[result.to])
  end

  it("leaves in time", function()
    local server = bed.servers.plain
    server:script()
    local client = bed:client(server.origin)
    assert.equal("accepted", assert(client:send({ to = bed:number(),
      start_before = koresms.clock() + 5 })).outcome)
    client:close()
  end)

  it("does not leave once the time is over, on a kept connection or a new one", function()
    for _, max_idle in ipairs { 0, 30 } do
      local server = bed.servers.plain
      server:script()
      local client = bed:client(server.origin, { max_idle = max_idle, retries = 2 })
      assert.equal("accepted", bed:send(client).outcome)
      not_sent(server, select(4, client:send({ to = bed:number(),
        start_before = koresms.clock() - 0.001 })))
      client:close()
    end
  end)

  it("does not leave where the program was stopped before it could", function()
    local server = bed.servers.tls
    server:script()
    local client = bed:client(server.origin)
    local asked = 0
    local message = { to = bed:number(), start_before = koresms.clock() + 0.5 }
    local results = {}
    -- It begins to connect, and nobody looks at it for a while.
    for result in client:send_many(function()
      asked = asked + 1
      if asked == 1 then return message end
      if asked == 2 then os.execute("sleep 1") end
    end, { concurrency = 2 }) do
      results[#results + 1] = result
    end
    client:close()
    assert.equal(1, #results)
    not_sent(server, results[1])
  end)

  it("does not wait for a permit that comes later", function()
    local server = bed.servers.plain
    server:script()
    local client = bed:client(server.origin, { per_minute = 2, timeout = 100 })
    for _ = 1, 2 do assert.equal("accepted", bed:send(client).outcome) end
    local begin = koresms.clock()
    local _, text, _, result = client:send({ to = bed:number(), start_before = begin + 20 })
    assert.same({ "not_sent", "rate_limited", true, 0 },
      { result.outcome, result.code, result.retryable, result.attempts })
    assert.matches("no permit before the time to start: the next one comes in %d+%.%d s", text)
    assert.truthy(koresms.clock() - begin < 10)
    client:close()
  end)
end)
