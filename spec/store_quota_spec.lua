-- One quota for all workers: whoever sends, and however they die, the platform never counts more in
-- any window; and what is not kept for single sends is used. STORE_QUOTA sets the seconds; with 150
-- and more several whole windows are looked at.

local paths = require "spec.support.paths"

-- It takes its time, and the Lua makes no difference: once is enough.
if paths.version ~= "jit" and not os.getenv "STORE_EVERY_LUA" then return end

local command = require "spec.support.command"
local core = require "koresms.core"
local faults = require "spec.support.faults"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"
local stores = require "spec.support.stores"

local SEED = tonumber(os.getenv "SEED") or os.time() % 100000
local SECONDS = tonumber(os.getenv "STORE_QUOTA") or 4
local LIMIT, RESERVE = 40, 1
local URGENT = "+15559999999"

local box
setup(function() box = assert(sandbox.start { latency = 0.02 }) end)
teardown(function()
  box:stop()
  stores.stop()
end)

describe("the permit of a single send", function()
  it("counts until a window has passed since it left, however slow its connection is", function()
    local bench = faults.start()
    local row = { listen = { proxy = true, default = faults.step.after_reading(
      faults.step.stall { seconds = 2 }, faults.step.tunnel()) } }
    local proxy = bench:listen_for(row)
    local store, where = stores.kinds()[1]:store { per_minute = LIMIT, per_hour = false }
    local env = { KORESMS_HOST = box.plain, KORESMS_PER_MINUTE = tostring(LIMIT),
      KORESMS_PROXY = proxy.origin }
    for _, pair in ipairs(box.env) do env[pair[1]] = env[pair[1]] or pair[2] end
    env.KORESMS_CA_FILE = nil
    assert(box:control("DELETE", "/_sandbox/messages"))
    local sent, said = shell.run(("%s %s bin/koresms send --to %s --store '%s' 2>&1"):format(
      command.prefix(env), command.interpreter, URGENT, where))
    assert.is_true(sent, said)
    local left = box:get("/_sandbox/messages").messages[1].at
    local link = store.own().link
    local free = link.conn:run("select max(free_at) as at from koresms_permit")[1].at / 1000
    assert.is_true(free - left >= 60, free - left)
    store:close()
    bench:stop()
  end)
end)

for _, kind in ipairs(stores.kinds()) do describe("the quota of workers on " .. kind.name,
  function()
  local workers = kind.name == "SQLite" and 1 or 8

  it(("is never exceeded (seed %d)"):format(SEED), function()
    assert(box:control("DELETE", "/_sandbox/messages"))
    local store, where = kind:store { per_minute = LIMIT, per_hour = false }
    store:create { name = "d" }
    store:resume "d"
    store:add("c", stores.messages(2000))
    store:add("d", stores.messages(2000, 5000))
    local state = SEED % 2147483646 + 1
    local function random(n)
      state = state * 16807 % 2147483647
      return state % n + 1
    end
    local work = run.directory()
    local env = { KORESMS_HOST = box.plain, KORESMS_TIMEOUT = "2" }
    for _, pair in ipairs(box.env) do env[pair[1]] = env[pair[1]] or pair[2] end
    env.KORESMS_CA_FILE = nil
    local function start(i)
      local _, pid = shell.run(("%s %s spec/support/store_worker.lua '%s' %s 16 60 >>%s/out "
        .. "2>>%s/err "
        .. "</dev/null & echo $!"):format(command.prefix(env), command.interpreter, where,
        i % 2 == 0 and "d" or "c", work, work))
      return tonumber(pid)
    end
    local pids, ends = {}, core.clock() + SECONDS
    while core.clock() < ends do
      for i = 1, workers do
        if not pids[i] or not shell.run(("kill -0 %d 2>/dev/null"):format(pids[i])) then
          pids[i] = start(i)
        end
      end
      core.sleep((100 + random(900)) / 1000)
      shell.run(("kill -9 %d 2>/dev/null"):format(pids[random(workers)]))
    end
    -- An urgent message does not wait for the campaigns.
    local began = core.clock()
    local sent, said = shell.run(("%s %s bin/koresms send --to %s --store '%s' 2>&1"):format(
      command.prefix(env), command.interpreter, URGENT, where))
    local waited = core.clock() - began
    for _, pid in pairs(pids) do shell.run(("kill -9 %d 2>/dev/null"):format(pid)) end
    local times, of = {}, { c = 0, d = 0 }
    for _, message in ipairs(box:get("/_sandbox/messages").messages) do
      times[#times + 1] = message.at
      local campaign = message.to ~= URGENT and (message.to < stores.number(5000) and "c" or "d")
      if campaign then of[campaign] = of[campaign] + 1 end
    end
    table.sort(times)
    local most, first = 0, 1
    for last = 1, #times do
      while times[last] - times[first] >= 60 do first = first + 1 end
      most = math.max(most, last - first + 1)
    end
    local told = ("seed %d: %d sent in %d s (%d and %d), most in a window %d; urgent after %.2f s")
      :format(SEED, #times, SECONDS, of.c, of.d, most, waited)
    if os.getenv "STORE_QUOTA" then io.stderr:write(told, "\n") end
    assert.is_true(most <= LIMIT, told)
    assert.is_true(sent, said)
    -- Two seconds, and some for a process to start on a machine that is busy.
    assert.is_true(waited < 4, told)
    -- The first window goes to whoever comes first; of several, each has its share. On SQLite the
    -- one worker sends one of the campaigns.
    local least = (workers == 1 or SECONDS < 150) and 0 or 0.3 * #times
    assert.is_true(math.min(of.c, of.d) >= least, told)
    -- What a kill takes with it is paid for, and not sent.
    assert.is_true(#times >= (LIMIT - RESERVE) * 0.4, told)
    store:close()
  end)
end) end
