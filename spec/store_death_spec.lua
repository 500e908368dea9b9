-- Death at every step: a worker ends before and after each statement and at both ends of each
-- attempt of a small campaign, another takes over, and nobody is texted twice. STORE_STEPS=all
-- takes every place, else some of them are taken.

local paths = require "spec.support.paths"

-- It takes its time, and the Lua makes no difference: once is enough.
if paths.version ~= "jit" and not os.getenv "STORE_EVERY_LUA" then return end

local command = require "spec.support.command"
local koresms = require "koresms"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"
local stores = require "spec.support.stores"

local COUNT, CONCURRENCY = 5, 2
local PLACES = os.getenv "STORE_STEPS" == "all" and math.huge or 14

local box
setup(function() box = assert(sandbox.start()) end)
teardown(function()
  box:stop()
  stores.stop()
end)

for _, kind in ipairs(stores.kinds()) do describe("death at a step on " .. kind.name, function()
  local sqlite = kind.name == "SQLite"

  local function fresh()
    local store, where = kind:store()
    assert(store:add("c", stores.messages(COUNT)))
    store:close()
    assert(box:control("DELETE", "/_sandbox/messages"))
    return where
  end

  local function work(where, step)
    local env = { KORESMS_HOST = box.plain, KORESMS_TIMEOUT = "2" }
    for _, pair in ipairs(box.env) do env[pair[1]] = env[pair[1]] or pair[2] end
    env.KORESMS_CA_FILE = nil
    local _, out = shell.run(("timeout 60 %s %s spec/support/store_worker.lua %s c %d %g %s 2>&1 "
      .. "</dev/null"):format(
      command.prefix(env), command.interpreter, shell.quote(where), CONCURRENCY, sqlite and 60
        or 0.7,
      step or ""))
    return out
  end

  it("sends nothing twice and leaves nothing behind", function()
    local out = work(fresh(), 0)
    local steps = tonumber(out:match("steps\t(%d+)"))
    assert.is_number(steps, out)
    assert.is_true(steps > 30)
    local stride = math.max(1, math.floor(steps / PLACES))
    for step = 1 + os.time() % stride, steps, stride do
      local where = fresh()
      work(where, step)
      local told = ("step %d of %d: "):format(step, steps) .. work(where)
      local store = assert(koresms.store(where))
      local status = assert(store:status "c")
      assert.same({ COUNT, 0, 0, 0 }, { status.total, status.pending, status.sending,
        status.rejected },
        told)
      assert.is_true(status.unknown <= CONCURRENCY, told)
      local seen = {}
      for _, message in ipairs(box:get("/_sandbox/messages").messages) do
        assert.is_nil(seen[message.to], told)
        seen[message.to] = true
      end
      for row in store:rows("c", "accepted") do assert.is_true(seen[row.to], told) end
      store:close()
    end
  end)
end) end
