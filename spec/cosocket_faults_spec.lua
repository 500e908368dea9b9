-- The transport over cosockets against the fault bench, and the table of what ngx_lua says.

local paths = require "spec.support.paths"
local failure = require "koresms.failure"

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
  { "handshake", "20: unable to get local issuer certificate", "tls",
    "lua_ssl_trusted_certificate" },
  { "handshake", "21: unable to verify the first certificate", "tls",
    "lua_ssl_trusted_certificate" },
  { "handshake", "18: certificate host mismatch", "tls", "`host`" },
  { "handshake", "10: certificate has expired", "tls", "clock" },
  { "handshake", "9: certificate is not yet valid", "tls", "clock" },
  { "handshake", "ssl set client private key failed", "tls", "client_key" },
  { "handshake", "certificate refused", "tls", "lua_ssl_trusted_certificate" },
  { "handshake", "handshake failed", "connect", "lua_ssl_protocols" },
  { "handshake", "timeout", "connect" },
  { "handshake", "closed", "connect" },
  { "handshake", "ssl set client cert failed", "tls" },
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

-- The starts that a failure may have; "timeout" may have both.
local FAILURES = { dns = 0, connect = 0, proxy = 0, tls = 0, context = 0, connection_lost = 1,
  bad_response = 1 }

describe("the cosocket transport, where things fail", function()
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
