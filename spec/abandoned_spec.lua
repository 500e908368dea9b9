-- Functions of the caller's that yield, in coroutines that are never resumed, or in turn.
--
-- Lua 5.1 cannot yield through a pcall: there the yield is an error in the caller's function, as
-- any other error in it.

local broken_off = require "spec.support.broken_off"

local MARK = "a yield of the caller's"

-- How often each case is played.
local TIMES = broken_off.long and 200 or 8

describe("a coroutine that is abandoned", function()
  local ground, ledger
  local yields -- whether the caller's functions yield now
  local yielded -- and how often they did

  local function yield()
    if not yields then return end
    yielded = yielded + 1
    coroutine.yield(MARK)
  end

  setup(function() ground = broken_off.start() end)
  teardown(function() ground:stop() end)
  before_each(function()
    yields, yielded = false, 0
  end)
  after_each(function()
    ground:guard(0)
    if ledger then
      ledger.client:close()
      ledger = nil
    end
  end)

  -- Plays something many times with one client; all of it is gone afterwards.
  local function play(settings, f)
    local descriptors = broken_off.descriptors()
    ledger = ground:client(settings)
    local memory
    for i = 1, TIMES do
      ledger.place = "time " .. i
      ground:guard(60)
      f(i)
      yields = false
      for _, kind in ipairs { "refused", "throttled", "ok" } do ledger:send(kind) end
      local good = ledger:verify()
      broken_off.assert_none(ledger.problems)
      if not good then break end
      if i == math.floor(TIMES / 4) then memory = broken_off.memory() end
    end
    local grown = broken_off.memory() - memory
    assert(grown < 8 + TIMES / 8, ("%.1f KB are left behind"):format(grown))
    ledger.client:close()
    ledger = nil
    broken_off.memory()
    assert.equal(descriptors, broken_off.descriptors())
  end

  -- Resumes a coroutine that calls a function; true where it yields what the caller's function
  -- yields, else what the function gives.
  local function resume(thread, ...)
    local function look(ok, first, ...)
      if not ok then return false, "raised", first end
      if coroutine.status(thread) == "dead" then return false, first, ... end
      if first ~= MARK then ledger:problem("yields %s", tostring(first)) end
      return true
    end
    return look(coroutine.resume(thread, ...))
  end

  -- Sends in a coroutine, which is left at its first yield.
  local function abandon_send(kind, also)
    local to = ground:number(kind)
    local client = ledger.client
    yields = true
    local suspended, accepted, text, _, failed = resume(coroutine.create(function()
      return client:send { to = to, id = to }
    end))
    yields = false
    if suspended then return ledger:lost({ { to = to, id = to } }, 1) end
    if accepted == "raised" then return ledger:problem("a send raised: %s", tostring(text)) end
    ledger:told(to, accepted or failed, also)
  end

  for _, event_kind in ipairs { "attempt", "pause", "verdict" } do
    for _, kind in ipairs { "ok", "refused", "throttled", "cut" } do
      if event_kind ~= "pause" or kind == "throttled" then
        it(("in on_event, at %s of %s"):format(event_kind, kind), function()
          play({ on_event = function(event) if event.kind == event_kind then yield() end end },
            function() abandon_send(kind) end)
          assert.truthy(yielded >= TIMES)
        end)
      end
    end
  end

  it("in on_event, at a repeat", function()
    play({ retries = 1, on_event = function(event) if event.kind == "retry" then yield() end end },
      function(i)
        abandon_send(i > 2 and "throttled" or "repeated", { ["rejected/rate_limited"] = 2 })
      end)
    assert.truthy(yielded >= TIMES)
  end)

  it("in a token callback", function()
    play({ client_id = nil, client_secret = nil, token = function()
      yield()
      return "a.b.c"
    end }, function(i)
      abandon_send(({ "ok", "refused", "throttled", "cut" })[i % 4 + 1], { ["not_sent/sign"] = 0 })
    end)
    assert.truthy(yielded >= TIMES)
  end)

  -- For streams that might be stuck.
  local function stop_after(seconds)
    local ends = os.time() + seconds * broken_off.patience
    return function()
      if os.time() > ends then error("the stream is stuck", 0) end
      return false
    end
  end

  -- Takes a stream's results in coroutines, each of which is left at its first yield.
  local function abandon_stream(i, options)
    local stream = ledger:stream(options)
    yields = true
    for _ = 1, i % #options.kinds do
      if resume(coroutine.create(function() stream:step() end)) then break end
    end
    yields = false
    stream:finish(1)
  end

  local kinds = { "ok", "refused", "throttled", "cut", "slow", "ok" }

  for _, event_kind in ipairs { "attempt", "verdict" } do
    it("in on_event of a stream, at " .. event_kind, function()
      play({ on_event = function(event) if event.kind == event_kind then yield() end end },
        function(i) abandon_stream(i, { kinds = kinds, concurrency = 1 + i % 4 }) end)
      assert.truthy(yielded >= 1)
    end)
  end

  it("in a source", function()
    play(nil, function(i)
      local client, list, told, pulled, lost = ledger.client, {}, {}, 0, nil
      for j, kind in ipairs(kinds) do
        list[j] = { to = ground:number(kind) }
      end
      local raised
      local iterator = client:send_many(function()
        pulled = pulled + 1
        local mine = pulled
        if mine == 1 + i % #kinds then
          lost = mine
          yield()
        end
        return list[mine]
      end, { concurrency = 1 + i % 3, stop = stop_after(5) })
      local places = {}
      local function take()
        local result = iterator()
        if not result then return true end
        if told[result.index] then ledger:problem("%d is told twice", result.index) end
        told[result.index] = true
        places[#places + 1] = result.to
        ledger:told(result.to, result)
      end
      yields = true
      for _ = 1, 2 * #kinds do
        local suspended, over, text = resume(coroutine.create(take))
        if suspended then break end
        if over == "raised" then
          raised = text
          break
        elseif over then
          break
        end
      end
      yields = false
      -- Goes on without the coroutine; what it was about to give is lost.
      for _ = 1, 2 * #kinds do
        local ok, over = pcall(take)
        if not ok then
          if raised or not tostring(over):find("yield") then
            ledger:problem("a step raised: %s", tostring(over))
          end
          raised = over
        elseif over then
          break
        end
      end
      assert.truthy(lost)
      -- An error in a source ends it: what had been pulled is told.
      local expected = raised and lost - 1 or #kinds - 1
      if raised and not tostring(raised):find("yield") then
        ledger:problem("raised %s", tostring(raised))
      end
      if #places ~= expected then
        ledger:problem("%d messages are told, not %d", #places, expected)
      end
    end)
    assert.truthy(yielded >= TIMES)
  end)
end)

describe("coroutines that send at once", function()
  local ground, ledger

  setup(function() ground = broken_off.start() end)
  teardown(function() ground:stop() end)
  before_each(function() ground:guard(60) end)
  after_each(function()
    ground:guard(0)
    if ledger then
      ledger.client:close()
      ledger = nil
    end
  end)

  local function on_event() coroutine.yield(MARK) end

  -- Resumes coroutines in turn, or in any order, until all have come to their end.
  local function run(threads, any)
    for turn = 1, 10000 do
      if #threads == 0 then return end
      local at = any and ground.dice:roll(#threads) or turn % #threads + 1
      local ok, text = coroutine.resume(threads[at])
      if not ok then ledger:problem("raised %s", tostring(text)) end
      if coroutine.status(threads[at]) == "dead" then table.remove(threads, at) end
    end
    ledger:problem("%d do not come to their end", #threads)
  end

  -- No throttled ones: whoever is suspended when its message is to go first after a pause holds
  -- up the others for a while.
  local names = { "ok", "refused", "cut", "reset", "slow" }

  local function sender(count)
    return coroutine.create(function()
      for _ = 1, count do
        local to = ground:number(ground.dice:one_of(names))
        local accepted, _, _, failed = ledger.client:send { to = to }
        ledger:told(to, accepted or failed)
      end
    end)
  end

  local function streamer(count)
    return coroutine.create(function()
      local list = {}
      for i = 1, count do list[i] = ground.dice:one_of(names) end
      local stream = ledger:stream { kinds = list, concurrency = ground.dice:roll(4) }
      -- Without pcall, through which Lua 5.1 could not yield.
      for result in stream.iterator do stream:take(result) end
      stream.over = true
      stream:finish()
    end)
  end

  for _, any in ipairs { false, true } do
    local order = any and "in any order" or "in turn"
    it("get their own answers, two of them " .. order, function()
      ledger = ground:client { on_event = on_event }
      for i = 1, TIMES do
        ledger.place = "time " .. i
        run({ sender(3), sender(3) }, any)
        ledger:verify()
      end
      broken_off.assert_none(ledger.problems)
    end)

    it("get their own answers, beside streams " .. order, function()
      ledger = ground:client { on_event = on_event }
      for i = 1, TIMES do
        ledger.place = "time " .. i
        run({ sender(3), streamer(6), streamer(5), sender(4) }, any)
        ledger:verify()
      end
      broken_off.assert_none(ledger.problems)
    end)
  end

  it("get their own answers, where some are abandoned", function()
    ledger = ground:client { on_event = on_event }
    for i = 1, TIMES do
      ledger.place = "time " .. i
      for _ = 1, 3 do
        -- A send that is left somewhere in the middle.
        local to = ground:number(ground.dice:one_of(names))
        local result
        local thread = coroutine.create(function()
          local accepted, _, _, failed = ledger.client:send { to = to }
          result = accepted or failed
        end)
        for _ = 1, ground.dice:roll(2) do
          if coroutine.status(thread) ~= "dead" then coroutine.resume(thread) end
        end
        if result then ledger:told(to, result) else ledger:lost({ { to = to } }, 1) end
      end
      run({ sender(2), streamer(4), sender(2) }, true)
      ledger:verify()
    end
    broken_off.assert_none(ledger.problems)
  end)
end)
