-- User and password of a proxy, with every byte, through proxies that note what they got: they
-- are delivered exactly, or refused when the client is made. Nobody passes a proxy by, and
-- nothing that comes out holds a user or a password, whole or half.

local bed_support = require "spec.support.fault_bed"
local checking_proxy = require "spec.support.checking_proxy"
local command = require "spec.support.command"
local core = require "koresms.core"
local curl = require "koresms.curl"
local faults = require "spec.support.faults"
local koresms = require "koresms"
local openresty_support = require "spec.support.openresty"
local paths = require "spec.support.paths"
local run = require "spec.support.run"

local LETTERS = "GHJKLMNPQRTUVWXYZ"

-- Random, in letters that no id, number or word of ours has so many of in a row.
local function random(length)
  local out, bytes = {}, core.random_id()
  for i = 1, length do
    local at = tonumber(bytes:sub(2 * i - 1, 2 * i), 16) % #LETTERS + 1
    out[i] = LETTERS:sub(at, at)
  end
  return table.concat(out)
end

local USER, PASSWORD = random(12), random(16)

-- Fails where a text holds half of a user or a password.
local function look(where, text)
  for _, secret in ipairs({ USER, PASSWORD }) do
    local half = #secret / 2
    for at = 1, half + 1 do
      assert(not text:find(secret:sub(at, at + half - 1), 1, true),
        ("%s shows a half: %s"):format(where, text))
    end
  end
end

local function look_into(where, value, seen)
  seen = seen or {}
  if type(value) ~= "table" then return look(where, tostring(value)) end
  if seen[value] then return end
  seen[value] = true
  for key, one in pairs(value) do
    look(where, tostring(key))
    look_into(where, one, seen)
  end
end

-- One address and what a proxy has to get, or nil where the address has to be refused.
local function case(scheme, port, byte, encoded, place)
  local c = string.char(byte)
  local written = encoded and ("%%%02x"):format(byte) or c
  local user, password = USER, PASSWORD
  if place == "user" then
    user = user .. written .. user
  else
    password = password .. written .. password
  end
  -- Lua 5.1's format ends a text at a NUL.
  local address = scheme .. "://" .. user .. ":" .. password .. "@127.0.0.1:" .. port
  local wanted = { user = USER, password = PASSWORD }
  wanted[place] = wanted[place] .. c .. wanted[place]
  if c == ":" and place == "user" and not encoded then
    wanted = { user = USER, password = USER .. ":" .. PASSWORD }
  elseif byte < 32 or byte == 127 or not encoded and c:find("[ #?/@%%]")
      or c == ":" and place == "user" and scheme:find("^http") then
    wanted = nil
  end
  return address, wanted
end

-- All cases of a scheme; of some schemes some bytes only, unless all are asked for.
local function cases(scheme, port, every)
  local list = {}
  for byte = 0, 255, bed_support.long and 1 or every do
    for _, encoded in ipairs({ true, false }) do
      for _, place in ipairs({ "user", "password" }) do
        local address, wanted = case(scheme, port, byte, encoded, place)
        list[#list + 1] = { address = address, wanted = wanted,
          name = ("%s, byte %d%s, %s"):format(scheme, byte, encoded and ", encoded" or "", place) }
      end
    end
  end
  return list
end

describe("a proxy's user and password", function()
  local bed, proxies, server

  setup(function()
    bed = bed_support.start()
    proxies = checking_proxy.start(bed.certs["good.pem"], bed.certs["leaf.key"])
    server = bed.servers.plain
  end)
  teardown(function()
    proxies:stop()
    bed:stop()
    run.clean()
  end)
  before_each(function()
    server:script()
    bed.servers.tls:script()
    proxies:noted()
  end)

  local function settings(changes)
    local all = { host = server.origin, bot_id = "st-1", client_id = "cs-1",
      client_secret = "MARKED-secret",
      from = bed_support.FROM, per_minute = false, retries = 0, timeout = bed_support.ENOUGH }
    for name, value in pairs(changes) do all[name] = value end
    return all
  end

  -- Sends through an address. Returns the result, or nil where the client was refused.
  local function send(name, changes)
    local events = {}
    changes.on_event = function(event) events[#events + 1] = event end
    local client, text, code = koresms.new(settings(changes))
    if not client then
      look(name, text)
      assert.same({ "config", true }, { code, text:find("proxy", 1, true) ~= nil })
      return nil, text
    end
    local result = bed:send(client)
    look_into(name, { result, events, tostring(client) })
    for one in client:send_many({ { to = bed:number() } }) do look_into(name, one) end
    client:close()
    return result
  end

  -- What the proxies noted is what they had to get, and nobody came to the platform another way.
  local function check(all, sent)
    local noted, accepted = proxies:noted(), 0
    for _, one in ipairs(all) do
      if one.wanted then
        accepted = accepted + 1
        local got = noted[accepted]
        assert(got, one.name .. " did not come to the proxy")
        assert.same({ one.wanted.user, one.wanted.password, nil }, { got.user, got.password,
          got.fault }, one.name)
      end
    end
    assert.equal(accepted, #noted)
    local stats = server:stats({ settle = 2 })
    assert.same({ accepted, accepted * sent }, { stats.accepted, stats.processed })
    return accepted
  end

  for scheme, row in pairs({ http = { "http", 1 }, socks5h = { "socks", 1 },
    socks5 = { "socks", 7 },
      https = { "https", 5 } }) do
    it("are delivered exactly or refused: " .. scheme, function()
      local all = cases(scheme, proxies.ports[row[1]], row[2])
      for _, one in ipairs(all) do
        local result = send(one.name, { proxy = one.address, ca_file = bed.certs["ca.pem"] })
        assert.equal(one.wanted and "accepted" or nil, result and result.outcome, one.name)
      end
      assert(check(all, 2) > 100 / row[2])
    end)
  end

  it("come out nowhere where the proxy refuses, breaks, or is not there", function()
    local dead = bed.bench:listen()
    local dead_port = dead.port
    dead:close()
    for _, proxy in ipairs({ "http://%s@127.0.0.1:" .. proxies.ports["http-refusing"],
      "socks5h://%s@127.0.0.1:" .. proxies.ports["socks-refusing"],
      "socks5://%s@127.0.0.1:" .. proxies.ports.http, "http://%s@127.0.0.1:" .. proxies.ports.socks,
      "https://%s@127.0.0.1:" .. proxies.ports.http, "http://%s@127.0.0.1:" .. dead_port,
      "https://%s@127.0.0.1:" .. dead_port, "socks5h://%s@127.0.0.1:" .. dead_port,
      "http://%s@x.invalid:80", "socks5://%s@[::1]:" .. dead_port }) do
      for _, origin in ipairs({ server.origin, bed.servers.tls.origin }) do
        local result = send(proxy, { proxy = proxy:format(USER .. ":" .. PASSWORD .. "%40"),
          host = origin,
          ca_file = bed.certs["ca.pem"], timeout = 1 })
        assert.equal("not_sent", result.outcome, proxy)
      end
    end
    assert.same({ 0, 0 }, { server:stats().accepted, bed.servers.tls:stats().accepted })
  end)

  -- Addresses that libcurl reads in another way, quotes in its texts, or passes by.
  local MISREAD = { "http://U:P@x@127.0.0.1:%d", "http://U:P#x@127.0.0.1:%d",
    "http://U:P?x@127.0.0.1:%d",
    "http://U:P/x@127.0.0.1:%d", "http://U:P@127.0.0.1:99999", "http://U:P@127.0.0.1:%dx",
    "http://U:P@:%d",
    "http://U:P@[::1", "http://U:P%%0f@127.0.0.1:%d", "http://U:P%%0a@127.0.0.1:%d",
    "http://U%%00:P@127.0.0.1:%d",
    "http://U:50%%0ffP@127.0.0.1:%d", "socks5h://U:P%%0f@127.0.0.1:%d", "http://U:P%%@127.0.0.1:%d",
    "http://U:P%%2@127.0.0.1:%d", "U:P@127.0.0.1:%d", "ftp://U:P@127.0.0.1:%d",
    "socks4://U:P@127.0.0.1:%d",
    "http://U:P@127.0.0.1:%d/path", "http://U:P @127.0.0.1:%d", "http://:P@127.0.0.1:%d",
    "http:U:P@127.0.0.1:%d",
    "http://U:P@127.0.0.08:%d", "http://U:P@2130706433:%d", "http://U:P@127.1:%d" }

  local function misread(number)
    return (MISREAD[number]:gsub("U", USER):gsub("P", PASSWORD):gsub("%%d",
      tostring(proxies.ports.http))
      :gsub("%%%%", "%%"))
  end

  it("are refused in addresses that are read in more than one way", function()
    for number = 1, #MISREAD do
      local result, text = send(MISREAD[number], { proxy = misread(number) })
      assert.is_nil(result, MISREAD[number])
      assert.matches("^option 'proxy': has ", (text:gsub(": is ", ": has "):gsub(": ends ",
        ": has ")))
    end
    assert.same({}, proxies:noted())
    assert.equal(0, server:stats().accepted)
  end)

  it("are refused by the command, which shows nothing of them", function()
    local work = run.directory()
    for number = 1, #MISREAD do
      local env = { KORESMS_HOST = server.origin, KORESMS_BOT_ID = "st-1",
        KORESMS_CLIENT_ID = "cs-1",
        KORESMS_CLIENT_SECRET = ("s"):rep(44), KORESMS_FROM = bed_support.FROM,
        KORESMS_PROXY = misread(number) }
      for _, arguments in ipairs({ "send --to +911234567890", "send --to +911234567890 --json",
        "check --json" }) do
        local out = run.output(("%s %s bin/koresms %s 2>&1 </dev/null; echo $?"):format(
          command.prefix(env),
          command.interpreter, arguments))
        look(arguments, out)
        assert.matches("KORESMS_PROXY: .*2\n$", out)
      end
    end
    assert.equal(0, server:stats().accepted)
    assert.equal("string", type(work))
  end)

  it("pass nobody by, whatever libcurl makes of an address", function()
    -- What koresms.curl is never given: libcurl 7.88 connects without the proxy here.
    for _, scheme in ipairs({ "http", "socks5h" }) do
      local port = proxies.ports[scheme == "http" and "http" or "socks"]
      local engine = curl.engine { url = server.origin, head = core.head("/x", "127.0.0.1"),
        reply_max = 1000,
        max_idle = 0, max_age = 300,
        proxy = ("%s://%s:%s%%0f@127.0.0.1:%d"):format(scheme, USER, PASSWORD, port),
        proxy_port = port }
      local request = curl.request()
      if not engine:start(request, "token", "{}", core.clock() + 5, 5) then
        repeat engine:step(1) until request:finished()
      end
      local status, what, starts, text = request:reply()
      assert.same({ nil, 0 }, { status, starts })
      assert.truthy(what == "proxy" or what == "connect", what)
      if what == "proxy" then look("a text", text) end
      engine:close()
    end
    assert.equal(0, server:stats().accepted)
  end)

  -- nginx runs LuaJIT.
  if paths.version ~= "jit" then return end

  it("are delivered exactly or refused inside nginx", function()
    local nginx = openresty_support.start()
    finally(function() nginx:stop() end)
    local all, addresses = cases("http", proxies.ports.http, 1), {}
    for i, one in ipairs(all) do
      -- JSON carries no byte that is not UTF-8.
      addresses[i] = one.address:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
    end
    local answer = nginx:run([[
      local koresms, out = require "koresms", {}
      for i, hex in ipairs(given.addresses) do
        given.settings.proxy = hex:gsub("%x%x", function(two)
          return string.char(tonumber(two, 16))
        end)
        local client, text = koresms.new(given.settings)
        if client then
          local result, _, _, failed = client:send { to = ("+91%010d"):format(i) }
          result = result or failed
          out[i] = { outcome = result.outcome, text = result.message }
          client:close()
        else
          out[i] = { text = text }
        end
      end
      return out ]], { addresses = addresses, settings = settings({ max_idle = 0 }) })
    for i, one in ipairs(all) do
      look(one.name, tostring(answer[i].text))
      assert.equal(one.wanted and "accepted" or nil, answer[i].outcome,
        ("%s: %s"):format(one.name, answer[i].text))
    end
    assert(check(all, 1) > 100)
    look("nginx's log", nginx:log())
    assert.equal("", nginx:log())
  end)
end)

describe("a proxy whose answer has no end", function()
  it("is left when the time is over, by all that connect through it", function()
    local bench = faults.start()
    local step = faults.step
    local proxy = bench:listen { default = step.after_reading(step.endless { what = "header" }) }
    local client = assert(koresms.new { host = "https://127.0.0.1:9", bot_id = "st-1",
      token = "t.o.k", from = "+19876543210", proxy = proxy.origin, per_minute = false,
      retries = 0, timeout = 0.3 })
    local list, count = {}, 0
    for i = 1, 16 do list[i] = { to = ("+1555%07d"):format(i) } end
    for result in client:send_many(list, { concurrency = 16 }) do
      count = count + 1
      assert.equal("not_sent", result.outcome)
      -- To read all that libcurl would takes each of them a quarter of a second.
      assert.is_true(result.elapsed < 1.3, result.elapsed)
    end
    assert.equal(16, count)
    client:close()
    bench:stop()
  end)
end)
