-- What surrounds a client: name servers that fail, several addresses, and the variables by
-- which libcurl would take a proxy from the environment.

local bed_support = require "spec.support.fault_bed"
local child = require "spec.support.fault_child"

local function lines(text)
  local out = {}
  for line in text:gmatch("[^\n]+") do out[#out + 1] = line end
  return out
end

describe("the environment", function()
  local bed

  setup(function() bed = bed_support.start() end)
  teardown(function() bed:stop() end)

  local SEND = [[
    local koresms = require "koresms"
    local client = assert(koresms.new { host = os.getenv("TARGET"), bot_id = "st-1",
      client_id = "cs-1", client_secret = "secret", from = "+12", per_minute = false,
      ca_file = os.getenv("CA"), proxy = os.getenv("OWN_PROXY") })
    local result = assert(client:send { to = "+911" })
    print(result.outcome, result.attempts)
    client:close() ]]

  -- Variables in both cases of letters, with a listener that counts who comes.
  local function variables(address)
    local out = {}
    for _, name in ipairs { "http_proxy", "https_proxy", "all_proxy" } do
      out[#out + 1] = name .. "=" .. address
      out[#out + 1] = name:upper() .. "=" .. address
    end
    return table.concat(out, " ")
  end

  for _, way in ipairs { "plain", "tls" } do
    it("names a proxy that is not used: " .. way, function()
      local server = bed.servers[way]
      local trap = bed.bench:listen { proxy = true }
      server:script()
      local out = child.run(SEND, ("TARGET=%s CA=%s %s"):format(server.origin,
        bed.certs["ca.pem"], variables(trap.origin)))
      assert.equal("accepted\t1\n", out)
      assert.equal(1, server:stats({ settle = 1 }).processed)
      assert.equal(0, trap:stats().accepted)
    end)

    it("excepts nothing from the proxy of the settings: " .. way, function()
      local server = bed.servers[way]
      local trap = bed.bench:listen { proxy = true }
      local proxy = bed.bench:listen_for("proxy_good")
      server:script()
      local out = child.run(SEND,
        ("TARGET=%s CA=%s OWN_PROXY=%s %s no_proxy='*' NO_PROXY='*'"):format(
        server.origin, bed.certs["ca.pem"], proxy.origin, variables(trap.origin)))
      assert.equal("accepted\t1\n", out)
      assert.equal(1, proxy:stats().connects)
      assert.equal(0, trap:stats().accepted)
    end)
  end

  it("names no other authorities to trust", function()
    local server = bed.bench:listen { tls = { cert = "wrong_ca" } }
    local out = child.run((SEND:gsub("assert%(client:send", "select(4, client:send"))
      :gsub("print%(result%.outcome", "print(result.code"),
      ("TARGET=%s CA=%s CURL_CA_BUNDLE=%s"):format(server.origin, bed.certs["ca.pem"],
        bed.certs["other-ca.pem"]))
    assert.equal("tls\t0\n", out)
  end)
end)

describe("names", function()
  -- One process in a network of its own: its bench is the name server and the platform.
  local PIECE = [[
    local bed = bed_support.start()
    local four = bed.bench:listen { tls = {} }
    bed.bench:listen { host = "::1", port = four.port, tls = {} }
    local dead = bed.bench:listen { host = "::1", tls = {} }
    local NAMES = {
      ["kore.test"] = { A = { "127.0.0.1" } },
      ["six.kore.test"] = { AAAA = { "::1" } },
      ["both.kore.test"] = { A = { "127.0.0.1" }, AAAA = { "::1" } },
      ["several.kore.test"] = { A = { "127.0.0.9", "127.0.0.8", "127.0.0.1" } },
      ["unreachable.kore.test"] = { A = { "192.0.2.1" } },
      ["empty.kore.test"] = {},
    }
    local dns = bed.bench:dns { port = 53, names = NAMES }
    local function say(what, host, port, options)
      local client = bed:client(("https://%s:%d"):format(host, port))
      local begin = bed_support.clock()
      local result = bed:send(client, options)
      local took = bed_support.clock() - begin
      print(what, result.outcome, tostring(result.code), result.attempts,
        tostring(result.retryable), took < (options and options.timeout or 5) + 1)
      client:close()
    end
    say("ipv4", "kore.test", four.port)
    say("ipv6", "six.kore.test", four.port)
    say("hosts file", "hosted.kore.test", four.port)
    say("first dead", "several.kore.test", four.port)
    say("other family dead", "both.kore.test", dead.port)
    say("unknown", "none.kore.test", four.port)
    say("no address", "empty.kore.test", four.port)
    say("unreachable", "unreachable.kore.test", four.port, { timeout = 1 })
    for _, mode in ipairs { "nxdomain", "servfail", "refused" } do
      bed.bench:dns { port = 53, mode = mode }
      say(mode, "six.kore.test", four.port, { timeout = 3 })
    end
    bed.bench:dns { port = 53, mode = "silent" }
    say("silent", "six.kore.test", four.port, { timeout = 0.4 })
    say("silent, connecting", "six.kore.test", four.port, { timeout = 3, connect_timeout = 0.4 })

    -- One client meets a name server that is silent and then is not; what it had kept stays.
    local client = bed:client("https://kore.test:" .. four.port, { max_idle = 0 })
    bed.bench:dns { port = 53, mode = "silent" }
    print("first", bed:send(client, { timeout = 0.3 }).code)
    bed.bench:dns { port = 53, names = NAMES }
    print("then", bed:send(client).outcome)
    print(("processed %d"):format(bed.bench:stats({ settle = 1 }).processed))

    -- The name leads elsewhere: new connections follow within seconds.
    local there = bed.bench:listen { host = "127.0.0.2", port = four.port, tls = {} }
    bed.bench:dns { port = 53, names = { ["kore.test"] = { A = { "127.0.0.2" } } } }
    local last = bed_support.clock() + 20
    repeat
      assert(bed:send(client).outcome == "accepted")
      os.execute("sleep 0.2")
    until there:stats().processed > 0 or bed_support.clock() > last
    print("moved", there:stats().processed > 0)
    there:close()
    client:close()
    bed.bench:stop()
  ]]

  local WANTED = {
    "ipv4\taccepted\tnil\t1\tfalse\ttrue",
    "ipv6\taccepted\tnil\t1\tfalse\ttrue",
    "hosts file\taccepted\tnil\t1\tfalse\ttrue",
    "first dead\taccepted\tnil\t1\tfalse\ttrue",
    "other family dead\taccepted\tnil\t1\tfalse\ttrue",
    "unknown\tnot_sent\tdns\t0\ttrue\ttrue",
    "no address\tnot_sent\tdns\t0\ttrue\ttrue",
    "unreachable\tnot_sent\tconnect\t0\ttrue\ttrue",
    "nxdomain\tnot_sent\tdns\t0\ttrue\ttrue",
    "servfail\tnot_sent\tdns\t0\ttrue\ttrue",
    "refused\tnot_sent\tdns\t0\ttrue\ttrue",
    "silent\tnot_sent\ttimeout\t0\ttrue\ttrue",
    "silent, connecting\tnot_sent\tdns\t0\ttrue\ttrue",
    "first\ttimeout",
    "then\taccepted",
    "processed 6",
    "moved\ttrue",
  }

  it("that are found late, wrongly or not at all", function()
    local begin = bed_support.clock()
    local out = child.run(PIECE, nil, { hosts = { "127.0.0.1 hosted.kore.test" },
      resolver = "127.0.0.1" })
    if not out then
      pending("this machine permits no private network")
      return
    end
    assert.same(WANTED, lines(out))
    -- The resolver's threads hold up nothing, not even the end of the program.
    assert(bed_support.clock() - begin < 25 * bed_support.patience, "the program did not end")
  end)
end)

describe("the end of the program", function()
  local bed

  setup(function() bed = bed_support.start() end)
  teardown(function() bed:stop() end)

  local PIECE = [[
    local client
    local function finalizer(name)
      local function finalize()
        local ok, sent, _, code = pcall(function()
          return client:send { to = "+911234567890" }
        end)
        print(name, ok and (sent and sent.outcome or code) or "raised " .. tostring(sent))
      end
      if not newproxy then return setmetatable({}, { __gc = finalize }) end
      local made = newproxy(true)
      getmetatable(made).__gc = finalize
      return made
    end
    older = finalizer("older")
    client = assert(require("koresms").new { host = os.getenv("TARGET"), bot_id = "st-1",
      client_id = "cs-1", client_secret = "secret", from = "+12", per_minute = false })
    newer = finalizer("newer")
    print("end") ]]

  it("lets finalizers send, or tells them that it is too late", function()
    local server = bed.bench:listen()
    local told = lines(child.run(PIECE, "TARGET=" .. server.origin))
    table.sort(told)
    -- What Lua has finalized before an older object is gone for that.
    assert.same({ "end", "newer\taccepted", "older\tsign" }, told)
    assert.equal(1, server:stats { settle = 1 }.processed)
    server:close()
  end)
end)
