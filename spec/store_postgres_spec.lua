-- koresms.postgres: the thin layer over libpq, against a real server.

require "spec.support.paths"

local interpreter = require("spec.support.command").interpreter
local postgres_server = require "spec.support.postgres"
local run = require "spec.support.run"

local there, postgres = pcall(require, "koresms.postgres")

describe("koresms.postgres", function()
  local cluster = there and postgres_server.start()
  if not cluster then
    return it("cannot be tried here", function()
      pending(there and "PostgreSQL is not installed" or "libpq-fe.h was not found")
    end)
  end

  local url, conn
  lazy_setup(function() url = cluster:database() end)
  lazy_teardown(function() cluster:stop() end)
  before_each(function() conn = assert(postgres.connect(url)) end)
  after_each(function() conn:close() end)

  local function rows(sql, ...) return assert(conn:run(sql, ...)) end
  local function one(sql, ...) return rows(sql, ...)[1] end
  local function failure(sql, ...)
    local got, text, code = conn:run(sql, ...)
    assert.is_nil(got)
    assert.is_string(text)
    return code, text
  end

  it("gives rows by column name, and NULL as nothing", function()
    local got = rows([[select $1::text as a, $2::text as b, $3::float8 as c, $4::boolean as d
      union all select 'q', 'r', 3, false]], nil, "x", 1.5, true)
    assert.same({ { b = "x", c = 1.5, d = true }, { a = "q", b = "r", c = 3, d = false },
      changes = 0 }, got)
  end)

  it("starts a statement, and takes its answer later", function()
    rows "create temporary table s (n int primary key)"
    local none, text, code = conn:finish()
    assert.same({ "no statement is under way", "08003" }, { text, code })
    assert.is_nil(none)
    assert.is_true(conn:start("insert into s select generate_series(1, $1::int)", 1000))
    assert.equal(1000, conn:finish().changes)
    -- What nobody asks for is dropped, and has taken effect.
    assert.is_true(conn:start "insert into s values (0)")
    assert.equal(1001, one("select count(*) as n from s").n)
    assert.is_nil((conn:finish()))
    assert.is_true(conn:start "insert into s values (0)")
    assert.is_true(conn:start "insert into s values (-1)")
    assert.equal(1, conn:finish().changes)
    assert.is_true(conn:start "insert into s values (0)")
    none, text, code = conn:finish()
    assert.is_nil(none)
    assert.equal("23505", code)
    assert.matches("duplicate key", text)
    none, text, code = conn:start "insert into nothing values (0)"
    if none then none, text, code = conn:finish() end
    assert.same({ n = none, text = 'relation "nothing" does not exist', code = "42P01" },
      { n = none, text = text, code = code })
  end)

  it("waits for what was started no longer than it may take from its start on", function()
    conn:limit(0.3)
    assert.is_true(conn:start "select pg_sleep(5)")
    local none, _, code = conn:finish()
    assert.is_nil(none)
    assert.equal("timeout", code)
    none, _, code = conn:start "select 1"
    assert.is_nil(none)
    assert.equal("08003", code)
  end)

  it("keeps 64-bit integers exactly, beyond 2^53 as digits", function()
    for _, n in ipairs { 0, -1, 5000000000, 1700000000000, 2 ^ 53, -2 ^ 53 } do
      assert.equal(n, one("select $1::bigint as n", n).n)
    end
    assert.equal("9007199254740993", one("select 9007199254740993::bigint as n").n)
    assert.equal(7, one("select 7::smallint as n").n)
    if rawget(math, "type") then
      assert.equal("integer", rawget(math, "type")(one("select 7::int as n").n))
    end
    assert.equal(0.1, one("select $1::float8 as n", 0.1).n)
    assert.equal(1e-300, one("select $1::float8 as n", 1e-300).n)
  end)

  it("writes numbers with a point, whatever the locale", function()
    local directory = run.directory()
    run.output("localedef -f UTF-8 -i de_DE " .. directory .. "/comma 2>&1")
    local file = run.write(directory .. "/program.lua", ([[require 'spec.support.paths'
      if not os.setlocale("comma") then return print "none" end
      local conn = assert(require("koresms.postgres").connect(%q))
      local row = assert(conn:run("select $1::float8 as n, 2.5::float8 as m", 0.25))[1]
      os.setlocale("C")
      print(row.n, row.m)]]):format(url))
    local printed = run.output(("env LOCPATH=%s ASAN_OPTIONS=detect_leaks=0 %s %s %s 2>&1"):format(
      directory, run.preload(), interpreter, file))
    run.clean()
    if printed == "none\n" then return pending("this machine has no locale to make one from") end
    assert.equal("0.25\t2.5\n", printed)
  end)

  it("takes text as it is, and refuses what the server cannot keep", function()
    local large = ("\195\164x"):rep(1000000)
    assert.equal(large, one("select $1::text as v", large).v)
    assert.equal("", one("select $1::text as v", "").v)
    assert.equal("22021", (failure("select $1::text as v", "a\0b")))
    assert.equal("22021", (failure("select $1::text as v", "\255")))
    assert.equal(1, one("select 1 as n").n)
  end)

  it("says how many rows were written", function()
    rows "create temporary table t (v int)"
    assert.equal(3, rows("insert into t values (1), (2), (3)").changes)
    assert.equal(2, rows("update t set v = 9 where v > 1").changes)
    assert.equal(0, rows("select * from t").changes)
    assert.same({ { v = 9 }, { v = 9 }, changes = 2 },
      rows("delete from t where v = 9 returning v"))
  end)

  it("returns what went wrong, with SQLSTATE and without values of rows", function()
    rows "create temporary table t (v text not null, w text unique)"
    assert.equal("23502", (failure "insert into t values (null, 'x')"))
    rows "insert into t values ('a', '+911234567890')"
    local code, text = failure "insert into t values ('a', '+911234567890')"
    assert.equal("23505", code)
    assert.is_nil(text:find("1234567890", 1, true))
    assert.equal("42601", (failure "selec 1"))
    assert.equal("42P02", (failure("select $1::int + $2::int", 1) == "08P01") and "42P02" or nil)
    assert.equal("42601", (failure "select 1; select 2"))
    assert.equal(1, one("select 1 as n").n)
  end)

  it("tells the truth about a COMMIT that rolled back", function()
    rows "create table if not exists truth (v int)"
    rows "begin"
    rows "insert into truth values (1)"
    failure "select 1 / 0"
    local code, text = failure "commit"
    assert.equal("40000", code)
    assert.matches("rolled back", text)
    assert.equal(0, one("select count(*) as n from truth").n)
    rows "begin"
    rows "rollback"
    -- A constraint that is looked at only then.
    rows "create table if not exists late (v int unique deferrable initially deferred)"
    rows "begin"
    rows "insert into late values (1), (1)"
    assert.equal("23505", (failure "commit"))
    assert.equal(0, one("select count(*) as n from late").n)
  end)

  it("gives up a statement whose time is over, and its connection with it", function()
    conn:limit(0.3)
    local code = failure "select pg_sleep(60)"
    assert.equal("timeout", code)
    assert.equal("08003", (failure "select 1"))
  end)

  it("gives up connecting when its time is over", function()
    local listener = assert(io.popen("exec timeout 20 /usr/bin/python3 -c 'import socket, time; "
      .. "s = socket.socket(); s.bind((\"127.0.0.1\", 0)); s.listen(); "
      .. "print(s.getsockname()[1], flush=True); time.sleep(2)'"))
    local port = listener:read("*l")
    local got, text, code = postgres.connect("postgres://a:secretsecret@127.0.0.1:" .. port
      .. "/x?sslmode=disable", { limit = 0.3 })
    assert.is_nil(got)
    assert.equal("timeout", code)
    assert.is_nil(text:find("secretsecret", 1, true))
  end)

  it("tells that a connection was lost", function()
    local other = assert(postgres.connect(url))
    local pid = one("select pg_backend_pid() as pid").pid
    assert(other:run("select pg_terminate_backend($1::int)", pid))
    local code = failure "select 1"
    assert.is_true(code == "57P01" or code == "08006", code)
    assert.equal("08003", (failure "select 1"))
    other:close()
  end)

  it("prepares by name on a direct connection, and not where it was told", function()
    for _ = 1, 3 do one("select $1::int as n", 4) end
    assert.equal(1, one("select count(*) as n from pg_prepared_statements "
      .. "where statement like 'select $1::int%'").n)
    for i = 1, 120 do assert.equal(i, one(("select %d as n"):format(i)).n) end
    for i = 1, 120 do assert.equal(i, one(("select %d as n"):format(i)).n) end
    local plain = assert(postgres.connect(url, { prepare = false }))
    for _ = 1, 3 do assert.equal(4, assert(plain:run("select $1::int as n", 4))[1].n) end
    assert.equal(0, assert(plain:run "select count(*) as n from pg_prepared_statements")[1].n)
    plain:close()
  end)

  it("repeats nothing of an address that holds a password", function()
    local secret = "pa55word-s3cret"
    rows("do $$ begin if not exists (select from pg_roles where rolname = 'locked') then "
      .. "create role locked login password 'another-one'; end if; end $$")
    local addresses = {
      cluster:url("postgres", nil, "locked:" .. secret),
      cluster:url("missing", nil, "postgres:" .. secret),
      "postgres://a:" .. secret .. "@127.0.0.1:1/x",
      "postgres://a:" .. secret .. "%zz@127.0.0.1/x",
      "postgres://a:" .. secret .. "@[::1/x",
      "postgres://a:" .. secret .. "@127.0.0.1/x?nonsense=" .. secret,
      "postgres://a@127.0.0.1/x?password=" .. secret .. "&nonsense=1",
      "postgres://a:" .. secret .. "@127.0.0.1/x?sslmode=" .. secret,
      "password=" .. secret .. " nonsense=1",
      "password='" .. secret,
    }
    for i, address in ipairs(addresses) do
      local got, text, code = postgres.connect(address, { limit = 5 })
      assert.is_nil(got, i)
      assert.is_nil(text:find(secret, 1, true), i .. ": " .. text)
      assert.is_string(code)
      assert.is_nil(text:find("\n", 1, true))
    end
    local _, text, code = postgres.connect(addresses[4])
    assert.equal("config", code)
    assert.matches("cannot be read", text)
    _, text, code = postgres.connect(addresses[1])
    assert.equal("08001", code)
    assert.matches("password authentication failed", text)
    assert.is_nil(tostring(conn):find("postgres://", 1, true))
  end)

  it("raises on misuse", function()
    assert.has_error(function() conn:run("select $1::text", {}) end)
    assert.has_error(function() conn:run("select $1::text", 0 / 0) end)
    assert.has_error(function() conn:run("select 1\0") end)
    assert.has_error(function() conn:limit(-1) end)
    assert.has_error(function() postgres.connect("a\0b") end)
    assert.has_error(function() postgres.connect(url, { limit = 0 }) end)
  end)

  it("is closed twice, and answers afterwards", function()
    conn:close()
    conn:close()
    assert.equal("08003", (failure "select 1"))
  end)

  it("stands a finalizer that uses or closes the connection while rows are handed over", function()
    local other = assert(postgres.connect(url))
    local times, over = 0, false
    local function litter()
      local collected = function()
        -- When the state is closed, the module may be unloaded before what it has left behind.
        if over then return end
        times = times + 1
        if times == 40 then conn:close() else conn:run "select 1" end
        if times < 50 then litter() end
      end
      if _VERSION == "Lua 5.1" then
        local proxy = newproxy(true) -- luacheck: ignore
        getmetatable(proxy).__gc = collected
      else
        setmetatable({}, { __gc = collected })
      end
    end
    litter()
    local pause = collectgarbage("setpause", 1)
    local step = collectgarbage("setstepmul", 10000)
    for i = 1, 500 do
      if i > 20 and times > 0 then break end
      local used = i > 10 and other or conn
      local got = used:run "select i::text as v from generate_series(1, 3000) i"
      if got then assert.equal("2777", got[2777].v) end
    end
    over = true
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", step)
    other:close()
    assert.is_true(times > 0)
  end)

  -- lua-posix is not there for every Lua.
  local posix_there, unistd = pcall(require, "posix.unistd")
  if posix_there then it("leaves a parent's connection alone in a child", function()
    local wait = require "posix.sys.wait"
    local pid = unistd.fork()
    if pid == 0 then
      local got = conn:run "select 1"
      conn:close()
      unistd._exit(got == nil and 0 or 1)
    end
    local _, _, status = wait.wait(pid)
    assert.equal(0, status)
    assert.equal(1, one("select 1 as n").n)
  end) end
end)
