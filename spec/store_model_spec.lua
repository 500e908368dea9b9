-- Random sequences of what happens to a store, against a model of it in Lua: this is what keeps
-- the two dialects one machine. SEED and STORE_SEQUENCES play others, or more of them.

require "spec.support.paths"

local stores = require "spec.support.stores"

local SEED = tonumber(os.getenv "SEED") or os.time()
local SEQUENCES = tonumber(os.getenv "STORE_SEQUENCES")
local STEPS, FREE = 25, 3

teardown(stores.stop)

-- Numbers of our own, the same on every Lua.
local function generator(seed)
  local state = seed % 2147483647
  if state == 0 then state = 1 end
  return function(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end
end

-- The model: rows in the order in which they are due, and what each worker holds.
local function new_model()
  return { rows = {}, by_number = {}, suppressed = {}, state = "running", clock = 0, held = {},
    alive = { true, true } }
end

local function due_order(a, b)
  if a.due ~= b.due then return a.due < b.due end
  return a.id < b.id
end

local model_turn = {}

-- What a turn stores, before it takes.
function model_turn.finish(model, endings)
  for _, e in ipairs(endings) do
    local row = model.rows[e.id]
    if row.attempts == e.attempts and row.worker == e.worker
      and (row.state == "sending" or row.state == "unknown") then
      row.state = e.state
      if e.state == "pending" then row.due = model.clock end
    end
  end
end

function model_turn.take(model, w, free)
  local taken = {}
  if model.state ~= "running" or not model.alive[w] then return taken end
  local list = {}
  for _, row in ipairs(model.rows) do
    if row.state == "pending" then list[#list + 1] = row end
  end
  table.sort(list, due_order)
  for i = 1, math.min(free, #list) do
    local row = list[i]
    row.worker = w
    if row.expired then
      row.state = "expired"
    elseif model.suppressed[row.number] then
      row.state = "skipped"
    else
      row.state, row.attempts = "sending", row.attempts + 1
      taken[#taken + 1] = { id = row.id, attempts = row.attempts, worker = w }
    end
  end
  return taken
end

local ENDINGS = { "accepted", "rejected", "unknown", "pending" }

for _, kind in ipairs(stores.kinds()) do describe("random sequences on " .. kind.name, function()
  local store, link, c
  local sqlite = kind.name == "SQLite"
  lazy_setup(function()
    store = kind:store()
    link = store.own().link
    c = assert(link:run("campaign", "c"))[1].id
  end)
  lazy_teardown(function() store:close() end)

  local function sql(text, ...) return assert(link.conn:run(text, ...)) end

  -- The numbers of two workers, whose clocks are the rows' `due`: each step is a second later.
  local NUMBERS = { 9007199254740991, 4503599627370497 }

  local function reset()
    sql "delete from koresms_message"
    sql "delete from koresms_suppressed"
    sql "update koresms_campaign set state = 'running'"
    for _, number in ipairs(NUMBERS) do assert(link:run("lease", number, "run x", 1000)) end
  end

  local function turn(endings, w, free)
    local parts = {}
    for i, e in ipairs(endings) do
      parts[i] = ('{"i":"%.0f","n":%d,"k":"%.0f","s":"%s","c":null,"d":null,"w":0}'):format(e.key,
        e.attempts, NUMBERS[e.worker], e.state)
    end
    return assert(link:turn { results = "[" .. table.concat(parts, ",") .. "]", worker = NUMBERS[w],
      free = free, campaign = c, keep_minute = 0, keep_hour = 0, margin = 1, minute = false,
      hour = false })
  end

  local function play(seed)
    local random, model = generator(seed), new_model()
    local keys = {} -- id in the database by ours
    reset()
    local function add()
      local n = #model.rows + 1
      local number, expired = stores.number(random(5)), random(8) == 1
      local key = sql(sqlite and [[insert into koresms_message (campaign, recipient, expires, due)
          values (?1, ?2, ?3, 0) returning id]]
        or [[insert into koresms_message (campaign, recipient, expires, due)
          values ($1, $2, to_timestamp($3::float8), to_timestamp(0)) returning id]],
        c, number, expired and 1 or nil)[1].id
      keys[n] = key
      model.rows[n] = { id = n, number = number, expired = expired, state = "pending", attempts = 0,
        due = 0 }
    end
    local function run_turn()
      local w, free = random(2), random(FREE + 1) - 1
      local endings, left = {}, {}
      for _, held in ipairs(model.held) do
        if random(2) == 1 then
          held.state = ENDINGS[random(#ENDINGS)]
          held.key = keys[held.id]
          endings[#endings + 1] = held
          -- Sometimes its answer is stored twice.
          if random(6) == 1 then left[#left + 1] = { id = held.id, attempts = held.attempts,
            worker = held.worker } end
        else
          left[#left + 1] = held
        end
      end
      model.held = left
      -- The order of the two differs between the databases within one turn; so they are two turns.
      turn(endings, w, 0)
      model.clock = model.clock + 1
      model_turn.finish(model, endings)
      for _, e in ipairs(endings) do
        local row = model.rows[e.id]
        if row.state == "pending" and row.due == model.clock then
          sql(sqlite and "update koresms_message set due = ?2 where id = ?1"
            or "update koresms_message set due = to_timestamp($2::float8) where id = $1",
            keys[row.id], model.clock)
        end
      end
      if free == 0 then return end
      local rows = turn({}, w, free)
      local taken = model_turn.take(model, w, free)
      local got, wanted = {}, {}
      for _, row in ipairs(rows) do
        if row.state == "sending" then got[#got + 1] = row.id .. "/" .. row.attempts end
      end
      for _, t in ipairs(taken) do
        wanted[#wanted + 1] = keys[t.id] .. "/" .. t.attempts
        model.held[#model.held + 1] = t
      end
      table.sort(got)
      table.sort(wanted)
      assert.same(wanted, got, "seed " .. seed)
    end
    local function die()
      local w = random(2)
      model.alive[w] = not model.alive[w]
      assert(link:run("lease", NUMBERS[w], "run x", model.alive[w] and 1000 or -1000))
    end
    local function sweep()
      assert(link:run "sweep")
      for _, row in ipairs(model.rows) do
        if row.state == "sending" and not model.alive[row.worker] then row.state = "unknown" end
      end
    end
    local function resolve()
      local resend = random(2) == 1
      assert(store:resolve("c", { unknown = resend and "resend" or "skip", shown = 9e9 }))
      model.clock = model.clock + 1
      for _, row in ipairs(model.rows) do
        if row.state == "unknown" then
          row.state, row.worker = resend and "pending" or "skipped", nil
          row.due = model.clock
          sql(sqlite and "update koresms_message set due = ?2 where id = ?1"
            or "update koresms_message set due = to_timestamp($2::float8) where id = $1",
            keys[row.id], model.clock)
        end
      end
    end
    local function suppress()
      local number = stores.number(random(5))
      local remove = random(2) == 1
      assert(store:suppress({ number }, { remove = remove }))
      model.suppressed[number] = not remove or nil
    end
    local function pause()
      local state = model.state == "running" and "paused" or "running"
      assert(store[state == "running" and "resume" or "pause"](store, "c"))
      model.state = state
    end
    local choices = { add, add, add, run_turn, run_turn, run_turn, run_turn, run_turn, run_turn,
      die,
      sweep, resolve, suppress, pause }
    for _ = 1, STEPS do
      choices[random(#choices)]()
    end
    local found = {}
    for _, row in ipairs(sql "select id, state, attempts from koresms_message") do
      found[row.id] = row
    end
    for n, row in ipairs(model.rows) do
      local there = found[keys[n]]
      assert.same({ row.state, row.attempts }, { there.state, there.attempts },
        ("seed %d, row %d"):format(seed, n))
    end
  end

  it("end as the model says", function()
    for i = 1, SEQUENCES or (sqlite and 150 or 60) do play(SEED + i) end
  end)
end) end
