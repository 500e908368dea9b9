local beds = require "spec.support.sandbox_bed"
local core = require "koresms.core"

local number, list, collect = beds.number, beds.list, beds.collect

describe("send_many, where it ends early:", function()
  local bed, client

  setup(function() bed = beds.start() end)
  teardown(function() bed:stop() end)

  before_each(function()
    bed:reset()
    client = bed:new()
  end)
  after_each(function() client:close() end)

  describe("with a source that raises", function()
    it("answers what is in flight first, then raises the same", function()
      local problem, i, results = { "a table" }, 0, 0
      local ok, raised = pcall(function()
        for result in client:send_many(function()
          i = i + 1
          if i == 6 then error(problem) end
          return { to = number(i) }
        end) do
          assert.equal("accepted", result.outcome)
          results = results + 1
        end
      end)
      assert.is_false(ok)
      assert.equal(problem, raised)
      assert.equal(5, results)
      assert.equal(5, bed:counted())
    end)

    it("names the place of what is no message", function()
      local messages = list(5)
      messages[3] = { to = 911234567890 }
      local results = 0
      local ok, raised = pcall(function()
        for _ in client:send_many(messages) do results = results + 1 end
      end)
      assert.is_false(ok)
      assert.equal(2, results)
      assert.truthy(raised:find("field 'to': string expected, got number", 1, true), raised)
      assert.truthy(raised:find("message 3", 1, true), raised)
      assert.is_nil(raised:find("1234567", 1, true))
    end)
  end)

  it("starts nothing more once it is left, and loses no answer", function()
    local iterator, _, _, closing = client:send_many(list(100), { concurrency = 4 })
    local first = iterator()
    assert.equal("accepted", first.outcome)
    getmetatable(closing).__close(closing)
    local rest, count = collect(iterator)
    local outcomes = { accepted = 1 }
    for _, r in pairs(rest) do
      outcomes[r.code or r.outcome] = (outcomes[r.code or r.outcome] or 0) + 1
    end
    assert.equal(outcomes.accepted, bed:counted())
    assert.truthy(outcomes.accepted <= 9)
    assert.equal(count + 1, outcomes.accepted + (outcomes.cancelled or 0))
    assert.is_nil(iterator())
  end)

  if _VERSION == "Lua 5.4" then
    it("is left by break", function()
      local iterator, a, b, closing = client:send_many(list(100), { concurrency = 2 })
      for _ in iterator, a, b, closing do break end -- luacheck: ignore 512
      collect(iterator)
      assert.truthy(bed:counted() <= 5, bed:counted())
    end)
  end

  it("starts nothing more once it is told to stop, and loses no answer", function()
    local pulled, done = 0, 0
    local function pull()
      pulled = pulled + 1
      return { to = number(pulled) }
    end
    local counts = { accepted = 0, cancelled = 0 }
    for result in client:send_many(pull,
      { concurrency = 4, stop = function() return done >= 10 end }) do
      done = done + 1
      local what = result.code or result.outcome
      counts[what] = counts[what] + 1
    end
    assert.equal(pulled, done)
    assert.equal(counts.accepted, bed:counted())
    assert.truthy(counts.accepted >= 10 and counts.accepted <= 18, counts.accepted)
    assert.truthy(counts.cancelled <= 1, counts.cancelled)
  end)

  it("asks whether to stop while it waits for permits", function()
    local c = bed:new({ per_minute = 2 })
    local begin, asked = core.clock(), 0
    local results, count = collect(c:send_many(list(5), { stop = function()
      asked = asked + 1
      return core.clock() - begin > 0.8
    end }))
    assert.truthy(core.clock() - begin < 3)
    assert.truthy(asked >= 2, asked)
    assert.equal(3, count)
    assert.equal("cancelled", results[3].code)
    assert.equal(2, bed:counted())
    c:close()
  end)

  it("answers what is in flight where the question itself raises", function()
    local asked = 0
    local iterator = client:send_many(list(30), { concurrency = 4, stop = function()
      asked = asked + 1
      if asked == 3 then error({ "no answer" }) end
    end })
    local ok, raised
    local done = 0
    repeat
      local result
      ok, result = pcall(iterator)
      if ok and result then done = done + 1 elseif not ok then raised = result end
    until ok and not result
    assert.same({ "no answer" }, raised)
    assert.equal(bed:counted(), done)
  end)

  it("reports nothing false when the client is closed in the middle", function()
    bed:play { times = -1, delay = 0.5 }
    local iterator = client:send_many(list(20), { concurrency = 4, timeout = 5 })
    local results, count = {}, 0
    local closed = false
    local begin = core.clock()
    -- The first result comes after half a second; close on it.
    for result in iterator do
      results[result.index] = result
      count = count + 1
      if not closed then
        client:close()
        closed = true
      end
    end
    assert.truthy(core.clock() - begin < 3)
    local accepted = 0
    for _, r in pairs(results) do
      if r.outcome == "accepted" then accepted = accepted + 1 end
      if r.outcome == "not_sent" then assert.equal("cancelled", r.code) end
      if r.outcome == "unknown" then assert.equal("connection_lost", r.code) end
    end
    bed.box:control("DELETE", "/_sandbox/play")
    os.execute("sleep 0.7") -- the sandbox still has delayed ones
    assert.truthy(accepted >= 1)
    assert.equal(20, count)
    assert.equal("cancelled", results[20].code)
  end)

  it("cancels each message of an array, and pulls none, where the client is closed", function()
    client:close()
    local results, count = collect(client:send_many(list(100), { concurrency = 4 }))
    assert.equal(100, count)
    for _, r in pairs(results) do
      assert.same({ "not_sent", "cancelled", 0 }, { r.outcome, r.code, r.attempts })
    end
    assert.is_nil(client:send_many(function() error("pulled") end)())
  end)

  it("holds no more refused messages than it may have in flight", function()
    local pulled, done, most = 0, 0, 0
    for result in client:send_many(function()
      pulled = pulled + 1
      most = math.max(most, pulled - done)
      return pulled <= 1000 and { to = "x" } or nil
    end, { concurrency = 8 }) do
      done = done + 1
      assert.equal("invalid_number", result.code)
    end
    assert.equal(1000, done)
    assert.truthy(most <= 9, most)
  end)
end)
