-- A database that is promoted, or put back from a copy, under a worker; and one behind a pooler.

local paths = require "spec.support.paths" -- luacheck: ignore

local beds = require "spec.support.sandbox_bed"
local koresms = require "koresms"
local postgres = require "spec.support.postgres"
local run = require "spec.support.run"
local shell = require "koresms.sandbox.shell"
local stores = require "spec.support.stores"

describe("a database of a store", function()
  local cluster = pcall(require, "koresms.postgres") and postgres.start()
  if not cluster then
    return it("cannot be tried here", function() pending("PostgreSQL is not there") end)
  end
  local bed, directory
  lazy_setup(function()
    bed = beds.start()
    directory = run.directory()
    shell.run("chmod 755 " .. directory)
  end)
  lazy_teardown(function()
    bed:stop()
    cluster:stop()
    run.clean()
  end)
  before_each(function() bed:reset() end)

  local function open(where)
    local store = assert(koresms.store(where))
    assert(store:quota { per_minute = false })
    assert(store:create { name = "c" })
    assert(store:resume "c")
    return store
  end

  local function client() return bed:new { retries = 0, timeout = 2 } end

  -- The most that any number was processed.
  local function most()
    local counts, value = {}, 0
    for _, message in ipairs(bed.box:get("/_sandbox/messages").messages) do
      counts[message.to] = (counts[message.to] or 0) + 1
      value = math.max(value, counts[message.to])
    end
    return value
  end

  local function sql(server, text)
    return (run.output(("%s/psql -h %s -U postgres -AtXq -c %s 2>&1"):format(server.bin,
      server.dir, run.quote(text))):gsub("%s+$", ""))
  end

  it("that is promoted ends its workers, which send nothing that it does not know", function()
    local standby = postgres.start(cluster)
    finally(function() standby:stop() end)
    -- Only a synchronous standby has every mark.
    sql(cluster, "alter system set synchronous_standby_names = '*'")
    sql(cluster, "select pg_reload_conf()")
    for _ = 1, 100 do
      if sql(cluster, "select sync_state from pg_stat_replication") == "sync" then break end
      shell.run("sleep 0.05")
    end
    -- One address, which leads to the primary.
    local address = directory .. "/db"
    assert(shell.run(("ln -s %s %s"):format(cluster.dir, address)))
    local _, name = cluster:database()
    local where = ("postgres://postgres@/%s?host=%s"):format(name, address)
    local store = open(where)
    assert.equal(300, (store:add("c", stores.messages(300))))
    local told, known = 0, 0
    for result in store:run { client = client(), campaigns = { "c" }, concurrency = 8 } do
      told = told + 1
      if result.outcome == "accepted" then known = known + 1 end
      if told == 40 then
        cluster:control "stop -m immediate"
        standby:control "promote"
        assert(shell.run(("ln -sfn %s %s"):format(standby.dir, address)))
      end
    end
    local text, code = store:failure()
    assert.equal("store", code)
    assert.matches("promoted or restored", text)
    -- It ended at once, and what it told stands in the promoted one.
    assert.is_true(told < 100, told)
    store:close()
    store = assert(koresms.store(where))
    local status = store:status "c"
    assert.equal("paused", status.state)
    assert.matches("promoted or restored", status.reason)
    assert.is_true(status.accepted >= 40 and status.accepted <= known, status.accepted)
    assert.equal(300, status.accepted + status.pending + status.sending + status.unknown)
    -- A person says so before it goes on.
    local ok, why = store:resume "c"
    assert.is_nil(ok)
    assert.matches("%-%-accept", why)
    assert.is_true(store:resume("c", { accept = true }))
    local pending = status.pending
    for _ in store:run { client = client(), campaigns = { "c" }, concurrency = 8,
        stop = function() return pending == 0 end } do
      pending = pending - 1
    end
    assert.is_nil(store:failure())
    assert.equal(0, store:status("c").pending)
    assert.equal(1, most())
    store:close()
    cluster:control "start"
    sql(cluster, "alter system reset synchronous_standby_names")
    sql(cluster, "select pg_reload_conf()")
  end)

  it("that is put back from a copy is not trusted", function()
    local where, name = cluster:database()
    local store = open(where)
    store:add("c", stores.messages(50))
    local copy = directory .. "/copy.sql"
    local dump = ("%s/pg_dump -h %s -U postgres -f %s %s 2>&1"):format(cluster.bin, cluster.dir,
      copy, name)
    assert(shell.run(dump))
    local told = 0
    for _ in store:run { client = client(), campaigns = { "c" } } do told = told + 1 end
    assert.equal(50, told)
    store:close()
    -- Into another system: what the copy calls pending has been sent.
    local other = postgres.start()
    finally(function() other:stop() end)
    local _, there = other:database()
    local ok, text = shell.run(("%s/psql -h %s -U postgres -Xq -v ON_ERROR_STOP=1 -f %s %s 2>&1")
      :format(other.bin, other.dir, copy, there))
    assert.is_true(ok, text)
    store = assert(koresms.store(other:url(there)))
    for _ in store:run { client = client(), campaigns = { "c" } } do told = told + 1 end
    assert.equal(50, told)
    assert.matches("promoted or restored", (store:failure()))
    assert.equal(1, most())
    store:close()
  end)

  it("may stand behind a pooler that gives each transaction a connection", function()
    local _, found = shell.run("PATH=$PATH:/usr/sbin command -v pgbouncer")
    if found == "" then return pending("pgbouncer is not there") end
    local _, name = cluster:database()
    local place = directory .. "/pool"
    shell.run(("mkdir -m 777 %s"):format(place))
    run.write(place .. "/users", '"postgres" ""\n')
    run.write(place .. "/ini", ([[
[databases]
* = host=%s user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = %s
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = 3
ignore_startup_parameters = extra_float_digits,options
]]):format(cluster.dir, place))
    local pooler = assert(io.popen(([[
if [ "$(id -u)" = 0 ]; then as="setpriv --reuid=postgres --regid=postgres --init-groups"; fi
$as %s -q %s/ini >%s/log 2>&1 & server=$!
cat >/dev/null
kill $server; wait $server]]):format(found, place, place), "w"))
    finally(function() pooler:close() end)
    for _ = 1, 100 do
      if shell.run(("[ -S %s/.s.PGSQL.6432 ]"):format(place)) then break end
      shell.run("sleep 0.05")
    end
    local store = open(("postgres://postgres@/%s?host=%s&port=6432&prepare=false"):format(name,
      place))
    store:add("c", stores.messages(200))
    local told = 0
    for result in store:run { client = client(), campaigns = { "c" } } do
      assert.equal("accepted", result.outcome)
      told = told + 1
    end
    assert.is_nil((store:failure()))
    assert.equal(200, told)
    assert.equal(200, store:status("c").accepted)
    assert.equal(1, most())
    store:close()
  end)
end)
