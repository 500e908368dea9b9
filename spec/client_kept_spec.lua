local beds = require "spec.support.sandbox_bed"
local faults = require "spec.support.faults"
local koresms = require "koresms"

local FROM, TO = beds.FROM, beds.TO

describe("a kept connection", function()
  local bench

  setup(function() bench = faults.start() end)
  teardown(function() bench:stop() end)

  local function second_send(scenario)
    local server = bench:listen_for(scenario)
    local c = assert(koresms.new { host = server.origin, bot_id = "st-1", client_id = "cs-1",
      client_secret = "secret", from = FROM, per_minute = false })
    assert(c:send({ to = TO }))
    local _, _, _, result = c:send({ to = "+911234567891" })
    local stats = server:stats { settle = 1 }
    local after = c:send({ to = "+911234567892" })
    c:close()
    server:close()
    return result, stats, after
  end

  for _, how in ipairs({ "close", "reset" }) do
    it("that dies by " .. how .. " after the second POST was read is unknown, not repeated",
      function()
      local result, stats, after = second_send("next_processed_" .. how)
      assert.same({ "unknown", "connection_lost", false, 1 },
        { result.outcome, result.code, result.retryable, result.attempts })
      assert.equal(2, stats.processed)
      assert.equal(1, stats.to["+911234567891"])
      assert.equal("accepted", after and after.outcome)
    end)

    it("that dies by " .. how .. " before the second POST was read is not accepted", function()
      local result, stats = second_send("next_unread_" .. how)
      assert.equal("connection_lost", result.code)
      assert.is_nil(stats.to["+911234567891"])
    end)
  end

  it("is not used again where it holds a reply that nobody asked for", function()
    for _, scenario in ipairs({ "stale_reply_same_write", "stale_reply_delayed" }) do
      local server = bench:listen_for(scenario)
      local c = assert(koresms.new { host = server.origin, bot_id = "st-1", client_id = "cs-1",
        client_secret = "secret", from = FROM, per_minute = false })
      assert(c:send({ to = TO }))
      os.execute("sleep 0.1")
      local result = assert(c:send({ to = "+911234567891" }))
      local stats = server:stats { settle = 1 }
      assert.equal(1, result.attempts)
      assert.equal(2, stats.accepted)
      assert.equal(1, stats.to["+911234567891"])
      c:close()
      server:close()
    end
  end)
end)
