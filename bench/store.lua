-- What a store costs: bench/store.sh prepares what this needs. Rows take turns, round by round, and
-- figures are medians of the rounds.
local paths = require "spec.support.paths" -- luacheck: ignore

local core = require "koresms.core"
local koresms = require "koresms"
local postgres = require "spec.support.postgres"
local shell = require "koresms.sandbox.shell"

local ROUNDS = tonumber(os.getenv "ROUNDS") or 5
local SCALE = tonumber(os.getenv "SCALE") or 1
local WORK, PLAIN = os.getenv "BENCH_WORK", os.getenv "BENCH_PLAIN"

local clock = core.clock

local function scaled(n) return math.max(200, math.floor(n * SCALE)) end

local function client()
  return assert(koresms.new { host = PLAIN, bot_id = "st-1", client_id = "cs-1",
    client_secret = "0123456789abcdef", from = "+19876543210", per_minute = false, retries = 0 })
end

local function numbers(count)
  local n = 0
  return function()
    n = n + 1
    if n <= count then return { to = ("+1%010d"):format(1000000000 + n) } end
  end
end

local function median(list)
  table.sort(list)
  return list[math.floor((#list + 1) / 2)]
end

local cluster = postgres.start()
local kinds = { "SQLite" }
if cluster then kinds[2] = "PostgreSQL" end

local made = 0
local function location(kind)
  made = made + 1
  if kind == "PostgreSQL" then return (cluster:database()) end
  return ("%s/store%d.db"):format(WORK, made)
end

local function fresh(kind)
  local store = assert(koresms.store(location(kind)))
  assert(store:quota { per_minute = false })
  assert(store:create { name = "c" })
  assert(store:resume "c")
  return store
end

-- Milliseconds that one durable commit takes.
local function commit_time(kind)
  local conn = assert(koresms.store(location(kind)))
  assert(conn:create { name = "x" })
  local link = conn.own().link
  local began, count = clock(), 200
  for i = 1, count do assert(link:run("event", 1, "bench", tostring(i))) end
  local ms = (clock() - began) / count * 1000
  conn:close()
  return ms
end

local function plain_rate(count, concurrency)
  local mine, began, n = client(), clock(), 0
  for _ in mine:send_many(numbers(count), { concurrency = concurrency }) do n = n + 1 end
  local rate = n / (clock() - began)
  mine:close()
  return rate
end

-- Messages a second through a store; share of time in it; rows of a turn.
local function store_rate(kind, count, concurrency)
  local store = fresh(kind)
  assert(store:add("c", numbers(count)))
  local dialect = store.own().link.dialect
  local turn, inside, turns, rows = dialect.turn, 0, 0, 0
  function dialect.turn(...)
    local began = clock()
    local got, text, code = turn(...)
    inside, turns, rows = inside + clock() - began, turns + 1, rows + (got and #got or 0)
    return got, text, code
  end
  local began, n = clock(), 0
  for _ in store:run { client = client(), campaigns = { "c" }, concurrency = concurrency } do
    n = n + 1
  end
  local seconds = clock() - began
  dialect.turn = turn
  assert(n == count, store:failure() or "not all were sent")
  store:close()
  return n / seconds, inside / seconds, rows / turns
end

local function sends()
  print(("%-34s %12s %8s %9s %10s"):format("signed POSTs, every mark durable", "messages/s",
    "of plain",
    "in store", "rows/turn"))
  for _, concurrency in ipairs { 16, 64 } do
    local rates, ratios, shares, sizes = { plain = {} }, {}, {}, {}
    for _ = 1, ROUNDS do
      local base = plain_rate(scaled(20000), concurrency)
      table.insert(rates.plain, base)
      for _, kind in ipairs(kinds) do
        for _, list in ipairs { rates, ratios, shares, sizes } do list[kind] = list[kind] or {} end
        local rate, share, size = store_rate(kind, scaled(10000), concurrency)
        table.insert(rates[kind], rate)
        table.insert(ratios[kind], rate / base)
        table.insert(shares[kind], share)
        table.insert(sizes[kind], size)
      end
    end
    print(("%-34s %12.0f"):format(("send_many, %d at once"):format(concurrency),
      median(rates.plain)))
    for _, kind in ipairs(kinds) do
      print(("%-34s %12.0f %8.2f %8.0f%% %10.1f"):format(("%s, %d at once"):format(kind,
        concurrency),
        median(rates[kind]), median(ratios[kind]), median(shares[kind]) * 100, median(sizes[kind])))
    end
  end
end

-- A turn of 16 rows with so many rows done.
local function turns()
  local worker = require "koresms.store.worker"
  print(("\n%-34s %12s %12s %12s %12s"):format("a turn of 16 rows, ms, rows done", "0", "10,000",
    "100,000",
    "990,000"))
  for _, kind in ipairs(kinds) do
    local figures = {}
    for i, done in ipairs { 0, 10000, 100000, scaled(990000) } do
      local store = fresh(kind)
      local link = store.own().link
      local c = assert(link:run("campaign", "c"))[1].id
      link.conn:limit(600)
      assert(link.conn:run(kind == "SQLite" and [[with recursive n(i) as
          (select 1 union all select i + 1 from n where i < ?2)
        insert into koresms_message (campaign, recipient, dedupe, due, state)
        select ?1, '+1' || (1000000000 + i), i, 1000 + i, case when i > ?3 then 'pending'
          else 'accepted' end from n]] or [[insert into koresms_message
        (campaign, recipient, dedupe, due, state)
        select $1, '+1' || (1000000000 + i), i::text, now() - interval '1 day',
          case when i > $3::int then 'pending' else 'accepted' end
        from generate_series(1, $2::int) i]], c, done + 10000, done))
      if kind == "PostgreSQL" then assert(link.conn:run "vacuum analyze koresms_message") end
      local w = assert(worker.new(link, "run", kind == "SQLite"))
      local list = {}
      for _ = 1, 101 do
        local began = clock()
        local rows = assert(w:turn(c, 16))
        list[#list + 1] = (clock() - began) * 1000
        for _, row in ipairs(rows) do w:finish(row, { state = "accepted", wait = 0 }) end
      end
      figures[i] = median(list)
      store:close()
    end
    print(("%-34s %12.2f %12.2f %12.2f %12.2f"):format(kind, figures[1], figures[2], figures[3],
      figures[4]))
  end
end

-- Job queues on the same server, whose jobs do nothing, beside signed POSTs through a store.
local function peers()
  local npm = os.getenv "BENCH_NPM"
  if not cluster then return print "\nother queues: not measured, PostgreSQL is not there" end
  if not shell.run(("[ -d %s/node_modules ]"):format(shell.quote(npm))) then
    return print "\nother queues: not measured, npm or its registry is not there"
  end
  shell.run(("cp bench/peers/graphile_worker.mjs bench/peers/pg_boss.mjs %s"):format(
    shell.quote(npm)))
  local function peer(name, count)
    local _, database = cluster:database()
    local ok, text = shell.run(("cd %s && PGHOST=%s PGUSER=postgres PGDATABASE=%s node %s.mjs %d "
      .. "2>&1"):format(shell.quote(npm), cluster.dir, database, name, count))
    return assert(ok and tonumber(text), text)
  end
  local rows = { { "graphile-worker 0.17.3, defaults", "graphile_worker", 6000 },
    { "pg-boss 10.4.2, fetch and complete", "pg_boss", 2000 } }
  local mine, ratios = {}, {}
  for _ = 1, ROUNDS do
    local rate = store_rate("PostgreSQL", scaled(10000), 16)
    mine[#mine + 1] = rate
    for i, row in ipairs(rows) do
      row.rates, ratios[i] = row.rates or {}, ratios[i] or {}
      local theirs = peer(row[2], scaled(row[3]))
      table.insert(row.rates, theirs)
      table.insert(ratios[i], rate / theirs)
    end
  end
  print(("\n%-34s %12s %12s"):format("PostgreSQL, 16 at once", "a second", "koresms is"))
  print(("%-34s %12.0f"):format("koresms, signed POSTs", median(mine)))
  for i, row in ipairs(rows) do
    print(("%-34s %12.0f %11.1fx"):format(row[1] .. ", no-op", median(row.rates),
      median(ratios[i])))
  end
end

local measured = WORK .. "/measured"

-- Runs the command; returns seconds and MB of its largest process.
local function command(words)
  local env = ("env KORESMS_HOST=%s KORESMS_BOT_ID=st-1 KORESMS_CLIENT_ID=cs-1 "
    .. "KORESMS_CLIENT_SECRET=0123456789abcdef KORESMS_FROM=+19876543210"):format(PLAIN)
  local ok, text = shell.run(("%s %s/bench/measure %s 3600 %s bin/koresms %s 2>&1"):format(env,
    os.getenv "KSMS_BUILD" or "build", measured, os.getenv "LUA" or "lua5.4", words))
  assert(ok, text)
  local file = assert(io.open(measured))
  local seconds, kib, status = file:read("*a"):match("^(%S+) %S+ %S+ (%d+) (%d+)")
  file:close()
  assert(status == "0", text)
  return tonumber(seconds), tonumber(kib) / 1024
end

-- A file of recipients; returns its name.
local function people(count)
  local path = ("%s/people%d.csv"):format(WORK, count)
  local file = assert(io.open(path, "w"))
  file:write("to\n")
  for message in numbers(count) do file:write(message.to, "\n") end
  file:close()
  return path
end

-- One campaign of a million.
local function million()
  local count = scaled(1000000)
  local path = people(count)
  print(("\n%-34s %12s %12s %12s"):format(("a campaign of %d rows"):format(count), "import, s",
    "its MB", "status, ms"))
  for _, kind in ipairs(kinds) do
    local where = location(kind)
    local seconds, mb = command(("campaign import %s --name c --store '%s'"):format(path, where))
    local store, times = assert(koresms.store(where)), {}
    for i = 1, ROUNDS do
      local began = clock()
      assert(store:status("c").pending == count)
      times[i] = (clock() - began) * 1000
    end
    store:close()
    print(("%-34s %12.1f %12.1f %12.0f"):format(kind, seconds, mb, median(times)))
  end
end

local function imports()
  local count = scaled(100000)
  local path = people(count)
  print(("\n%-34s %12s %12s"):format(("%d rows of CSV, all checks on"):format(count), "rows/s",
    "of dry run"))
  local dry, times = {}, {}
  for _ = 1, ROUNDS do
    dry[#dry + 1] = command("send-many --dry-run " .. path)
    for _, kind in ipairs(kinds) do
      times[kind] = times[kind] or {}
      table.insert(times[kind], (command(("campaign import %s --name c --store '%s'"):format(path,
        location(kind)))))
    end
  end
  print(("%-34s %12.0f"):format("send-many --dry-run", count / median(dry)))
  for _, kind in ipairs(kinds) do
    print(("%-34s %12.0f %12.1f"):format(kind .. ", campaign import", count / median(times[kind]),
      median(times[kind]) / median(dry)))
  end
end

for _, kind in ipairs(kinds) do
  print(("a commit takes %.2f ms on %s"):format(commit_time(kind), kind))
end
sends()
peers()
imports()
turns()
million()
if cluster then cluster:stop() end
