-- Errors that are thrown through `send` and `close`, at each place (FAULTS=long) or at some; see
-- support/breaker.lua and support/broken_off.lua. SEED=n plays the same places again.

local broken_off = require "spec.support.broken_off"

local breaker = broken_off.breaker

describe("a send that is broken off", function()
  local ground

  setup(function()
    print(("\nbroken off: SEED=%d"):format(broken_off.seed))
    ground = broken_off.start()
  end)
  teardown(function() ground:stop() end)

  local function play(kind, also)
    return function(ledger, n) ledger:break_off(kind, n, also) end
  end

  local function sweep(case)
    local problems, played, most = ground:sweep(case)
    assert(#problems > 0 or most > 100 and played >= case.few)
    broken_off.assert_none(problems)
  end

  for _, kind in ipairs { "ok", "refused", "throttled", "cut", "reset" } do
    for _, way in ipairs { { "a kept connection" }, { "a new connection", { max_idle = 0 } } } do
      it(("spoils nothing for others: %s, %s"):format(kind, way[1]), function()
        sweep { name = kind .. ", " .. way[1], settings = way[2], few = 30,
          play = play(kind) }
      end)
    end
  end

  it("spoils nothing for others, where it is repeated", function()
    sweep { name = "repeated", settings = { retries = 1, on_event = true }, few = 12,
      play = function(ledger, n)
        play("repeated")(ledger, n)
        -- A repeat that nobody waits for would have come by now.
        if not broken_off.long then ledger:send("repeated") end
      end }
  end)

  it("spoils nothing for others, with functions of the caller's", function()
    sweep { name = "callbacks", few = 30, play = play("ok", { ["not_sent/sign"] = 0 }),
      settings = { on_event = function() end, token = function() return "a.b" end } }
  end)
end)

describe("a close that is broken off", function()
  local ground

  setup(function() ground = broken_off.start() end)
  teardown(function() ground:stop() end)

  -- What may be told where the client is closed or may be.
  local CLOSED = { ["not_sent/cancelled"] = 0, ["unknown/connection_lost"] = 1 }

  -- Whatever the broken-off close left, the next one is whole.
  local function close_for_good(ledger)
    for _ = 1, 2 do
      local ok, problem = pcall(ledger.client.close, ledger.client)
      if not ok then ledger:problem("a later close raised: %s", tostring(problem)) end
    end
    local to = ledger.ground:number("ok")
    local ok, _, _, code = pcall(ledger.client.send, ledger.client, { to = to })
    if not ok or code ~= "cancelled" then
      ledger:problem("closed, and sends: %s", tostring(code))
    end
  end

  local function close_at(ledger, n)
    local fired, ok, problem = breaker.run(n, ledger.client.close, ledger.client)
    if not ok and not (fired and problem == breaker.ERROR) then
      ledger:problem("close raised %s", tostring(problem))
    end
    return fired and 1 or 0
  end

  local function sweep(case)
    case.fresh = true
    broken_off.assert_none((ground:sweep(case)))
  end

  it("leaves a client that sends or is closed", function()
    sweep { name = "close", few = 12, play = function(ledger, n)
      ledger:send("ok")
      close_at(ledger, n)
      for _, kind in ipairs { "refused", "ok" } do ledger:send(kind, CLOSED) end
      close_for_good(ledger)
    end }
  end)

  for _, kind in ipairs { "ok", "refused", "throttled", "cut", "slow" } do
    it("loses no more than one answer of a stream: " .. kind, function()
      sweep { name = "close, a stream: " .. kind, few = 12, play = function(ledger, n)
        local stream = ledger:stream { kinds = { "ok", kind, kind, kind, kind, "ok" },
          concurrency = 3, also = CLOSED }
        stream:step()
        -- The server has answered what it was sent.
        if kind ~= "slow" then ledger.ground.bench:stats { settle = 5 } end
        stream:finish(close_at(ledger, n))
        ledger:send("refused", CLOSED)
        close_for_good(ledger)
      end }
    end)
  end
end)
