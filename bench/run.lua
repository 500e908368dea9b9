-- Measures the rows of bench/rows.lua and prints them; bench/run.sh prepares all that this
-- needs and says where it is, in the environment.
package.path = "bench/?.lua;lua/?.lua;lua/?/init.lua;" .. package.path
local report = require "report"
local rows = require "rows"
local shell = dofile("sandbox/shell.lua")

local function get(name, default) return os.getenv(name) or default end

local function lua_named(program)
  local ok, version = shell.run(program
    .. " -e 'print(jit and \"jit\" or _VERSION:match(\"%d.%d\"))' 2>/dev/null")
  local lua = { program = program:match("[^/]*$"), version = version }
  if not ok then
    lua.missing = "not installed"
  elseif not shell.run(("[ -f %s/%s/koresms/curl.so ]"):format(get("BENCH_BUILD"), version)) then
    lua.missing = ("not built (make LUA_VERSION=%s)"):format(version)
  end
  return lua
end

local ctx = {
  scale = tonumber(get("SCALE", "1")), rounds = tonumber(get("ROUNDS", "5")),
  work = get("BENCH_WORK"), build = get("BENCH_BUILD"), bin = get("BENCH_BUILD") .. "/bench",
  plain = get("BENCH_PLAIN"), tls = get("BENCH_TLS"), npm = get("BENCH_NPM"),
  python = get("BENCH_PYTHON"), how = "",
}
ctx.ca, ctx.rsa_key = ctx.work .. "/cert.pem", ctx.work .. "/rsa.pem"

function ctx.scaled(n) return math.max(10, math.floor(n * ctx.scale)) end

-- What to say in place of figures; nil where `command` works.
function ctx.lacks(package, command)
  if shell.run("{ " .. command .. "; } >/dev/null 2>&1") then return nil end
  return "not installed (" .. package .. ")"
end

for _, name in ipairs({ "ROWS", "ROUNDS", "SCALE" }) do
  if get(name) then ctx.how = ("%s %s=%s"):format(ctx.how, name, get(name)) end
end

local loads = io.open("/proc/loadavg")
if loads then
  ctx.load = loads:read("*l"):match("%S+ %S+ %S+")
  loads:close()
end

local lua, jit = lua_named(get("LUA", "lua5.4")), lua_named("luajit")
ctx.luas = lua.version == "jit" and { lua } or { lua, jit }

-- How many requests nginx has served, with the one that asks.
local function served()
  local _, text = shell.run("curl --silent --max-time 10 " .. ctx.plain .. "/status")
  return assert(tonumber((text:match("requests%s+%d+ %d+ (%d+)"))), "the server does not answer")
end

local function quoted(words)
  local list = {}
  for i, word in ipairs(words) do list[i] = shell.quote(tostring(word)) end
  return table.concat(list, " ")
end

local function slurp(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

-- Runs a command to its end: what it cost, and what it said.
local function measure(words)
  local figures, log = ctx.work .. "/figures", ctx.work .. "/log"
  os.remove(figures)
  shell.run(("CA_FILE=%s %s/measure %s 600 %s >%s 2>&1 </dev/null"):format(shell.quote(ctx.ca),
    shell.quote(ctx.bin), shell.quote(figures), quoted(words), shell.quote(log)))
  local wall, user, system, kib, status = slurp(figures):match("(%S+) (%S+) (%S+) (%d+) (%d+)")
  local said = slurp(log)
  if status ~= "0" then
    return nil, ("failed (exit status %s): %s"):format(status, said:match("([^\n]+)\n*$") or "")
  end
  return { wall = tonumber(wall), cpu = user + system, peak = kib / 1024 }, said
end

-- Each kind of row gives a sample: cpu (microseconds a message), rate (messages a second),
-- and perhaps peak (MB) and more; or nil and why not.
local kinds = {}

-- The cost of one signature as OpenSSL's own loop has it.
function kinds.speed(row)
  local _, text = shell.run("openssl speed -seconds 1 " .. row.speed .. " 2>/dev/null")
  local rate = tonumber((text:match("bits%s+%S+s%s+%S+s%s+([%d.]+)")))
  if not rate then return nil, "openssl speed gave no figure" end
  return { cpu = 1e6 / rate, rate = rate }
end

function kinds.process(row)
  if row.prepare and not shell.run(row.prepare) then return nil, "could not be prepared" end
  local before = served()
  local cost, said = measure(row.command)
  if not cost then return nil, said end
  local count = served() - before - 1
  local n = row.n or tonumber(said:match(row.counted))
  -- Only where the number is not set beforehand may the last ones be on their way.
  if row.n and count ~= n then
    return nil, ("failed: the server counted %d of %d messages"):format(count, n)
  end
  return { n = n, cpu = cost.cpu / n * 1e6, rate = n / cost.wall, peak = cost.peak }
end

local function sandbox_module(name)
  local rest = name:match("^koresms%.sandbox%.(.+)$") or name == "koresms.sandbox" and "init"
  return rest and assert(loadfile("sandbox/" .. rest .. ".lua"))
end

function kinds.sandbox(row)
  table.insert(package.searchers or package.loaders, 2, sandbox_module)
  local ready, sandbox = pcall(require, "koresms.sandbox")
  if not ready then return nil, "the sandbox cannot be loaded" end
  local box, text = sandbox.start { bot_id = "bench" }
  if not box then return nil, text end
  local words = { (table.unpack or unpack)(row.command) }
  words[#words + 1] = "host=" .. box.plain
  words[#words + 1] = "bot_id=bench"
  local cost, said = measure(words)
  local state = box:get("/_sandbox/state")
  box:stop()
  if not cost then return nil, said end
  local sample = { n = row.n, cpu = cost.cpu / row.n * 1e6, rate = row.n / cost.wall, rss = {},
    peak = tonumber(said:match("peak%s+(%d+)")) / 1024 }
  for count, kib in said:gmatch("(%d+)%s+(%d+)") do
    table.insert(sample.rss, { tonumber(count), kib / 1024 })
  end
  if state.bench_count ~= row.n then
    return nil, ("failed: the sandbox counted %s of %d messages"):format(state.bench_count, row.n)
  end
  return sample
end

-- Rounds of all rows of a group, one row after another, so that what disturbs the machine
-- disturbs rows that are compared alike.
local function run_group(group)
  local rounds = group.rounds or ctx.rounds
  for round = 1, rounds do
    for _, row in ipairs(group.rows) do
      if not row.missing then
        io.stderr:write(("bench: %s, round %d of %d: %s\n"):format(group.title, round, rounds,
          row.name))
        local measured = kinds[row.speed and "speed" or row.sandbox and "sandbox" or "process"]
        row.samples = row.samples or {}
        row.samples[round], row.missing = measured(row)
        if row.missing then row.samples = nil end
      end
    end
  end
end

local function wanted()
  local set, some = {}, false
  for name in get("ROWS", ""):gmatch("[^%s,]+") do set[name], some = true, true end
  local list = {}
  for _, section in ipairs(rows.sections) do
    if not some or set[section[1]] then list[#list + 1] = section[2] end
    set[section[1]] = nil
  end
  local unknown = next(set)
  if unknown then
    io.stderr:write("bench: ROWS has no section '", unknown, "'\n")
    os.exit(2)
  end
  return list
end

local groups = {}
for _, section in ipairs(wanted()) do
  for _, group in ipairs(section(ctx)) do
    run_group(group)
    groups[#groups + 1] = group
  end
end
report.print(groups, ctx)
if get("RESULTS", "") ~= "" then report.write("bench/RESULTS.md", groups, ctx) end
