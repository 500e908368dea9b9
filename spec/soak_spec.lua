-- The library in service: plain Lua and nginx at once, servers that break, stop and move.
-- Short here; `make soak MINUTES=n` takes as long as one likes, and prints its account.

local child = require "spec.support.fault_child"

local seconds = os.getenv("SOAK_SECONDS") or "20"
local seed = os.getenv("SEED") or tostring(os.time() % 1000000)

describe("a soak", function()
  it("doubles, loses and delays no message, and leaves nothing behind; seed " .. seed, function()
    local out = child.run('require "spec.support.soak.driver"',
      ("SOAK_SECONDS=%s SOAK_SEED=%s"):format(seconds, seed), { resolver = "127.0.0.1" })
    if not out then
      pending("this machine permits no private network")
      return
    end
    if os.getenv("SOAK_SECONDS") then print("\n" .. out) end
    assert.matches("\n0 wrong\n$", out)
  end)
end)
