-- Lua's allocator fails at the n-th request of a send and of a stream; the client then sends on.
-- FAULTS=long plays every n, SEED=n the same ones again.

local broken_off = require "spec.support.broken_off"
local paths = require "spec.support.paths"
local run = require "spec.support.run"

local directory = (os.getenv("KSMS_BUILD") or "build") .. "/memory"
local HOST = directory .. "/" .. paths.version .. "/lua_host"

describe("memory that fails in a send or a stream", function()
  it("spoils nothing for others", function()
    print(("\nmemory that fails: SEED=%d"):format(broken_off.seed))
    -- lua-cjson loses a buffer of its own where Lua has no memory while it decodes. What is ours is
    -- looked at in memory_spec.lua.
    local output = run.output(("exec 2>&1; export ASAN_OPTIONS=detect_leaks=0; KSMS_BUILD=%s "
      .. "SEED=%d LUA_PATH='./?.lua;;' timeout -k 5 1800 %s spec/support/allocator_sweep.lua; "
      .. "echo exit $?"):format(run.quote(directory), broken_off.seed, run.quote(HOST)))
    local good, bad = 0, {}
    for line in output:gmatch("[^\n]+") do
      if line:find("^ok\t") then
        good = good + 1
      elseif line ~= "exit 0" then
        bad[#bad + 1] = line
      end
    end
    assert(#bad == 0, table.concat(bad, "\n"))
    assert.equal(12, good)
  end)
end)
