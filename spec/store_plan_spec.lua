-- What the databases do for a turn, a sweep and a status: an index leads them, however many rows
-- there are. STORE_ROWS sets how many.

local paths = require "spec.support.paths"

-- It takes its time, and the Lua makes no difference: once is enough.
if paths.version ~= "jit" and not os.getenv "STORE_EVERY_LUA" then return end

local core = require "koresms.core"
local stores = require "spec.support.stores"
local worker = require "koresms.store.worker"

local ROWS = tonumber(os.getenv "STORE_ROWS") or 100000

teardown(stores.stop)

for _, kind in ipairs(stores.kinds()) do describe("plans on " .. kind.name, function()
  local store, link, c, w
  local sqlite = kind.name == "SQLite"
  lazy_setup(function()
    store = kind:store { per_minute = 600, per_hour = false }
    link = store.own().link
    c = assert(link:run("campaign", "c"))[1].id
    w = assert(worker.new(link, "run", sqlite))
    link.conn:limit(600)
    -- Nine of ten are done.
    assert(link.conn:run(sqlite and [[with recursive n(i) as
        (select 1 union all select i + 1 from n where i < ?2)
      insert into koresms_message (campaign, recipient, dedupe, due, state, worker)
      select ?1, '+1' || (1000000000 + i), i, 1000 + i, case when i % 10 = 0 then 'pending'
        else 'accepted' end, 5 from n]] or [[insert into koresms_message
      (campaign, recipient, dedupe, due, state, worker)
      select $1, '+1' || (1000000000 + i), i::text, now() - interval '1 day',
        case when i % 10 = 0 then 'pending' else 'accepted' end, 5
      from generate_series(1, $2::int) i]], c, ROWS))
    assert(link.conn:run "analyze")
    if not sqlite then assert(link.conn:run "vacuum analyze koresms_message") end
  end)
  lazy_teardown(function() store:close() end)

  local function plan(text, ...)
    local lines = {}
    for _, row in ipairs(assert(link.conn:run((sqlite and "explain query plan " or "explain ")
      .. text, ...))) do
      lines[#lines + 1] = row.detail or row["QUERY PLAN"]
    end
    return table.concat(lines, "\n")
  end

  -- Whether messages are read one by one, or sorted.
  local function is_led_by_index(text)
    if sqlite then
      assert.is_nil(text:find("SCAN m", 1, true), text)
      assert.is_nil(text:find("SCAN koresms_message", 1, true), text)
      assert.is_nil(text:find("TEMP B-TREE", 1, true), text)
    else
      assert.is_nil(text:find("Seq Scan on koresms_message", 1, true), text)
      assert.is_nil(text:find("Sort Key: m", 1, true), text)
    end
  end

  it("lead a turn by the index", function()
    if sqlite then
      is_led_by_index(plan(link.dialect.statements.take, c, 1, 16))
      is_led_by_index(plan(link.dialect.statements.finish,
        '[{"i":"5","n":1,"k":"5","s":"accepted","c":null,"d":null,"w":0}]'))
    else
      for _, minute in ipairs { false, true } do
        for _, hour in ipairs { false, true } do
          is_led_by_index(plan(link.dialect.turn_text(minute, hour),
            '[{"i":"5","n":1,"k":"5","s":"accepted","c":null,"d":null,"w":0}]', 1, 16, c, 1, 1, 1,
            nil, nil))
        end
      end
    end
  end)

  it("lead a sweep, and a look, by the index", function()
    is_led_by_index(plan(link.dialect.statements.sweep))
    is_led_by_index(plan(link.dialect.statements.skip_cancelled))
    is_led_by_index(plan(link.dialect.statements.look, c, 1, 1, 1))
  end)

  it("make a turn take as long as ever", function()
    link.conn:limit(30)
    local function time()
      local began = core.clock()
      for _ = 1, 5 do
        for _, row in ipairs(assert(w:turn(c, 16))) do
          w:finish(row, { state = "accepted", wait = 0 })
        end
      end
      return (core.clock() - began) / 5
    end
    time()
    -- A sequential scan of so many rows would take longer than this, on any machine.
    assert.is_true(time() < 0.25)
  end)
end) end
