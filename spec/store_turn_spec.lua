-- The turn of a worker, the sweep, and the quota: what each takes, stores and leaves alone.

require "spec.support.paths"

local koresms = require "koresms"
local states = require "koresms.store.states"
local stores = require "spec.support.stores"
local worker = require "koresms.store.worker"

teardown(stores.stop)

for _, kind in ipairs(stores.kinds()) do describe("a turn on " .. kind.name, function()
  local store, link, w, c
  local sqlite = kind.name == "SQLite"

  local function begin(limits)
    store = kind:store(limits)
    link = store.own().link
    c = assert(link:run("campaign", "c"))[1].id
    w = assert(worker.new(link, "run", sqlite))
  end
  before_each(function() begin() end)
  after_each(function() store:close() end)

  local function sql(postgres, for_sqlite, ...)
    return assert(link.conn:run(sqlite and (for_sqlite or postgres) or postgres, ...))
  end
  local function rows_of(name, state)
    local found = {}
    for row in assert(store:rows(name or "c", state)) do found[#found + 1] = row end
    return found
  end
  local function turn(free, campaign) return assert(w:turn(campaign or c, free or 100)) end
  local function ended(row, state, more)
    local ending = { state = state, wait = 0 }
    for name, value in pairs(more or {}) do ending[name] = value end
    w:finish(row, ending)
  end
  -- Ends a worker's lease, as if it had died long ago.
  local function bury(number)
    sql("update koresms_worker set until = now() - interval '1 hour' where id = $1",
      "update koresms_worker set until = 0 where id = ?1", number)
  end
  local function sweep() return assert(link:run "sweep").changes end

  it("takes what is due, oldest first, and no more than may start", function()
    store:add("c", { { to = "+15550000001" }, { to = "+15550000002", from = "+15559999999",
      id = "b" },
      { to = "+15550000003" } })
    local rows = turn(2)
    assert.equal(2, #rows)
    assert.same({ "+15550000001", "+19876543210", 1 },
      { rows[1].recipient, rows[1].sender, rows[1].attempts })
    assert.same({ "+15559999999", "b" }, { rows[2].sender, rows[2].ref })
    assert.equal(w.number, rows[1].worker)
    local status = store:status "c"
    assert.same({ 1, 2 }, { status.pending, status.sending })
    assert.equal(1, #turn(5))
    assert.equal(0, #turn(5))
    assert.equal(0, #turn(0))
  end)

  it("stores what has ended, and tells it only then", function()
    store:add("c", stores.messages(4))
    local rows = turn(4)
    local result = { outcome = "accepted" }
    ended(rows[1], "accepted", { result = result })
    ended(rows[2], "rejected", { code = "invalid_request", detail = "no" })
    ended(rows[3], "unknown", { code = "timeout" })
    ended(rows[4], "pending")
    assert.equal(0, #w.stored)
    turn(0)
    assert.equal(1, #turn(1))
    assert.same({ result }, w.stored)
    assert.equal(0, #w.endings)
    local status = store:status "c"
    assert.same({ 1, 1, 1, 1 }, { status.accepted, status.rejected, status.unknown,
      status.sending })
    local found = rows_of("c", "rejected")[1]
    assert.same({ "invalid_request", "no" }, { found.code, found.detail })
    assert.equal(2, rows_of("c", "sending")[1].attempts)
  end)

  it("lets a row wait before its next attempt", function()
    store:add("c", stores.messages(1))
    ended(turn()[1], "pending", { wait = 3600, code = "connect" })
    assert.equal(0, #turn())
    local found = w:look(c)
    assert.is_true(found.due > 3500 and found.due <= 3601)
  end)

  it("keeps endings apart by worker and attempt", function()
    store:add("c", stores.messages(1))
    local first = turn()[1]
    local stale = { id = first.id, attempts = first.attempts, worker = first.worker }
    ended(first, "pending")
    turn(0)
    local second = turn()[1]
    assert.equal(2, second.attempts)
    ended(stale, "accepted") -- an answer to the first attempt
    turn(0)
    assert.equal(1, store:status("c").sending)
    ended({ id = second.id, attempts = 2, worker = second.worker + 1 }, "accepted")
    turn(0)
    assert.equal(1, store:status("c").sending)
    ended(second, "accepted")
    turn(0)
    assert.equal(1, store:status("c").accepted)
    ended(second, "rejected") -- twice
    turn(0)
    assert.equal(1, store:status("c").accepted)
  end)

  it("makes unknown what the dead left, and still takes their late answers", function()
    store:add("c", stores.messages(3))
    local rows = turn()
    assert.equal(0, sweep())
    bury(w.number)
    assert.equal(3, sweep())
    local found = rows_of("c", "unknown")
    assert.equal("interrupted", found[1].code)
    ended(rows[1], "accepted")
    turn(0)
    assert.same({ 1, 2 }, { store:status("c").accepted, store:status("c").unknown })
    -- What a person has put back is not changed by a late answer.
    assert.equal(2, store:resolve("c", { unknown = "resend" }))
    ended(rows[2], "rejected")
    turn(0)
    assert.equal(2, store:status("c").pending)
  end)

  it("takes nothing without a living lease, and gets it back", function()
    store:add("c", stores.messages(1))
    bury(w.number)
    assert.equal(0, #turn())
    assert.is_false(w:look(c).alive)
    assert.is_true(w:upkeep())
    assert.equal(1, #turn())
  end)

  it("takes nothing from what does not run, and ends it all the same", function()
    store:add("c", stores.messages(2))
    local row = turn(1)[1]
    store:pause "c"
    assert.equal(0, #turn())
    ended(row, "pending")
    turn()
    assert.equal(2, store:status("c").pending)
    store:resume "c"
    row = turn(1)[1]
    store:cancel "c"
    assert.equal(0, #turn())
    ended(row, "pending")
    turn(0)
    -- What comes back to a cancelled campaign is skipped by the sweep.
    assert.equal(1, assert(link:run "skip_cancelled").changes)
    assert.equal(2, store:status("c").skipped)
  end)

  it("pauses the account for all, and takes nothing in that turn", function()
    store:add("c", stores.messages(3))
    turn(1)
    w:pause_account(1, "throttled")
    assert.equal(0, #turn())
    assert.equal(0, #turn())
    local found = w:look(c)
    assert.is_true(found.paused > 0 and found.paused <= 3)
    assert.equal("throttled", found.pause_reason)
    assert(link:run "end_pause")
    assert.equal(2, #turn())
  end)

  it("neither sends what is over nor what is suppressed, and spends no permit on it", function()
    store:quota { per_minute = 60 }
    store:add("c", { { to = "+15550000001", expires = "2001-01-01T00:00:00Z" },
      { to = "+15550000002" },
      { to = "+15550000003", expires = "2099-01-01T00:00:00Z" } })
    store:suppress { "+15550000002" }
    w:look(c)
    sql("update koresms_permit set free_at = '-infinity'", "update koresms_permit set free_at = 0")
    local rows = turn()
    assert.equal(1, #rows)
    assert.equal("+15550000003", rows[1].recipient)
    assert.equal("expired", rows_of("c", "expired")[1].code)
    assert.equal("suppressed", rows_of("c", "skipped")[1].code)
    local used = sql("select count(*) as n from koresms_permit where free_at > now()",
      "select count(*) as n from koresms_permit where free_at > unixepoch() * 1000")[1].n
    assert.equal(1, used)
  end)

  it("never takes more than the limit in its window, and leaves a reserve", function()
    store:close()
    begin { per_minute = 7, per_hour = 600 }
    store:add("c", stores.messages(20))
    assert.equal(6, #turn(20))
    assert.equal(0, #turn(20))
    local found = w:look(c)
    assert.is_true(found.minute > 59 and found.minute <= 62, found.minute)
    -- The hour has its own.
    sql("update koresms_permit set free_at = '-infinity' where span = 60",
      "update koresms_permit set free_at = 0 where span = 60")
    assert.equal(6, #turn(20))
    local used = sql("select count(*) as n from koresms_permit where span = 3600 and free_at > "
      .. "now()",
      "select count(*) as n from koresms_permit where span = 3600 and free_at > unixepoch() * 1000")
    assert.equal(12, used[1].n)
    -- A new limit is seen at once.
    store:quota { per_minute = false, per_hour = false }
    assert.equal(0, #turn(20))
    w:look(c)
    assert.equal(8, #turn(20))
  end)

  it("frees what a raised limit adds only after a whole window", function()
    store:close()
    begin { per_minute = 10 }
    store:add("c", stores.messages(40))
    assert.equal(9, #turn(40))
    store:quota { per_minute = 2 }
    store:quota { per_minute = 20 }
    w:look(c)
    assert.equal(0, #turn(40))
    assert.is_true(w:look(c).minute > 30)
  end)

  it("has one permit for all where the limit is one", function()
    store:close()
    begin { per_minute = 1 }
    store:add("c", stores.messages(2))
    assert.equal(1, #turn(2))
    assert.equal(0, #turn(2))
  end)

  it("gives back what was marked too slowly, and takes more time from then on", function()
    store:add("c", stores.messages(2))
    w.margin = 0.5
    assert.equal(0, #turn())
    assert.equal(1, w.margin)
    assert.equal(2, #w.endings)
    turn(0)
    assert.equal(2, #turn())
    for _ = 1, 10 do w:was_late() end
    assert.equal(30, w.margin)
  end)

  it("keeps a bad ending from blocking the others", function()
    store:add("c", stores.messages(3))
    local rows = turn()
    ended(rows[1], "accepted")
    ended(rows[2], "no such state", { result = {} })
    ended(rows[3], "rejected", { code = "invalid_request" })
    turn(0)
    assert.equal(0, #w.endings)
    assert.is_string(w.complaint)
    local status = store:status "c"
    assert.same({ 1, 1, 1 }, { status.accepted, status.rejected, status.sending })
  end)

  it("stores whatever the platform says", function()
    local texts = { ("x"):rep(1000000), "\237\160\128", "a\0b", "\255\254", "\194\155[31m",
      "\\u0000" }
    for byte = 0, 255 do texts[#texts + 1] = "<" .. string.char(byte) .. ">" end
    store:add("c", stores.messages(#texts))
    local rows = turn(#texts)
    for i, row in ipairs(rows) do
      ended(row, "rejected", { code = "invalid_request",
        detail = states.detail { message = texts[i] } })
    end
    turn(0)
    assert.is_nil(w.complaint)
    assert.equal(#texts, store:status("c").rejected)
    for row in store:rows("c", "rejected") do
      assert.is_true(#row.detail < 500)
      assert.is_nil(row.detail:find("%c"))
    end
  end)

  it("resolves no more than a person was shown", function()
    store:add("c", stores.messages(4))
    local rows = turn(2)
    for _, row in ipairs(rows) do ended(row, "unknown", { code = "timeout" }) end
    turn(0)
    local count, shown = store:resolve("c", { unknown = "resend", count = true })
    assert.equal(2, count)
    if sqlite then shown = shown - 2 end -- its seconds are whole
    sql("update koresms_message set at = at - interval '3 seconds' where state = 'unknown'",
      "update koresms_message set at = at - 3 where state = 'unknown'")
    for _, row in ipairs(turn(2)) do ended(row, "unknown", { code = "timeout" }) end
    turn(0)
    assert.equal(2, store:resolve("c", { unknown = "skip", shown = shown }))
    assert.same({ 2, 2 }, { store:status("c").skipped, store:status("c").unknown })
    assert.equal(2, store:resolve("c", { unknown = "resend" }))
    for i, row in ipairs(turn()) do
      ended(row, "rejected", { code = i == 1 and "invalid_request" or "forbidden" })
    end
    turn(0)
    assert.equal(1, store:resolve("c", { rejected = "retry", code = "forbidden" }))
    assert.equal(1, store:resolve("c", { rejected = "retry" }))
    assert.equal(2, store:status("c").pending)
  end)

  it("pauses a campaign with its reason, and nothing else", function()
    assert.is_true(w:pause_campaign(c, "401"))
    assert.same({ "paused", "401" }, { store:status("c").state, store:status("c").reason })
    store:resume "c"
    store:cancel "c"
    assert.is_true(w:pause_campaign(c, "401"))
    assert.equal("cancelled", store:status("c").state)
  end)

  if sqlite then
    it("notices an older copy of the file", function()
      store:add("c", stores.messages(1))
      local where = link.location.where
      w:close()
      store:close()
      os.execute(("sqlite3 %s 'delete from koresms_worker' 2>/dev/null"):format(where))
      local conn = assert(link.driver.connect(where))
      assert(conn:run "delete from koresms_worker")
      conn:close()
      assert(link:open())
      local again, text = worker.new(link, "run", true)
      assert.is_nil(again)
      assert.matches("restored", text)
      assert.equal("paused", store:status("c").state)
      assert.is_true(store:resume("c", { accept = true }))
      assert(worker.new(link, "run", true))
    end)
  else
    it("goes on under a new number where the answer is lost", function()
      store:add("c", stores.messages(3))
      local row = turn(1)[1]
      local old = w.number
      ended(row, "accepted")
      local other = assert(koresms.store(kind.last))
      local pid = sql("select pg_backend_pid() as pid")[1].pid
      local ol = other.own().link
      assert(ol.conn:run("select pg_terminate_backend($1::int)", pid))
      assert.is_nil(w:turn(c, 1))
      assert.equal(1, #w.endings)
      assert.is_false(w:ready())
      w.retry_at = 0
      assert.is_true(w:ready())
      assert.is_true(w.number ~= old)
      local rows = turn(1)
      assert.equal(w.number, rows[1].worker)
      assert.equal(1, store:status("c").accepted)
      other:close()
    end)

    it("notices that the database was promoted", function()
      store:add("c", stores.messages(1))
      sql "update koresms_schema set timeline = timeline + 1"
      assert.equal(0, #turn())
      assert.is_nil(w:look(c))
      assert.is_truthy(w:is_over())
      assert.equal("paused", store:status("c").state)
      assert.is_nil((worker.new(link, "run", false)))
      assert.is_true(store:resume("c", { accept = true }))
      assert(worker.new(link, "run", false))
    end)
  end
end) end
