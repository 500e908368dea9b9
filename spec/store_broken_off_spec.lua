-- Calls of a store that an error breaks off at any place: what is run next is no part of them,
-- what was told to be stored is stored, and nobody is texted twice.
--
-- FAULTS=long plays more places.

local breaker = require "spec.support.breaker"
local stores = require "spec.support.stores"

-- Loaded after the breaker, which sees what coroutines they make.
local koresms = require "koresms"
local sandbox = require "koresms.sandbox"
local worker = require "koresms.store.worker"

-- Places that are played of one call.
local PLACES = os.getenv("FAULTS") == "long" and 400 or 16

-- What a run that was broken off has marked is waited for as long as its lease.
local LEASE, lease = 2, worker.LEASE

local box

setup(function()
  worker.LEASE = LEASE
  box = assert(sandbox.start { retry_after = false })
  breaker.start()
end)
teardown(function()
  worker.LEASE = lease
  breaker.stop()
  box:stop()
  stores.stop()
end)

for _, kind in ipairs(stores.kinds()) do describe("broken off on " .. kind.name .. ",", function()
  local store, other, where, added

  before_each(function()
    store, where = kind:store()
    other = assert(koresms.store(where))
    added = 0
  end)
  after_each(function()
    store:close()
    other:close()
  end)

  -- Calls f at places that lie evenly over it; after each error `check`.
  local function sweep(f, check)
    assert(select(2, breaker.run(breaker.NEVER, f)))
    local places, fired = breaker.passed(), 0
    local stride = math.max(1, math.floor(places / PLACES))
    for n = 1 + places % stride, places, stride do
      if breaker.run(n, f) then fired = fired + 1 end
      check(n)
    end
    assert.is_true(fired > PLACES / 2)
  end

  -- What is added now is there for all.
  local function check_add(n)
    added = added + 1
    local new, text = store:add("c", stores.messages(1, added))
    assert.equal(1, new, ("place %d: %s"):format(n, tostring(text)))
    assert.equal(added, other:status("c").total, "place " .. n)
  end

  it("limits that are set leave no transaction open", function()
    local limit = 0
    sweep(function()
      limit = limit % 50 + 1
      assert(store:quota { per_minute = limit, per_hour = limit * 10 })
    end, check_add)
  end)

  it("the making of a store can be tried again at once", function()
    local place, made = kind:location(), nil
    sweep(function()
      made = assert(koresms.store(place))
      assert(made:create { name = "c" })
    end, function(n)
      made = made or assert(koresms.store(place))
      local ok, text = made:create { name = "d" }
      assert.is_true(ok, ("place %d: %s"):format(n, tostring(text)))
      made:close()
      place, made = kind:location(), nil
    end)
  end)

  it("a run sends nothing twice, and knows what it sent", function()
    local client = assert(koresms.new { host = box.plain, bot_id = box.bot_id,
      client_id = box.client_id, client_secret = box.client_secret, from = "+19876543210",
      per_minute = false, retries = 0, timeout = 1 })
    local function run()
      for _ in store:run { client = client, campaigns = { "c" } } do end
    end
    local function processed()
      local counts = {}
      for _, message in ipairs(box:get("/_sandbox/messages").messages) do
        counts[message.to] = (counts[message.to] or 0) + 1
      end
      return counts
    end
    -- Rows that are pending were not sent, those that are accepted were, and none was twice.
    local function check(n)
      local counts = processed()
      for _, count in pairs(counts) do assert.equal(1, count, "place " .. n) end
      for row in other:rows "c" do
        if row.state == "pending" then assert.is_nil(counts[row.to], "place " .. n) end
        if row.state == "accepted" then assert.equal(1, counts[row.to], "place " .. n) end
      end
    end
    local function begin()
      if store then store:close() end
      if other then other:close() end
      store, where = kind:store()
      other = assert(koresms.store(where))
      assert.equal(3, store:add("c", stores.messages(3)))
      assert(box:control("DELETE", "/_sandbox/messages"))
    end
    begin()
    sweep(run, function(n)
      check(n)
      -- In Lua without __close a loop that was left goes with the collector.
      collectgarbage()
      collectgarbage()
      assert.equal(1, store:add("c", stores.messages(1, 10)))
      assert.equal(4, other:status("c").total, "place " .. n)
      run()
      assert.is_nil(store:failure(), "place " .. n)
      check(n)
      assert.equal(0, other:status("c").pending, "place " .. n)
      begin()
    end)
    client:close()
  end)
end) end
