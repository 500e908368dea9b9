local command = require "spec.support.command"
local core = require "koresms.core"
local faults = require "spec.support.faults"
local koresms = require "koresms"
local paths = require "spec.support.paths"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"

local interpreter = arg and arg[-1] and arg[-1]:find("lua") and arg[-1]
  or rawget(_G, "jit") and "luajit" or "lua" .. _VERSION:match("%d.%d")

local FROM, TO = "+19876543210", "+911234567890"

describe("client", function()
  local box, client

  setup(function() box = assert(sandbox.start()) end)
  teardown(function() box:stop() end)

  local function new(changes)
    local o = { host = box.plain, bot_id = box.bot_id, client_id = box.client_id,
      client_secret = box.client_secret, ca_file = box.ca_file, from = FROM,
      per_minute = false }
    for name, value in pairs(changes or {}) do o[name] = value end
    for name, value in pairs(o) do if value == "none" then o[name] = nil end end
    return assert(koresms.new(o))
  end

  before_each(function()
    box:control("DELETE", "/_sandbox/messages")
    box:control("DELETE", "/_sandbox/play")
    client = new()
  end)
  after_each(function() client:close() end)

  local function play(what) assert(box:control("POST", "/_sandbox/play", what)) end
  local function counted() return box:get("/_sandbox/state").count end
  local function requests() return box:get("/_sandbox/state").requests end

  -- One send that fails: its result, after a look at the four values.
  local function failing(c, message, options)
    local value, text, code, result = c:send(message or { to = TO }, options)
    assert.is_nil(value)
    assert.equal("string", type(text))
    assert.equal(result.code, code)
    assert.equal(result.message, text)
    return result
  end

  it("sends one message, over TLS and without", function()
    for _, host in ipairs({ box.host, box.plain }) do
      local c = new { host = host }
      local result = assert(c:send({ to = TO, id = "mine" }))
      c:close()
      assert.equal("accepted", result.outcome)
      assert.is_nil(result.code)
      assert.is_nil(result.message)
      assert.is_false(result.retryable)
      assert.equal(200, result.status)
      assert.equal(1, result.attempts)
      assert.equal("mine", result.id)
      assert.equal(FROM, result.from)
      assert.equal(TO, result.to)
      assert.truthy(result.elapsed > 0 and result.elapsed < 10)
    end
    local seen = box:get("/_sandbox/messages")
    assert.equal(2, seen.count)
    assert.equal(TO, seen.messages[1].to)
    assert.equal(FROM, seen.messages[1].from)
  end)

  it("makes an id of 128 random bits where the caller gives none", function()
    local first, second = assert(client:send({ to = TO })).id, assert(client:send({ to = TO })).id
    assert.truthy(first:find("^%x+$") and #first == 32)
    assert.not_equal(first, second)
  end)

  it("keeps its connection", function()
    for _ = 1, 5 do assert(client:send({ to = TO })) end
    local connections = {}
    for _, m in ipairs(box:get("/_sandbox/messages").messages) do
      connections[m.connection] = true
    end
    assert.truthy(next(connections))
    assert.is_nil(next(connections, (next(connections))))
  end)

  it("takes no kept connection where max_idle is 0", function()
    local c = new { max_idle = 0 }
    for _ = 1, 3 do assert(c:send({ to = TO })) end
    c:close()
    local connections, count = {}, 0
    for _, m in ipairs(box:get("/_sandbox/messages").messages) do
      if not connections[m.connection] then count = count + 1 end
      connections[m.connection] = true
    end
    assert.equal(3, count)
  end)

  it("sends the fields that the platform wants, and asks for no compression", function()
    local bench = faults.start()
    local server = bench:listen()
    local c = new { host = server.origin, client_secret = "none", client_id = "none",
      token = "t.o.k" }
    assert(c:send({ to = TO }))
    c:close()
    local fields = {}
    for _, pair in ipairs(server:stats({ settle = 1, requests = true }).requests[1].headers) do
      fields[pair[1]:lower()] = pair[2]
    end
    bench:stop()
    assert.equal("application/json", fields.accept)
    assert.equal("identity", fields["accept-encoding"])
    assert.equal("application/json", fields["content-type"])
    assert.equal("t.o.k", fields.auth)
  end)

  it("closes kept connections that nothing uses once they are old", function()
    local function sockets()
      return tonumber(run.output("ls -l /proc/$PPID/fd | grep -c socket:"))
    end
    local before = sockets()
    local c = new { max_idle = 0.3 }
    local list = {}
    for i = 1, 100 do list[i] = { to = ("+91%010d"):format(i) } end
    play { times = -1, delay = 0.02 }
    for _ in c:send_many(list, { concurrency = 20 }) do end
    assert.truthy(sockets() >= before + 20)
    -- The ones on top are used again and again; those below them never.
    for _ = 1, 8 do
      run.output("sleep 0.2")
      assert(c:send({ to = TO }))
    end
    -- libcurl has a pair for itself.
    assert.truthy(sockets() <= before + 4, sockets() - before)
    c:close()
  end)

  it("raises where libcurl has no memory to begin, and can be used afterwards", function()
    local directory = run.directory()
    run.write(directory .. "/none.c", "void *curl_multi_init(void) { return (void *)0; }\n")
    run.output(("cc -shared -fPIC -o %s/none.so %s/none.c"):format(directory, directory))
    local script = run.write(directory .. "/send.lua", [[
      local koresms = require "koresms"
      local c = koresms.new { host = "http://127.0.0.1:1", bot_id = "st-1", token = "t.o.k" }
      local message = { to = "+911234567890", from = "+19876543210" }
      print(pcall(c.send, c, message))
      local iterator = c:send_many({ message, message })
      print(pcall(iterator))
      print(pcall(iterator))
      print(pcall(iterator))
      c:close()
    ]])
    local preloaded = os.getenv("LD_PRELOAD") -- a sanitizer comes first
    local words = command.prefix { LUA_PATH = paths.path, ASAN_OPTIONS = "detect_leaks=0",
      LD_PRELOAD = (preloaded and preloaded .. ":" or "") .. directory .. "/none.so" }
    local raised = "false\tnot enough memory\n"
    assert.equal(raised .. raised .. raised .. "true\tnil\n",
      run.output(words .. " " .. command.interpreter .. " " .. script .. " 2>&1"))
    run.clean()
  end)

  describe("is refused, and says so, with", function()
    local function unauthorized(c)
      local result = failing(c)
      c:close()
      assert.equal("rejected", result.outcome)
      assert.equal("unauthorized", result.code)
      assert.is_false(result.retryable)
      assert.equal(401, result.status)
      assert.equal(1, result.attempts)
      assert.equal(0, counted())
    end

    it("another secret", function() unauthorized(new { client_secret = "another" }) end)

    it("a token that has expired", function()
      local signer = core.signer { algorithm = "HS256", secret = box.client_secret,
        client_id = box.client_id, subject = "x", ttl = 60, jti = false }
      unauthorized(new { token = signer:token(os.time() - 61) })
    end)

    it("a token altered by one bit, wherever", function()
      local token = client:token()
      for _, place in ipairs({ 3, math.floor(#token / 2), #token - 5 }) do
        local byte = token:byte(place)
        local other = string.char(byte % 2 == 0 and byte + 1 or byte - 1)
        if other:find("[%w_-]") then
          unauthorized(new { token = token:sub(1, place - 1) .. other .. token:sub(place + 1) })
        end
      end
    end)
  end)

  it("signs each attempt anew where the app enforces jti", function()
    box:control("PUT", "/_sandbox/settings", { enforce_jti = true })
    local c = new { jti = true }
    for _ = 1, 3 do assert(c:send({ to = TO })) end
    play { times = 1, status = 429, retry_after = 1 }
    local result = assert(c:send({ to = TO }))
    assert.equal(2, result.attempts)
    local reused = c:token()
    local fixed = new { token = reused }
    assert(fixed:send({ to = TO }))
    assert.equal("unauthorized", failing(fixed).code)
    fixed:close()
    c:close()
    box:control("PUT", "/_sandbox/settings", { enforce_jti = false })
  end)

  it("does not repeat what may have been processed", function()
    for _, case in ipairs({
      { { status = 500 }, "server_error" }, { { status = 503, retry_after = 1 }, "server_error" },
      { { status = 408 }, "server_error" }, { { close = true }, "connection_lost" },
      { { html = true }, "bad_response" }, { { json = "wrong" }, "bad_response" },
      { { status = 500, when = "after" }, "server_error" },
      { { close = true, when = "after" }, "connection_lost" } }) do
      box:control("DELETE", "/_sandbox/messages")
      play(case[1])
      local result = failing(client)
      assert.equal("unknown", result.outcome)
      assert.equal(case[2], result.code)
      assert.is_false(result.retryable)
      assert.equal(1, result.attempts)
      assert.equal(1, requests())
      assert.equal(case[1].when and 1 or 0, counted())
    end
    assert(client:send({ to = TO }))
  end)

  it("reports a deadline that passed after the request had left", function()
    play { times = 1, delay = 5 }
    local result = failing(client, { to = TO }, { timeout = 0.3 })
    assert.equal("unknown", result.outcome)
    assert.equal("timeout", result.code)
    assert.equal(1, result.attempts)
    assert.truthy(result.elapsed >= 0.29 and result.elapsed < 1.3, result.elapsed)
    assert(client:send({ to = TO }))
  end)

  describe("throttled", function()
    it("waits for Retry-After and sends again", function()
      play { times = 1, status = 429, retry_after = 1 }
      local begin = core.clock()
      local result = assert(client:send({ to = TO }))
      assert.equal(2, result.attempts)
      assert.truthy(core.clock() - begin >= 1)
      assert.equal(1, counted())
    end)

    it("pauses all of the client's messages, and says for how long", function()
      -- The pause ends with the minute: it has to be longer than this test.
      while os.time() % 60 >= 56 do os.execute("sleep 1") end
      play { times = 1, status = 429 }
      local result = failing(client, { to = TO }, { timeout = 0.4 })
      assert.equal("rejected", result.outcome)
      assert.equal("rate_limited", result.code)
      assert.is_true(result.retryable)
      assert.equal(1, result.attempts)
      assert.truthy(result.retry_after > 0 and result.retry_after <= 60)
      local second = failing(client, { to = TO }, { timeout = 0.1 })
      assert.equal("not_sent", second.outcome)
      assert.equal("rate_limited", second.code)
      assert.is_true(second.retryable)
      assert.equal(0, second.attempts)
      assert.truthy(second.retry_after <= result.retry_after)
      assert.equal(1, requests())
    end)

    describe("and not repeated, stays rejected:", function()
      local function rejected(result, least)
        assert.same({ "rejected", "rate_limited", true, 429, 1 }, { result.outcome, result.code,
          result.retryable, result.status, result.attempts })
        assert.truthy(result.retry_after >= least, result.retry_after)
        assert.equal(1, requests())
      end

      before_each(function() play { times = 1, status = 429, retry_after = 1 } end)

      it("no permit for the repeat", function()
        local c = new { per_minute = 1 }
        rejected(failing(c), 50)
        c:close()
      end)

      it("no token for the repeat", function()
        local made = 0
        local c = new { token = function()
          made = made + 1
          return made == 1 and client:token() or nil
        end }
        rejected(failing(c), 1)
        c:close()
      end)

      it("closed before the repeat, in a stream too", function()
        local c
        local function closing() return new { on_event = function(e)
          if e.kind == "retry" then c:close() end
        end } end
        c = closing()
        rejected(failing(c), 1)
        play { times = 1, status = 429, retry_after = 1 }
        box:control("DELETE", "/_sandbox/messages")
        c = closing()
        for result in c:send_many({ { to = TO } }) do rejected(result, 1) end
      end)
    end)

    for _, case in ipairs({ { "1000000000", 3600, 3600 }, { "-5", 0.001, 60 },
      { "soon", 0.001, 60 },
      { "1 2", 0.001, 60 }, { "Sun, 06 Nov 1994 08:49:37 GMT", 0, 0 },
      { "Thu, 31 Dec 2099 23:59:59 GMT", 3600, 3600 } }) do
      it(("takes Retry-After: %s"):format(case[1]), function()
        play { times = 1, status = 429, headers = { ["Retry-After"] = case[1] } }
        local result = failing(client, { to = TO }, { retries = 0 })
        assert.truthy(result.retry_after >= case[2] and result.retry_after <= case[3],
          result.retry_after)
      end)
    end
  end)

  it("keeps its own limit, and says when there is room again", function()
    local c = new { per_minute = 2 }
    -- Of its own: a slow machine still counts messages that others have given up.
    local to, count = "+15550002222", 0
    assert(c:send({ to = to }))
    assert(c:send({ to = to }))
    local begin = core.clock()
    local result = failing(c, { to = to })
    assert.truthy(core.clock() - begin < 1, "no wait for a permit that cannot come in time")
    assert.equal("not_sent", result.outcome)
    assert.equal("rate_limited", result.code)
    assert.truthy(result.retry_after > 50 and result.retry_after < 61)
    for _, m in ipairs(box:get("/_sandbox/messages").messages) do
      if m.to == to then count = count + 1 end
    end
    assert.equal(2, count)
    c:close()
  end)

  describe("sends nothing", function()
    it("to or from what is no number", function()
      for field, message in pairs({ to = { to = "911234567890" },
        from = { to = TO, from = "KORE" } }) do
        local result = failing(client, message)
        assert.equal("not_sent", result.outcome)
        assert.equal("invalid_number", result.code)
        assert.equal(0, result.attempts)
        assert.equal(1, (result.message:find(field .. ": ", 1, true)))
      end
      local c = new { from = "none" }
      assert.equal("invalid_number", failing(c).code)
      c:close()
      assert.equal(0, requests())
    end)

    it("where the token callback fails", function()
      for _, callback in ipairs({ function() error("MARKED") end, function() return nil end,
        function() return 5 end, function() return "" end, function() return "a\r\nX: y" end,
        function() return nil, "the vault is closed" end }) do
        local c = new { token = callback }
        local result = failing(c)
        assert.equal("not_sent", result.outcome)
        assert.equal("sign", result.code)
        assert.equal(0, result.attempts)
        assert.is_nil(result.message:find("MARKED", 1, true))
        local token, text, code = c:token()
        assert.is_nil(token)
        assert.equal(text, result.message)
        assert.equal("sign", code)
        c:close()
      end
      assert.equal(0, requests())
    end)

    it("where nobody listens, with repeats that are safe", function()
      local kinds = {}
      local c = new { host = "http://127.0.0.1:1", timeout = 1,
        on_event = function(e) kinds[#kinds + 1] = e.kind end }
      local result = failing(c)
      c:close()
      assert.equal("not_sent", result.outcome)
      assert.equal("connect", result.code)
      assert.is_true(result.retryable)
      assert.equal(0, result.attempts)
      assert.equal("attempt attempt retry attempt attempt retry ",
        table.concat(kinds, " "):match("^(.-retry .-retry )"))
      assert.equal("verdict", kinds[#kinds])
    end)

    it("to a name that does not exist", function()
      local c = new { host = "https://nonexistent.invalid", retries = 0 }
      local result = failing(c)
      c:close()
      assert.same({ "not_sent", "dns", true, 0 },
        { result.outcome, result.code, result.retryable, result.attempts })
    end)

    it("to a server that it cannot trust", function()
      local c = new { host = box.host, ca_file = "none" }
      local result = failing(c)
      c:close()
      assert.same({ "not_sent", "tls", false, 0 },
        { result.outcome, result.code, result.retryable, result.attempts })
    end)

    it("a ca_file that holds no certificate, and names the setting", function()
      local c = new { host = box.host, ca_file = "spec/client_spec.lua" }
      local result = failing(c)
      c:close()
      assert.same({ "not_sent", "tls", false, 0 },
        { result.outcome, result.code, result.retryable, result.attempts })
      assert.truthy(result.message:find("setting ca_file", 1, true), result.message)
    end)

    it("a refused connection, tried again until the deadline with one permit", function()
      local tries = 0
      local c = new { host = "http://127.0.0.1:1", per_minute = 1, timeout = 1,
        on_event = function(event) if event.kind == "retry" then tries = tries + 1 end end }
      local result = failing(c)
      c:close()
      assert.same({ "not_sent", "connect", true, 0 },
        { result.outcome, result.code, result.retryable, result.attempts })
      assert.is_nil(result.retry_after)
      assert.truthy(tries >= 2 and result.elapsed <= 1.5, tries)
    end)

    it("once it is closed", function()
      client:close()
      client:close()
      local result = failing(client)
      assert.same({ "not_sent", "cancelled", true, 0 },
        { result.outcome, result.code, result.retryable, result.attempts })
    end)
  end)

  it("uses no token twice that a callback gives anew", function()
    local made = 0
    local c = new { token = function()
      made = made + 1
      return client:token()
    end }
    assert(c:send({ to = TO }))
    assert(c:send({ to = TO }))
    assert.equal(2, made)
    c:close()
  end)

  it("tells a listener what happens, masked, and survives what it does", function()
    local events = {}
    local c = new { on_event = function(e)
      events[#events + 1] = e
      error("listener")
    end }
    play { times = 1, status = 429, retry_after = 1 }
    assert(c:send({ to = TO, id = "mine" }))
    c:close()
    local kinds = {}
    for i, e in ipairs(events) do
      kinds[i] = e.kind
      for _, value in pairs(e) do
        assert.is_nil(tostring(value):find("1234567", 1, true))
        assert.is_nil(tostring(value):find("eyJ", 1, true))
      end
    end
    assert.same({ "attempt", "attempt", "pause", "retry", "attempt", "attempt", "verdict" }, kinds)
    assert.equal("mine", events[1].id)
    assert.is_nil(events[1].elapsed)
    assert.equal("number", type(events[2].elapsed))
    assert.is_false(events[2].reused)
    assert.equal(2, events[5].attempt)
    assert.is_true(events[6].reused)
    assert.equal("accepted", events[7].outcome)
    assert.equal("+9112*****90", events[1].to)
  end)

  describe("raises at the caller's line for", function()
    local cases = {
      { "no message", {}, "bad argument #1 to 'send' (table expected, got nil)" },
      { "text", { "+911234567890" }, "table expected, got string" },
      { "a number that is a Lua number", { { to = 911234567890 } },
        "field 'to': string expected, got number" },
      { "an inherited number that is none",
        { setmetatable({}, { __index = { to = 911234567890 } }) },
        "field 'to': string expected, got number" },
      { "no recipient", { { from = FROM } }, "field 'to': string expected, got nil" },
      { "the platform's names", { { toNo = TO } }, "did you mean 'to'" },
      { "a message text", { { to = TO, text = "hello" } }, "unknown field 'text'" },
      { "an id that is no text", { { to = TO, id = 5 } }, "field 'id': string expected" },
      { "options that are none", { { to = TO }, 5 }, "bad argument #2 to 'send' (table expected" },
      { "an unknown option", { { to = TO }, { timout = 1 } }, "did you mean 'timeout'" },
      { "a timeout in text", { { to = TO }, { timeout = "1" } },
        "option 'timeout': number expected" },
      { "a timeout of 0", { { to = TO }, { timeout = 0 } }, "option 'timeout'" },
      { "a timeout that is no number", { { to = TO }, { timeout = 0 / 0 } }, "option 'timeout'" },
      { "half a repeat", { { to = TO }, { retries = 0.5 } }, "option 'retries'" },
      { "one argument too many", { { to = TO }, {}, 1 }, "bad argument #3" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local ok, text = pcall(function()
          local unpack = table.unpack or unpack -- luacheck: ignore 143
          client:send(unpack(case[2]))
        end)
        assert.is_false(ok)
        assert.truthy(text:find(case[3], 1, true), text)
        assert.truthy(text:find("client_spec.lua:%d+:"), text)
        assert.is_nil(text:find("1234567", 1, true), text)
        assert.equal(0, requests())
      end)
    end
  end)

  describe("raises at the caller's line, too, for", function()
    local function raised(wanted, f)
      local ok, text = pcall(f)
      assert.is_false(ok)
      assert.truthy(text:find(wanted, 1, true), text)
      assert.truthy(text:find("^[^:]*client_spec.lua:%d+:"), text)
      assert.is_nil(text:find("1234567", 1, true), text)
    end

    for _, method in ipairs({ "send", "send_many", "token", "close" }) do
      it("a dot in place of the colon: " .. method, function()
        for _, self in ipairs({ false, {}, { to = TO }, TO }) do
          raised(("write client:%s"):format(method), function()
            client[method](self or nil, {})
          end)
        end
      end)
    end

    it("an argument that token or close does not take", function()
      raised("bad argument #1 to 'token' (no value expected)", function() client:token(1) end)
      raised("bad argument #1 to 'close' (no value expected)", function() client:close(nil) end)
    end)

    it("a number or a token in place of a field's name, and hides it", function()
      raised("'+9112*****90'", function() client:send({ to = TO, [TO] = 1 }) end)
      local token = client:token()
      raised("'[token]'", function() client:send({ to = TO }, { [token] = 1 }) end)
    end)

    -- In a process without variables: the default client must not be one that can send.
    it("misuse of koresms.send, whatever the configuration", function()
      local name = run.directory() .. "/program.lua"
      run.write(name, [[
        local koresms, to = require "koresms", "+911234567890"
        print(select(3, koresms.send({ to = to })))
        for _, arguments in ipairs({ { { toNo = to } }, { { to = 911234567890 } },
          { { to = to, id = 5 } }, { { to = to }, { timout = 1 } }, { { to = to }, {}, 1 } }) do
          print(select(2, pcall(function()
            local unpack = table.unpack or unpack
            local result = koresms.send(unpack(arguments))
            return result
          end)))
        end]])
      local lines = {}
      for line in run.output(("env -i PATH=\"$PATH\" LUA_PATH=%s LUA_CPATH=%s %s %s %s 2>&1")
        :format(run.quote(package.path), run.quote(package.cpath), run.preload(), interpreter,
          run.quote(name))):gmatch("[^\n]+") do lines[#lines + 1] = line end
      run.clean()
      for i, wanted in ipairs({ "config", "did you mean 'to'", "field 'to': string expected",
        "field 'id': string expected", "did you mean 'timeout'", "bad argument #3 to 'send'" }) do
        assert.truthy(lines[i]:find(wanted, 1, true), lines[i])
        assert.truthy(i == 1 or lines[i]:find("program.lua:7:", 1, true), lines[i])
      end
    end)
  end)

  it("shows no secret, whoever prints it", function()
    local c = new { client_secret = "MARKED-SECRET", proxy = "none" }
    local seen = {}
    local function walk(value)
      assert.is_nil(tostring(value):find("MARKED", 1, true))
      if type(value) == "table" and not seen[value] then
        seen[value] = true
        for k, v in pairs(value) do walk(k); walk(v) end
      end
    end
    walk(c)
    assert.truthy(tostring(c):find("koresms.client", 1, true))
    assert.equal("koresms.client", getmetatable(c))
    c:close()
  end)

  if _VERSION == "Lua 5.4" then
    it("is closed at the end of its block", function()
      local closed = load([[
        local client = ...
        do local c <close> = client end
        return client
      ]])(new())
      assert.equal("cancelled", failing(closed).code)
    end)
  end
end)

describe("a kept connection", function()
  local bench

  setup(function() bench = faults.start() end)
  teardown(function() bench:stop() end)

  local function second_send(scenario)
    local server = bench:listen_for(scenario)
    local c = assert(koresms.new { host = server.origin, bot_id = "st-1", client_id = "cs-1",
      client_secret = "secret", from = FROM, per_minute = false })
    assert(c:send({ to = TO }))
    local _, _, _, result = c:send({ to = "+911234567891" })
    local stats = server:stats { settle = 1 }
    local after = c:send({ to = "+911234567892" })
    c:close()
    server:close()
    return result, stats, after
  end

  for _, how in ipairs({ "close", "reset" }) do
    it("that dies by " .. how .. " after the second POST was read is unknown, not repeated",
      function()
      local result, stats, after = second_send("next_processed_" .. how)
      assert.same({ "unknown", "connection_lost", false, 1 },
        { result.outcome, result.code, result.retryable, result.attempts })
      assert.equal(2, stats.processed)
      assert.equal(1, stats.to["+911234567891"])
      assert.equal("accepted", after and after.outcome)
    end)

    it("that dies by " .. how .. " before the second POST was read is not accepted", function()
      local result, stats = second_send("next_unread_" .. how)
      assert.equal("connection_lost", result.code)
      assert.is_nil(stats.to["+911234567891"])
    end)
  end

  it("is not used again where it holds a reply that nobody asked for", function()
    for _, scenario in ipairs({ "stale_reply_same_write", "stale_reply_delayed" }) do
      local server = bench:listen_for(scenario)
      local c = assert(koresms.new { host = server.origin, bot_id = "st-1", client_id = "cs-1",
        client_secret = "secret", from = FROM, per_minute = false })
      assert(c:send({ to = TO }))
      os.execute("sleep 0.1")
      local result = assert(c:send({ to = "+911234567891" }))
      local stats = server:stats { settle = 1 }
      assert.equal(1, result.attempts)
      assert.equal(2, stats.accepted)
      assert.equal(1, stats.to["+911234567891"])
      c:close()
      server:close()
    end
  end)
end)
