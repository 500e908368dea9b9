-- What people and programs see of the sandbox besides the platform's call: the log of requests,
-- the control paths, the page's files, and who may give orders.

require "spec.support.paths"

local cjson = require "cjson"
local core = require "koresms.core"
local guard = require "koresms.sandbox.guard"
local koresms = require "koresms"
local needs = require "koresms.sandbox.needs"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"
local text = require "koresms.sandbox.text"

local TO = "+911234567890"

describe("the sandbox's control paths", function()
  local box, client

  setup(function()
    box = assert(sandbox.start())
    client = assert(koresms.new { host = box.host, bot_id = box.bot_id, client_id = box.client_id,
      client_secret = box.client_secret, ca_file = box.ca_file, from = "+19876543210", retries = 0,
      per_minute = false })
  end)

  teardown(function()
    client:close()
    box:stop()
  end)

  before_each(function() assert(box:control("DELETE", "state")) end)

  -- Status and body of one request; words of the curl command come after the address.
  local function curl(path, ...)
    local words = { "curl", "-s", "--max-time", "20", "-w", "\n%{http_code}", box.plain .. path,
      ... }
    for i, word in ipairs(words) do words[i] = shell.quote(word) end
    local _, output = shell.run(table.concat(words, " "))
    local body, status = output:match("^(.-)\n?(%d+)$")
    return tonumber(status), body
  end

  it("are named in short or in whole", function()
    assert.same(box:get("/_sandbox/health"), box:get("health"))
    assert(box:control("POST", "play", { status = 500 }))
    assert.equal(1, box:get("play").plays)
  end)

  it("tell each request with its token's checks and the reply", function()
    assert(client:send { to = TO })
    local answer = box:get("messages?all=1")
    assert.equal(1, answer.count)
    local entry = answer.messages[1]
    assert.same({ "accepted", true, TO, "+19876543210" },
      { entry.outcome, entry.processed, entry.to, entry.from })
    assert.equal("POST", entry.request.method)
    assert.same({ fromNo = "+19876543210", toNo = TO }, cjson.decode(entry.request.body))
    assert.equal(box.client_id, entry.token.claims.appId)
    assert.equal("HS256", entry.token.header.alg)
    for _, check in ipairs(entry.token.checks) do assert.is_true(check.ok, check.text) end
    assert.equal(200, entry.reply.status)
    assert.matches("Triggered", entry.reply.body, 1, true)
  end)

  it("keep no token that could be used", function()
    local token = client:token()
    assert(client:send { to = TO })
    curl(("/api/public/bot/%s/outboundsms?t=%s"):format(box.bot_id, token), "-H", "auth: " .. token,
      "-H", "Authorization: Bearer " .. token, "-d", token)
    local _, body = curl("/_sandbox/messages?all=1")
    assert.is_nil(body:find(token:match("[^.]*$"), 1, true))
    assert.matches("[signature]", body, 1, true)
    assert.is_nil(body:find(box.client_secret, 1, true))
  end)

  for _, row in ipairs {
    { "no token", function() return {} end, "there is no header auth" },
    { "another secret",
      function(token) return { "-H", "auth: " .. token:sub(1, -6) .. "AAAAA" } end,
      "HS256 does not match the client secret" },
    { "a Bearer prefix", function(token) return { "-H", "auth: Bearer " .. token } end,
      "without Bearer" },
  } do
    it("say what is wrong with " .. row[1], function()
      local words = row[2](client:token())
      words[#words + 1] = "-d"
      words[#words + 1] = cjson.encode { fromNo = TO, toNo = TO }
      local status = curl(("/api/public/bot/%s/outboundsms"):format(box.bot_id),
        (table.unpack or unpack)(words))
      assert.equal(401, status)
      local entry = box:get("messages?all=1").messages[1]
      local failed
      for _, check in ipairs(entry.token.checks) do if not check.ok then failed = check.text end end
      assert.matches(row[3], failed, 1, true)
      assert.same({ "rejected", false }, { entry.outcome, entry.processed })
      assert.equal(0, box:get("messages").count)
    end)
  end

  it("tell what went to another address, too", function()
    assert.equal(404, (curl "/api/1.1/other"))
    local entry = box:get("messages?all=1").messages[1]
    assert.same({ "rejected", 404, "/api/1.1/other" },
      { entry.outcome, entry.reply.status, entry.request.path })
    assert.is_nil(entry.token)
  end)

  it("hold any bytes as JSON", function()
    local path = ("/api/public/bot/%s/outboundsms"):format(box.bot_id)
    curl(path, "-H", "X-Test: a\255b", "-d", "\128\228x")
    -- A token whose claims hold the byte 255.
    curl(path, "-H", "auth: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiL_In0.AAAA", "-d", "{}")
    local _, body = curl("/_sandbox/messages?all=1")
    assert.equal(2, #cjson.decode(body).messages)
    assert.equal(body, text.utf8(body))
  end)

  it("give what is newer, or to one number, and wait for it", function()
    for n = 1, 3 do assert(client:send { to = "+91123456789" .. n }) end
    local function numbers(query)
      local list = {}
      for i, message in ipairs(box:get("messages" .. query).messages) do list[i] = message.to end
      return list
    end
    assert.same({ "+911234567892", "+911234567893" }, numbers "?after=1")
    assert.same({ "+911234567892" }, numbers "?to=%2B911234567892")
    assert.same({ "+911234567893" }, numbers "?all=1&after=2")
    local before = core.clock()
    assert.same({}, numbers "?after=3&wait=0.5")
    assert.is_true(core.clock() - before >= 0.5)
    shell.run(("(sleep 0.5; curl -s -d '{\"to\":\"+911234567899\"}' %s/_sandbox/messages) "
      .. ">/dev/null 2>&1 &"):format(box.plain))
    assert.same({ "+911234567899" }, numbers "?after=3&wait=30")
    assert.equal(400, (curl "/_sandbox/messages?aftr=1"))
    assert.equal(400, (curl "/_sandbox/messages?wait=x"))
  end)

  it("send a message as a client would", function()
    assert(box:control("POST", "messages", { to = TO, from = "+15551234567" }))
    local message = box:get("messages?wait=10").messages[1]
    assert.same({ TO, "+15551234567", "HS256" }, { message.to, message.from, message.alg })
    local sent, problem = box:control("POST", "messages", { to = "1" })
    assert.is_nil(sent)
    assert.matches("to must be a number of E.164", problem, 1, true)
  end)

  it("list the plays that wait", function()
    assert(box:control("POST", "play", { status = 503, times = 2 }))
    assert(box:control("POST", "play", { close = true, when = "after", times = -1 }))
    client:send { to = TO }
    local waiting = box:get("play").waiting
    assert.same({ "status 503", 1 }, { waiting[1].says, waiting[1].left })
    assert.same({ "processed, closed without an answer", -1 }, { waiting[2].says, waiting[2].left })
  end)

  it("count the last minute against the limit", function()
    assert(box:control("POST", "settings", { per_minute = 2 }))
    for _ = 1, 3 do client:send { to = TO } end
    local state = box:get("state")
    assert.same({ 2, 2, 3 }, { state.last_minute, state.settings.per_minute, state.requests })
  end)

  it("put settings and everything back to the start", function()
    assert(box:control("POST", "settings", { per_minute = 2, scope = false }))
    assert.is_true(assert(box:control("DELETE", "settings")).scope)
    assert(box:control("POST", "settings", { latency = 1 }))
    assert(box:control("POST", "play", { status = 500 }))
    local state = assert(box:control("DELETE", "state"))
    assert.same({ 0, 0, 0, false }, { state.settings.latency, state.plays, state.requests,
      state.settings.per_minute })
  end)

  describe("take orders", function()
    local function play(...)
      local status, body = curl("/_sandbox/play", "-d", '{"status":500}', ...)
      local _, code = pcall(function() return box:get("play").plays end)
      return status, code, body
    end

    local function host(name) return "-H", ("Host: %s:%d"):format(name, box.plain_port) end

    it("from a program, and from their own page", function()
      assert.same({ 200, 1 }, { (play()), box:get("play").plays })
      for _, name in ipairs { "127.0.0.1", "localhost" } do
        local own = ("http://%s:%d"):format(name, box.plain_port)
        assert.equal(200, (play("-H", "Origin: " .. own, host(name))))
        assert.equal(200, (play("-H", "Origin: " .. own, "-H", "Sec-Fetch-Site: same-origin",
          host(name))))
      end
    end)

    it("from no other page, and under no other name", function()
      local port = box.plain_port
      for _, words in ipairs {
        { "-H", "Origin: https://example.com" },
        { "-H", "Origin: null" },
        { "-H", ("Origin: http://127.0.0.1:%d"):format(port + 1) },
        { "-H", ("Origin: http://localhost:%d"):format(port) },
        { "-H", "Origin: http://127.0.0.1:" .. port, "-H", "Sec-Fetch-Site: cross-site" },
        { "-H", "Sec-Fetch-Site: same-site" },
        { "-H", "Host: rebound.example.com:" .. port },
        { "-H", "Host: rebound.example.com:" .. port, "-H", "Origin: http://rebound.example.com:"
          .. port },
        { "-H", "Host: 127.0.0.1.example.com" },
        { "-H", "Host: localhost.example.com" },
        { "-H", "Host: 192.168.1.1" },
        { "-H", "Host: 127.0.0.1:x@example.com" },
        { "-H", "Host:", "--http1.0" },
      } do
        local status, waiting, body = play((table.unpack or unpack)(words))
        assert.is_true(status == 403 or status == 400, table.concat(words, " ") .. status)
        assert.equal(0, waiting)
        assert.is_nil(body:find("plays", 1, true))
      end
      for _, path in ipairs { "/", "/_page/page.js", "/_sandbox/messages", "/_sandbox/state" } do
        assert.equal(403, (curl(path, "-H", "Host: rebound.example.com")))
      end
    end)
  end)

  it("are the only way in for a web page, which cannot use the call either", function()
    assert(box:control("POST", "play", { status = 500 }))
    local path = ("/api/public/bot/%s/outboundsms"):format(box.bot_id)
    for _, words in ipairs {
      { "-H", "Origin: https://example.com" },
      { "-H", "Sec-Fetch-Site: cross-site" },
      { "-H", "Origin: http://rebound.example.com", "-H", "Host: rebound.example.com" },
    } do
      assert.equal(403, (curl(path, "-d", "x", (table.unpack or unpack)(words))))
    end
    assert.equal(1, box:get("play").plays)
    assert.equal(500, (curl(path, "-d", "x", "-H", "Host: sandbox.internal:8080")))
  end)

  describe("have a page", function()
    it("on both ports, which loads nothing from elsewhere", function()
      local _, over_tls = shell.run(("curl -s --cacert %s %s/"):format(box.ca_file, box.host))
      local status, html = curl "/"
      assert.equal(200, status)
      assert.equal(over_tls, (html:gsub("%s+$", "")))
      for _, path in ipairs { "/", "/_page/page.css", "/_page/page.js", "/_page/entry.js" } do
        local _, file = curl(path)
        assert.is_nil(file:gsub("http://www.w3.org/2000/svg", ""):find("https?://[%w]"))
      end
      local _, head = curl("/", "-i")
      assert.matches("content-security-policy: default-src 'none'", head:lower(), 1, true)
    end)

    it("that is a file, and takes no order", function()
      assert.equal(405, (curl("/", "-d", "x")))
      assert.equal(404, (curl "/_page/init.lua"))
      assert.equal(404, (curl("/_page/../_page/x", "--path-as-is")))
      assert.equal(204, (curl "/favicon.ico"))
      assert.equal(0, box:get("messages?all=1").count)
    end)
  end)
end)

describe("a sandbox that listens on an address", function()
  it("has it in its certificate, its environment and its own names", function()
    local box = assert(sandbox.start { listen = "127.0.0.2" })
    finally(function() box:stop() end)
    assert.equal(("https://127.0.0.2:%d"):format(box.port), box.host)
    local ok = shell.run(("curl -sf --cacert %s %s/_sandbox/health"):format(box.ca_file, box.host))
    assert.is_true(ok)
    assert.is_false((shell.run(("curl -s --max-time 5 "
      .. "http://127.0.0.1:%d/"):format(box.plain_port))))
  end)

  it("answers to any address, and to no other name, where it listens everywhere", function()
    guard.init { listen = "0.0.0.0" }
    finally(function() package.loaded["koresms.sandbox.guard"] = nil end)
    assert.is_nil(guard.problem("192.168.1.7:8080"))
    assert.is_nil(guard.problem("[fd00::1]:8080"))
    assert.is_nil(guard.problem("localhost"))
    assert.is_string(guard.problem("example.com"))
    assert.is_string(guard.problem("192.168.1.7.example.com"))
    assert.is_string(guard.problem("192.168.1.7", "http://192.168.1.8"))
  end)
end)

describe("what the sandbox needs", function()
  it("is told all at once, with a way that starts no web server", function()
    local _, path = shell.run("mktemp -d")
    finally(function() shell.run("rm -rf " .. path) end)
    local missing = needs.missing("nginx")
    assert.matches("nginx, nginx's Lua module", missing, 1, true)
    assert.matches("apt-get install --no-install-recommends nginx libnginx-mod-http-lua", missing,
      1, true)
    assert.matches("port 80", missing, 1, true)
    assert.is_nil(needs.missing("ngx_lua"):find("port 80", 1, true))
    assert.is_nil(needs.missing())
  end)
end)
