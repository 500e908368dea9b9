-- The transport over cosockets, inside a real nginx, against the fault bench.

local paths = require "spec.support.paths"
local failure = require "koresms.transport.failure"

-- What ngx_lua says, for each row of the table.
local SAYINGS = {
  { "context", "API disabled in the context of log_by_lua*", "context", "koresms.later" },
  { "context", "no request found", "context", "ngx.timer.at" },
  { "context", "no ctx found", "context", "ngx.timer.at" },
  { "context", "anything else", "context" },
  { "connect", 'no resolver defined to resolve "kore.test"', "dns", "hosts file" },
  { "connect", "kore.test could not be resolved (3: Host not found)", "dns" },
  { "connect", "failed to start the resolver", "dns" },
  { "connect", 'failed to parse host name "a b": invalid host', "dns" },
  { "connect", "connection refused", "connect" },
  { "connect", "timeout", "connect" },
  { "proxy", "connection reset by peer", "proxy" },
  { "handshake", "22: certificate chain too long", "tls", "lua_ssl_verify_depth" },
  { "handshake", "18: self-signed certificate", "tls", "lua_ssl_trusted_certificate" },
  { "handshake", "20: unable to get local issuer certificate", "tls", "lua_ssl_trusted_certificate" },
  { "handshake", "21: unable to verify the first certificate", "tls", "lua_ssl_trusted_certificate" },
  { "handshake", "18: certificate host mismatch", "tls", "`host`" },
  { "handshake", "10: certificate has expired", "tls", "clock" },
  { "handshake", "9: certificate is not yet valid", "tls", "clock" },
  { "handshake", "ssl set client private key failed", "tls", "client_key" },
  { "handshake", "handshake failed", "tls", "lua_ssl_protocols" },
  { "handshake", "timeout", "connect" },
  { "handshake", "closed", "tls" },
  { "receive", "timeout", "timeout" },
  { "send", "timeout", "timeout" },
  { "send", "broken pipe", "connection_lost" },
  { "receive", "connection reset by peer", "connection_lost" },
}

describe("failure.from_cosocket", function()
  for _, row in ipairs(SAYINGS) do
    it(("finds %s in '%s'"):format(row[3], row[2]), function()
      local name, text = failure.from_cosocket(row[2], row[1])
      assert.equal(row[3], name)
      assert.is_truthy(text:find((row[2]:gsub("^%d+: ", "")), 1, true))
      assert.is_truthy(text:find(row[4] or "", 1, true))
    end)
  end

  it("has a saying for each row", function()
    local met = {}
    for _, saying in ipairs(SAYINGS) do
      local text = saying[2]:gsub("^%d+: ", "")
      for index, row in ipairs(failure.cosocket) do
        if (not row.phase or row.phase == saying[1]) and text:find(row[1]) then
          met[index] = true
          break
        end
      end
    end
    for index, row in ipairs(failure.cosocket) do
      assert(met[index], ("row %d (%s) has none"):format(index, row[1]))
    end
  end)
end)

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local faults = require "spec.support.faults"
local worker_support = require "spec.support.worker"
local step = faults.step

local FAILURES = { dns = 0, connect = 0, proxy = 0, tls = 0, context = 0, timeout = 1,
  connection_lost = 1, bad_response = 1 }

describe("the cosocket transport", function()
  local bench, worker, certs

  setup(function()
    bench = faults.start()
    certs = bench:certs()
    local names = bench:dns { names = { ["kore.test"] = { A = { "127.0.0.1" } } } }
    worker = worker_support.start {
      ca = certs["ca.pem"], resolver = "127.0.0.1:" .. names.port .. " ipv6=off",
      silent = bench:listen({}).origin,
    }
    worker.names = names
  end)

  teardown(function()
    local log = worker and worker:log() or ""
    if worker then worker:stop() end
    if bench then bench:stop() end
    -- nginx itself logs what the network and TLS do to a connection; nothing else is there.
    local ours = {}
    for line in log:gmatch("[^\n]+") do
      if not line:find("%w%(%) failed %(") and not line:find("peer closed connection in SSL handshake") then
        ours[#ours + 1] = line
      end
    end
    assert.equal("", table.concat(ours, "\n"))
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
    check(exchange("http://localhost:80", nil, nil, "bare")[1], "dns", 0, "`resolver`", "hosts file")
  end)

  it("does not wait for a name server beyond its own time", function()
    bench:dns { port = worker.names.port, mode = "silent" }
    local results = worker:run {
      { settings = settings "http://slow.test:80", timeout = 2, connect_timeout = 0.2 },
      { settings = settings "http://slower.test:80", timeout = 0.2, connect_timeout = 2 },
    }
    bench:dns { port = worker.names.port, names = { ["kore.test"] = { A = { "127.0.0.1" } } } }
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
      { { http_version = "2" }, "http_version" },
      { { proxy = "https://127.0.0.1:1" }, "http:// proxy" },
      { { client_cert = certs["ca.pem"], client_key = "/nowhere" }, "client_key" },
      { { client_cert = certs["client.key"] }, "client_cert" },
    }
    for _, row in ipairs(refusals) do
      local text = worker:run({ { settings = settings("https://kore.test", row[1]) } })[1].text
      assert(text and text:find(row[2], 1, true), tostring(text))
    end
  end)

  -- All named faults at once, with what must hold for each of them.
  local function judge(row, reply)
    local function must(truth, law)
      assert(truth, ("%s: %s (%s, starts %d): %s"):format(row.name, law,
        reply.failure or reply.status, reply.starts, reply.text or ""))
    end
    must(reply.starts >= row.processed or row.either, "processed more than was started")
    must(reply.elapsed < 1.5, "took too long")
    if reply.failure then
      must(FAILURES[reply.failure] == reply.starts or reply.failure == "timeout", "wrong starts")
      must(not row.answers or row.either, "an answer was lost")
    else
      -- A body that ends with the connection may end anywhere: JSON tells, not the transport.
      must(row.answers or row.either or row.malformed or row.name == "close_delimited_k_close",
        "an answer out of nothing")
      must(not row.answers or row.either or reply.status == (row.status or 200), "wrong status")
    end
  end

  -- Runs each case, `{ row, k }`. Where `again` is set, one more exchange follows; after a
  -- failure it must succeed, on a connection of its own.
  local function run_cases(cases, listen, again)
    local jobs, servers = {}, {}
    for index, case in ipairs(cases) do
      local row = case[1]
      local server, more = listen(row, { k = case[2] })
      local origin = server.origin
      if server.scheme == "https" then origin = "https://kore.test:" .. server.port end
      servers[index] = server
      more.client_cert, more.client_key = certs[row.client_cert], certs[row.client_key]
      local exchanges = row.kept and { {}, {} } or { {} }
      if again then exchanges[#exchanges + 1] = {} end
      jobs[index] = { settings = settings(origin, more), timeout = 0.8, connect_timeout = 0.5,
        exchanges = exchanges }
    end
    for index, result in ipairs(worker:run(jobs)) do
      local row, replies = cases[index][1], result.replies or error(result.text)
      local starts = 0
      for _, reply in ipairs(replies) do starts = starts + reply.starts end
      local seen = servers[index]:stats { settle = row.stalls and 0 or 1 }
      assert(seen.processed <= starts, row.name .. ": processed more than was started")
      local last = again and table.remove(replies)
      if row.kept then assert.equal(200, replies[1].status) end
      local reply = replies[#replies]
      judge(row, reply)
      if again and reply.failure then
        assert.same({ 200, 2 }, { last.status, seen.accepted }, row.name)
      end
      servers[index]:close()
    end
  end

  local function cases_of(group, step_of_k)
    local cases = {}
    for _, row in ipairs(faults.list) do
      if row.group == group then
        for k = 0, faults.last_k(row, 300) or 0, step_of_k do cases[#cases + 1] = { row, k } end
      end
    end
    assert(#cases > 0)
    return cases
  end

  for _, group in ipairs { "early", "processed", "kept", "framing", "tls", "connect" } do
    it("holds its promise for the faults of: " .. group, function()
      run_cases(cases_of(group, 67), function(row, arg)
        return bench:listen_for(row, arg), {}
      end, group ~= "tls" and group ~= "connect")
    end)
  end

  it("holds its promise for the faults of: proxy", function()
    local far = bench:listen()
    run_cases(cases_of("proxy", 67), function(row, arg)
      local proxy = bench:listen_for(row, arg)
      return { origin = far.origin, scheme = "http", close = function() proxy:close() end,
        stats = function() return { processed = 0 } end }, { proxy = proxy.origin }
    end)
  end)
end)
