-- `kill -9` at random moments: nobody is texted twice, nothing is lost, what nobody knows is called
-- unknown. SEED plays another sequence, STORE_KILLS more of it.

local paths = require "spec.support.paths"

-- It takes its time, and the Lua makes no difference: once is enough.
if paths.version ~= "5.4" and not os.getenv "STORE_EVERY_LUA" then return end

local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"
local stores = require "spec.support.stores"
local torture = require "spec.support.store_kill"

local SEED = tonumber(os.getenv "SEED") or os.time() % 100000
local KILLS = tonumber(os.getenv "STORE_KILLS") or 20

local box
setup(function() box = assert(sandbox.start { latency = 0.01 }) end)
teardown(function()
  box:stop()
  stores.stop()
end)

for _, kind in ipairs(stores.kinds()) do describe("workers under kill -9 on " .. kind.name,
  function()
  local sqlite = kind.name == "SQLite"

  it(("send nothing twice and lose nothing (seed %d)"):format(SEED), function()
    assert(box:control("DELETE", "/_sandbox/messages"))
    assert(box:control("DELETE", "/_sandbox/play"))
    local played = torture.play { box = box, where = kind:location(), work = run.directory(),
      count = math.min(10000, KILLS * 150), kills = KILLS, workers = sqlite and 1 or 4, seed = SEED,
      lease = sqlite and 60 or 2, longest = sqlite and 300 or 60 }
    local status = played.status
    local told = ("seed %d: %d killed, accepted %d, rejected %d, unknown %d, pending %d, sending "
      .. "%d, "
      .. "processed %d\n%s"):format(SEED, played.killed, status.accepted, status.rejected,
      status.unknown, status.pending, status.sending, played.processed, played.errors)
    if os.getenv "STORE_KILLS" then io.stderr:write(told) end
    -- Fewer, where all have their ending before.
    assert.is_true(played.killed >= KILLS / 2, told)
    assert.equal(0, played.twice, told)
    assert.equal(0, played.accepted_unseen, told)
    assert.equal(0, played.called_otherwise, told)
    assert.equal(0, status.pending, told)
    assert.equal(0, status.sending, told)
    assert.is_true(status.accepted <= played.processed, told)
    assert.is_true(played.processed <= status.accepted + status.unknown, told)
    -- Each death leaves what was in flight at most, and each play one.
    assert.is_true(status.unknown <= (played.killed + 4) * 2 * 16 + played.killed * 3, told)
  end)
end) end
