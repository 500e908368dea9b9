-- The API of a store, the same on each kind.

require "spec.support.paths"

local koresms = require "koresms"
local run = require "spec.support.run"
local stores = require "spec.support.stores"

local unpack = table.unpack or unpack

teardown(stores.stop)

for _, kind in ipairs(stores.kinds()) do describe("a store on " .. kind.name, function()
  local store, where
  before_each(function() store, where = kind:store() end)
  after_each(function() store:close() end)

  local function list(name, state)
    local found = {}
    for row in assert(store:rows(name, state)) do found[#found + 1] = row end
    return found
  end

  it("is made by what puts something into it, and by nothing else", function()
    local other = assert(koresms.store(kind:location()))
    for _, call in ipairs { { "status", "c" }, { "resume", "c" }, { "pause", "c" },
      { "cancel", "c" },
      { "rows", "c" }, { "campaigns" }, { "resolve", "c", { unknown = "skip" } } } do
      local ok, text, code = other[call[1]](other, unpack(call, 2))
      assert.is_nil(ok)
      assert.matches("there is no store here", text)
      assert.equal("store", code)
    end
    assert.equal(1, other:suppress { "+15550000001" })
    assert.equal("outbox", other:campaigns()[1].name)
    assert.equal("running", other:status("outbox").state)
    other:close()
  end)

  it("keeps messages once, by dedupe, id or number", function()
    assert.same({ 3, 1 },
      { store:add("c", { { to = "+15550000001" }, { to = "+15550000002", id = "a" },
      { to = "+15550000001" }, { to = "+15550000001", dedupe = "again" } }) })
    assert.same({ 0, 1 }, { store:add("c", { { to = "+15550000009", id = "a" } }) })
    local rows = list "c"
    assert.equal(3, #rows)
    assert.same({ to = "+15550000001", dedupe = "+15550000001", state = "pending", attempts = 0 },
      rows[1])
    assert.same({ to = "+15550000002", id = "a", dedupe = "a", state = "pending", attempts = 0 },
      rows[2])
    -- Other campaigns are theirs.
    assert.same({ 1, 0 }, { store:add("outbox", { { to = "+15550000001", dedupe = "a" } }) })
  end)

  it("streams what it is given, in any number", function()
    local n = 0
    local added, duplicates = store:add("c", function()
      n = n + 1
      if n <= 12001 then return { to = stores.number(n % 12000), from = "+19876543211" } end
    end)
    assert.same({ 12000, 1 }, { added, duplicates })
    assert.equal(12000, store:status("c").pending)
    assert.equal(12000, #list "c")
  end)

  it("may be asked by the source of what is put into it", function()
    local n, seen = 0, 0
    local added, duplicates = store:add("c", function()
      n = n + 1
      if n > 25000 then return nil end
      if n % 6000 == 0 then seen = math.max(seen, store:status("c").pending) end
      return { to = ("+1555%07d"):format(n) }
    end)
    assert.same({ 25000, 0 }, { added, duplicates })
    assert.equal(20000, seen)
    assert.has_error(function() store:add("c", function()
      n = n + 1
      if n > 37000 then error("no more", 0) end
      return { to = ("+1555%07d"):format(n) }
    end) end, "no more")
    assert.same({ 1, 1 }, { store:add("c", { { to = "+15559999999" }, { to = "+15559999999" } }) })
  end)

  it("tells of each part by itself, whatever its source does with the store", function()
    assert(store:create { name = "d" })
    local n, to_close
    local function source()
      n = n + 1
      if n == 15000 then assert.equal(1, (store:add("d", { { to = stores.number(n) } }))) end
      if n == 12000 then
        for _ in store:run { campaigns = { "none" } } do end
        assert.matches("no campaign", (store:failure()))
      end
      if n == to_close then store:close() end
      if n <= 25000 then return { to = stores.number(n) } end
    end
    n, to_close = 0, 15001
    local added, text, code = store:add("c", source)
    assert.same({ nil, "store" }, { added, code })
    assert.matches("the connection is closed", text)
    n, to_close = 15001, nil
    assert.same({ 9999, 0 }, { store:add("c", source) })
    n = 15000
    assert.same({ 1, 9999 }, { store:add("c", source) })
    n = 0
    assert(store:suppress { stores.number(1) })
    store:close()
    local before = store:status("c").pending
    assert.equal(1, store:status("d").pending)
    assert(store:add("d", { { to = "+15557654321" } }))
    local new, old = store:add("c", function()
      n = n + 1
      if n <= 15000 then return { to = stores.number(n) } end
    end)
    assert.same({ 25000, 25000 }, { before + new, new + old + 10000 })
  end)

  it("stops at the first message that will not do, and keeps those before it", function()
    for i, bad in ipairs { { to = "5550000001" }, { to = "+15550000001", from = "x" },
      { to = "+15550000001", expires = "tomorrow" }, { to = "+15550000001", id = "a\0b" },
      { to = "+15550000001", id = "\255" }, { to = "+15550000001", dedupe = ("x"):rep(501) } } do
      local added, text, code, index = store:add("c", { { to = "+1555100000" .. i }, bad })
      assert.is_nil(added)
      assert.is_string(text)
      assert.equal(i <= 2 and "invalid_number" or "config", code)
      assert.equal(2, index)
    end
    assert.equal(6, store:status("c").total)
  end)

  it("names campaigns as people do, and refuses what is no name", function()
    for _, name in ipairs { "Diw\196\129l\196\171", "a'b\"c", "%s$1", "x y", ("n"):rep(200) } do
      assert.is_true(store:create { name = name })
      assert.equal(name, store:status(name).name)
      local ok, text, code = store:create { name = name }
      assert.is_nil(ok)
      assert.matches("already", text)
      assert.equal("config", code)
    end
    for byte = 0, 255 do
      local name = "a" .. string.char(byte) .. "b"
      if byte < 32 or byte > 126 then assert.is_nil((store:create { name = name })) end
    end
    assert.is_nil((store:create { name = "" }))
    assert.is_nil((store:create { name = ("n"):rep(201) }))
    local ok, text, code = store:status "no such"
    assert.is_nil(ok)
    assert.matches("no campaign is called 'no such'", text)
    assert.equal("config", code)
  end)

  it("checks what a campaign is made of", function()
    local ok, text, code = store:create { name = "x", from = "12" }
    assert.is_nil(ok)
    assert.matches("^from: ", text)
    assert.equal("invalid_number", code)
    for _, expires in ipairs { "2026-01-01", "2027-01-01T00:00:00", "2000-01-01T00:00:00Z",
      "2027-02-29T00:00:00Z", "2027-01-01T24:00:00Z" } do
      ok, text, code = store:create { name = "x", expires = expires }
      assert.is_nil(ok, expires)
      assert.matches("^expires: ", text)
      assert.equal("config", code)
    end
    assert.is_true(store:create { name = "x", expires = "2099-12-31T23:59:59+05:30" })
  end)

  it("pauses, resumes and cancels", function()
    store:add("c", stores.messages(3))
    assert.is_true(store:pause("c", "the +15551234567 said so"))
    local status = store:status "c"
    assert.equal("paused", status.state)
    assert.equal("the +1555*****67 said so", status.reason)
    assert.is_true(store:resume "c")
    assert.is_true(store:resume "c")
    assert.equal("running", store:status("c").state)
    assert.equal(3, store:cancel "c")
    assert.equal(0, store:cancel "c")
    status = store:status "c"
    assert.equal("cancelled", status.state)
    assert.equal(3, status.skipped)
    assert.equal("cancelled", list("c", "skipped")[1].code)
    for _, call in ipairs { "resume", "pause" } do
      local ok, text, code = store[call](store, "c")
      assert.is_nil(ok)
      assert.matches("cancelled", text)
      assert.equal("config", code)
    end
    assert.is_nil((store:add("c", stores.messages(1))))
    assert.is_nil((store:cancel "outbox"))
  end)

  it("has a list of numbers that get nothing", function()
    assert.equal(2, store:suppress { "+15550000001", "+15550000002", "+15550000001" })
    assert.equal(0, store:suppress { "+15550000001" })
    assert.equal(1, store:suppress({ "+15550000001", "+15550000003" }, { remove = true }))
    local ok, text, code, index = store:suppress { "+15550000001", "12" }
    assert.is_nil(ok)
    assert.is_string(text)
    assert.equal("invalid_number", code)
    assert.equal(2, index)
  end)

  it("adds up at all times", function()
    store:add("c", stores.messages(5))
    local status = store:status "c"
    assert.equal(5, status.total)
    local sum = 0
    for _, state in ipairs { "pending", "sending", "accepted", "rejected", "unknown", "skipped",
      "expired" } do
      sum = sum + status[state]
    end
    assert.equal(5, sum)
    assert.is_nil(status.eta)
    assert.is_true(store:quota { per_minute = 10 })
    assert.same({ per_minute = 10, per_hour = false }, store:quota())
    assert.is_true(store:status("c").eta > 0)
  end)

  it("takes limits, and refuses what is none", function()
    for _, wanted in ipairs { { per_minute = 0 }, { per_minute = 1.5 }, { per_hour = true },
      { per_minute = -1 } } do
      local ok, text, code = store:quota(wanted)
      assert.is_nil(ok)
      assert.is_string(text)
      assert.equal("config", code)
    end
    for _, limit in ipairs { 1, 100, 7, false, 60 } do
      assert.is_true(store:quota { per_minute = limit, per_hour = limit })
    end
  end)

  it("raises on misuse, at the caller's line", function()
    local function raises(pattern, f, ...)
      local ok, text = pcall(f, ...)
      assert.is_false(ok)
      assert.matches(pattern, text)
    end
    raises("calling 'status' without a store", function() store.status("c") end)
    raises("store_spec%.lua:%d+: .*'froom' .*did you mean 'from'", function()
      return (store:create { name = "x", froom = "+1" })
    end)
    raises("field 'name'", function() store:create {} end)
    raises("argument #2 to 'add'", function() store:add("c", "x") end)
    raises("message 2.*field 'to'", function() store:add("c", { { to = "+15550000001" }, {} }) end)
    raises("unknown field 'text'", function() store:add("c", { { to = "+1555", text = "x" } }) end)
    raises("unknown state 'pendin' .*'pending'", function() store:rows("c", "pendin") end)
    raises("one of the options", function() store:resolve("c", {}) end)
    raises("'resend' or 'skip'", function()
      local ok, text = pcall(store.resolve, store, "c", { unknown = "x" })
      error((tostring(text):gsub('"', "'")), ok and 1 or 0)
    end)
    raises("goes with 'rejected'", function()
      store:resolve("c", { unknown = "skip", code = "x" })
    end)
    raises("number 1", function() store:suppress { 12 } end)
    raises("no value expected", function() store:status("c", 1) end)
    raises("string expected", function() koresms.store(1) end)
    raises("option 'concurrency'", function() store:run { concurrency = 0 } end)
    raises("unknown option 'stays'", function() store:run { stays = true } end)
  end)

  it("is closed and opened again", function()
    store:add("c", stores.messages(2))
    store:close()
    store:close()
    assert.equal(2, store:status("c").total)
    local again = assert(koresms.store(where))
    assert.equal(2, again:status("c").total)
    again:close()
  end)

  it("refuses a store of a newer version", function()
    local driver = require(kind.module)
    store:close()
    local conn = assert(driver.connect(where))
    assert(conn:run(kind.name == "SQLite" and "pragma user_version = 99"
      or "update koresms_schema set version = 99"))
    conn:close()
    local other, text, code = koresms.store(where)
    assert.is_nil(other)
    assert.matches("version 99", text)
    assert.equal("store", code)
  end)
end) end

describe("a store's location", function()
  local location = require "koresms.store.location"

  it("tells a file from an address", function()
    assert.equal("sqlite", location.parse("a.db").kind)
    assert.equal("sqlite", location.parse("/x/postgres").kind)
    for _, name in ipairs { "postgres/store.db", "/srv/password=1/a=b/x.db", "a b.db" } do
      assert.equal("sqlite", location.parse(name).kind)
    end
    local found = location.parse "postgres://u:secret@h:1/db?prepare=false&sslmode=disable"
    assert.same({ "postgres", false, true, "postgres://h:1/db",
      "postgresql://u:secret@h:1/db?sslmode=disable" },
      { found.kind, found.prepare, found.password, found.shown, found.where })
    assert.is_false(location.parse("postgresql://u@h/db").password)
    assert.is_true(location.parse("postgresql://h/db?password=x").password)
    assert.is_true(location.parse("postgresql://h/db?prepare=true").prepare)
  end)

  it("refuses an address whose password would be read as something else", function()
    for _, text in ipairs { "postgres://u:s3cret@x@h/db", "postgres://u:s3/cret@h/db",
      "postgres://u:s3cret @h/db", "postgres://h/db?prepare=s3cret", "mysql://u:s3cret@h/db", "",
      "a\0b", "postgress://u:s3cret@h/db", "postgres://u:s3cret?x@h/db",
      "postgres://u:s3cret?x@/db", "postgres://u:s3/c?s3cret@h/db", "postgres:/u:s3cret@h/db",
      "postgresql//u:s3cret@h/db", "host=h password=s3cret dbname=x", "password = s3cret",
      " postgres://u:s3cret@h/db",
      '"postgres://u:s3cret@h/db"', "jdbc:postgresql://u:s3cret@h/db", "Postgres:u:s3cret@h",
      "postgres://u:s3cret" } do
      local found, why = location.parse(text)
      assert.is_nil(found, text)
      assert.is_nil(why:find("s3cret", 1, true))
    end
  end)
end)

describe("koresms.store", function()
  it("names what is wrong with a location", function()
    for _, case in ipairs { { "", "is empty" }, { "ftp://x", "not ftp://" } } do
      local store, text, code = koresms.store(case[1])
      assert.is_nil(store)
      assert.matches(case[2], text)
      assert.equal("config", code)
    end
    if not os.getenv "KORESMS_STORE" then
      local store, text, code = koresms.store()
      assert.is_nil(store)
      assert.matches("KORESMS_STORE", text)
      assert.equal("config", code)
    end
  end)

  it("refuses a file that is none of its own", function()
    if not pcall(require, "koresms.sqlite") then return pending("SQLite is not there") end
    local dir = run.directory()
    run.write(dir .. "/text", ("no database\n"):rep(100))
    local other = assert(require("koresms.sqlite").connect(dir .. "/other", { create = true }))
    assert(other:run "create table t (v)")
    other:close()
    for _, case in ipairs { { dir .. "/text", "not a database" }, { dir, "unable to open" },
      { dir .. "/other", "another program" } } do
      local store, text = koresms.store(case[1])
      local ok
      if store then ok, text = store:create { name = "x" } end
      assert.is_nil(ok, case[1])
      assert.matches(case[2], text)
      assert.is_not_nil(text:find(dir, 1, true))
    end
    -- It was left as it is.
    other = assert(require("koresms.sqlite").connect(dir .. "/other"))
    assert.equal(1, assert(other:run "select count(*) as n from sqlite_master")[1].n)
    other:close()
    run.clean()
  end)

  it("does not touch the databases' modules before it is asked to", function()
    local file = run.write(os.tmpname(), [[require 'spec.support.paths'
      require 'koresms'
      print(package.loaded['koresms.sqlite'], package.loaded['koresms.postgres'],
        package.loaded['koresms.store'])]])
    local printed = run.output(run.preload() .. " "
      .. require("spec.support.command").interpreter .. " " .. file)
    os.remove(file)
    assert.equal("nil\tnil\tnil\n", printed)
  end)
end)
