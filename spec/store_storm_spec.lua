-- A storm: workers against a real PostgreSQL behind a proxy that loses answers, delays statements
-- until after their worker has gone on, and cuts before and after the commit, while workers are
-- killed and stopped for longer than their lease. Nobody is texted twice. SEED plays another one,
-- STORE_STORM sets its seconds.

local paths = require "spec.support.paths"

-- It takes its time, and the Lua makes no difference: once is enough.
if paths.version ~= "5.4" and not os.getenv "STORE_EVERY_LUA" then return end

local command = require "spec.support.command"
local core = require "koresms.core"
local koresms = require "koresms"
local postgres = require "spec.support.postgres"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"
local stores = require "spec.support.stores"

local SEED = tonumber(os.getenv "SEED") or os.time() % 100000
local SECONDS = tonumber(os.getenv "STORE_STORM") or 8
local WORKERS, LEASE = 3, 1.5

local there = pcall(require, "koresms.postgres")

describe("a storm over PostgreSQL", function()
  local cluster = there and postgres.start()
  if not cluster then
    return it("cannot be tried here", function() pending("PostgreSQL is not there") end)
  end
  local box, work, proxy
  lazy_setup(function()
    box = assert(sandbox.start { latency = 0.03 })
    work = run.directory()
    proxy = assert(io.popen(("exec /usr/bin/python3 spec/support/pg_proxy.py %s %s %d 8 "
      .. ">%s/proxy 2>&1"):format(
      work, cluster.dir, SEED, work), "w"))
    for _ = 1, 200 do
      if shell.run("[ -S " .. work .. "/.s.PGSQL.5432 ]") then break end
      core.sleep(0.02)
    end
  end)
  lazy_teardown(function()
    proxy:close()
    box:stop()
    cluster:stop()
    run.clean()
  end)

  -- Numbers of our own, the same on every Lua.
  local state = SEED % 2147483646 + 1
  local function random(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end

  local function start(where)
    local env = { KORESMS_HOST = box.plain, KORESMS_TIMEOUT = "1" }
    for _, pair in ipairs(box.env) do env[pair[1]] = env[pair[1]] or pair[2] end
    env.KORESMS_CA_FILE = nil
    local _, pid = shell.run(("%s %s spec/support/store_worker.lua '%s' c 8 %g >>%s/out "
      .. "2>>%s/err </dev/null & echo $!")
      :format(command.prefix(env), command.interpreter, where, LEASE, work, work))
    return tonumber(pid)
  end
  local function signal(name, pid) return (shell.run(("kill -%s %d 2>/dev/null"):format(name,
    pid))) end

  it(("texts nobody twice (seed %d)"):format(SEED), function()
    local where, name = cluster:database()
    local store = assert(koresms.store(where))
    assert(store:quota { per_minute = false })
    assert(store:create { name = "c" })
    local count = math.min(9500, SECONDS * 400)
    assert(store:add("c", stores.messages(count)))
    assert(store:resume "c")
    local through = ("postgres://postgres@/%s?host=%s"):format(name, work)
    local pids, stopped = {}, nil
    local ends = core.clock() + SECONDS
    while core.clock() < ends do
      for i = 1, WORKERS do
        if not pids[i] or not signal("0", pids[i]) then pids[i] = start(through) end
      end
      core.sleep(0.1 + random(300) / 1000)
      local what = random(10)
      if what <= 3 then
        signal("KILL", pids[random(WORKERS)])
      elseif what == 4 and not stopped then
        stopped = { pid = pids[random(WORKERS)], till = core.clock() + LEASE * 2 }
        signal("STOP", stopped.pid)
      end
      if stopped and core.clock() > stopped.till then
        signal("CONT", stopped.pid)
        stopped = nil
      end
      local status = assert(store:status "c")
      assert.equal(count, status.total)
      if status.state == "paused" then assert(store:resume "c") end
    end
    if stopped then signal("CONT", stopped.pid) end
    for _, pid in pairs(pids) do signal("KILL", pid) end
    core.sleep(LEASE + 0.2)
    -- What is left is sent in quiet weather. Statements that come late have come by then.
    core.sleep(2.6)
    local last, deadline = start(where), core.clock() + 60
    local status
    repeat
      core.sleep(0.2)
      status = assert(store:status "c")
      if status.state == "paused" then assert(store:resume "c") end
      if not signal("0", last) then last = start(where) end
    until status.pending + status.sending == 0 or core.clock() > deadline
    signal("KILL", last)
    local told = ("seed %d: %d messages, accepted %d, unknown %d, rejected %d, pending %d, "
      .. "sending %d\n%s")
      :format(SEED, count, status.accepted, status.unknown, status.rejected, status.pending,
        status.sending, command.read(work .. "/err"):sub(-2000))
    assert.same({ count, 0, 0 }, { status.total, status.pending, status.sending }, told)
    local seen, processed = {}, 0
    for _, message in ipairs(box:get("/_sandbox/messages").messages) do
      assert.is_nil(seen[message.to], told)
      seen[message.to] = true
      processed = processed + 1
    end
    for row in store:rows("c", "accepted") do assert.is_true(seen[row.to], told) end
    for row in store:rows("c", "rejected") do assert.is_nil(seen[row.to], told) end
    assert.is_true(processed <= status.accepted + status.unknown, told)
    if os.getenv "STORE_STORM" then
      proxy:close()
      io.stderr:write(told, "\nprocessed ", processed, " proxy ", command.read(work .. "/proxy"))
      proxy = { close = function() end }
    end
    assert.is_true(status.accepted > 0, told)
    store:close()
  end)
end)
