local core = require "koresms.core"
local session_of = require("koresms.client").session
local faults = require "spec.support.faults"
local koresms = require "koresms"
local sandbox = require "koresms.sandbox"

local FROM = "+19876543210"

local function number(i) return ("+91%010d"):format(i) end

describe("send_many", function()
  local box, client

  setup(function() box = assert(sandbox.start()) end)
  teardown(function() box:stop() end)

  local function new(changes)
    local o = { host = box.plain, bot_id = box.bot_id, client_id = box.client_id,
      client_secret = box.client_secret, from = FROM, per_minute = false }
    for name, value in pairs(changes or {}) do o[name] = value end
    return assert(koresms.new(o))
  end

  before_each(function()
    box:control("DELETE", "/_sandbox/messages")
    box:control("DELETE", "/_sandbox/play")
    client = new()
  end)
  after_each(function() client:close() end)

  local function play(what) assert(box:control("POST", "/_sandbox/play", what)) end
  local function counted() return box:get("/_sandbox/state").count end

  local function list(n)
    local messages = {}
    for i = 1, n do messages[i] = { to = number(i), id = "m" .. i } end
    return messages
  end

  -- All results by index; each index once.
  local function collect(iterator)
    local results, count = {}, 0
    for result in iterator do
      assert.is_nil(results[result.index])
      results[result.index] = result
      count = count + 1
    end
    return results, count
  end

  it("gives a result for each message of an array", function()
    local results, count = collect(client:send_many(list(200)))
    assert.equal(200, count)
    for i = 1, 200 do
      assert.equal("accepted", results[i].outcome)
      assert.equal("m" .. i, results[i].id)
      assert.equal(number(i), results[i].to)
      assert.equal(1, results[i].attempts)
    end
    local seen, numbers = box:get("/_sandbox/messages"), {}
    assert.equal(200, seen.count)
    for _, m in ipairs(seen.messages) do
      assert.is_nil(numbers[m.to])
      numbers[m.to] = true
    end
  end)

  it("may be ended by a listener that closes the client", function()
    local told, c = 0, nil
    c = new { on_event = function(event)
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
    assert.truthy(counted() <= count)
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
      box:control("DELETE", "/_sandbox/messages")
      local c = new()
      collect(c:send_many(list(30), { concurrency = concurrency }))
      c:close()
      local connections, count = {}, 0
      for _, m in ipairs(box:get("/_sandbox/messages").messages) do
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
    play { times = 3, status = 500 }
    play { times = 2, close = true }
    local results, count = collect(client:send_many(messages, { concurrency = 4 }))
    assert.equal(40, count)
    local codes = {}
    for _, r in ipairs(results) do
      local key = r.code or r.outcome
      codes[key] = (codes[key] or 0) + 1
    end
    assert.same({ invalid_number = 2, server_error = 3, connection_lost = 2, accepted = 33 }, codes)
    assert.equal(0, results[7].attempts)
    assert.equal(33, counted())
  end)

  it("repeats what is safe, and only that", function()
    play { times = 1, status = 429, retry_after = 1 }
    local results, count = collect(client:send_many(list(10), { concurrency = 2 }))
    assert.equal(10, count)
    local attempts = 0
    for _, r in ipairs(results) do
      assert.equal("accepted", r.outcome)
      attempts = attempts + r.attempts
    end
    assert.equal(11, attempts)
    assert.equal(10, counted())
  end)

  it("spends no time on what cannot be reached than its own", function()
    local c = new { host = "http://127.0.0.1:1", retries = 1 }
    local results, count = collect(c:send_many(list(20), { concurrency = 20 }))
    c:close()
    assert.equal(20, count)
    for _, r in ipairs(results) do
      assert.same({ "not_sent", "connect", 0 }, { r.outcome, r.code, r.attempts })
    end
  end)

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
      assert.equal(5, counted())
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
    assert.equal(outcomes.accepted, counted())
    assert.truthy(outcomes.accepted <= 9)
    assert.equal(count + 1, outcomes.accepted + (outcomes.cancelled or 0))
    assert.is_nil(iterator())
  end)

  if _VERSION == "Lua 5.4" then
    it("is left by break", function()
      local iterator, a, b, closing = client:send_many(list(100), { concurrency = 2 })
      for _ in iterator, a, b, closing do break end -- luacheck: ignore 512
      collect(iterator)
      assert.truthy(counted() <= 5, counted())
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
    assert.equal(counts.accepted, counted())
    assert.truthy(counts.accepted >= 10 and counts.accepted <= 18, counts.accepted)
    assert.truthy(counts.cancelled <= 1, counts.cancelled)
  end)

  it("asks whether to stop while it waits for permits", function()
    local c = new({ per_minute = 2 })
    local begin, asked = core.clock(), 0
    local results, count = collect(c:send_many(list(5), { stop = function()
      asked = asked + 1
      return core.clock() - begin > 0.8
    end }))
    assert.truthy(core.clock() - begin < 3)
    assert.truthy(asked >= 2, asked)
    assert.equal(3, count)
    assert.equal("cancelled", results[3].code)
    assert.equal(2, counted())
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
    assert.equal(counted(), done)
  end)

  it("reports nothing false when the client is closed in the middle", function()
    play { times = -1, delay = 0.5 }
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
    box:control("DELETE", "/_sandbox/play")
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

  it("lets nothing time out while the caller is busy", function()
    local server_delay = 0.1
    play { times = -1, delay = server_delay }
    local outcomes = {}
    for result in client:send_many(list(12), { concurrency = 4, timeout = 1 }) do
      outcomes[result.outcome] = (outcomes[result.outcome] or 0) + 1
      if result.index == 1 then os.execute("sleep 1.5") end
    end
    assert.same({ accepted = 12 }, outcomes)
    assert.equal(12, counted())
  end)

  it("still knows deadlines after the caller was busy", function()
    play { times = -1, delay = 5 }
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
    assert.equal(30, counted())

    local a = client:send_many(list(10), { concurrency = 2 })
    local b = client:send_many(list(10), { concurrency = 2 })
    local count = 0
    while true do
      local x, y = a(), b()
      if not x and not y then break end
      count = count + (x and 1 or 0) + (y and 1 or 0)
    end
    assert.equal(20, count)
    assert.equal(50, counted())
  end)

  it("may be driven from a coroutine, whose yields pass through", function()
    local yields = 0
    local c = new { token = function()
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
    local c = new { per_minute = 5 }
    local begin = core.clock()
    local iterator = c:send_many(list(7), { timeout = 0.5 })
    for _ = 1, 5 do assert.equal("accepted", iterator().outcome) end
    assert.truthy(core.clock() - begin < 5)
    assert.equal(5, counted())
    c:close()
    local _, count = collect(iterator)
    assert.truthy(count <= 2)
    assert.equal(5, counted())
  end)

  local seed = tonumber(os.getenv("SEED")) or os.time() % 100000

  it("takes each permit when it comes, and none before; seed " .. seed, function()
    math.randomseed(seed)
    for _ = 1, 2 do
      local limit = math.random(20, 59)
      local c = new { per_minute = limit }
      -- As if a minute ago so many had been sent within two seconds.
      local before, begin = {}, core.clock()
      for i = 1, limit do before[i] = begin - 59.9 + math.random() * 2 end
      table.sort(before)
      for _, at in ipairs(before) do assert.is_nil(session_of(c).pacer:take(at, true)) end
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
    local c = new { per_minute = 1 }
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
    local c = new { per_minute = 120 }
    local iterator = c:send_many(list(200), { concurrency = 16 })
    for _ = 1, 118 do assert.equal("accepted", iterator().outcome) end
    local begin = core.clock()
    assert(c:send({ to = number(1) }))
    assert(c:send({ to = number(2) }))
    assert.truthy(core.clock() - begin < 5)
    c:close()
  end)

  it("uses no CPU while it waits", function()
    local c = new { per_minute = 1 }
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
    local left = new()
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
