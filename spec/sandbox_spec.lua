-- The sandbox, driven with curl and with tokens that PyJWT made.

require "spec.support.paths"

local cjson = require "cjson"
local nginx = require "koresms.sandbox.nginx"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"

local BODY = '{"fromNo": "+19876543210", "toNo": "+911234567890"}'
local OUTBOUND = "/api/public/bot/%s/outboundsms"
local INTERPRETER = rawget(_G, "jit") and "luajit" or "lua" .. _VERSION:match("%d%.%d")

local PYTHON = [[
import json, jwt, sys
claims, key, algorithm = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
print(jwt.encode(claims, key if algorithm != "none" else None, algorithm=algorithm))]]

local function run(...)
  local words = {}
  for index, word in ipairs({...}) do words[index] = shell.quote(word) end
  return shell.run(table.concat(words, " ") .. " 2>&1")
end

local function gone(path)
  return (shell.run("[ ! -e " .. shell.quote(path) .. " ]"))
end

local function wait_for(condition)
  for _ = 1, 250 do
    if condition() then return true end
    os.execute("sleep 0.02")
  end
  return false
end

local function pids(box)
  return {(assert(io.open(box.prefix .. "/nginx.pid")):read("*l")),
    ("%d"):format(box:get("/_sandbox/state").worker)}
end

local function all_gone(list)
  return wait_for(function()
    for _, pid in ipairs(list) do
      if not gone("/proc/" .. pid) then return false end
    end
    return true
  end)
end

describe("the sandbox", function()
  local box, default_token

  local function token(changes, key, algorithm)
    local claims = {sub = "1", appId = box.client_id, exp = os.time() + 300}
    for name, value in pairs(changes or {}) do
      claims[name] = value ~= "absent" and value or nil
    end
    local ok, text = run("env", "PATH=/usr/bin:/bin:/usr/local/bin", "python3", "-c", PYTHON,
      cjson.encode(claims), key or box.client_secret, algorithm or "HS256")
    assert(ok, text)
    return text
  end

  -- One request; the defaults make one that succeeds.
  local function post(given)
    given = given or {}
    local to = given.box or box
    local words = {"curl", "-si", "--max-time", given.max_time or "10", "--cacert", to.ca_file,
      given.http or "--http1.1", "-X", given.method or "POST",
      (given.base or to.host) .. OUTBOUND:format(given.bot or to.bot_id)}
    local auth = given.auth or default_token
    if auth ~= "absent" then
      words[#words + 1] = "-H"
      words[#words + 1] = "auth: " .. auth
    end
    if given.body ~= "absent" then
      words[#words + 1] = "--data-raw"
      words[#words + 1] = given.body or BODY
    end
    for index, word in ipairs(words) do words[index] = shell.quote(word) end
    local _, text = shell.run(table.concat(words, " ") .. "; echo \"curl $?\"")
    local head, body, code = text:match("^(.-\r\n)\r\n(.*)curl (%d+)$")
    return {
      status = head and tonumber(head:match("^HTTP/%S+ (%d+)")), head = head, body = body,
      curl = tonumber(code or text:match("curl (%d+)$")),
    }
  end

  local function count()
    return box:get("/_sandbox/messages").count
  end

  local function play(given)
    assert(box:control("POST", "/_sandbox/play", given))
  end

  local function set(given)
    assert(box:control("PUT", "/_sandbox/settings", given))
  end

  local function refused(reply, status, code, text)
    assert.equal(status, reply.status)
    assert.same({errors = {{msg = text, code = code}}}, cjson.decode(reply.body))
  end

  setup(function()
    box = assert(sandbox.start())
    default_token = token()
  end)

  teardown(function() box:stop() end)

  before_each(function()
    assert(box:control("DELETE", "/_sandbox/messages"))
    assert(box:control("DELETE", "/_sandbox/play"))
    set {scope = true, enforce_jti = false, per_minute = false, retry_after = false, latency = 0}
  end)

  describe("takes a message", function()
    for _, row in ipairs({
      {"over TLS with HTTP/1.1", {}, "1.1"},
      {"over TLS with HTTP/2", {http = "--http2"}, "2.0"},
      {"over plain HTTP", {plain = true}, "1.1"},
    }) do
      it(row[1], function()
        row[2].base = row[2].plain and box.plain
        local reply = post(row[2])
        assert.equal(200, reply.status)
        assert.equal('{"message": "Triggered the configured Experience flow to deliver message '
          .. 'via SMS channel"}', reply.body)
        local kept = box:get("/_sandbox/messages")
        assert.equal(1, kept.count)
        local message = kept.messages[1]
        assert.same({1, "+19876543210", "+911234567890", row[3]},
          {message.n, message.from, message.to, ("%.1f"):format(message.http)})
        assert.is_true(math.abs(message.at - os.time()) < 60)
      end)
    end

    it("signed with HS512, without expiry, or with a fraction in it", function()
      assert.equal(200, post({auth = token(nil, nil, "HS512")}).status)
      assert.equal(200, post({auth = token({exp = "absent"})}).status)
      assert.equal(200, post({auth = token({exp = os.time() + 60.5})}).status)
      assert.equal(3, count())
    end)
  end)

  describe("refuses", function()
    local CREDENTIALS = {401, 4002, "Invalid SDK credentials"}
    local MALFORMED = {401, 4002, "Invalid JWT token"}
    local ARGUMENTS = {412, 412, "Validation errors/ Invalid arguments"}

    -- The token with another character there.
    local function altered(at)
      local other = default_token:sub(at, at) == "B" and "C" or "B"
      return default_token:sub(1, at - 1) .. other .. default_token:sub(at + 1)
    end

    for _, row in ipairs({
      {"a request without a token", function() return {auth = "absent"} end, CREDENTIALS},
      {"an altered signature", function() return {auth = altered(#default_token - 5)} end,
        CREDENTIALS},
      {"another secret", function() return {auth = token(nil, "other")} end, CREDENTIALS},
      {"an expired token", function() return {auth = token({exp = os.time() - 1})} end,
        CREDENTIALS},
      {"an expiry that is no number", function()
        return {auth = token({exp = tostring(os.time() + 300)})}
      end, CREDENTIALS},
      {"another application", function() return {auth = token({appId = "cs-other"})} end,
        CREDENTIALS},
      {"a token without appId", function() return {auth = token({appId = "absent"})} end,
        CREDENTIALS},
      {"the algorithm none", function() return {auth = token(nil, nil, "none")} end, CREDENTIALS},
      {"HS384", function() return {auth = token(nil, nil, "HS384")} end, CREDENTIALS},
      {"what is no token", function() return {auth = "secret"} end, MALFORMED},
      {"a Bearer prefix", function() return {auth = "Bearer " .. default_token} end, MALFORMED},
      {"a padded token", function() return {auth = default_token .. "="} end, MALFORMED},
      {"an altered payload", function() return {auth = altered(45)} end, {401, 4002}},
      {"another bot", function() return {bot = "st-other"} end, {400, 400, "Invalid StreamId"}},
      {"another bot only after the token", function()
        return {bot = "st-other", auth = "absent"}
      end, CREDENTIALS},
      {"a missing body", function() return {body = "absent"} end, ARGUMENTS},
      {"a bad body only after the token", function()
        return {body = "absent", auth = "absent"}
      end, CREDENTIALS},
      {"a body that is not JSON", function() return {body = "fromNo=1"} end, ARGUMENTS},
      {"a body without toNo", function() return {body = '{"fromNo":"+19876543210"}'} end,
        ARGUMENTS},
      {"numbers that are no strings", function()
        return {body = '{"fromNo":19876543210,"toNo":911234567890}'}
      end, ARGUMENTS},
      {"a number that is not E.164", function()
        return {body = '{"fromNo":"+19876543210","toNo":"0123456789"}'}
      end, ARGUMENTS},
      {"another method", function() return {method = "PUT"} end, {405, 405, "Method Not Allowed"}},
      {"another address", function() return {bot = "a/b"} end, {404, 404, "Not Found"}},
    }) do
      it(row[1], function()
        local reply, expected = post(row[2]()), row[3]
        refused(reply, expected[1], expected[2],
          expected[3] or cjson.decode(reply.body).errors[1].msg)
        assert.equal(0, count())
      end)
    end

    it("a token whose last character changed only in bits that no byte has", function()
      local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
      local value = alphabet:find(default_token:sub(-1), 1, true)
      local twin = default_token:sub(1, -2) .. alphabet:sub(value + 1, value + 1)
      refused(post({auth = twin}), 401, 4002, "Invalid JWT token")
    end)

    it("a token without the scope", function()
      set {scope = false}
      refused(post(), 401, 4002, "Permission denied. Scope is incorrect!")
    end)

    it("more than the limit in a minute", function()
      set {per_minute = 2, retry_after = 7}
      local statuses = {}
      for index = 1, 3 do statuses[index] = post().status end
      assert.same({200, 200, 429}, statuses)
      local reply = post()
      refused(reply, 429, 429, "You've exceeded the per-minute rate limit. "
        .. "Please wait for sometime before retrying.")
      assert.matches("\r\n[Rr]etry%-[Aa]fter: 7\r\n", reply.head)
      assert.equal(2, count())
      set {per_minute = 3, retry_after = false}
      assert.equal(200, post().status)
    end)

    it("a second use of a jti, when that is enforced", function()
      set {enforce_jti = true}
      local once = token({jti = "a"})
      assert.equal(200, post({auth = once}).status)
      local replay = "error verifying the jwt: possibly a replay"
      local long = 'error verifying the jwt: if "jti" claim "exp" must be <= 1 hour(s)'
      refused(post({auth = once}), 401, 401, replay)
      refused(post(), 401, 4002, "Invalid SDK credentials")
      refused(post({auth = token({jti = "b", exp = os.time() + 3700})}), 401, 401, long)
      refused(post({auth = token({jti = "c", exp = "absent"})}), 401, 401, long)
      assert.equal(1, count())
      set {enforce_jti = false}
      assert.equal(200, post({auth = once}).status)
    end)
  end)

  describe("plays", function()
    it("a status before the message is processed, as often as told", function()
      play {status = 503, times = 2}
      refused(post({auth = "absent"}), 503, 503, "Service Unavailable")
      assert.equal(503, post().status)
      assert.equal(200, post().status)
      assert.equal(1, count())
    end)

    it("a status after the message was processed", function()
      play {status = 500, when = "after"}
      assert.equal(500, post().status)
      assert.equal(1, count())
    end)

    it("one failure after the other, and none once cleared", function()
      play {status = 502}
      play {status = 504, times = -1}
      assert.same({502, 504, 504}, {post().status, post().status, post().status})
      assert(box:control("DELETE", "/_sandbox/play"))
      assert.equal(200, post().status)
    end)

    for _, row in ipairs({
      {"a body and its type", {body = "plain", content_type = "text/plain"}, 200, "^plain$",
        "text/plain"},
      {"JSON that is cut off", {json = "wrong"}, 200, '^{"message": "Trigg[^}]*$'},
      {"HTML", {html = true, status = 502}, 502, "^<html>", "text/html"},
      {"headers", {headers = {["X-Test"] = "yes"}}, 200, "Triggered", nil, "x%-test: yes"},
      {"a Retry-After of seconds", {retry_after = 3}, 429, "rate limit", nil, "retry%-after: 3"},
      {"a Retry-After of a date", {status = 503, retry_after = "Wed, 21 Oct 2026 07:28:00 GMT"},
        503, "Unavailable", nil, "retry%-after: wed, 21 oct 2026 07:28:00 gmt"},
    }) do
      it(row[1], function()
        play(row[2])
        local reply = post()
        assert.equal(row[3], reply.status)
        assert.matches(row[4], reply.body)
        assert.matches(row[5] or "application/json", reply.head)
        assert.matches(row[6] or "", reply.head:lower())
      end)
    end

    it("a connection closed without an answer, before and after", function()
      play {close = true}
      play {close = true, when = "after"}
      assert.equal(52, post().curl)
      assert.equal(0, count())
      assert.equal(52, post().curl)
      assert.equal(1, count())
      play {close = true}
      assert.is_true(post({http = "--http2"}).curl > 0)
      assert.equal(3, box:get("/_sandbox/state").answers.closed)
    end)

    it("a delay, before which or after which the message is processed", function()
      play {delay = 0.6, when = "after"}
      assert.equal(28, post({max_time = "0.3"}).curl)
      assert.equal(1, count())
      play {delay = 0.6}
      assert.equal(28, post({max_time = "0.3"}).curl)
      assert.equal(1, count())
      assert.is_true(wait_for(function() return count() == 2 end))
    end)
  end)

  describe("is told and tells", function()
    it("only what it knows", function()
      for _, row in ipairs({
        {"PUT", "/_sandbox/settings", {per_minut = 1}, 'unknown key "per_minut"'},
        {"PUT", "/_sandbox/settings", {scope = "yes"}, "scope must be true or false"},
        {"POST", "/_sandbox/play", {time = 1}, 'unknown key "time"'},
        {"POST", "/_sandbox/play", {times = 1}, "needs something to play"},
        {"POST", "/_sandbox/play", {status = 99}, "status must be"},
        {"POST", "/_sandbox/play", nil, "must be a JSON object"},
        {"PUT", "/_sandbox/play", nil, "this path takes: DELETE, GET, POST"},
        {"GET", "/_sandbox/nothing", nil, "health, messages, play, settings, state"},
      }) do
        local answer, text = box:control(row[1], row[2], row[3])
        assert.is_nil(answer)
        assert.matches(row[4], text, 1, true)
      end
    end)

    it("its state, on both ports", function()
      assert.equal(200, post({bot = "bench"}).status)
      post({auth = "x"})
      local _, text = run("curl", "-s", "--cacert", box.ca_file, box.host .. "/_sandbox/state")
      local state = cjson.decode(text)
      assert.same(state, box:get("/_sandbox/state"))
      assert.equal(1, state.bench_count)
      assert.equal(0, state.count)
      assert.equal(1, state.requests)
      assert.same({["401"] = 1}, state.answers)
      assert.equal("ok", box:get("/_sandbox/health").status)
    end)

    it("the environment, quoted for a shell", function()
      local command = box:exports() .. 'printf "%s %s" "$KORESMS_HOST" "$KORESMS_CLIENT_SECRET"'
      local _, text = shell.run(command)
      assert.equal(box.host .. " " .. box.client_secret, text)
    end)
  end)

  it("counts exactly with several workers, and lists the messages in order", function()
    local many = assert(sandbox.start({workers = 3, client_secret = box.client_secret}))
    finally(function() many:stop() end)
    local command = ("seq 60 | xargs -P 8 -n 10 sh -c 'for i; do curl -s -H %s -d %s %s; done' x")
      :format('"$AUTH"', '"$BODY"', '"$URL"')
    shell.run(("export AUTH=%s BODY=%s URL=%s; %s"):format(shell.quote("auth: " .. default_token),
      shell.quote(BODY), shell.quote(many.plain .. OUTBOUND:format(many.bot_id)), command))
    local kept = many:get("/_sandbox/messages")
    assert.equal(60, kept.count)
    for n = 1, 60 do assert.equal(n, kept.messages[n].n) end
  end)

  it("checks RS256 and RS512 against a public key, and then no HMAC", function()
    local _, private = shell.run("openssl genrsa 2048 2>/dev/null")
    local _, public = shell.run(("printf '%%s\n' %s | openssl rsa -pubout 2>/dev/null")
      :format(shell.quote(private)))
    local rsa = assert(sandbox.start({public_key = public, client_secret = box.client_secret}))
    finally(function() rsa:stop() end)
    assert.equal(200, post({box = rsa, auth = token(nil, private, "RS256")}).status)
    assert.equal(200, post({box = rsa, auth = token(nil, private, "RS512")}).status)
    refused(post({box = rsa}), 401, 4002, "Invalid SDK credentials")
    local _, other = shell.run("openssl genrsa 2048 2>/dev/null")
    refused(post({box = rsa, auth = token(nil, other, "RS256")}), 401, 4002,
      "Invalid SDK credentials")
    refused(post({auth = token(nil, private, "RS256")}), 401, 4002, "Invalid SDK credentials")
  end)
end)

describe("a sandbox's life", function()
  it("is its own: two at once have their own ports, secrets and messages", function()
    local first, second = assert(sandbox.start()), assert(sandbox.start())
    finally(function() first:stop() second:stop() end)
    assert.are_not.equal(first.host, second.host)
    assert.are_not.equal(first.client_secret, second.client_secret)
    first:stop()
    assert.equal("ok", second:get("/_sandbox/health").status)
  end)

  it("ends with stop, which may be called again", function()
    local box = assert(sandbox.start())
    local processes = pids(box)
    box:stop()
    assert.is_true(gone(box.prefix))
    assert.is_true(gone("/proc/" .. processes[1]) and gone("/proc/" .. processes[2]))
    box:stop()
  end)

  -- A program of its own starts a box, says what runs, and ends as the row says.
  for _, row in ipairs({
    {"with a program that is killed", "os.execute('echo $$; exec sleep 60 >/dev/null 2>&1')", true},
    {"with a program that ends by an error", "os.exit(1)"},
  }) do
    it("ends " .. row[1], function()
      local path = os.tmpname()
      local file = assert(io.open(path, "w"))
      file:write([[
        require "spec.support.paths"
        local box = assert(require("koresms.sandbox").start())
        local pid = assert(io.open(box.prefix .. "/nginx.pid")):read("*l")
        print(io.open("/proc/self/stat"):read("*n"), pid,
          ("%d"):format(box:get("/_sandbox/state").worker), box.prefix)
        io.stdout:flush()
      ]], row[2])
      file:close()
      local child = io.popen("exec " .. INTERPRETER .. " " .. path, "r")
      local own, master, worker, prefix = child:read("*l"):match("(%d+)%s+(%d+)%s+(%d+)%s+(%S+)")
      if row[3] then
        assert.is_false(gone(prefix))
        -- Its sleeping child lives on for a while, and holds the pipe to the supervisor open.
        local sleeper = child:read("*l")
        finally(function() shell.run("kill " .. sleeper) end)
        shell.run("kill -KILL " .. own)
      end
      os.remove(path)
      -- Reaps it: a process that nobody waited for still counts as alive.
      child:close()
      assert.is_true(all_gone({master, worker}))
      assert.is_true(wait_for(function() return gone(prefix) end))
    end)
  end

  it("begins with a text when it cannot", function()
    local missing, text = nginx.find({"no-such-nginx"})
    assert.is_nil(missing)
    assert.equal("nginx", text)
    missing, text = sandbox.start({prefix = "/tmp"})
    assert.is_nil(missing)
    assert.matches("must not exist yet", text)
    missing, text = sandbox.start({public_key = "junk"})
    assert.is_nil(missing)
    assert.equal("public_key is not an RSA public key in PEM", text)
    local box = assert(sandbox.start())
    finally(function() box:stop() end)
    missing, text = sandbox.start({port = box.port})
    assert.is_nil(missing)
    assert.equal(("the address 127.0.0.1:%d is taken"):format(box.port), text)
  end)

  it("raises for options that it does not know", function()
    assert.has_error(function() sandbox.start({bot = "x"}) end)
    assert.has_error(function() sandbox.start({port = "x"}) end,
      "koresms.sandbox.start: port must be a port number, 1 to 65535")
  end)
end)
