-- The soak: senders in plain Lua and inside nginx, servers that break, stop and move, and a look at
-- every message and every process. Needs a network of its own, with a name server at 127.0.0.1.
local core = require "koresms.core"
local events = require "spec.support.soak.events"
local lfs = require "lfs"
local openresty = require "spec.support.openresty"
local paths = require "spec.support.paths"
local run = require "spec.support.run"

local SECONDS, SEED = tonumber(os.getenv("SOAK_SECONDS")), tonumber(os.getenv("SOAK_SEED"))
math.randomseed(SEED)
local function dice(n) return math.random(n) end

local ORIGIN = ("http://%s:%d"):format(events.NAME, events.PORT)

-- From how many seconds on an outage of two minutes is part of it.
local LONG = 600

-- Processes -------------------------------------------------------------------------------

local directory = run.directory()
local senders = {}

local function sender(name, lua, timeout, retries, per_minute)
  local first = (#senders + 1) * 1e8
  local one = { name = name, first = first, timeout = timeout, per_minute = per_minute,
    path = directory .. "/" .. name, samples = {} }
  one.pipe = io.popen(("echo $$ >%s.pid; LUA_PATH='./?.lua;;' exec %s "
    .. "spec/support/soak/sender.lua %s %d %d %s %g %d %s"):format(one.path, lua, one.path, first,
      SEED + first, ORIGIN, timeout, retries, per_minute or "none"), "w")
  senders[#senders + 1] = one
end

local function read(path)
  local file = io.open(path)
  local text = file and file:read("*a") or ""
  if file then file:close() end
  return text
end

local function look_at(pid)
  local status, fds = read(("/proc/%s/status"):format(pid)), 0
  local ok, names = pcall(lfs.dir, ("/proc/%s/fd"):format(pid))
  if ok then
    local _, state = names, select(2, lfs.dir(("/proc/%s/fd"):format(pid)))
    for _ in names, state do fds = fds + 1 end
  end
  return { rss = tonumber(status:match("VmRSS:%s*(%d+)")) or 0, fds = fds,
    threads = tonumber(status:match("Threads:%s*(%d+)")) or 0 }
end

local function sample()
  for _, one in ipairs(senders) do
    one.pid = one.pid or read(one.path .. ".pid"):match("%d+")
    if one.pid then one.samples[#one.samples + 1] = look_at(one.pid) end
  end
end

-- nginx -----------------------------------------------------------------------------------

local nginx = openresty.start { workers = 2, init = 'require "koresms"',
  http = "resolver 127.0.0.1 valid=1s ipv6=off;", locations = [[
    location = /soak {
      content_by_lua_block {
        local stream = require "spec.support.soak.stream"
        local core = require "koresms.core"
        package.loaded.soak = package.loaded.soak or assert(require("koresms").new {
          host = "]] .. ORIGIN .. [[", allow_http = true, bot_id = "st-1", client_id = "cs-1",
          client_secret = "secret", from = "+19876543210", max_age = 5, retries = 0,
          per_minute = false })
        stream.run { client = package.loaded.soak, timeout = 4,
          dice = function(n) return math.random(n) end, sleep = ngx.sleep, clock = core.clock,
          first = tonumber(ngx.var.arg_first), stopped = function() return false end,
          write = ngx.say }
      }
    }]] }

-- Requests for streams, one after the other, by a shell that ends with a file.
local CALLS = [[
n=$2
while [ ! -e "$1.stop" ]; do
  curl -sS --noproxy '*' --max-time 60 "$0/soak?first=$n" >>"$1" || echo broken >>"$1"
  n=$((n + 1000)); sleep 0.2
done
echo done >>"$1"]]

local function caller(name)
  local one = { name = name, first = (#senders + 1) * 1e8, timeout = 4,
    path = directory .. "/" .. name, samples = {} }
  one.pipe = io.popen(("exec sh -c %s %s %s %d"):format(run.quote(CALLS), nginx.url, one.path,
    one.first), "w")
  senders[#senders + 1] = one
end

-- The time -------------------------------------------------------------------------------

local servers = events.start(dice)
local lua = paths.version == "jit" and "luajit" or "lua" .. paths.version
sender("plain-4", lua, 4, 0)
sender("plain-10", lua, 10, 2)
sender("paced", lua, 10, 2, 600)
caller("nginx-a")
caller("nginx-b")

local KINDS = { "faults", "restart", "stop", "failover", "reload" }
local windows, began = {}, core.clock()

local function play(kind, ...)
  local from = core.clock()
  if kind == "reload" then nginx:signal("HUP") else servers[kind](servers, ...) end
  windows[#windows + 1] = { kind = kind, from = from, to = core.clock() }
  core.sleep(1 + dice(10) / 10)
  sample()
end

local function play_all()
  if SECONDS >= LONG then play("outage", 120) end
  local left = {}
  while core.clock() - began < SECONDS do
    if #left == 0 then left = { (table.unpack or unpack)(KINDS) } end -- luacheck: ignore 143
    play(table.remove(left, dice(#left)))
  end
end

local good, fault = pcall(play_all)
for _, one in ipairs(senders) do assert(io.open(one.path .. ".stop", "w")):close() end
local all_done
-- The paced one may have to wait for a permit: a whole window.
for _ = 1, 800 do
  core.sleep(0.1)
  all_done = true
  for _, one in ipairs(senders) do
    all_done = all_done and read(one.path):sub(-5) == "done\n"
  end
  if all_done then break end
end
core.sleep(1)
sample()

-- The account -----------------------------------------------------------------------------

local wrong = {}
local function check(holds, ...)
  if not holds then wrong[#wrong + 1] = string.format(...) end
end

check(good, "%s", fault)
check(all_done, "not all senders came to an end")
local processed = servers.bench:stats({ to = true, settle = 2 }).to

-- Was there no server at some time of a message?
local function in_outage(from, to)
  for _, window in ipairs(windows) do
    if window.kind == "outage" and from < window.to and window.from < to then return true end
  end
end

-- No message took more than one permit: those of a window were begun in it.
local function check_permits(one, begun, looks)
  for _, look in ipairs(looks) do
    local messages = 0
    for _, at in ipairs(begun) do
      if at > look.at - 61 and at <= look.at + 1 then messages = messages + 1 end
    end
    check(one.per_minute - look.permits <= messages, "%s: %d permits for %d messages", one.name,
      one.per_minute - look.permits, messages)
  end
end

local function account(one)
  local counts = { accepted = 0, rejected = 0, not_sent = 0, unknown = 0 }
  local told, latest, pulled, begun, looks = {}, 0, 0, {}, {}
  for line in io.lines(one.path) do
    local to, outcome, code, attempts, elapsed, at =
      line:match("^(%S+) (%S+) (%S+) (%d+) (%S+) (%S+)$")
    if to then
      attempts, elapsed, at = tonumber(attempts), tonumber(elapsed), tonumber(at)
      local times = processed[to] or 0
      check(not told[to], "%s: %s was told twice", one.name, to)
      told[to] = true
      begun[#begun + 1] = at - elapsed
      counts[outcome] = counts[outcome] + 1
      latest = math.max(latest, elapsed - one.timeout)
      check(times <= attempts, "%s: %s was processed %d times in %d attempts", one.name, to, times,
        attempts)
      check(outcome ~= "accepted" or times >= 1, "%s: %s is accepted and nobody has it", one.name,
        to)
      check(outcome ~= "not_sent" or times == 0, "%s: %s is not_sent (%s) and was processed",
        one.name, to, code)
      check(outcome ~= "not_sent" or one.timeout < 10 or in_outage(at - elapsed, at),
        "%s: %s is not_sent (%s) after %.1f s", one.name, to, code, elapsed)
    elseif line:find("^permits ") then
      local permits, when = line:match("^permits (%d+) (%S+)$")
      looks[#looks + 1] = { permits = tonumber(permits), at = tonumber(when) }
    else
      local first, count = line:match("^pulled (%d+) (%d+)$")
      check(first or line == "done", "%s: %s", one.name, line)
      for i = 0, first and count - 1 or -1 do
        pulled = pulled + 1
        local number = ("+91%010d"):format(first + i)
        check(told[number], "%s: %s was never told", one.name, number)
      end
    end
  end
  print(("%-9s %6d messages: %d accepted, %d rejected, %d not_sent, %d unknown; latest %+.2f s")
    :format(one.name, pulled, counts.accepted, counts.rejected, counts.not_sent, counts.unknown,
      latest))
  check(pulled > 0, "%s: no message", one.name)
  check_permits(one, begun, looks)
  -- A second is promised; on a machine that does much else a process may wait for its turn.
  check(latest < 2, "%s: a verdict came %.1f s after its deadline", one.name, latest)
  return pulled
end

local function most(samples, field, from, to)
  local value = 0
  for i = from, to do value = math.max(value, samples[i][field]) end
  return value
end

local function resources(one)
  local samples = one.samples
  local third = math.floor(#samples / 3)
  if third == 0 or not one.pid then return end
  local last, idle = #samples, samples[#samples]
  local middle, late = most(samples, "rss", third, 2 * third), most(samples, "rss", 2 * third, last)
  print(("%-9s %d kB, at last %d kB; at most %d descriptors and %d threads, idle %d and %d")
    :format(one.name, middle, late, most(samples, "fds", 1, last),
      most(samples, "threads", 1, last), idle.fds, idle.threads))
  check(late <= middle * 1.25 + 1024, "%s grew from %d to %d kB", one.name, middle, late)
  check(idle.threads == 1, "%s: %d threads are left", one.name, idle.threads)
  check(idle.fds <= 12, "%s: %d descriptors are left", one.name, idle.fds)
end

for _, one in ipairs(senders) do
  account(one)
  if not one.name:find("nginx") then resources(one) end
  one.pipe:close()
end
local log = nginx:log()
check(log == "", "nginx: %s", log)
nginx:stop()
servers.bench:stop()
run.clean()

local kinds = {}
for i, window in ipairs(windows) do kinds[i] = window.kind end
print(("%d s, seed %d: %s"):format(SECONDS, SEED, table.concat(kinds, " ")))
for i = 1, math.min(20, #wrong) do print("WRONG " .. wrong[i]) end
print(#wrong .. " wrong")
