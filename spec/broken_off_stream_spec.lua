-- Errors that are thrown through a step of a stream, at each place (FAULTS=long) or at some. The
-- stream goes on to its end, and tells each message but the one that was being handled; then the
-- client sends some more. SEED=n plays the same places again.

local broken_off = require "spec.support.broken_off"

describe("a step of a stream that is broken off", function()
  local ground

  setup(function()
    print(("\nbroken off, streams: SEED=%d"):format(broken_off.seed))
    ground = broken_off.start()
  end)
  teardown(function() ground:stop() end)

  local function kinds(count, ...)
    local given, list = { ... }, {}
    for i = 1, count do list[i] = given[(i - 1) % #given + 1] end
    return list
  end

  -- Breaks off the step with this number of a stream.
  local function play(step, options)
    return function(ledger, n)
      local stream = ledger:stream(options)
      for _ = 1, step - 1 do stream:step() end
      stream:step(n)
      stream:finish()
      for _, kind in ipairs { "refused", "throttled", "ok" } do ledger:send(kind) end
    end
  end

  local function sweep(case)
    local problems, played, most = ground:sweep(case)
    assert(#problems > 0 or most > 10 and played >= case.few)
    broken_off.assert_none(problems)
  end

  for _, kind in ipairs { "ok", "refused", "throttled", "cut" } do
    for _, way in ipairs { { "kept connections" }, { "new connections", { max_idle = 0 } } } do
      it(("goes on: %s, %s"):format(kind, way[1]), function()
        sweep { name = kind .. ", " .. way[1], settings = way[2], few = 6,
          play = play(1, { kinds = kinds(kind == "throttled" and 4 or 8, kind, kind, kind, "ok"),
            concurrency = 3 }) }
      end)
    end
  end

  -- Without throttled ones, which hold up the others for some time.
  local mixed = kinds(12, "ok", "refused", "cut", "ok", "reset", "slow", "refused", "ok")

  for _, step in ipairs { 1, 2, 5, 12, 13 } do
    for _, concurrency in ipairs { 1, 4 } do
      for _, pull in ipairs { false, true } do
        local name = ("step %d of a mixed one, %d at once, from %s"):format(step, concurrency,
          pull and "a function" or "an array")
        it("goes on: " .. name, function()
          sweep { name = name, few = 6,
            play = play(step, { kinds = mixed, concurrency = concurrency, pull = pull }) }
        end)
      end
    end
  end

  for _, step in ipairs { 1, 3 } do
    it(("goes on where messages are repeated: step %d"):format(step), function()
      sweep { name = "repeated, step " .. step, few = 4,
        settings = { retries = 1, on_event = true },
        play = play(step, { kinds = kinds(6, "repeated", "repeated", "ok"), concurrency = 3 }) }
    end)
  end
end)
