-- Faults of the store itself: a full disk, a locked file, a database that is gone for good. Nothing
-- starts that is not marked, known outcomes are kept, and stored as soon as that can be.

local paths = require "spec.support.paths"

-- It takes its time, and the Lua makes no difference: once is enough.
if paths.version ~= "5.4" and not os.getenv "STORE_EVERY_LUA" then return end

local core = require "koresms.core"
local koresms = require "koresms"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"
local stores = require "spec.support.stores"
local worker = require "koresms.store.worker"

local box
setup(function() box = assert(sandbox.start()) end)
teardown(function()
  box:stop()
  stores.stop()
end)

local function client()
  return assert(koresms.new { host = box.plain, bot_id = box.bot_id, client_id = box.client_id,
    client_secret = box.client_secret, from = "+19876543210", per_minute = false, retries = 0,
    timeout = 2 })
end

-- How often each number was processed: its most, and how many there were.
local function processed()
  local counts, most, n = {}, 0, 0
  for _, message in ipairs(box:get("/_sandbox/messages").messages) do
    if not counts[message.to] then n = n + 1 end
    counts[message.to] = (counts[message.to] or 0) + 1
    most = math.max(most, counts[message.to])
  end
  return most, n
end

local function campaign(where, count)
  local store = assert(koresms.store(where))
  assert(store:quota { per_minute = false })
  assert(store:create { name = "c" })
  assert(store:add("c", stores.messages(count)))
  assert(store:resume "c")
  return store
end

describe("a store's faults", function()
  local patience = worker.PATIENCE
  before_each(function() assert(box:control("DELETE", "/_sandbox/messages")) end)
  after_each(function() worker.PATIENCE = patience end)

  if pcall(require, "koresms.sqlite") then
    it("on a full disk starts nothing, and goes on when there is room", function()
      local dir = run.directory()
      if not shell.run(("mount -t tmpfs -o size=16m none %s 2>/dev/null"):format(dir)) then
        return pending("no tmpfs can be mounted here")
      end
      finally(function() shell.run("umount -l " .. dir) end)
      local store = campaign(dir .. "/store.db", 2000)
      worker.PATIENCE = 2
      local count = 0
      for _ in store:run { client = client(), campaigns = { "c" }, concurrency = 8 } do
        count = count + 1
        if count == 50 then shell.run(("cat /dev/zero >%s/filler 2>/dev/null"):format(dir)) end
      end
      assert.is_string(store:failure())
      assert.matches("full", (store:failure()))
      local most, sent = processed()
      assert.equal(1, most)
      -- What is known and could not be stored is told.
      local unstored = store.own().unstored
      assert.is_true(#unstored <= 24)
      assert.is_true(sent <= count + #unstored)
      assert(os.remove(dir .. "/filler"))
      for _ in store:run { client = client(), campaigns = { "c" }, concurrency = 8 } do
        count = count + 1
      end
      assert.is_nil(store:failure())
      local status = store:status "c"
      assert.same({ 2000, 0, 0 }, { status.total, status.pending, status.sending })
      assert.is_true(status.unknown <= 24)
      assert.equal(1, (processed()))
      store:close()
    end)

    it("waits where another holds the file, and loses nothing", function()
      local where = run.directory() .. "/store.db"
      local store = campaign(where, 200)
      local other = assert(require("koresms.sqlite").connect(where))
      local count, held = 0, nil
      local function stop()
        if held and core.clock() > held then
          assert(other:run "rollback")
          held = nil
        end
        return false
      end
      for _ in store:run { client = client(), campaigns = { "c" }, concurrency = 8, stop = stop } do
        count = count + 1
        if count == 50 then
          -- Its statements have one second.
          store.own().link.conn:limit(1)
          assert(other:run "begin immediate")
          held = core.clock() + 2
        end
      end
      assert.is_nil(store:failure())
      assert.equal(200, count)
      assert.equal(200, store:status("c").accepted)
      assert.equal(1, (processed()))
      other:close()
      store:close()
    end)
  end

  for _, kind in ipairs(stores.kinds()) do
    if kind.name == "PostgreSQL" then
      it("whose database is gone for good ends, and tells what is not stored", function()
        local store = campaign(kind:location(), 200)
        worker.PATIENCE = 2
        local count, began = 0, nil
        for _ in store:run { client = client(), campaigns = { "c" }, concurrency = 8 } do
          count = count + 1
          if count == 50 then
            began = core.clock()
            kind.cluster:control "stop -m immediate"
          end
        end
        assert.is_true(core.clock() - began < 30, ("%g s"):format(core.clock() - began))
        assert.is_string(store:failure())
        local unstored = store.own().unstored
        assert.is_true(#unstored <= 24)
        for _, ending in ipairs(unstored) do
          -- It was accepted, or marked and not sent.
          assert.is_true(ending.state == "accepted" or ending.state == "pending")
          assert.is_number(ending.id)
        end
        local most, sent = processed()
        assert.equal(1, most)
        assert.is_true(sent <= count + #unstored)
        kind.cluster:control "start"
        local status = assert(store:status "c")
        assert.equal(200, status.total)
        store:close()
      end)
    end
  end
end)
