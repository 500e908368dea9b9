-- The examples of an outbox run as they stand: what was rolled back is never sent, what was
-- committed once.

local paths = require "spec.support.paths"

local command = require "spec.support.command"
local koresms = require "koresms"
local openresty = require "spec.support.openresty"
local postgres = require "spec.support.postgres"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"

local driver_there, driver = pcall(require, "koresms.postgres")

describe("the examples of an outbox", function()
  local cluster = driver_there and postgres.start()
  if not cluster then
    return it("cannot be tried here", function() pending("PostgreSQL is not there") end)
  end
  local box, where, store
  lazy_setup(function()
    box = assert(sandbox.start())
    where = cluster:database()
    store = assert(koresms.store(where))
    assert(store:quota { per_minute = false })
    local conn = assert(driver.connect(where))
    assert(conn:run "create table orders (id text primary key, phone text not null)")
    conn:close()
  end)
  lazy_teardown(function()
    store:close()
    box:stop()
    cluster:stop()
    run.clean()
  end)

  local function sent()
    assert(box:control("DELETE", "/_sandbox/messages"))
    local client = assert(koresms.new { host = box.plain, bot_id = box.bot_id,
      client_id = box.client_id, client_secret = box.client_secret, from = "+19876543210",
      per_minute = false, retries = 0 })
    for _ in store:run { client = client, campaigns = { "outbox" } } do end
    assert.is_nil(store:failure())
    local numbers = {}
    for _, message in ipairs(box:get("/_sandbox/messages").messages) do
      numbers[#numbers + 1] = message.to
    end
    table.sort(numbers)
    return numbers
  end

  -- Each places three orders: one that fails, one that is committed, and the latter again.
  local function place(line)
    shell.run(line:format(1, "+15550000001", "fail") .. " 2>&1")
    local ok, text = shell.run(line:format(2, "+15550000002", "") .. " 2>&1")
    assert.is_true(ok, text)
    shell.run(line:format(2, "+15550000002", "") .. " 2>&1")
  end

  before_each(function()
    local conn = assert(driver.connect(where))
    assert(conn:run "delete from orders")
    assert(conn:run "delete from koresms_message")
    conn:close()
  end)

  it("in Python", function()
    if not shell.run("/usr/bin/python3 -c 'import psycopg2' 2>/dev/null") then
      return pending("no psycopg2 here")
    end
    place(("/usr/bin/python3 examples/outbox/order.py '%s' "):format(where) .. "%s %s %s")
    assert.same({ "+15550000002" }, sent())
    assert.same({}, sent())
  end)

  it("in psql", function()
    if not shell.run("command -v psql >/dev/null") then return pending("no psql here") end
    -- The order is there: the insert of the message is never reached.
    local conn = assert(driver.connect(where))
    assert(conn:run "insert into orders values ('1', 'x')")
    conn:close()
    place(("psql -q '%s' -v order=%%s -v phone=%%s -f examples/outbox/order.sql %%s"):format(where))
    assert.same({ "+15550000002" }, sent())
  end)

  it("in Lua", function()
    place(("%s LUA_PATH=%s LUA_CPATH=%s %s examples/outbox/order.lua '%s' "):format(run.preload(),
      shell.quote(paths.path), shell.quote(paths.cpath), command.interpreter, where) .. "%s %s %s")
    assert.same({ "+15550000002" }, sent())
  end)

  if paths.version == "jit" then
    it("from a handler of nginx", function()
      local server = openresty.start { initworker = ("koresms_where = %q"):format(where),
        locations = [[
          location = /order {
            content_by_lua_block {
              local koresms = require "koresms"
              local open = koresms.store
              koresms.store = function() return open(koresms_where) end
              return dofile("]] .. run.output("pwd"):gsub("\n", "")
                .. [[/examples/outbox/handler.lua")
            }
          }]] }
      local said, status = server:get("/order", "-d order=2 --data-urlencode phone=+15550000002")
      assert.same({ "queued\n", 200 }, { said, status }, server:log())
      said = server:get("/order", "-d order=2 --data-urlencode phone=+15550000002")
      assert.equal("was queued before\n", said)
      said, status = server:get("/order", "-d order=3 -d phone=12")
      assert.equal(400, status)
      assert.matches("E.164", said)
      assert.equal("", server:log())
      server:stop()
      assert.same({ "+15550000002" }, sent())
    end)
  end
end)
