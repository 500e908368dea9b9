local beds = require "spec.support.sandbox_bed"
local command = require "spec.support.command"
local core = require "koresms.core"
local faults = require "spec.support.faults"
local paths = require "spec.support.paths"
local run = require "spec.support.run"

local FROM, TO, failing = beds.FROM, beds.TO, beds.failing

describe("client", function()
  local bed, client

  setup(function() bed = beds.start() end)
  teardown(function() bed:stop() end)

  before_each(function()
    bed:reset()
    client = bed:new()
  end)
  after_each(function() client:close() end)

  it("sends one message, over TLS and without", function()
    for _, host in ipairs({ bed.box.host, bed.box.plain }) do
      local c = bed:new { host = host }
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
    local seen = bed.box:get("/_sandbox/messages")
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
    for _, m in ipairs(bed.box:get("/_sandbox/messages").messages) do
      connections[m.connection] = true
    end
    assert.truthy(next(connections))
    assert.is_nil(next(connections, (next(connections))))
  end)

  it("takes no kept connection where max_idle is 0", function()
    local c = bed:new { max_idle = 0 }
    for _ = 1, 3 do assert(c:send({ to = TO })) end
    c:close()
    local connections, count = {}, 0
    for _, m in ipairs(bed.box:get("/_sandbox/messages").messages) do
      if not connections[m.connection] then count = count + 1 end
      connections[m.connection] = true
    end
    assert.equal(3, count)
  end)

  it("sends the fields that the platform wants, and asks for no compression", function()
    local bench = faults.start()
    local server = bench:listen()
    local c = bed:new { host = server.origin, client_secret = "none", client_id = "none",
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
    local c = bed:new { max_idle = 0.3 }
    local list = {}
    for i = 1, 100 do list[i] = { to = ("+91%010d"):format(i) } end
    bed:play { times = -1, delay = 0.02 }
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
      assert.equal(0, bed:counted())
    end

    it("another secret", function() unauthorized(bed:new { client_secret = "another" }) end)

    it("a token that has expired", function()
      local signer = core.signer { algorithm = "HS256", secret = bed.box.client_secret,
        client_id = bed.box.client_id, subject = "x", ttl = 60, jti = false }
      unauthorized(bed:new { token = signer:token(os.time() - 61) })
    end)

    it("a token altered by one bit, wherever", function()
      local token = client:token()
      for _, place in ipairs({ 3, math.floor(#token / 2), #token - 5 }) do
        local byte = token:byte(place)
        local other = string.char(byte % 2 == 0 and byte + 1 or byte - 1)
        if other:find("[%w_-]") then
          unauthorized(bed:new { token = token:sub(1, place - 1) .. other .. token:sub(place + 1) })
        end
      end
    end)
  end)

  it("signs each attempt anew where the app enforces jti", function()
    bed.box:control("PUT", "/_sandbox/settings", { enforce_jti = true })
    local c = bed:new { jti = true }
    for _ = 1, 3 do assert(c:send({ to = TO })) end
    bed:play { times = 1, status = 429, retry_after = 1 }
    local result = assert(c:send({ to = TO }))
    assert.equal(2, result.attempts)
    local reused = c:token()
    local fixed = bed:new { token = reused }
    assert(fixed:send({ to = TO }))
    assert.equal("unauthorized", failing(fixed).code)
    fixed:close()
    c:close()
    bed.box:control("PUT", "/_sandbox/settings", { enforce_jti = false })
  end)

  it("does not repeat what may have been processed", function()
    for _, case in ipairs({
      { { status = 500 }, "server_error" }, { { status = 503, retry_after = 1 }, "server_error" },
      { { status = 408 }, "server_error" }, { { close = true }, "connection_lost" },
      { { html = true }, "bad_response" }, { { json = "wrong" }, "bad_response" },
      { { status = 500, when = "after" }, "server_error" },
      { { close = true, when = "after" }, "connection_lost" } }) do
      bed.box:control("DELETE", "/_sandbox/messages")
      bed:play(case[1])
      local result = failing(client)
      assert.equal("unknown", result.outcome)
      assert.equal(case[2], result.code)
      assert.is_false(result.retryable)
      assert.equal(1, result.attempts)
      assert.equal(1, bed:requests())
      assert.equal(case[1].when and 1 or 0, bed:counted())
    end
    assert(client:send({ to = TO }))
  end)

  it("reports a deadline that passed after the request had left", function()
    bed:play { times = 1, delay = 5 }
    local result = failing(client, { to = TO }, { timeout = 0.3 })
    assert.equal("unknown", result.outcome)
    assert.equal("timeout", result.code)
    assert.equal(1, result.attempts)
    assert.truthy(result.elapsed >= 0.29 and result.elapsed < 1.3, result.elapsed)
    assert(client:send({ to = TO }))
  end)

  it("keeps its own limit, and says when there is room again", function()
    local c = bed:new { per_minute = 2 }
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
    for _, m in ipairs(bed.box:get("/_sandbox/messages").messages) do
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
      local c = bed:new { from = "none" }
      assert.equal("invalid_number", failing(c).code)
      c:close()
      assert.equal(0, bed:requests())
    end)

    it("where the token callback fails", function()
      for _, callback in ipairs({ function() error("MARKED") end, function() return nil end,
        function() return 5 end, function() return "" end, function() return "a\r\nX: y" end,
        function() return nil, "the vault is closed" end }) do
        local c = bed:new { token = callback }
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
      assert.equal(0, bed:requests())
    end)

    it("where nobody listens, with repeats that are safe", function()
      local kinds = {}
      local c = bed:new { host = "http://127.0.0.1:1", timeout = 1,
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
      local c = bed:new { host = "https://nonexistent.invalid", retries = 0 }
      local result = failing(c)
      c:close()
      assert.same({ "not_sent", "dns", true, 0 },
        { result.outcome, result.code, result.retryable, result.attempts })
    end)

    it("to a server that it cannot trust", function()
      local c = bed:new { host = bed.box.host, ca_file = "none" }
      local result = failing(c)
      c:close()
      assert.same({ "not_sent", "tls", false, 0 },
        { result.outcome, result.code, result.retryable, result.attempts })
    end)

    it("a ca_file that holds no certificate, and names the setting", function()
      local c = bed:new { host = bed.box.host, ca_file = "spec/client_spec.lua" }
      local result = failing(c)
      c:close()
      assert.same({ "not_sent", "tls", false, 0 },
        { result.outcome, result.code, result.retryable, result.attempts })
      assert.truthy(result.message:find("setting ca_file", 1, true), result.message)
    end)

    it("a refused connection, tried again until the deadline with one permit", function()
      local tries = 0
      local c = bed:new { host = "http://127.0.0.1:1", per_minute = 1, timeout = 1,
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
    local c = bed:new { token = function()
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
    local c = bed:new { on_event = function(e)
      events[#events + 1] = e
      error("listener")
    end }
    bed:play { times = 1, status = 429, retry_after = 1 }
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

  it("gives results that are one line for people, masked", function()
    assert.matches("^accepted  %+9112%*%*%*%*%*90  id mine  %d+%.%d%d s$",
      tostring(assert(client:send({ to = TO, id = "mine" }))))
    bed:play { times = 1, status = 412 }
    assert.matches("^rejected  %+9112%*%*%*%*%*90  invalid_request  .+  id a b  %d+%.%d%d s$",
      tostring(failing(client, { to = TO, id = "a\27b" })))
    for result in client:send_many({ { to = "12" } }) do
      assert.matches("^not_sent  %*%*%*%*%*  invalid_number  to: ", tostring(result))
    end
  end)
end)
