-- What libcurl says of a connection that failed before the request: the network's doing, which
-- may be tried again, or a verdict on certificate, name, protocol or key, which may not.

local bed_support = require "spec.support.fault_bed"
local failure = require "koresms.failure"
local faults = require "spec.support.faults"

local step = faults.step

-- code, text, phase, name
local SAYINGS = {
  { 35, "OpenSSL SSL_connect: Connection reset by peer in connection to h:443 ", "handshake",
    "connect" },
  { 35, "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to h:443 ", "handshake", "connect" },
  { 35, "OpenSSL SSL_connect: SSL_ERROR_ZERO_RETURN in connection to h:443 ", "handshake",
    "connect" },
  { 35, "LibreSSL SSL_connect: Broken pipe in connection to h:443 ", "handshake", "connect" },
  { 35, "error:0A000126:SSL routines::unexpected eof while reading", "handshake", "connect" },
  { 35, "TLS connect error: error:0A000126:SSL routines::unexpected eof while reading", "handshake",
    "connect" },
  { 35, "TLS connect error: error:00000000:lib(0)::reason(0)", "handshake", "connect" },
  { 35, "gnutls_handshake() failed: The TLS connection was non-properly terminated.", "handshake",
    "connect" },
  { 35, "gnutls_handshake() failed: Error in the pull function.", "handshake", "connect" },
  { 35, "gnutls_handshake() failed: Error in the push function.", "handshake", "connect" },
  { 35, "Recv failure: Connection reset by peer", "handshake", "connect" },
  { 35, "Send failure: Broken pipe", "handshake", "connect" },
  { 55, "Send failure: Broken pipe", "handshake", "connect" },
  { 56, "Recv failure: Connection reset by peer", "handshake", "connect" },
  { 80, "Failed to shut down the SSL connection", "handshake", "connect" },
  { 35, "OpenSSL SSL_connect: SSL_ERROR_SSL in connection to h:443 ", "handshake", "tls" },
  { 35, "error:0A00010B:SSL routines::wrong version number", "handshake", "tls" },
  { 35, "error:0A000410:SSL routines::sslv3 alert handshake failure", "handshake", "tls" },
  { 35, "error:0A00042E:SSL routines::tlsv1 alert protocol version", "handshake", "tls" },
  { 35, "error:0A00018A:SSL routines::dh key too small", "handshake", "tls" },
  { 35, "gnutls_handshake() failed: A TLS fatal alert has been received.", "handshake", "tls" },
  { 60, "SSL certificate problem: certificate has expired", "handshake", "tls" },
  { 51, "SSL: no alternative certificate subject name matches target host name", "handshake",
    "tls" },
  { 58, "could not load PEM client certificate", "handshake", "tls" },
  { 59, "failed setting cipher list", "handshake", "tls" },
  { 77, "error setting certificate file: none.pem", "handshake", "tls" },
  { 98, "tlsv13 alert certificate required", "handshake", "tls" },
  -- The same with a proxy that itself speaks TLS.
  { 35, "OpenSSL SSL_connect: Connection reset by peer in connection to p:443 ", "proxy", "proxy" },
  { 35, "error:0A00010B:SSL routines::wrong version number", "proxy", "tls" },
  { 56, "CONNECT tunnel failed, response 403", "proxy", "proxy" },
  { 97, "Can't complete SOCKS5 connection", "connect", "proxy" },
  { 7, "Failed to connect to h port 443: Connection refused", "connect", "connect" },
  { 6, "Could not resolve host: h", "resolve", "dns" },
}

describe("failure.from_curl", function()
  for _, row in ipairs(SAYINGS) do
    it(("finds %s in %d '%s' (%s)"):format(row[4], row[1], row[2], row[3]), function()
      local name, text = failure.from_curl(row[3], 0, row[2], row[1])
      assert.equal(row[4], name)
      assert.truthy(text:find(row[2], 1, true), text)
    end)
  end

  it("has a saying for each way in which a handshake fails", function()
    local met = {}
    for _, saying in ipairs(SAYINGS) do
      for index, row in ipairs(failure.handshake) do
        if saying[1] == 35 and saying[2]:find(row[1]) then
          met[index] = true
          break
        end
      end
    end
    for index, row in ipairs(failure.handshake) do
      assert(met[index], ("row %d (%s) has none"):format(index, row[1]))
    end
  end)
end)

describe("a server that is restarting, behind a balancer that accepts and cuts", function()
  local bed

  setup(function() bed = bed_support.start() end)
  teardown(function() bed:stop() end)

  for _, scenario in ipairs { "tls_accept_close", "tls_accept_reset", "tls_hello_close",
                              "tls_hello_reset", "tls_flight_k_close", "tls_flight_k_reset" } do
    it("gets the message when it is back: " .. scenario, function()
      local row = faults.named[scenario]
      local cut = faults.script(row, { k = row.sweep and 300 })
      local server = bed.bench:listen_for(row, { k = row.sweep and 300 },
        { connections = { cut, cut }, default = { step.handshake(), step.serve() } })
      local client = bed:client(server.origin, { retries = 2 })
      local result = bed:send(client)
      client:close()
      assert.equal("accepted", result.outcome .. (result.code or ""), result.message)
      assert.equal(1, result.attempts)
      local seen = server:stats { settle = 2 }
      assert.same({ 3, 1, 1 }, { seen.accepted, seen.processed, seen.to[result.to] })
      server:close()
    end)
  end
end)
