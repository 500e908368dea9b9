-- Repeats: only where they cannot duplicate, within the deadline, with full jitter, and never
-- before a throttled platform wants to hear from us again.

local bed_support = require "spec.support.fault_bed"
local expected = require "spec.support.fault_verdicts"
local faults = require "spec.support.faults"

local step, clock = faults.step, bed_support.clock

describe("repeats", function()
  local bed, server

  setup(function()
    bed = bed_support.start()
    server = bed.servers.plain
  end)
  teardown(function() bed:stop() end)

  -- Replies in the order of the requests that they answer, on one connection; then good ones.
  local function answers(...)
    local script = {}
    for i, fields in ipairs { ... } do
      script[2 * i - 1], script[2 * i] = step.read_request(), step.respond(fields)
    end
    script[#script + 1] = step.serve()
    server:script({ script })
  end

  local function throttle(after)
    return { status = 429, body = "", headers = { { "Retry-After", after } } }
  end

  -- A client that notes its events, with the time of each; of an attempt the beginning alone.
  local function listener(origin, changes)
    local events = {}
    local settings = { retries = 2, on_event = function(event)
      event.at = clock()
      if event.kind == "attempt" and event.elapsed then return end
      events[#events + 1] = event
    end }
    for name, value in pairs(changes or {}) do settings[name] = value end
    return bed:client(origin, settings), events
  end

  local function kinds(events)
    local out = {}
    for i, event in ipairs(events) do out[i] = event.kind end
    return table.concat(out, " ")
  end

  local function stats() return server:stats { settle = 2, requests = true } end

  describe("are made", function()
    it("for no verdict that the contract does not call retryable", function()
      -- One scenario for each verdict, the shortest that there is; sweeps are others' work.
      local chosen = {}
      for _, row in ipairs(faults.list) do
        local verdict = expected.rows[row.name]
        if type(verdict) == "string" and verdict ~= "accepted" and not verdict:find("|")
            and not row.sweep and not row.kept and not row.listen then
          local known = chosen[verdict]
          if not known or known.stalls and not row.stalls then chosen[verdict] = row end
        end
      end
      local count = 0
      for verdict, row in pairs(chosen) do
        if verdict ~= "rejected/rate_limited" then
          count = count + 1
          local script = faults.script(row)
          server:script({ script, script, script, script })
          local client, events = listener(server.origin, { retries = 3,
            timeout = row.stalls and bed_support.STALL or bed_support.ENOUGH })
          local result = bed:send(client)
          client:close()
          assert.equal(1, result.attempts, row.name)
          assert.is_false(result.retryable, row.name)
          assert.equal("attempt verdict", kinds(events), row.name)
          assert.equal(row.processed, stats().processed, row.name)
        end
      end
      assert(count >= 9, "only " .. count .. " verdicts were looked at")
    end)

    it("where nobody listens, a proxy refuses, or a name is not known", function()
      local refuse = bed.bench:listen { mode = "refuse" }
      local proxy = bed.bench:listen { proxy = true, default = faults.script("proxy_refuses_503") }
      for code, given in pairs {
        connect = { refuse.origin }, proxy = { server.origin, { proxy = proxy.origin } },
        dns = { "https://nonexistent.invalid" },
      } do
        local client, events = listener(given[1], given[2])
        local result = bed:send(client, { timeout = code == "connect" and 1 or 5 })
        client:close()
        assert.same({ "not_sent", code, true, 0 },
          { result.outcome, result.code, result.retryable, result.attempts })
        local told = kinds(events)
        -- A connection is tried again until the deadline: the server may be starting.
        if code ~= "connect" then assert.equal(5 + 1, #events) end
        assert.equal("attempt retry attempt retry attempt", told:sub(1, 35))
        assert.equal("verdict", events[#events].kind)
        for i, event in ipairs(events) do
          if event.kind == "attempt" then assert.equal((i + 1) / 2, event.attempt) end
          if event.kind == "retry" then assert.equal(code, event.code) end
        end
      end
      assert.equal(3, proxy:stats().connects)
    end)

    it("not for TLS, nor for a token that cannot be signed", function()
      local wrong = bed.bench:listen { tls = { cert = "expired" } }
      local client, events = listener(wrong.origin)
      assert.equal("tls", bed:send(client).code)
      assert.equal("attempt verdict", kinds(events))
      client:close()
      client, events = listener(server.origin, { token = function() return nil end })
      assert.equal("sign", bed:send(client).code)
      assert.equal("verdict", kinds(events))
      client:close()
    end)

    it("as often as the option says, and no more", function()
      for retries = 0, 3 do
        answers(throttle "0", throttle "0", throttle "0", throttle "0", throttle "0")
        local client, events = listener(server.origin)
        local result = bed:send(client, { retries = retries })
        client:close()
        assert.same({ "rate_limited", retries + 1 }, { result.code, result.attempts })
        assert.equal(retries + 1, stats().processed)
        assert.equal(("attempt pause retry "):rep(retries) .. "attempt pause verdict",
          kinds(events))
      end
    end)

    it("and what is accepted then is accepted", function()
      answers(throttle "0")
      local client, events = listener(server.origin)
      local result = bed:send(client)
      client:close()
      assert.same({ "accepted", 2 }, { result.outcome, result.attempts })
      assert.is_false(result.retryable)
      assert.is_nil(result.retry_after)
      assert.equal("attempt pause retry attempt verdict", kinds(events))
      assert.equal("accepted", events[5].outcome)
      assert.equal(2, events[5].attempts)
    end)
  end)

  it("wait with full jitter, up to a bound that doubles", function()
    local refuse = bed.bench:listen { mode = "refuse" }
    local client, events = listener(refuse.origin)
    local list, waits = {}, {}
    for i = 1, 400 do list[i] = { to = bed:number() } end
    local begin = clock()
    for result in client:send_many(list, { concurrency = 400, timeout = 1.5 }) do
      assert.equal("connect", result.code)
    end
    assert(clock() - begin < 3, "the messages waited for each other")
    client:close()
    local tries = {}
    for _, event in ipairs(events) do
      if event.kind == "retry" then
        local try = (tries[event.id] or 0) + 1
        tries[event.id] = try
        waits[try] = waits[try] or {}
        table.insert(waits[try], event.seconds)
      end
    end
    for try, bound in ipairs { 0.25, 0.5 } do
      assert.equal(400, #waits[try])
      local bins, sum = { 0, 0, 0, 0, 0 }, 0
      for _, seconds in ipairs(waits[try]) do
        assert(seconds >= 0 and seconds <= bound, seconds)
        local bin = math.min(5, math.floor(seconds / bound * 5) + 1)
        bins[bin], sum = bins[bin] + 1, sum + seconds
      end
      -- Eighty are expected in each; five deviations are forty.
      for bin, count in ipairs(bins) do
        assert(count > 40 and count < 120, ("repeat %d: %d in fifth %d"):format(try, count, bin))
      end
      assert(math.abs(sum / 400 / bound - 0.5) < 0.08)
    end
  end)

  describe("keep the deadline:", function()
    it("a repeat that would be too late is not waited for", function()
      local refuse = bed.bench:listen { mode = "refuse" }
      local client, events = listener(refuse.origin)
      local begin = clock()
      local result = bed:send(client, { timeout = 0.6, retries = 100 })
      assert(clock() - begin < 0.6 + 0.1, "past the deadline")
      client:close()
      assert.same({ "not_sent", "connect", 0 }, { result.outcome, result.code, result.attempts })
      for _, event in ipairs(events) do assert(event.at - begin < 0.6) end
    end)

    it("a pause that would be too long ends it at once, and is told", function()
      for _, after in ipairs { "3600", "86400", { http_date = 600 } } do
        answers(throttle(after))
        local client = listener(server.origin)
        local begin = clock()
        local result = bed:send(client, { timeout = 5 })
        client:close()
        assert(clock() - begin < 1)
        assert.same({ "rejected", "rate_limited", 1, true },
          { result.outcome, result.code, result.attempts, result.retryable })
        -- A date has nothing to be compared with but our own clock here.
        local seconds = type(after) == "table" and 60 or 3600
        assert(result.retry_after <= seconds and result.retry_after > seconds - 2)
      end
    end)
  end)

  describe("wait for Retry-After", function()
    -- The platform's second request comes no sooner; the wait costs no processor time.
    local function waits(after, least, most)
      answers(throttle(after))
      local client, events = listener(server.origin)
      local cpu, begin = os.clock(), clock()
      local result = bed:send(client)
      local took = clock() - begin
      cpu = os.clock() - cpu
      client:close()
      assert.same({ "accepted", 2 }, { result.outcome, result.attempts })
      assert(took >= least and took < most + 1, took)
      assert(cpu < 0.1 * bed_support.patience, ("%.3f s of processor time"):format(cpu))
      assert.equal("attempt pause retry attempt verdict", kinds(events))
      assert(events[3].seconds >= least, events[3].seconds)
      local gap = events[4].at - events[3].at
      assert(gap >= events[3].seconds - 0.01 and gap < events[3].seconds + 0.5, gap)
      assert(events[4].at - events[2].at >= least - 0.001)
    end

    it("in seconds", function() waits("1", 1, 1.3) end)
    it("as a date", function() waits({ http_date = 2 }, 0.9, 2.3) end)
    it("as a date that is over", function() waits({ http_date = -100 }, 0, 0.3) end)
    it("of none", function() waits("0", 0, 0.3) end)
  end)

  it("pause the whole client, streams and single sends alike", function()
    answers(throttle "1")
    local client, events = listener(server.origin)
    local list = {}
    for i = 1, 6 do list[i] = { to = bed:number() } end
    local paused
    for result in client:send_many(list, { concurrency = 2, timeout = 10 }) do
      assert.equal("accepted", result.outcome)
    end
    for _, event in ipairs(events) do
      if event.kind == "pause" then paused = event.at end
      if event.kind == "attempt" and paused then
        assert(event.at >= paused + 0.99, "an attempt during the pause")
      end
    end
    assert.is_not_nil(paused)
    client:close()

    answers(throttle "1")
    client = listener(server.origin, { retries = 0 })
    local other = listener(server.origin, { retries = 0 })
    local result = bed:send(client)
    local over = clock() + result.retry_after
    assert.equal("accepted", bed:send(other).outcome, "another client is free")
    assert.equal("rate_limited", bed:send(client, { timeout = 0.2 }).code)
    assert.equal("accepted", bed:send(client).outcome)
    assert(clock() >= over - 0.001)
    client:close()
    other:close()
  end)

  it("are signed afresh", function()
    local function tokens(changes)
      answers(throttle "0", throttle "0")
      local client = listener(server.origin, changes)
      assert.equal(3, bed:send(client).attempts)
      client:close()
      local seen, distinct = {}, 0
      for _, request in ipairs(stats().requests) do
        for _, field in ipairs(request.headers) do
          if field[1] == "auth" then
            distinct = distinct + (seen[field[2]] and 0 or 1)
            seen[field[2]] = true
          end
        end
      end
      return distinct
    end
    assert.equal(3, tokens { jti = true })
    local made = 0
    assert.equal(3, tokens { token = function()
      made = made + 1
      return "token." .. made .. ".x"
    end })
    assert.equal(3, made)
  end)

  it("are told to a listener, masked, and whatever it does", function()
    answers(throttle "0")
    local seen = {}
    local client = bed:client(server.origin, { retries = 1, on_event = function(event)
      seen[#seen + 1] = event
      error("no")
    end })
    local result = bed:send(client)
    client:close()
    assert.equal("accepted", result.outcome)
    for _, event in ipairs(seen) do
      if event.kind ~= "pause" then assert.equal(result.id, event.id) end
      for name, value in pairs(event) do
        assert.is_nil(tostring(value):find(result.to, 1, true), name)
      end
    end
    assert.equal("attempt attempt pause retry attempt attempt verdict", kinds(seen))
    assert.equal(result.elapsed, seen[7].elapsed)
  end)
end)
