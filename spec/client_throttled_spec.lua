local beds = require "spec.support.sandbox_bed"
local core = require "koresms.core"

local TO, failing = beds.TO, beds.failing

describe("a throttled client", function()
  local bed, client

  setup(function() bed = beds.start() end)
  teardown(function() bed:stop() end)

  before_each(function()
    bed:reset()
    client = bed:new()
  end)
  after_each(function() client:close() end)

  it("waits for Retry-After and sends again", function()
    bed:play { times = 1, status = 429, retry_after = 1 }
    local begin = core.clock()
    local result = assert(client:send({ to = TO }))
    assert.equal(2, result.attempts)
    assert.truthy(core.clock() - begin >= 1)
    assert.equal(1, bed:counted())
  end)

  it("pauses all of the client's messages, and says for how long", function()
    -- The pause ends with the minute: it has to be longer than this test.
    while os.time() % 60 >= 56 do os.execute("sleep 1") end
    bed:play { times = 1, status = 429 }
    local result = failing(client, { to = TO }, { timeout = 0.4 })
    assert.equal("rejected", result.outcome)
    assert.equal("rate_limited", result.code)
    assert.is_true(result.retryable)
    assert.equal(1, result.attempts)
    assert.truthy(result.retry_after > 0 and result.retry_after <= 60)
    local second = failing(client, { to = TO }, { timeout = 0.1 })
    assert.equal("not_sent", second.outcome)
    assert.equal("rate_limited", second.code)
    assert.is_true(second.retryable)
    assert.equal(0, second.attempts)
    assert.truthy(second.retry_after <= result.retry_after)
    assert.equal(1, bed:requests())
  end)

  describe("and not repeated, stays rejected:", function()
    local function rejected(result, least)
      assert.same({ "rejected", "rate_limited", true, 429, 1 }, { result.outcome, result.code,
        result.retryable, result.status, result.attempts })
      assert.truthy(result.retry_after >= least, result.retry_after)
      assert.equal(1, bed:requests())
    end

    before_each(function() bed:play { times = 1, status = 429, retry_after = 1 } end)

    it("no permit for the repeat", function()
      local c = bed:new { per_minute = 1 }
      rejected(failing(c), 50)
      c:close()
    end)

    it("no token for the repeat", function()
      local made = 0
      local c = bed:new { token = function()
        made = made + 1
        return made == 1 and client:token() or nil
      end }
      rejected(failing(c), 1)
      c:close()
    end)

    it("closed before the repeat, in a stream too", function()
      local c
      local function closing() return bed:new { on_event = function(e)
        if e.kind == "retry" then c:close() end
      end } end
      c = closing()
      rejected(failing(c), 1)
      bed:play { times = 1, status = 429, retry_after = 1 }
      bed.box:control("DELETE", "/_sandbox/messages")
      c = closing()
      for result in c:send_many({ { to = TO } }) do rejected(result, 1) end
    end)
  end)

  for _, case in ipairs({ { "1000000000", 3600, 3600 }, { "-5", 0.001, 60 },
    { "soon", 0.001, 60 },
    { "1 2", 0.001, 60 }, { "Sun, 06 Nov 1994 08:49:37 GMT", 0, 0 },
    { "Thu, 31 Dec 2099 23:59:59 GMT", 3600, 3600 } }) do
    it(("takes Retry-After: %s"):format(case[1]), function()
      bed:play { times = 1, status = 429, headers = { ["Retry-After"] = case[1] } }
      local result = failing(client, { to = TO }, { retries = 0 })
      assert.truthy(result.retry_after >= case[2] and result.retry_after <= case[3],
        result.retry_after)
    end)
  end
end)
