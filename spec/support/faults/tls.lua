--- TLS, good and bad, and connections that never come about. Each row has a listener of
-- its own (`bench:listen_for(row)`). Fields: see request.lua; also `ca`, `client_cert`
-- and `client_key`: names of files of `bench:certs()` that the client is to be given;
-- `late`: under TLS 1.3 the server refuses when the client has finished its handshake,
-- so request bytes may leave before the client learns of it.

local step = require("spec.support.faults.step")

local rows = {}

local function add(name, tls, more)
  local row = more or {}
  row.name, row.group = name, row.group or "tls"
  row.processed, row.answers = row.answers and 1 or 0, row.answers or false
  if row.answers then row.status, row.body = 200, "object" end
  row.listen = row.listen or { tls = tls }
  row.ca = row.ca or "ca.pem"
  rows[#rows + 1] = row
end

add("tls_good", { cert = "good" }, { answers = true })
add("tls_good_12", { cert = "good", max = "1.2" }, { answers = true })
add("tls_chain", { cert = "chain" }, { answers = true })
-- The leaf comes first (Python's ssl permits nothing else); root and intermediate are in
-- the wrong order, which OpenSSL's clients sort out.
add("tls_chain_reversed", { cert = "reversed" }, { answers = true })
-- Nobody looks into a revocation list unless told to.
add("tls_revoked", { cert = "revoked" }, { answers = true, either = true })

for _, cert in ipairs {
  "expired", "not_yet", "self_signed", "wrong_host", "wrong_purpose", "wrong_ca",
  "no_intermediate", "weak_rsa1024", "weak_hash",
} do
  add("tls_" .. cert, { cert = cert })
end
add("tls_weak_rsa512", { cert = "weak_rsa512", max = "1.2" })
add("tls_10_only", { min = "1.0", max = "1.0" })
add("tls_11_only", { min = "1.1", max = "1.1" })
add("tls_null_cipher", { max = "1.2", ciphers = "NULL:@SECLEVEL=0" })

for _, version in ipairs { "1.2", "1.3" } do
  local tls = { client_ca = true, min = version, max = version }
  local name = "tls_client_cert_" .. version:gsub("%.", "")
  local late = version == "1.3" or nil
  add(name .. "_given", tls, {
    answers = true, client_cert = "client.pem", client_key = "client.key",
  })
  add(name .. "_missing", tls, { late = late })
  add(name .. "_wrong", tls, {
    late = late, client_cert = "client-wrong.pem", client_key = "client.key",
  })
end

-- The handshake, by hand ----------------------------------------------------------------

local function by_hand(name, steps, more)
  more = more or {}
  more.steps = steps
  add(name, { manual = true }, more)
end

local HANDSHAKE_FAILURE = { b64 = "FQMDAAICKA==" }

for _, name in ipairs { "close", "reset", "stall" } do
  local ending, stalls = step[name](), name == "stall" and true or nil
  by_hand("tls_accept_" .. name, { ending }, { stalls = stalls })
  by_hand("tls_hello_" .. name, { step.read_client_hello(), ending }, { stalls = stalls })
  by_hand("tls_flight_k_" .. name, function(arg)
    return { step.handshake_part { limit = arg.k }, ending }
  end, { stalls = stalls, sweep = 600 })
  by_hand("tls_done_" .. name, { step.handshake(), ending },
    { stalls = stalls, either = true })
end
by_hand("tls_alert", { step.read_client_hello(), step.send { data = HANDSHAKE_FAILURE },
  step.close() })
by_hand("tls_garbage", { step.read_client_hello(),
  step.send { data = { b64 = "/////////////w==" } }, step.close() })
by_hand("tls_to_plain_http", { step.read_client_hello(),
  step.respond { status = 400, body = "", framing = "close" }, step.close() })

-- No connection -------------------------------------------------------------------------

add("connect_refused", nil, { group = "connect", listen = { mode = "refuse" } })
add("connect_hangs", nil, { group = "connect", listen = { mode = "blackhole" },
  stalls = true })
add("connect_ipv6", nil, { group = "connect", listen = { host = "::1" }, answers = true })
add("connect_ipv6_refused", nil, { group = "connect",
  listen = { host = "::1", mode = "refuse" } })

return rows
