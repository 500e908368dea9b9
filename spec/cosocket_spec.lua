-- The transport over cosockets, inside a real nginx.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local faults = require "spec.support.faults"
local worker_support = require "spec.support.worker"
local step = faults.step

describe("the cosocket transport", function()
  local bench, worker, certs

  setup(function()
    bench = faults.start()
    worker = worker_support.start(bench)
    certs = worker.certs
  end)

  teardown(function()
    local log = worker and worker:log()
    if worker then worker:stop() end
    if bench then bench:stop() end
    assert.equal("", log)
  end)

  local function settings(origin, more)
    local made = { host = origin, bot_id = "st-1", max_idle = 30 }
    for name, value in pairs(more or {}) do made[name] = value end
    return made
  end

  -- The replies of one job.
  local function exchange(origin, exchanges, more, location)
    local result = worker:run({ { settings = settings(origin, more), exchanges = exchanges,
      timeout = 2, connect_timeout = 1 } }, location)[1]
    return result.replies or error(result.text)
  end

  local function check(reply, name, starts, ...)
    assert.same({ name, starts }, { reply.failure, reply.starts })
    for _, word in ipairs { ... } do
      assert(reply.text:find(word, 1, true), ("no '%s' in: %s"):format(word, reply.text))
    end
  end

  it("keeps a connection, and sends what core.request makes", function()
    local server = bench:listen()
    local replies = exchange(server.origin, { {}, {}, {} })
    for _, reply in ipairs(replies) do
      assert.same({ 200, faults.OK_BODY, 1 }, { reply.status, reply.body, reply.starts })
    end
    local seen = server:stats { settle = 1, requests = true }
    assert.same({ 1, 3 }, { seen.accepted, seen.processed })
    assert.equal("/api/public/bot/st-1/outboundsms", seen.requests[1].target)
    assert.equal('{"fromNo":"+19876543210","toNo":"+911234567890"}', seen.requests[1].body)
  end)

  it("keeps none with max_idle 0, and none that is older", function()
    local server = bench:listen()
    exchange(server.origin, { {}, {} }, { max_idle = 0 })
    assert.equal(2, server:stats().accepted)
    exchange(server.origin, { {}, { pause = 0.15 } }, { max_idle = 0.05 })
    assert.equal(4, server:stats().accepted)
  end)

  it("does not reuse a connection after which something is left over or announced", function()
    for _, name in ipairs { "second_reply_same_write", "close_delimited", "http10_with_length",
                            "idle_announced_close", "length_short_by_junk" } do
      local server = bench:listen()
      server:play(name)
      local replies = exchange(server.origin, { {}, {} })
      assert.same({ 200, 200 }, { replies[1].status, replies[2].status }, name)
      assert.equal(2, server:stats().accepted, name)
    end
  end)

  it("does not take what came late on a kept connection for an answer", function()
    for _, tls in ipairs { false, true } do
      local server = bench:listen { tls = tls and { cert = "good" } or nil, connections = { {
        step.read_request(), step.respond(), step.stall { seconds = 0.02 }, step.respond(),
        step.serve() } } }
      local replies = exchange((server.origin:gsub("127.0.0.1", "kore.test")),
        { {}, { pause = 0.1 } })
      assert.same({ 200, 200 }, { replies[1].status, replies[2].status })
      assert.same({ 2, 2 }, { server:stats().accepted, server:stats { settle = 1 }.processed })
    end
  end)

  it("does not leave bytes behind in the TLS library", function()
    for _, size in ipairs { 4095, 4096, 8192 } do
      local reply = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
      local length = size - #reply:format(1000)
      reply = reply:format(length) .. (" "):rep(length)
      assert.equal(size, #reply)
      local server = bench:listen { tls = { cert = "good" }, connections = { {
        step.read_request(), step.send { data = reply .. step.OK_REPLY } } } }
      local replies = exchange((server.origin:gsub("127.0.0.1", "kore.test")), { {}, {} })
      assert.same({ 200, 200 }, { replies[1].status, replies[2].status })
      assert.equal(2, server:stats().accepted, size)
    end
  end)

  it("reports a kept connection that dies once, and opens a new one after it", function()
    for _, name in ipairs { "next_unread_reset", "next_processed_close", "next_processed_reset" } do
      local server = bench:listen()
      server:play(name)
      local replies = exchange(server.origin, { {}, {}, {} })
      assert.equal(200, replies[1].status)
      check(replies[2], "connection_lost", 1, "127.0.0.1:" .. server.port)
      assert.equal(200, replies[3].status)
      local seen = server:stats { settle = 1 }
      assert.same({ 2, 2 + faults.named[name].processed }, { seen.accepted, seen.processed })
    end
  end)

  it("takes a connection that was closed while idle for none", function()
    local server = bench:listen { connections = { {
      step.read_request(), step.respond(), step.close() } } }
    local replies = exchange(server.origin, { {}, { pause = 0.05 } })
    assert.same({ 200, 200 }, { replies[1].status, replies[2].status })
  end)

  it("tells the time that passed before the request from the time after", function()
    local hole, silent = bench:listen { mode = "blackhole" }, bench:listen {
      connections = { { step.stall() } } }
    local results = worker:run {
      { settings = settings(hole.origin), timeout = 2, connect_timeout = 0.2 },
      { settings = settings(hole.origin), timeout = 0.2, connect_timeout = 2 },
      { settings = settings(silent.origin), timeout = 0.2, connect_timeout = 2 },
      { settings = settings(silent.origin), timeout = 0.0000001, connect_timeout = 1 },
    }
    local want = { { "connect", 0 }, { "timeout", 0 }, { "timeout", 1 }, { "timeout", 0 } }
    for index, result in ipairs(results) do
      local reply = result.replies[1]
      check(reply, want[index][1], want[index][2])
      assert(reply.elapsed < 0.3, reply.elapsed)
    end
  end)

  it("resolves names, and says what is missing where it cannot", function()
    local server = bench:listen()
    local origin = "http://kore.test:" .. server.port
    assert.equal(200, exchange(origin)[1].status)
    check(exchange("http://nobody.test:80")[1], "dns", 0, "nobody.test", "Host not found")
    check(exchange("http://other.test:80", nil, nil, "bare")[1], "dns", 0, "`resolver`",
      "hosts file")
    local here = "http://localhost:" .. server.port
    assert.equal(200, exchange(here, nil, nil, "bare")[1].status)
  end)

  it("does not wait for a name server beyond its own time", function()
    bench:dns { port = worker.names, mode = "silent" }
    local results = worker:run {
      { settings = settings "http://slow.test:80", timeout = 2, connect_timeout = 0.2 },
      { settings = settings "http://slower.test:80", timeout = 0.2, connect_timeout = 2 },
    }
    bench:dns { port = worker.names, names = worker_support.NAMES }
    check(results[1].replies[1], "connect", 0, "slow.test:80", "timeout")
    check(results[2].replies[1], "timeout", 0)
    for _, result in ipairs(results) do assert(result.replies[1].elapsed < 0.3) end
  end)

  it("verifies certificates, and names the directives", function()
    local server = bench:listen { tls = { cert = "chain" } }
    local origin = "https://kore.test:" .. server.port
    local replies = exchange(origin, { {}, {} })
    assert.same({ 200, 200 }, { replies[1].status, replies[2].status })
    assert.equal(1, server:stats().accepted)
    local reply = exchange("https://127.0.0.1:" .. server.port, nil, nil, "shallow")[1]
    check(reply, "tls", 0, "lua_ssl_verify_depth")
    reply = exchange("https://127.0.0.1:" .. server.port, nil, nil, "bare")[1]
    check(reply, "tls", 0, "lua_ssl_trusted_certificate", "lua_ssl_verify_depth")
    check(exchange("https://127.0.0.1:" .. server.port)[1], "tls", 0, "IP addresses")
    local wrong = bench:listen { tls = { cert = "wrong_host" } }
    check(exchange("https://kore.test:" .. wrong.port)[1], "tls", 0, "host mismatch")
  end)

  it("does not mix connections with and without a client certificate", function()
    local server = bench:listen { tls = { max = "1.2" } }
    local origin = "https://kore.test:" .. server.port
    local own = { client_cert = certs["client.pem"], client_key = certs["client.key"] }
    for _, more in ipairs { {}, own, {}, own } do
      assert.equal(200, exchange(origin, nil, more)[1].status)
    end
    assert.equal(2, server:stats().accepted)
  end)

  it("tunnels through a proxy, plain and TLS, and keeps the tunnel", function()
    for _, tls in ipairs { false, true } do
      local server = bench:listen { tls = tls and { cert = "good" } or nil }
      local proxy = bench:listen { proxy = true, default = {
        step.read_request(), step.tunnel { to = { "127.0.0.1", server.port } } } }
      local origin = server.scheme .. "://kore.test:" .. server.port
      local replies = exchange(origin, { {}, {} },
        { proxy = ("http://me:p%%40ss@127.0.0.1:%d"):format(proxy.port) })
      assert.same({ 200, 200 }, { replies[1].status, replies[2].status })
      local seen = proxy:stats { requests = true }
      assert.same({ 1, 1, 2 }, { seen.accepted, #seen.requests, server:stats().processed })
      assert.equal("kore.test:" .. server.port, seen.requests[1].target)
      local headers = {}
      for _, pair in ipairs(seen.requests[1].headers) do headers[pair[1]] = pair[2] end
      assert.equal("Basic bWU6cEBzcw==", headers["proxy-authorization"])
      assert.is_nil(headers.auth)
    end
  end)

  it("works in each phase that has cosockets, and says so in the others", function()
    local server = bench:listen()
    for _, location in ipairs { "rewrite", "access", "timer" } do
      assert.equal(200, exchange(server.origin, nil, nil, location)[1].status)
    end
    worker:run({}, "phases")
    local said = worker:run({}, "said")
    for _, phase in ipairs { "init_worker", "set", "header_filter", "body_filter", "log" } do
      check(said[phase], "context", 0, "koresms.later")
    end
  end)

  it("refuses settings that it cannot honour", function()
    local refusals = {
      { { ca_file = certs["ca.pem"] }, "lua_ssl_trusted_certificate" },
      { { proxy = "https://127.0.0.1:1" }, "http:// proxy" },
      { { client_cert = certs["ca.pem"], client_key = "/nowhere" }, "client_key" },
      { { client_cert = certs["client.key"] }, "client_cert" },
    }
    for _, row in ipairs(refusals) do
      local text = worker:run({ { settings = settings("https://kore.test", row[1]) } })[1].text
      assert(text and text:find(row[2], 1, true), tostring(text))
    end
  end)
end)
