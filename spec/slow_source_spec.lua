-- Sources and loop bodies that take their time, in plain Lua: what a source gave leaves before it
-- is asked again, results are told before more is asked for, and `timeout` holds. The order is
-- asserted; where a time is, its bounds are wide.

local beds = require "spec.support.sandbox_bed"
local core = require "koresms.core"
local faults = require "spec.support.faults"

local number = beds.number

local function nap(seconds)
  local ends = core.clock() + seconds
  while core.clock() < ends do end
end

describe("send_many with a slow source", function()
  local bed, client

  setup(function() bed = beds.start() end)
  teardown(function() bed:stop() end)

  before_each(function()
    bed:reset()
    client = bed:new()
  end)
  after_each(function() client:close() end)

  local function arrived(count)
    for _ = 1, 100 do
      if bed:counted() >= count then return true end
    end
  end

  it("lets each message leave before the next is asked for, and tells what is known first",
    function()
      local pulled, told, known, wrong = 0, 0, {}, {}
      for result in client:send_many(function()
        if pulled == 7 then return nil end
        -- Nothing of ours moves while this runs.
        if not arrived(pulled) then wrong[#wrong + 1] = ("%d has not left"):format(pulled) end
        -- The one before the last was answered, at the latest, while the last was pulled.
        if pulled > 1 and not known[pulled - 1] then
          wrong[#wrong + 1] = ("%d pulled, %d not told"):format(pulled, pulled - 1)
        end
        nap(0.3)
        pulled = pulled + 1
        return { to = number(pulled) }
      end) do
        assert.equal("accepted", result.outcome)
        told = told + 1
        assert.is_nil(known[result.index])
        known[result.index] = true
      end
      assert.same({}, wrong)
      assert.equal(7, told)
    end)

  it("reads answers in between, where many short times add up", function()
    local pulled, most, told = 0, 0, 0
    for result in client:send_many(function()
      if pulled == 300 then return nil end
      nap(0.004)
      pulled = pulled + 1
      most = math.max(most, pulled - told)
      return { to = number(pulled) }
    end, { concurrency = 300 }) do
      assert.equal("accepted", result.outcome)
      told = told + 1
    end
    assert.equal(300, told)
    -- All of them, where nothing is read before as many are pulled.
    assert.truthy(most < 150, most)
  end)

  for _, seconds in ipairs { 0.002, 0.02, 0.1, 0.5 } do
    for _, slow in ipairs { "source", "loop", "source and loop" } do
      it(("tells in time what is not answered: %s of %g s"):format(slow, seconds), function()
        bed:play({ silent = true })
        local pulled, late = 0, nil
        for result in client:send_many(function()
          if late or pulled == 5000 then return nil end
          if slow:find("source") then nap(seconds) end
          pulled = pulled + 1
          return { to = number(pulled) }
        end, { timeout = 1 }) do
          if slow:find("loop") and not late then nap(seconds) end
          if result.outcome ~= "accepted" then
            assert.is_nil(late)
            late = result
          end
        end
        assert.equal("unknown", late.outcome)
        assert.equal("timeout", late.code)
        assert.truthy(late.elapsed >= 1 and late.elapsed < 2.5, late.elapsed)
      end)
    end
  end

  it("is asked when it wants to be by a worker that is alone", function()
    local asked, begun = 0, core.clock()
    for _ in client:send_many(function()
      asked = asked + 1
      if asked % 2 == 0 then return { to = number(asked) } end
      if asked < 20 then return false, core.clock() + 0.02 end
    end, { concurrency = 1 }) do end
    assert.equal(21, asked)
    assert.truthy(core.clock() - begun < 2)
  end)

  it("is not asked for more than a slow loop takes", function()
    local pulled, told, most = 0, 0, 0
    for _ in client:send_many(function()
      if pulled == 1000 then return nil end
      pulled = pulled + 1
      most = math.max(most, pulled - told)
      return { to = number(pulled) }
    end, { concurrency = 4 }) do
      told = told + 1
      if told > 40 then break end
      nap(0.06)
    end
    assert.truthy(most <= 3 * 4 + 1, most)
  end)

  it("is asked again though no connection comes about", function()
    local bench = faults.start()
    local c = bed:new { host = bench:listen({ mode = "blackhole" }).origin, timeout = 3 }
    local pulled, told, before = 0, 0, nil
    for result in c:send_many(function()
      if pulled == 3 then return nil end
      nap(0.02)
      pulled = pulled + 1
      return { to = number(pulled) }
    end) do
      told = told + 1
      before = before or pulled
      assert.equal("not_sent", result.outcome)
    end
    c:close()
    bench:stop()
    assert.equal(3, told)
    -- All of them, and not one when the last one's time was over.
    assert.truthy(before > 1, before)
  end)

  -- Lua 5.1 cannot yield through a pcall.
  local it_yields = (_VERSION == "Lua 5.1" and not rawget(_G, "jit")) and pending or it
  it_yields("does not wait for what another coroutine of the caller's has in its hands", function()
    local pulled, told, count = 0, {}, 0
    local ends = os.time() + 20
    local iterate = client:send_many(function()
      if pulled == 30 then return nil end
      pulled = pulled + 1
      local mine = pulled
      if mine % 3 == 0 then coroutine.yield() end
      return { to = number(mine) }
    end, { concurrency = 4, stop = function()
      if os.time() > ends then error("the stream is stuck", 0) end
    end })
    local function take()
      for result in iterate do
        assert.is_nil(told[result.index])
        assert.equal("accepted", result.outcome)
        told[result.index] = true
        count = count + 1
      end
    end
    local one, other = coroutine.create(take), coroutine.create(take)
    for _ = 1, 100 do
      for _, thread in ipairs { one, other } do
        if coroutine.status(thread) ~= "dead" then assert(coroutine.resume(thread)) end
      end
    end
    assert.equal(30, count)
  end)

  it("ends where the source closes the client and has nothing yet", function()
    local asked = 0
    for _ in client:send_many(function()
      asked = asked + 1
      if asked > 100 then error("asked for ever") end
      client:close()
      return false, core.clock() + 60
    end) do error("a result of nothing") end
    assert.equal(1, asked)
  end)

  it("is asked when it wants to be, though a message waits for long", function()
    bed:play({ status = 429, retry_after = 3 })
    local pulled, asked, late, wanted = 0, 0, 0, nil
    for _ in client:send_many(function()
      local now = core.clock()
      if wanted then late = math.max(late, now - wanted) end
      if pulled == 0 then
        pulled = 1
        return { to = number(1) }
      end
      asked = asked + 1
      if asked == 20 then return nil end
      if asked % 2 == 0 then nap(0.02) end
      wanted = core.clock() + 0.01
      return false, wanted
    end) do end
    assert.equal(20, asked)
    assert.truthy(late < 1.5, late)
  end)
end)
