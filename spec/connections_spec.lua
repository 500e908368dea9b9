-- Whose a connection is, while a request is under way on it.

local core = require "koresms.core"
local broken_off = require "spec.support.broken_off"

describe("a connection that carries a request", function()
  local ground

  setup(function() ground = broken_off.start() end)
  teardown(function() ground:stop() end)

  -- libcurl looks once a second, when it makes a new connection, for others that are dead. Which
  -- those are, and what it counts as in use, differs between its versions.
  it("is not closed by libcurl, whatever has arrived on it", function()
    for _, kind in ipairs { "cut", "refused" } do
      local ledger = ground:client()
      ledger.place = kind
      ledger:send("ok") -- the first one goes on this connection, the second one on a new one
      local list, pulled = { { to = ground:number(kind) }, { to = ground:number("ok") } }, 0
      local source = function()
        pulled = pulled + 1
        -- Meanwhile the answer to the first message arrives, or its connection ends.
        local until_when = core.clock() + (pulled == 2 and 1.2 or 0)
        while core.clock() < until_when do ground.bench:stats { settle = 1 } end
        return list[pulled]
      end
      for result in ledger.client:send_many(source, { concurrency = 2 }) do
        ledger:told(list[result.index].to, result)
      end
      ledger:verify()
      ledger.client:close()
      broken_off.assert_none(ledger.problems)
    end
  end)
end)
