-- The loop over a store, with a real client against the sandbox: refusals, cuts, throttling,
-- pauses, stops, two runners, the outbox, a database that goes and comes back.

require "spec.support.paths"

local core = require "koresms.core"
local koresms = require "koresms"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"
local stores = require "spec.support.stores"

local box
setup(function() box = assert(sandbox.start { retry_after = false }) end)
teardown(function()
  box:stop()
  stores.stop()
end)

for _, kind in ipairs(stores.kinds()) do describe("a run on " .. kind.name, function()
  local store, where
  local function begin(limits)
    if store then store:close() end
    store, where = kind:store(limits)
  end
  before_each(function()
    assert(box:control("DELETE", "/_sandbox/messages"))
    assert(box:control("DELETE", "/_sandbox/play"))
    begin()
  end)
  after_each(function() store:close() end)

  local function play(what) assert(box:control("POST", "/_sandbox/play", what)) end
  local function client(changes)
    local options = { host = box.plain, bot_id = box.bot_id, client_id = box.client_id,
      client_secret = box.client_secret, from = "+19876543210", per_minute = false, retries = 0,
      timeout = 2 }
    for name, value in pairs(changes or {}) do options[name] = value end
    return assert(koresms.new(options))
  end
  -- How often each number was processed, and the most of it.
  local function processed()
    local counts, most = {}, 0
    for _, message in ipairs(box:get("/_sandbox/messages").messages) do
      counts[message.to] = (counts[message.to] or 0) + 1
      most = math.max(most, counts[message.to])
    end
    return counts, most
  end
  local function go(options)
    options = options or {}
    options.client = options.client or client()
    options.campaigns = options.campaigns or { "c" }
    local outcomes, results = {}, {}
    for result in store:run(options) do
      local key = result.code or result.outcome
      outcomes[key] = (outcomes[key] or 0) + 1
      results[#results + 1] = result
    end
    return outcomes, results
  end

  it("sends each message once, and tells what is stored", function()
    store:add("c", stores.messages(300))
    local seen = 0
    for result in store:run { client = client(), campaigns = { "c" } } do
      seen = seen + 1
      assert.equal("c", result.campaign)
      assert.equal("accepted", result.outcome)
      if seen == 150 then assert.is_true(store:status("c").accepted >= 150) end
    end
    assert.is_nil(store:failure())
    assert.equal(300, seen)
    assert.equal(300, store:status("c").accepted)
    local _, most = processed()
    assert.equal(1, most)
    assert.same({}, (go()))
  end)

  it("keeps refusals, cuts and silence apart", function()
    store:add("c", stores.messages(12))
    play { status = 400 }
    play { status = 500, when = "after" }
    play { close = true, when = "after" }
    play { close = true }
    play { delay = 3, when = "after" }
    local outcomes = go { concurrency = 1, client = client { timeout = 1 } }
    assert.same({ invalid_request = 1, server_error = 1, connection_lost = 2, timeout = 1,
      accepted = 7 },
      outcomes)
    local status = store:status "c"
    assert.same({ 7, 1, 4, 0, 12 }, { status.accepted, status.rejected, status.unknown,
      status.pending, status.total })
    local _, most = processed()
    assert.equal(1, most)
    -- Nobody sends them again but a person.
    assert.same({}, (go()))
    assert.equal(4, store:resolve("c", { unknown = "resend" }))
    assert.same({ accepted = 4 }, (go()))
  end)

  it("waits for all where the platform throttles, and pays nothing twice", function()
    store:add("c", stores.messages(20))
    play { status = 429, retry_after = 1, times = 4 }
    local before = core.clock()
    local outcomes = go()
    assert.same({ accepted = 20 }, outcomes)
    assert.is_true(core.clock() - before >= 0.9)
    local _, most = processed()
    assert.equal(1, most)
  end)

  it("pauses by itself where nothing can go well, and says why", function()
    store:add("c", stores.messages(30))
    play { status = 401, times = -1 }
    assert.same({}, (go()))
    local status = store:status "c"
    assert.equal("paused", status.state)
    assert.matches("^unauthorized", status.reason)
    assert.equal(30, status.pending)
    assert.is_nil(store:failure())
    assert(box:control("DELETE", "/_sandbox/play"))
    store:resume "c"
    assert.same({ accepted = 30 }, (go()))
  end)

  it("pauses after so many unknown in a row", function()
    store:add("c", stores.messages(30))
    play { status = 500, when = "after", times = -1 }
    local outcomes = go { concurrency = 2 }
    assert.is_true(outcomes.server_error >= 5 and outcomes.server_error <= 8)
    assert.equal("paused", store:status("c").state)
    assert.matches("in a row", store:status("c").reason)
  end)

  it("pauses where nobody can be reached", function()
    store:add("c", stores.messages(3))
    local found, text = store:run { client = client { host = "http://127.0.0.1:1" },
      campaigns = { "c" }, concurrency = 4 }
    assert.is_function(found, text)
    local since, count = core.clock(), 0
    for _ in found do count = count + 1 end
    assert.equal(0, count)
    assert.equal("paused", store:status("c").state)
    assert.equal(3, store:status("c").pending)
    assert.is_true(core.clock() - since < 40)
  end)

  it("stops when it is told to, and loses no answer", function()
    store:add("c", stores.messages(200))
    local count, stopped = 0, false
    for _ in store:run { client = client(), campaigns = { "c" }, concurrency = 4,
      stop = function() return stopped end } do
      count = count + 1
      if count == 20 then stopped = true end
    end
    local status = store:status "c"
    assert.equal(count, status.accepted)
    assert.is_true(count < 200)
    assert.same({ 0, 0, 200 }, { status.sending, status.unknown, status.total })
    local counts = processed()
    local n = 0
    for _ in pairs(counts) do n = n + 1 end
    assert.equal(count, n)
    go()
    assert.equal(200, store:status("c").accepted)
    assert.equal(1, select(2, processed()))
  end)

  -- Only Lua 5.4 tells that a loop was left.
  if _VERSION >= "Lua 5.4" then it("waits for what is in flight where the loop is left", function()
    store:add("c", stores.messages(100))
    for result in store:run { client = client(), campaigns = { "c" }, concurrency = 8 } do
      if result then break end
    end
    local status = store:status "c"
    assert.same({ 0, 0, 100 }, { status.sending, status.unknown, status.accepted + status.pending })
    local n = 0
    for _ in pairs((processed())) do n = n + 1 end
    assert.equal(status.accepted, n)
  end) end

  it("goes under a new number where the loop's body has opened the connection again", function()
    store:add("c", stores.messages(20))
    local link, before = store.own().link, nil
    local count = 0
    for _ in store:run { client = client(), campaigns = { "c" }, concurrency = 2 } do
      count = count + 1
      if count == 5 then
        store:close()
        assert.is_table(store:status "c")
        before = assert(link.conn:run "select count(*) as n from koresms_worker")[1].n
      end
    end
    assert.equal(20, count)
    local after = assert(link.conn:run "select count(*) as n from koresms_worker")[1].n
    assert.equal(before + 1, after)
  end)

  it("takes campaigns in turn, and the outbox before them", function()
    for _, name in ipairs { "a", "b" } do
      store:create { name = name }
      store:resume(name)
    end
    store:add("a", stores.messages(40, 100))
    store:add("b", stores.messages(40, 200))
    store:add("outbox", stores.messages(3, 300))
    local order = {}
    for result in store:run { client = client(), concurrency = 4 } do
      order[#order + 1] = result.campaign
    end
    assert.equal(83, #order)
    local early = { a = 0, b = 0, outbox = 0 }
    for i = 1, 40 do early[order[i]] = early[order[i]] + 1 end
    assert.equal(3, early.outbox)
    assert.is_true(early.a >= 8 and early.b >= 8)
  end)

  it("stays, and takes what comes", function()
    local stopped, count = false, 0
    store:add("c", stores.messages(1))
    local other = assert(koresms.store(where))
    for _ in store:run { client = client(), stay = true, stop = function() return stopped end } do
      count = count + 1
      if count == 1 then
        assert(other:add("outbox", stores.messages(2, 50)))
        assert(other:create { name = "late" })
        assert(other:add("late", stores.messages(1, 60)))
        assert(other:resume "late")
      end
      if count == 4 then stopped = true end
    end
    assert.equal(4, count)
    other:close()
  end)

  it("keeps to the quota", function()
    begin { per_minute = 6 }
    store:add("c", stores.messages(20))
    local stopped, count = false, 0
    local since = core.clock()
    for _ in store:run { client = client(), campaigns = { "c" },
      stop = function() return stopped or core.clock() - since > 3 end } do
      count = count + 1
    end
    assert.equal(5, count)
    assert.same({ 5, 15 }, { store:status("c").accepted, store:status("c").pending })
  end)

  it("leaves a client that it was given as it was", function()
    store:add("c", stores.messages(3))
    local own = client { per_minute = 5 }
    for _ in store:run { client = own, campaigns = { "c" } } do
      assert.equal(5, own:stats().permits)
      own:resume()
    end
    assert.equal(3, own:stats().accepted)
    assert.equal(5, own:stats().permits)
    -- The pace of a run is not the client's.
    store:add("c", stores.messages(10, 100))
    assert.equal(10, go({ client = own }).accepted)
    assert.equal(5, own:stats().permits)
    -- Two runs at once, of which the first one ends first.
    store:add("c", stores.messages(2, 10))
    local second = kind:store()
    second:add("c", stores.messages(2, 20))
    local one = store:run { client = own, campaigns = { "c" } }
    local two = second:run { client = own, campaigns = { "c" } }
    while one() do end
    assert.equal(5, own:stats().permits)
    while two() do end
    assert.equal(17, own:stats().accepted)
    assert.equal(5, own:stats().permits)
    second:close()
    assert.has_error(function() store:run { client = {} } end,
      "bad argument #1 to 'run' (option 'client': a client expected)")
  end)

  it("refuses limits that the store does not have", function()
    local program = run.write(os.tmpname(), ([[require 'spec.support.paths'
      local store = assert(require("koresms").store(%q))
      for _ in store:run { campaigns = { "c" } } do end
      print((store:failure()))]]):format(where))
    local printed = run.output(("env KORESMS_PER_MINUTE=7 %s %s %s 2>&1"):format(run.preload(),
      require("spec.support.command").interpreter, program))
    os.remove(program)
    assert.matches("per_minute is 7 %(KORESMS_PER_MINUTE%), and the store's limit is false",
      printed)
    assert.matches("koresms campaign quota %-%-per%-minute 7", printed)
  end)

  it("says which campaign is not there", function()
    assert.same({}, (go { campaigns = { "c", "d" } }))
    assert.matches("no campaign is called 'd'", (store:failure()))
  end)

  it("tells the last results once they are there", function()
    store:add("c", stores.messages(3))
    local began, told = core.clock(), nil
    for _ in store:run { client = client(), campaigns = { "c" } } do
      told = core.clock() - began
    end
    -- It looks at the campaign each half second.
    assert.is_true(told < 0.4, told)
  end)

  it("gives each result soon, though nothing more can start", function()
    store:add("c", stores.messages(3))
    assert(box:control("PUT", "/_sandbox/settings", { latency = 0 }))
    play { delay = 0 }
    play { delay = 0 }
    play { delay = 1.5, when = "after" }
    local times, began = {}, core.clock()
    for _ in store:run { client = client { timeout = 5 }, campaigns = { "c" }, concurrency = 3 } do
      times[#times + 1] = core.clock() - began
    end
    assert.equal(3, #times)
    assert.is_true(times[2] < 1.2, times[2])
  end)

  if kind.name == "SQLite" then
    it("refuses a second runner on one file", function()
      store:add("c", stores.messages(5))
      local other = assert(koresms.store(where))
      local first = store:run { client = client(), campaigns = { "c" }, concurrency = 1 }
      assert.is_table(first())
      for _ in other:run { client = client(), campaigns = { "c" } } do end
      assert.matches("another worker runs", (other:failure()))
      local rest = 0
      for _ in first do rest = rest + 1 end
      assert.equal(4, rest)
      other:close()
      assert.same({}, (go()))
    end)
  else
    it("needs no rights but those to rows", function()
      local conn = store.own().link.conn
      for _, statement in ipairs {
        "do $$ begin if not exists (select from pg_roles where rolname = 'app') then "
          .. "create role app login; end if; end $$",
        "grant select, insert, update, delete on all tables in schema public to app",
        "grant usage on all sequences in schema public to app" } do
        assert(conn:run(statement))
      end
      store:close()
      store = assert(koresms.store((where:gsub("//postgres@", "//app@"))))
      assert.is_true(store:create { name = "d" })
      assert.equal(3, (store:add("d", stores.messages(3))))
      assert.is_true(store:resume "d")
      assert.is_true(store:quota { per_minute = 60 })
      assert.is_true(store:quota { per_minute = false })
      assert.same({ accepted = 3 }, (go { campaigns = { "d" } }))
      assert.equal(0, store:cancel "d")
    end)

    it("works without statements by name, as behind a pooler", function()
      store:add("c", stores.messages(200))
      store:close()
      store = assert(koresms.store(where .. "&prepare=false"))
      assert.same({ accepted = 200 }, (go()))
      assert.equal(0, assert(store.own().link.conn:run
        "select count(*) as n from pg_prepared_statements")[1].n)
      assert.equal(200, store:status("c").accepted)
    end)

    it("goes on where the database was away for a while", function()
      store:add("c", stores.messages(400))
      local count = 0
      for _ in store:run { client = client(), campaigns = { "c" }, concurrency = 8 } do
        count = count + 1
        if count == 40 then
          kind.cluster:control "stop -m immediate"
          kind.cluster:control "start"
        end
      end
      assert.is_nil(store:failure())
      local status = store:status "c"
      assert.equal(count, status.accepted)
      assert.equal(400, status.accepted + status.sending + status.unknown)
      -- What the lost answer to one turn had marked, or the lease of the old number.
      assert.is_true(status.sending + status.unknown <= 16)
      assert.equal(1, select(2, processed()))
    end)
  end
end) end
