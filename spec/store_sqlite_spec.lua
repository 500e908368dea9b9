-- koresms.sqlite: the thin layer over SQLite.

require "spec.support.paths"

local run = require "spec.support.run"

local there, sqlite = pcall(require, "koresms.sqlite")

describe("koresms.sqlite", function()
  if not there then
    return it("is not built here", function() pending("sqlite3.h was not found") end)
  end

  local dir, conn
  before_each(function()
    dir = run.directory()
    conn = assert(sqlite.connect(dir .. "/db", { create = true }))
  end)
  after_each(function()
    conn:close()
    run.clean()
  end)

  local function rows(sql, ...) return assert(conn:run(sql, ...)) end
  local function one(sql, ...) return rows(sql, ...)[1] end

  it("gives rows by column name, and NULL as nothing", function()
    local got = rows("select ?1 as a, ?2 as b, ?3 as c, ?4 as d union all select 1, 2, 3, 4", nil,
      "x", 1.5, true)
    assert.same({ { b = "x", c = 1.5, d = 1 }, { a = 1, b = 2, c = 3, d = 4 }, changes = 0 }, got)
  end)

  it("keeps 64-bit integers exactly, beyond 2^53 as digits", function()
    for _, n in ipairs { 0, -1, 5000000000, 1700000000000, 2 ^ 53, -2 ^ 53 } do
      local got = one("select ?1 as n, typeof(?1) as t", n)
      assert.equal(n, got.n)
      assert.equal("integer", got.t)
    end
    assert.equal("9007199254740993", one("select 9007199254740993 as n").n)
    assert.equal("-9223372036854775808", one("select -9223372036854775807 - 1 as n").n)
    if rawget(math, "type") then
      assert.equal("integer", rawget(math, "type")(one("select 7 as n").n))
    end
  end)

  it("takes any bytes as text", function()
    local text = {}
    for byte = 0, 255 do text[#text + 1] = string.char(byte) end
    text = table.concat(text)
    rows "create table t (v text)"
    assert.equal(1, rows("insert into t values (?1)", text).changes)
    assert.equal(text, one("select v from t").v)
    local large = ("x"):rep(3000000)
    assert.equal(large, one("select ?1 as v", large).v)
    assert.equal("", one("select ?1 as v", "").v)
  end)

  it("says how many rows were written", function()
    rows "create table t (v)"
    assert.equal(3, rows("insert into t values (1), (2), (3)").changes)
    assert.equal(2, rows("update t set v = 9 where v > 1").changes)
    assert.equal(0, rows("select * from t").changes)
    assert.same({ { v = 9 }, { v = 9 }, changes = 2 },
      rows("delete from t where v = 9 returning v"))
  end)

  it("returns what went wrong, with the extended code", function()
    rows "create table t (v text not null, w int unique) strict"
    local function failure(sql, ...)
      local got, text, code = conn:run(sql, ...)
      assert.is_nil(got)
      assert.is_string(text)
      return code, text
    end
    assert.equal("1299", (failure "insert into t values (null, 1)"))
    rows "insert into t values ('a', 1)"
    assert.equal("2067", (failure "insert into t values ('a', 1)"))
    assert.equal("1", (failure "selec 1"))
    assert.equal("25", (failure("select ?1 as a, ?2 as b", 1)))
    local code, text = failure "select 1; select 2"
    assert.equal("21", code)
    assert.matches("more than one statement", text)
    assert.equal("21", (failure "  "))
    assert.same({ { n = 1 }, changes = 0 }, rows "select count(*) as n from t;\n")
  end)

  it("raises on misuse", function()
    assert.has_error(function() conn:run("select ?1", {}) end)
    assert.has_error(function() conn:run("select ?1", 0 / 0) end)
    assert.has_error(function() conn:run("select ?1", math.huge) end)
    assert.has_error(function() conn:run(nil) end)
    assert.has_error(function() conn:limit(0) end)
    assert.has_error(function() sqlite.connect(dir .. "/db", { limit = "x" }) end)
    assert.has_error(function() sqlite.connect("a\0b") end)
    assert.has_error(function() sqlite.connect(dir .. "/db", 1) end)
  end)

  it("makes a missing file only where it is told to, for its owner alone", function()
    local got, text, code = sqlite.connect(dir .. "/other")
    assert.is_nil(got)
    assert.is_string(text)
    assert.equal("14", code)
    got, text = sqlite.connect(dir .. "/no/such", { create = true })
    assert.is_nil(got)
    assert.is_string(text)
    rows "pragma journal_mode = wal"
    rows "create table t (v)"
    for _, name in ipairs { "db", "db-wal", "db-shm" } do
      assert.equal("600", (run.output("stat -c %a " .. dir .. "/" .. name):gsub("\n", "")))
    end
  end)

  it("tells what is no database", function()
    run.write(dir .. "/text", ("this is no database\n"):rep(100))
    local other = assert(sqlite.connect(dir .. "/text"))
    local got, _, code = other:run "select * from sqlite_master"
    assert.is_nil(got)
    assert.equal("26", code)
    assert.is_nil((sqlite.connect(dir)))
  end)

  it("ends a statement whose time is over", function()
    conn:limit(0.2)
    local got, _, code = conn:run(
      "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n")
    assert.is_nil(got)
    assert.equal("9", code)
    assert.equal(1, one("select 1 as n").n)
  end)

  it("waits for another connection's lock no longer than its limit", function()
    rows "create table t (v)"
    rows "begin immediate"
    local other = assert(sqlite.connect(dir .. "/db", { limit = 0.2 }))
    local got, _, code = other:run "insert into t values (1)"
    assert.is_nil(got)
    assert.equal("5", code)
    rows "commit"
    assert.equal(1, assert(other:run "insert into t values (1)").changes)
    other:close()
  end)

  it("is closed twice, and answers afterwards", function()
    conn:close()
    conn:close()
    local got, text = conn:run "select 1"
    assert.is_nil(got)
    assert.matches("closed", text)
  end)

  it("keeps few statements prepared, and runs any number", function()
    for i = 1, 200 do assert.equal(i, one(("select %d as n"):format(i)).n) end
    for i = 1, 200 do assert.equal(i, one(("select %d as n"):format(i)).n) end
  end)

  it("stands a finalizer that uses the connection while rows are handed over", function()
    rows "create table t (v)"
    rows("with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000) "
      .. "insert into t select i from n")
    local times, over = 0, false
    local function litter()
      local collected = function()
        -- When the state is closed, the module may be unloaded before what it has left behind.
        if over then return end
        times = times + 1
        conn:run "select v from t where v < 3"
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
      local got = rows "select v from t order by v"
      assert.equal(2000, #got)
      assert.equal(1777, got[1777].v)
    end
    over = true
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", step)
    assert.is_true(times > 0)
  end)

  it("gives a lock to one at a time, and takes it back with its holder's end", function()
    local path = dir .. "/lock"
    local lock = assert(sqlite.lock(path))
    local other, _, code = sqlite.lock(path)
    assert.is_nil(other)
    assert.equal("busy", code)
    lock:close()
    lock:close()
    assert(sqlite.lock(path))
    collectgarbage()
    collectgarbage()
    assert(sqlite.lock(path)):close()
    other, _, code = sqlite.lock(dir .. "/no/such")
    assert.is_nil(other)
    assert.equal("lock", code)
  end)

  -- lua-posix is not there for every Lua.
  local posix_there, unistd = pcall(require, "posix.unistd")
  if posix_there then it("leaves a parent's connection alone in a child", function()
    local wait = require "posix.sys.wait"
    rows "create table t (v)"
    local pid = unistd.fork()
    if pid == 0 then
      local got = conn:run "insert into t values (1)"
      conn:close()
      unistd._exit(got == nil and 0 or 1)
    end
    local _, _, status = wait.wait(pid)
    assert.equal(0, status)
    assert.equal(0, one("select count(*) as n from t").n)
  end) end
end)
