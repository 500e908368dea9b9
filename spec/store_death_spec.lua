-- Death at every step: a worker ends before and after each statement and at both ends of each
-- attempt of a small campaign, another takes over, and nobody is texted twice. The same where it
-- only stands still, and goes on when another has done its work. STORE_STEPS=all takes every
-- place, else some of them are taken.

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

  local function command_line(where, step, signal)
    local env = { KORESMS_HOST = box.plain, KORESMS_TIMEOUT = "2" }
    for _, pair in ipairs(box.env) do env[pair[1]] = env[pair[1]] or pair[2] end
    env.KORESMS_CA_FILE = nil
    return ("%s %s spec/support/store_worker.lua %s c %d %g %s %s"):format(command.prefix(env),
      command.interpreter, shell.quote(where), CONCURRENCY, sqlite and 60 or 0.7, step or "",
      signal or "")
  end

  local function work(where, step)
    local _, out = shell.run(("timeout 60 %s 2>&1 </dev/null"):format(command_line(where, step)))
    return out
  end

  -- How often each number was processed.
  local function processed()
    local counts = {}
    for _, message in ipairs(box:get("/_sandbox/messages").messages) do
      counts[message.to] = (counts[message.to] or 0) + 1
    end
    return counts
  end

  -- The places that are taken.
  local function each_step(places, visit)
    local out = work(fresh(), 0)
    local steps = tonumber(out:match("steps\t(%d+)"))
    assert.is_number(steps, out)
    assert.is_true(steps > 30)
    local stride = math.max(1, math.floor(steps / places))
    for step = 1 + os.time() % stride, steps, stride do
      visit(step, ("step %d of %d: "):format(step, steps))
    end
  end

  it("sends nothing twice and leaves nothing behind", function()
    each_step(PLACES, function(step, told)
      local where = fresh()
      work(where, step)
      told = told .. work(where)
      local store = assert(koresms.store(where))
      local status = assert(store:status "c")
      assert.same({ COUNT, 0, 0, 0 }, { status.total, status.pending, status.sending,
        status.rejected },
        told)
      assert.is_true(status.unknown <= CONCURRENCY, told)
      local seen = processed()
      for _, count in pairs(seen) do assert.equal(1, count, told) end
      for row in store:rows("c", "accepted") do assert.equal(1, seen[row.to], told) end
      store:close()
    end)
  end)

  -- A file of SQLite has one worker, whose lock is not given up while it stands still.
  if not sqlite then it("sends nothing that is another's where it stood still", function()
    each_step(PLACES / 2, function(step, told)
      local where = fresh()
      local _, pid = shell.run(("%s >/dev/null 2>&1 </dev/null & echo $!"):format(
        command_line(where, step, "STOP")))
      -- Until it stands still: the shell's process is the worker's own, by way of `env`.
      local function is(state)
        return shell.run(("grep -q '^State:.%s' /proc/%s/status 2>/dev/null"):format(state, pid))
      end
      for _ = 1, 400 do
        if is "T" or not shell.run("kill -0 " .. pid .. " 2>/dev/null") then break end
        shell.run("sleep 0.02")
      end
      assert.is_true(is "T", told)
      shell.run("sleep 0.1")
      local before = processed()
      told = told .. work(where)
      -- Then a person has what is unknown sent again.
      local store, again = assert(koresms.store(where)), {}
      for row in store:rows("c", "unknown") do again[row.to] = true end
      assert(store:resolve("c", { unknown = "resend" }))
      told = told .. work(where)
      shell.run("kill -CONT " .. pid)
      for _ = 1, 400 do
        if not shell.run("kill -0 " .. pid .. " 2>/dev/null") then break end
        shell.run("sleep 0.02")
      end
      for to, count in pairs(processed()) do
        local most = before[to] and again[to] and 2 or 1
        assert.is_true(count <= most, ("%s%s %d times"):format(told, to, count))
      end
      local status = assert(store:status "c")
      assert.same({ COUNT, 0, 0 }, { status.total, status.pending, status.sending }, told)
      store:close()
    end)
  end) end
end) end
