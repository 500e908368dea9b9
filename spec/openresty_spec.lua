-- The library inside a real nginx: phases, directives, settings, and messages left for later.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local faults = require "spec.support.faults"
local openresty = require "spec.support.openresty"
local run = require "spec.support.run"

local FROM, TO = "+19876543210", "+911234567890"

-- A client of the bench's server, made before there are workers; and `try(name)`, which notes
-- what each way of sending comes to.
local INIT = [[
  koresms = require "koresms"
  client = assert(koresms.new { host = "$origin", bot_id = "st-1", client_id = "cs-1",
    client_secret = "secret", from = "+19876543210", per_minute = 1000, retries = 0 })
  said = {}
  function outcomes(message)
    local accepted, text, code, failed = client:send(message)
    local many = {}
    for result in client:send_many({ message, message }) do many[#many + 1] = result.outcome end
    local later, why, later_code = koresms.later(message, { client = client })
    return { outcome = (accepted or failed).outcome, code = code, text = text,
      many = table.concat(many, " "), later = later or later_code, why = why }
  end
  function try(name) said[name] = outcomes { to = "+911234567890" } end
  try "init"
]]

local PHASES = [[
  location = /phases {
    set_by_lua_block $unused { try "set" }
    rewrite_by_lua_block { try "rewrite" }
    access_by_lua_block { try "access" }
    content_by_lua_block { try "content" ngx.say("ok") }
    header_filter_by_lua_block { try "header_filter" }
    body_filter_by_lua_block { try "body_filter" }
    log_by_lua_block { try "log" }
  }
  location = /bare {
    resolver 127.0.0.1:1;
    content_by_lua_block {
      ngx.print(require("cjson").encode(outcomes { to = "+911234567890" }))
    }
  }
]]

local TLS = [[
  server {
    listen unix:$prefix/tls ssl;
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    ssl_certificate_by_lua_block { try "ssl_cert" }
    location / { return 200; }
  }
]]

describe("inside nginx", function()
  local bench, names, certs, origin
  local servers = {}

  setup(function()
    bench = faults.start()
    certs = bench:certs()
    names = bench:dns { names = { ["kore.test"] = { A = { "127.0.0.1" } } } }
    origin = bench:listen()
  end)

  local function wait_for(condition)
    for _ = 1, 500 do
      if condition() then return true end
      run.output("sleep 0.02")
    end
    error("it did not come about", 2)
  end

  local function start(options)
    local server = openresty.start(options)
    servers[#servers + 1] = server
    return server
  end

  -- Nothing of ours may stand in the log but what a spec says.
  after_each(function()
    local logs = {}
    for index, server in ipairs(servers) do
      logs[index] = server:log()
      server:stop()
      servers[index] = nil
    end
    assert.equal("", table.concat(logs))
  end)

  teardown(function() bench:stop() end)

  it("sends where there is network, and says what to do elsewhere", function()
    local before = origin:stats().processed
    local server = start { origin = origin.origin, init = INIT, initworker = [[ try "init_worker"
      ngx.timer.at(0, function() try "timer" end) ]], http = TLS, locations = PHASES }
    server:get("/phases")
    run.output(("curl -sk --noproxy '*' --unix-socket %s/tls https://localhost/"):format(
      server.prefix))
    local said = server:run("return said")
    local sent = 0
    for _, phase in ipairs { "rewrite", "access", "content", "timer", "ssl_cert" } do
      local one = assert(said[phase], phase)
      assert.same({ "accepted", "accepted accepted", true },
        { one.outcome, one.many, one.later }, phase)
      sent = sent + 4
    end
    for _, phase in ipairs { "init", "init_worker", "set", "header_filter", "body_filter",
                             "log" } do
      local one = assert(said[phase], phase)
      assert.same({ "not_sent", "context", "not_sent not_sent" },
        { one.outcome, one.code, one.many }, phase)
      assert.truthy(one.text:find("koresms.later", 1, true) and one.text:find("ngx.timer.at", 1,
        true))
      assert.equal(phase == "init" and "context" or true, one.later, phase)
      if phase ~= "init" then sent = sent + 1 end
    end
    -- A body passes its filter in one piece or more.
    wait_for(function() return origin:stats().processed - before >= sent end)
  end)

  it("never loads libcurl", function()
    local server = start { origin = origin.origin, init = INIT, locations = PHASES }
    server:get("/phases")
    for _, pid in ipairs(server:workers()) do
      local maps = run.output(("cat /proc/%d/maps"):format(pid))
      assert.truthy(maps:find("koresms/core.so", 1, true))
      assert.is_nil(maps:find("libcurl", 1, true))
      assert.is_nil(maps:find("koresms/curl.so", 1, true))
    end
  end)

  it("is also called resty.koresms", function()
    local server = start()
    assert.is_true(server:run([[ return { require("resty.koresms") == require("koresms") } ]])[1])
  end)

  -- Sends one message to an origin with a fresh client.
  local ONE = [[
    local client = assert(require("koresms").new { host = given.origin, bot_id = "st-1",
      client_id = "cs-1", client_secret = "secret", from = "+19876543210", retries = 0 })
    local accepted, _, _, failed = client:send({ to = "+911234567890" })
    return accepted or failed ]]

  it("names the directive that is missing", function()
    local secure = bench:listen { tls = { cert = "chain" } }
    local resolver = ("resolver 127.0.0.1:%d valid=1s ipv6=off;"):format(names.port)
    local there = "https://kore.test:" .. secure.port

    local result = start { ca = certs["ca.pem"] }:run(ONE, { origin = there })
    assert.same({ "not_sent", "dns", 0 }, { result.outcome, result.code, result.attempts })
    assert.truthy(result.message:find("`resolver`", 1, true), result.message)

    local localhost = "https://localhost:" .. secure.port
    result = start():run(ONE, { origin = localhost })
    assert.same({ "not_sent", "tls", 0 }, { result.outcome, result.code, result.attempts })
    assert.truthy(result.message:find("lua_ssl_trusted_certificate", 1, true), result.message)

    result = start { http = resolver, ca = certs["ca.pem"] }:run(ONE, { origin = there })
    assert.equal("accepted", result.outcome)
    assert.equal(1, secure:stats().processed)
  end)

  it("tries another address of a name where nobody listens at one", function()
    local place = bench:dns { names = { ["two.test"] = { A = { "127.0.0.9", "127.0.0.1" } } } }
    local server = start { http = ("resolver 127.0.0.1:%d ipv6=off;"):format(place.port) }
    local said = server:run([[
      local accepted = 0
      local client = assert(require("koresms").new { host = given.origin, bot_id = "st-1",
        client_id = "cs-1", client_secret = "secret", from = "+19876543210", retries = 0,
        max_idle = 0, per_minute = false, allow_http = true })
      for _ = 1, 120 do
        if client:send { to = "+911234567890" } then accepted = accepted + 1 end
      end
      client:close()
      return { accepted } ]], { origin = "http://two.test:" .. origin.origin:match("%d+$") })
    -- nginx takes one of the two by chance, up to three times: 105 are expected, and 60 of one try.
    assert.truthy(said[1] > 84, said[1])
  end)

  it("does not use a kept connection again once it is max_age old", function()
    local server = start()
    local AGED = [[
      local client = assert(require("koresms").new { host = given.origin, bot_id = "st-1",
        client_id = "cs-1", client_secret = "secret", from = "+19876543210",
        max_age = given.max_age })
      for _ = 1, 3 do
        assert(client:send { to = "+911234567890" })
        ngx.sleep(1.05)
      end
      local stats = client:stats()
      client:close()
      return { stats.connections_opened, stats.connections_reused } ]]
    assert.same({ 3, 0 }, server:run(AGED, { origin = bench:listen().origin, max_age = 1 }))
    assert.same({ 1, 2 }, server:run(AGED, { origin = bench:listen().origin, max_age = 86400 }))
  end)

  it("names the directive of a name server that does not answer", function()
    local silent = bench:dns { mode = "silent" }
    local server = start { http = ("resolver 127.0.0.1:%d ipv6=off;"):format(silent.port) }
    local result = server:run((ONE:gsub("retries = 0", "retries = 0, timeout = 0.3")),
      { origin = "https://kore.test:1" })
    assert.same({ "not_sent", 0 }, { result.outcome, result.attempts })
    assert.truthy(result.message:find("the name server of the directive `resolver`", 1, true),
      result.message)
  end)

  it("takes no answer from a peer whose certificate it refuses, however fast it is", function()
    local server = start { ca = certs["ca.pem"],
      http = ("resolver 127.0.0.1:%d valid=1s ipv6=off;"):format(names.port) }
    local wrong = bench:listen { tls = { cert = "wrong_purpose" } }
    local counts = server:run([[
      local client = assert(require("koresms").new { host = given.origin, bot_id = "st-1",
        client_id = "cs-1", client_secret = "secret", from = "+19876543210", retries = 0,
        per_minute = false })
      local counts, messages = {}, {}
      for i = 1, 200 do messages[i] = { to = ("+91%010d"):format(i) } end
      for result in client:send_many(messages, { concurrency = 40 }) do
        local key = result.outcome .. "/" .. (result.code or "")
        counts[key] = (counts[key] or 0) + 1
      end
      return counts ]], { origin = "https://kore.test:" .. wrong.port })
    assert.same({ ["not_sent/tls"] = 200 }, counts)
  end)

  it("is configured by the environment that nginx passes on", function()
    local settings = { KORESMS_HOST = origin.origin, KORESMS_BOT_ID = "st-1",
      KORESMS_CLIENT_ID = "cs-1", KORESMS_CLIENT_SECRET = "secret", KORESMS_FROM = FROM }
    local lines = {}
    for name, value in pairs(settings) do lines[#lines + 1] = ("env %s=%s;"):format(name, value) end
    local server = start { main = table.concat(lines, "\n") }
    local result = server:run([[ return require("koresms").send({ to = "+911234567890" }) ]])
    assert.equal("accepted", result.outcome)
  end)

  it("refuses at `new` what it cannot honour", function()
    local server = start { http = "lua_shared_dict small 12k;" }
    local function new(options)
      options.host, options.bot_id, options.token = "https://kore.test", "st-1", "t.o.k"
      return server:run([[ return { require("koresms").new(given) } ]], options)
    end
    for _, row in ipairs {
      { { ca_file = certs["ca.pem"] }, "lua_ssl_trusted_certificate" },
      { { shared_dict = "sms" }, "`lua_shared_dict sms 48k;`" },
      { { shared_dict = "small", per_minute = 600 }, "`lua_shared_dict small 117k;`" },
    } do
      local answer = new(row[1])
      assert.equal("config", answer["3"] or answer[3])
      local text = answer["2"] or answer[2]
      assert.truthy(text:find(row[2], 1, true), text)
    end
  end)

  it("has an example that runs", function()
    local output = run.output("LUA=luajit BUILD=" .. (os.getenv("KSMS_BUILD") or "build")
      .. " sh tools/demo-nginx.sh 2>&1")
    for _, words in ipairs { "HTTP 200", "HTTP 401", "HTTP 422", "HTTP 202", " 429\n",
                             "messages" } do
      assert.truthy(output:find(words, 1, true), words .. " is missing:\n" .. output)
    end
  end)

  -- Messages left for later ------------------------------------------------------------------

  -- A client whose events go to a file, a line each.
  local LISTEN = [[
    local path = ngx.config.prefix() .. "events"
    koresms = require "koresms"
    client = assert(koresms.new { host = "$origin", bot_id = "st-1", client_id = "cs-1",
      client_secret = "secret", from = "+19876543210", retries = 0, per_minute = $limit,
      on_event = function(event)
        if event.kind ~= "verdict" then return end
        local file = io.open(path, "a")
        file:write(event.id, " ", event.outcome, " ", event.code or "", "\n")
        file:close()
      end })
  ]]

  local function events(server)
    local list = {}
    for line in run.output("cat " .. server.prefix .. "/events 2>/dev/null"):gmatch("[^\n]+") do
      local id, outcome = line:match("^(%S+) (%S+)")
      assert.is_nil(list[id], id)
      list[id] = outcome
    end
    return list
  end

  local function count(list, outcome)
    local n = 0
    for _, one in pairs(list) do if one == outcome then n = n + 1 end end
    return n
  end

  it("sends later what a log handler leaves", function()
    local server = start { origin = origin.origin, init = LISTEN, limit = "false", locations = [[
      location = /order {
        content_by_lua_block { ngx.say("ok") }
        log_by_lua_block {
          local ok, text, code = koresms.later({ to = "+911234567890", id = "m" .. ngx.var.arg_n },
            { client = client, timeout = tonumber(ngx.var.arg_n) % 3 + 1 })
          if not ok then ngx.log(ngx.ERR, text) end
        }
      } ]] }
    server:get("/order?n=[1-50]", "-Z")
    wait_for(function() return count(events(server), "accepted") == 50 end)
  end)

  it("checks at once what is left for later", function()
    local server = start { origin = origin.origin, init = LISTEN, limit = "false" }
    local said = server:run([[
      local said = {}
      for index, case in ipairs {
        { {}, nil }, { { to = 5 }, nil }, { { to = "+911", text = "x" }, nil },
        { { to = "+911" }, { client = {} } }, { { to = "+911" }, { concurrency = 4 } },
        { { to = "+911" }, { timeout = 0 } },
      } do
        local ok, text = pcall(function() return (koresms.later(case[1], case[2])) end)
        said[index] = ok and "no error" or text
      end
      local ok, text, code = koresms.later({ to = "911" }, { client = client })
      said[#said + 1] = tostring(ok) .. " " .. code
      client:close()
      ok, text, code = koresms.later({ to = "+911234567890" }, { client = client })
      said[#said + 1] = tostring(ok) .. " " .. code
      ok, text, code = koresms.later({ to = "+911234567890" })
      said[#said + 1] = tostring(ok) .. " " .. code .. " " .. text
      return said ]])
    for index, words in ipairs { "field 'to': string expected, got nil",
      "string expected, got number",
        "unknown field 'text'", "option 'client'", "unknown option 'concurrency'",
        "option 'timeout'", "nil invalid_number", "nil cancelled",
        "nil config host is required" } do
      assert.truthy(said[index]:find(words, 1, true), said[index])
    end
  end)

  it("keeps a bounded number, and takes no more", function()
    local server = start { origin = origin.origin, init = LISTEN, limit = "1" }
    local said = server:run([[
      local taken, code = 0, nil
      for i = 1, 1100 do
        local ok, _, why = koresms.later({ to = "+911234567890", id = "m" .. i },
          { client = client })
        if ok then taken = taken + 1 else code = why end
      end
      return { taken, code } ]])
    assert.same({ 1000, "rate_limited" }, said)
    -- All of it is told, once, when the worker is told to exit.
    server:signal("QUIT")
    assert.truthy(server:wait(10))
    local list = events(server)
    assert.same({ 1, 999 }, { count(list, "accepted"), count(list, "not_sent") })
  end)

  it("still sends what was left when the worker was told to exit", function()
    local before = origin:stats().processed
    local server = start { origin = origin.origin, init = LISTEN, limit = "false" }
    local left = server:run([[
      for i = 1, 500 do
        assert(koresms.later({ to = "+911234567890", id = "m" .. i },
          { client = client }))
      end
      -- It learns of this before any timer of its own.
      os.execute("kill -QUIT " .. ngx.worker.pid())
      return { 500 } ]])
    assert.equal(500, left[1])
    server:signal("QUIT")
    assert.truthy(server:wait(10))
    assert.equal(500, count(events(server), "accepted"))
    assert.equal(500, origin:stats({ settle = 2 }).processed - before)
  end)

  it("outlives a timer that nginx drops", function()
    local server = openresty.start { origin = origin.origin, init = LISTEN, limit = "false",
      http = "lua_max_running_timers 1;" }
    server:run([[
      require("koresms.nginx.later").LATE = 0.5
      ngx.timer.at(0, function() ngx.sleep(0.5) end)
      ngx.sleep(0.1)
      assert(koresms.later({ to = "+911234567890", id = "first" }, { client = client }))
      ngx.sleep(1)
      assert(koresms.later({ to = "+911234567890", id = "second" }, { client = client })) ]])
    wait_for(function() return count(events(server), "accepted") == 2 end)
    assert.truthy(server:log():find("lua_max_running_timers are not enough", 1, true))
    server:stop()
  end)

  it("logs what went wrong later where nobody listens, without the number", function()
    local server = openresty.start { origin = origin.origin, init = INIT }
    server:run([[
      local client = assert(koresms.new { host = "http://127.0.0.1:1", bot_id = "st-1",
        client_id = "cs-1", client_secret = "secret", from = "+19876543210", retries = 0 })
      assert(koresms.later({ to = "+911234567890", id = "order-17" }, { client = client })) ]])
    wait_for(function() return server:log() ~= "" end)
    local log = server:log()
    server:stop()
    assert.truthy(log:find("koresms.later: message order-17 to +9112*****90: not_sent (connect): ",
      1, true), log)
    assert.is_nil(log:find(TO, 1, true))
  end)
end)
