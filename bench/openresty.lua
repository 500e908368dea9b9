-- What a message costs inside nginx, against a hand-written POST over a cosocket:
--   make bench-nginx [ROUNDS=5] [SECONDS=6] [CLIENTS=256]
--
-- One worker, an upstream that answers after 50 ms, and a probe that asks an unrelated
-- location of the same worker five hundred times a second. The two handlers take turns.

require "spec.support.paths"
local openresty = require "spec.support.openresty"
local run = require "spec.support.run"

if run.output("command -v wrk") == "" then
  io.stderr:write("bench: wrk is missing; on Debian: apt-get install wrk\n")
  os.exit(1)
end

local function number(name, default) return tonumber(os.getenv(name)) or default end
local rounds, seconds, clients = number("ROUNDS", 5), number("SECONDS", 6), number("CLIENTS", 256)

local UPSTREAM = [[
  location /api/ {
    content_by_lua_block {
      ngx.req.read_body()
      ngx.sleep(0.05)
      ngx.header["Content-Type"] = "application/json"
      ngx.print('{"message":"Triggered the configured Experience flow to deliver message '
        .. 'via SMS channel"}')
    }
  } ]]

-- The handler that a user would write without the library: no deadline, no strict reading, no
-- verdict, a token that somebody else signed.
local BARE = [[
  function bare()
    local cjson = require "cjson"
    local sock = ngx.socket.tcp()
    sock:settimeouts(10000, 10000, 10000)
    assert(sock:connect("127.0.0.1", $upstream, { pool_size = 1024 }))
    local body = cjson.encode { fromNo = "+19876543210", toNo = "+911234567890" }
    assert(sock:send(table.concat {
      "POST /api/public/bot/st-1/outboundsms HTTP/1.1\r\nHost: 127.0.0.1\r\nauth: ", token,
      "\r\nContent-Type: application/json\r\nContent-Length: ", #body, "\r\n\r\n", body }))
    local status = tonumber(assert(sock:receive("*l")):match("^HTTP/1%.1 (%d%d%d)"))
    local length, chunked
    while true do
      local line = assert(sock:receive("*l"))
      if line == "" then break end
      local name, value = line:match("^([^:]+):%s*(.-)%s*$")
      name = name:lower()
      if name == "content-length" then length = tonumber(value) end
      if name == "transfer-encoding" then chunked = value == "chunked" end
    end
    local text = {}
    if chunked then
      repeat
        local size = tonumber(assert(sock:receive("*l")), 16)
        if size > 0 then text[#text + 1] = assert(sock:receive(size)) end
        assert(sock:receive("*l"))
      until size == 0
    else
      text[1] = assert(sock:receive(length))
    end
    sock:setkeepalive(30000, 1024)
    return status == 200 and cjson.decode(table.concat(text)).message ~= nil
  end ]]

local INIT = BARE .. [[
  client = assert(require("koresms").new { host = "http://127.0.0.1:$upstream", bot_id = "st-1",
    client_id = "cs-1", client_secret = "secret", from = "+19876543210", per_minute = false })
  token = assert(client:token()) ]]

local LOCATIONS = [[
  location = /koresms {
    content_by_lua_block {
      assert(client:send({ to = "+911234567890" }))
      ngx.print("ok")
    }
  }
  location = /bare { content_by_lua_block { assert(bare()) ngx.print("ok") } }
  location = /nothing { content_by_lua_block { ngx.print("ok") } } ]]

-- Asks for a location every 2 ms, and gives the sorted latencies in milliseconds.
local PROBE = [[
  local clock, times = require("koresms.core").clock, {}
  local sock = ngx.socket.tcp()
  assert(sock:connect("127.0.0.1", given.port))
  local finish = clock() + given.seconds
  while clock() < finish do
    ngx.sleep(0.002)
    local begin = clock()
    assert(sock:send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"))
    repeat local line = assert(sock:receive("*l")) until line == ""
    repeat local line = assert(sock:receive("*l")) until line == "0"
    assert(sock:receive("*l"))
    times[#times + 1] = (clock() - begin) * 1000
  end
  table.sort(times)
  return times ]]

local upstream = openresty.start { locations = UPSTREAM, http = "keepalive_timeout 3600s;" }
local probe = openresty.start()
local server = openresty.start { upstream = upstream.port, init = INIT, locations = LOCATIONS }

local function cpu(pid)
  local fields = {}
  for field in run.output("cat /proc/" .. pid .. "/stat"):gsub("^.*%) ", ""):gmatch("%S+") do
    fields[#fields + 1] = tonumber(field) or 0
  end
  return (fields[12] + fields[13]) / 100
end

local function measure(name)
  local pid = server:workers()[1]
  local report = os.tmpname()
  local pipe = io.popen(("wrk -t1 -c%d -d%ds --latency %s/%s >%s 2>&1"):format(clients, seconds + 2,
    server.url, name, report), "w")
  run.output("sleep 1") -- connections are made
  local before = cpu(pid)
  local times = probe:run(PROBE, { port = server.port, seconds = seconds })
  local used = cpu(pid) - before
  pipe:close()
  local text = run.output("cat " .. report)
  os.remove(report)
  local rate = tonumber(text:match("Requests/sec:%s*([%d.]+)"))
  assert(not text:find("Non%-2xx"), text)
  return { rate = rate, cpu = used / (rate * seconds) * 1e6, p50 = times[math.ceil(#times * 0.5)],
    p99 = times[math.ceil(#times * 0.99)], latency = text:match("99%%%s+(%S+)") }
end

local function median(list, key)
  local values = {}
  for index, one in ipairs(list) do values[index] = one[key] end
  table.sort(values)
  return values[math.ceil(#values / 2)]
end

local all = { bare = {}, koresms = {} }
print(("%-8s %10s %14s %14s %14s"):format("", "req/s", "us CPU/req", "other p50 ms",
  "other p99 ms"))
for round = 1, rounds do
  -- Whoever is first may have it easier.
  for _, name in ipairs(round % 2 == 1 and { "bare", "koresms" } or { "koresms", "bare" }) do
    local one = measure(name)
    table.insert(all[name], one)
    print(("%-8s %10.0f %14.1f %14.2f %14.2f"):format(name, one.rate, one.cpu, one.p50, one.p99))
  end
end
local log = server:log()
server:stop()
probe:stop()
upstream:stop()

local ratio = {}
for _, key in ipairs { "rate", "cpu", "p50", "p99" } do
  ratio[key] = median(all.koresms, key) / median(all.bare, key)
end
print(("\nmedians, koresms : bare   rate %.3f   CPU %.2f   other p50 %.2f   other p99 %.2f")
  :format(ratio.rate, ratio.cpu, ratio.p50, ratio.p99))
print("wanted                    rate >= 0.95              other p99 <= 1.1")
if log ~= "" then print("error log:\n" .. log) end
os.exit(ratio.rate >= 0.95 and ratio.p99 <= 1.1 and log == "" and 0 or 1)
