local beds = require "spec.support.sandbox_bed"
local core = require "koresms.core"
local faults = require "spec.support.faults"
local koresms = require "koresms"
local session_of = require("koresms.client").session

local FROM, number, list, collect = beds.FROM, beds.number, beds.list, beds.collect

describe("send_many", function()
  local bed, client

  setup(function() bed = beds.start() end)
  teardown(function() bed:stop() end)

  before_each(function()
    bed:reset()
    client = bed:new()
  end)
  after_each(function() client:close() end)

  it("gives a result for each message of an array", function()
    local results, count = collect(client:send_many(list(200)))
    assert.equal(200, count)
    for i = 1, 200 do
      assert.equal("accepted", results[i].outcome)
      assert.equal("m" .. i, results[i].id)
      assert.equal(number(i), results[i].to)
      assert.equal(1, results[i].attempts)
    end
    local seen, numbers = bed.box:get("/_sandbox/messages"), {}
    assert.equal(200, seen.count)
    for _, m in ipairs(seen.messages) do
      assert.is_nil(numbers[m.to])
      numbers[m.to] = true
    end
  end)

  it("may be ended by a listener that closes the client", function()
    local told, c = 0, nil
    c = bed:new { on_event = function(event)
      if event.kind ~= "verdict" then return end
      told = told + 1
      if told == 2 then c:close() end
    end }
    local results, count = collect(c:send_many(list(20), { concurrency = 4 }))
    assert.equal(told, count)
    -- A message that had been pulled is told of; none is told of twice, and none is lost.
    for i = 1, count do
      assert.truthy(({ accepted = true, unknown = true, not_sent = true })[results[i].outcome])
    end
    assert.truthy(bed:counted() <= count)
  end)

  it("pulls from a function, never more than it needs", function()
    local pulled, most = 0, 0
    local done = 0
    for result in client:send_many(function()
      if pulled == 300 then return nil end
      pulled = pulled + 1
      most = math.max(most, pulled - done)
      return { to = number(pulled) }
    end, { concurrency = 8 }) do
      done = done + 1
      assert.equal("accepted", result.outcome)
    end
    assert.equal(300, done)
    assert.truthy(most <= 2 * 8 + 1, most)
  end)

  it("takes nothing at all", function()
    local _, count = collect(client:send_many({}))
    assert.equal(0, count)
    _, count = collect(client:send_many(function() end))
    assert.equal(0, count)
  end)

  it("stays within the concurrency", function()
    for _, concurrency in ipairs({ 1, 3 }) do
      bed.box:control("DELETE", "/_sandbox/messages")
      local c = bed:new()
      collect(c:send_many(list(30), { concurrency = concurrency }))
      c:close()
      local connections, count = {}, 0
      for _, m in ipairs(bed.box:get("/_sandbox/messages").messages) do
        if not connections[m.connection] then count = count + 1 end
        connections[m.connection] = true
      end
      assert.truthy(count <= concurrency, count)
    end
  end)

  it("hides no message behind one that fails", function()
    local messages = list(40)
    messages[7].to = "no number"
    messages[8].from = "KORE"
    bed:play { times = 3, status = 500 }
    bed:play { times = 2, close = true }
    local results, count = collect(client:send_many(messages, { concurrency = 4 }))
    assert.equal(40, count)
    local codes = {}
    for _, r in ipairs(results) do
      local key = r.code or r.outcome
      codes[key] = (codes[key] or 0) + 1
    end
    assert.same({ invalid_number = 2, server_error = 3, connection_lost = 2, accepted = 33 }, codes)
    assert.equal(0, results[7].attempts)
    assert.equal(33, bed:counted())
  end)

  it("repeats what is safe, and only that", function()
    bed:play { times = 1, status = 429, retry_after = 1 }
    local results, count = collect(client:send_many(list(10), { concurrency = 2 }))
    assert.equal(10, count)
    local attempts = 0
    for _, r in ipairs(results) do
      assert.equal("accepted", r.outcome)
      attempts = attempts + r.attempts
    end
    assert.equal(11, attempts)
    assert.equal(10, bed:counted())
  end)

  it("spends no time on what cannot be reached than its own", function()
    local c = bed:new { host = "http://127.0.0.1:1", retries = 1 }
    local results, count = collect(c:send_many(list(20), { concurrency = 20 }))
    c:close()
    assert.equal(20, count)
    for _, r in ipairs(results) do
      assert.same({ "not_sent", "connect", 0 }, { r.outcome, r.code, r.attempts })
    end
  end)

  it("lets nothing time out while the caller is busy", function()
    local server_delay = 0.1
    bed:play { times = -1, delay = server_delay }
    local outcomes = {}
    for result in client:send_many(list(12), { concurrency = 4, timeout = 1 }) do
      outcomes[result.outcome] = (outcomes[result.outcome] or 0) + 1
      if result.index == 1 then os.execute("sleep 1.5") end
    end
    assert.same({ accepted = 12 }, outcomes)
    assert.equal(12, bed:counted())
  end)

  it("still knows deadlines after the caller was busy", function()
    bed:play { times = -1, delay = 5 }
    local begin
    local iterator = client:send_many(list(2), { concurrency = 2, timeout = 0.4, retries = 0 })
    begin = core.clock()
    local first = iterator()
    assert.equal("timeout", first.code)
    os.execute("sleep 0.3")
    local second = iterator()
    assert.equal("timeout", second.code)
    assert.truthy(core.clock() - begin < 2.5)
  end)

  it("nests and interleaves on one client", function()
    local outer, inner, single = 0, 0, 0
    for result in client:send_many(list(6), { concurrency = 3 }) do
      assert.equal("accepted", result.outcome)
      outer = outer + 1
      for r in client:send_many(list(3), { concurrency = 2 }) do
        assert.equal("accepted", r.outcome)
        inner = inner + 1
      end
      assert(client:send({ to = number(99) }))
      single = single + 1
    end
    assert.same({ 6, 18, 6 }, { outer, inner, single })
    assert.equal(30, bed:counted())

    local a = client:send_many(list(10), { concurrency = 2 })
    local b = client:send_many(list(10), { concurrency = 2 })
    local count = 0
    while true do
      local x, y = a(), b()
      if not x and not y then break end
      count = count + (x and 1 or 0) + (y and 1 or 0)
    end
    assert.equal(20, count)
    assert.equal(50, bed:counted())
  end)

  it("may be driven from a coroutine, whose yields pass through", function()
    local yields = 0
    local c = bed:new { token = function()
      if coroutine.isyieldable == nil or coroutine.isyieldable() then
        yields = yields + 1
      end
      return client:token()
    end }
    local runner = coroutine.wrap(function()
      local count = 0
      for _ in c:send_many(function()
        local message = coroutine.yield("pull")
        return message
      end) do
        count = count + 1
      end
      return count
    end)
    if _VERSION == "Lua 5.1" and not rawget(_G, "jit") then
      -- There a function cannot yield across a protected call.
      c:close()
      return
    end
    local said = runner()
    for i = 1, 5 do
      assert.equal("pull", said)
      said = runner({ to = number(i) })
    end
    while said == "pull" do said = runner(nil) end
    assert.equal(5, said)
    c:close()
  end)

  it("waits for permits without losing a message, and keeps the limit", function()
    local c = bed:new { per_minute = 5 }
    local begin = core.clock()
    local iterator = c:send_many(list(7), { timeout = 0.5 })
    for _ = 1, 5 do assert.equal("accepted", iterator().outcome) end
    assert.truthy(core.clock() - begin < 5)
    assert.equal(5, bed:counted())
    c:close()
    local _, count = collect(iterator)
    assert.truthy(count <= 2)
    assert.equal(5, bed:counted())
  end)

  local seed = tonumber(os.getenv("SEED")) or os.time() % 100000

  it("takes each permit when it comes, and none before; seed " .. seed, function()
    math.randomseed(seed)
    for _ = 1, 2 do
      local limit = math.random(20, 59)
      local c = bed:new { per_minute = limit }
      -- As if a minute ago so many had been sent within two seconds.
      local before, begin = {}, core.clock()
      for i = 1, limit do before[i] = begin - 59.9 + math.random() * 2 end
      table.sort(before)
      for _, at in ipairs(before) do assert.is_nil(session_of(c).pacer:take(at, true, {})) end
      local ended = {}
      for result in c:send_many(list(limit), { concurrency = math.random(64) }) do
        assert.equal("accepted", result.outcome)
        ended[#ended + 1] = core.clock()
      end
      for i, at in ipairs(ended) do
        assert(at >= before[i] + 60, ("permit %d came %.3f s early"):format(i, before[i] + 60 - at))
        assert(at <= before[i] + 62, ("permit %d came %.3f s late"):format(i, at - before[i] - 60))
      end
      assert.equal(limit, #ended)
      c:close()
    end
  end)

  it("tells what was refused before anything waits", function()
    local c = bed:new { per_minute = 1 }
    local iterator = c:send_many({ { to = number(1) }, { to = "x" }, { to = number(2) } })
    local begin = core.clock()
    local first, second = iterator(), iterator()
    assert.truthy(core.clock() - begin < 5)
    local codes = { [first.index] = first.code or first.outcome,
      [second.index] = second.code or second.outcome }
    assert.same({ "accepted", "invalid_number" }, codes)
    c:close()
  end)

  it("leaves a share to single sends", function()
    local c = bed:new { per_minute = 120 }
    local iterator = c:send_many(list(200), { concurrency = 16 })
    for _ = 1, 118 do assert.equal("accepted", iterator().outcome) end
    local begin = core.clock()
    assert(c:send({ to = number(1) }))
    assert(c:send({ to = number(2) }))
    assert.truthy(core.clock() - begin < 5)
    c:close()
  end)

  it("uses no CPU while it waits", function()
    local c = bed:new { per_minute = 1 }
    session_of(c).pacer:pause(core.clock(), 1)
    local cpu, begin = os.clock(), core.clock()
    assert.equal("accepted", c:send_many(list(1))().outcome)
    assert.truthy(core.clock() - begin >= 0.99)
    assert.truthy(os.clock() - cpu < 0.1, os.clock() - cpu)
    c:close()
  end)

  it("survives the collector in the middle", function()
    for _ = 1, 20 do
      client:send_many(list(10), { concurrency = 5 })()
      collectgarbage()
    end
    assert.equal("accepted", client:send({ to = number(1) }).outcome)
    local left = bed:new()
    left:send_many(list(10))()
    left = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
  end)

  it("raises for a hole in an array, once what stands before it is answered", function()
    local m, results = list(3), 0
    local messages = { m[1], m[2], nil, m[3] }
    local ok, text = pcall(function()
      for result in client:send_many(messages) do
        assert.equal("accepted", result.outcome)
        results = results + 1
      end
    end)
    assert.is_false(ok)
    assert.equal(2, results)
    assert.truthy(text:find("stream_spec.lua:%d+: bad argument #1 to 'send_many' .*%(message 3%)"),
      text)
  end)

  describe("raises at the caller's line for", function()
    local cases = {
      { "no messages", {}, "bad argument #1 to 'send_many' (table or function expected, got nil)" },
      { "text", { "x" }, "table or function expected, got string" },
      { "a message in place of a list", { { to = "+12" } }, "an array of messages expected" },
      { "options that are none", { {}, 5 }, "bad argument #2 to 'send_many'" },
      { "an unknown option", { {}, { concurency = 4 } }, "did you mean 'concurrency'" },
      { "no concurrency", { {}, { concurrency = 0 } }, "whole number from 1 to 1024" },
      { "too much", { {}, { concurrency = 1025 } }, "whole number from 1 to 1024" },
      { "half a message at a time", { {}, { concurrency = 1.5 } }, "whole number" },
      { "one argument too many", { {}, {}, 5 }, "bad argument #3" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local unpack = table.unpack or unpack -- luacheck: ignore 143
        local ok, text = pcall(function()
          local iterator = client:send_many(unpack(case[2]))
          return iterator
        end)
        assert.is_false(ok)
        assert.truthy(text:find(case[3], 1, true), text)
        assert.truthy(text:find("stream_spec.lua:%d+:"), text)
      end)
    end
  end)
end)

describe("send_many against a hostile server", function()
  local bench
  setup(function() bench = faults.start() end)
  teardown(function() bench:stop() end)

  it("keeps every result with its message", function()
    local step = faults.step
    local scripts = {}
    for i = 1, 40 do
      scripts[i] = i % 4 == 0 and { step.read_request(), step.close() }
        or i % 4 == 1 and { step.read_request(), step.respond(), step.read_request(), step.reset() }
        or i % 4 == 2 and { step.close() }
        or { step.read_request(), step.respond { status = 412, body = '{"errors":[]}' },
          step.serve() }
    end
    local server = bench:listen { connections = scripts }
    local c = assert(koresms.new { host = server.origin, bot_id = "st-1", client_id = "cs-1",
      client_secret = "secret", from = FROM, per_minute = false })
    local results, messages = {}, {}
    for i = 1, 120 do messages[i] = { to = number(i) } end
    for result in c:send_many(messages, { concurrency = 10 }) do results[result.index] = result end
    c:close()
    local stats = server:stats { settle = 2 }
    for i = 1, 120 do
      local r = results[i]
      assert.equal(number(i), r.to)
      local processed = stats.to[number(i)] or 0
      assert.truthy(processed <= r.attempts)
      assert.truthy(processed <= 1)
      if r.outcome == "accepted" then assert.equal(1, processed) end
      if r.outcome == "not_sent" then assert.equal(0, processed) end
    end
    server:close()
  end)
end)
