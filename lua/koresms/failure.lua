--- Error texts and codes of libcurl, cosockets and the kernel, translated into the names of
-- failures that koresms.verdict knows.
local mask = require "koresms.mask"

local M = {}

--- libcurl's codes (curl/curl.h) before a request byte left. A time-out is judged by how
-- far the transfer had come, a failed handshake by its text.
M.curl = {
  [5] = "proxy", -- could not resolve the proxy
  [6] = "dns",
  [51] = "tls", -- peer verification, before 7.62
  [53] = "tls", -- engine not found
  [54] = "tls", -- engine cannot be set
  [56] = "proxy", -- nothing but a proxy's answer is received before the request
  [58] = "tls", -- client certificate
  [59] = "tls", -- cipher
  [60] = "tls", -- peer verification
  [64] = "tls", -- level of security
  [66] = "tls", -- engine cannot be initialised
  [77] = "tls", -- ca_file
  [82] = "tls", -- list of revoked certificates
  [83] = "tls", -- issuer
  [90] = "tls", -- pinned key
  [91] = "tls", -- status of the certificate
  [97] = "proxy",
  [98] = "tls", -- client certificate required
}

--- libcurl has one code for every handshake that fails. Where the network ended it (a reset, an
-- end of file, another error of the socket), nothing was said about certificate, name, protocol
-- or key, and the next attempt may succeed: a pattern of the text, and the failure. The first row
-- that fits counts.
M.handshake = {
  { "error:00000000", "connect" }, -- OpenSSL without a reason, libcurl 8.10
  { "unexpected eof while reading", "connect" }, -- OpenSSL 3
  { "SSL_connect: SSL_ERROR_SSL", "tls" },
  -- LibreSSL and OpenSSL, where the socket failed: an error of the system, or the name of one.
  { "SSL_connect: ", "connect" },
  { "non%-properly terminated", "connect" }, -- GnuTLS
  { "in the pull function", "connect" },
  { "in the push function", "connect" },
  { "[Cc]onnection reset", "connect" },
  { "[Bb]roken pipe", "connect" },
  { "", "tls" },
}

--- What would help where TLS failed: a pattern of OpenSSL's, GnuTLS's or libcurl's text, and
-- the setting to look at. The first row that fits counts.
M.tls_advice = {
  { "expired", "look at the server's certificate and at the clock of this machine" },
  { "not yet valid", "look at the server's certificate and at the clock of this machine" },
  { "not yet activated", "look at the server's certificate and at the clock of this machine" },
  { "subject name", "the certificate has to name the host as it stands in the setting host" },
  { "does not match", "the certificate has to name the host as it stands in the setting host" },
  { "issuer", "the setting ca_file names the certificates to trust" },
  { "self.signed", "the setting ca_file names the certificates to trust" },
  { "CAfile", "the setting ca_file has to name a readable file of certificates in PEM form" },
  { "setting certificate file", "the setting ca_file has to name a readable file of certificates "
    .. "in PEM form" },
  { "key too small", "the server's key is too weak; ca_file does not help, a new one does" },
  { "too weak", "the server's certificate is too weak; ca_file does not help, a new one does" },
  { "certificate verify", "the setting ca_file names the certificates to trust" },
  { "certificate problem", "the setting ca_file names the certificates to trust" },
  { "client certificate", "look at the settings client_cert and client_key" },
  { "private key", "look at the settings client_cert and client_key" },
  { "alert", "the server (setting host) refused; it may want another protocol "
    .. "than TLS 1.2 or 1.3, or the settings client_cert and client_key" },
  { "wrong version", "is the port in the setting host one for TLS?" },
  { "protocol", "the least is TLS 1.2; is the port in the setting host one for TLS?" },
  { "", "is the port in the setting host one for TLS? it may also want client_cert and "
    .. "client_key" },
}

local function with_advice(text, clean)
  for _, row in ipairs(M.tls_advice) do
    if text:find(row[1]) then return ("%s (%s)"):format(clean(text), row[2]) end
  end
end

-- What a time-out of libcurl's means, by how far it had come.
local timed_out = { resolve = "dns", connect = "connect", proxy = "proxy", handshake = "connect" }

local TIMED_OUT, HANDSHAKE_FAILED = 28, 35

-- Sending and receiving failed, and the end of a TLS connection.
local SOCKET_FAILED = { [55] = true, [56] = true, [80] = true }

local function name_of_handshake(text)
  for _, row in ipairs(M.handshake) do
    if text:find(row[1]) then return row[2] end
  end
end

local function name_before(what, text, code)
  if code == TIMED_OUT then return timed_out[what] end
  if code == HANDSHAKE_FAILED and name_of_handshake(text) == "tls" then return "tls" end
  if what == "handshake" and (code == HANDSHAKE_FAILED or SOCKET_FAILED[code]) then
    return "connect"
  end
  -- A tunnel that the proxy refused or broke ends in a code of its own connection.
  return M.curl[code] or what == "proxy" and "proxy" or "connect"
end

--- Names a failure of the engine of koresms.curl.
-- @tparam string what it says that failed, see `request:reply` there
-- @tparam number starts 0 where no byte has left
-- @tparam string text
-- @tparam number code a CURLcode, 0 where there is none
-- @tparam ?function clean of koresms.mask's `cleaner`: what libcurl says goes through it
-- @treturn string
-- @treturn string the text, with an advice where there is one
function M.from_curl(what, starts, text, code, clean)
  if starts > 0 or code == 0 then return what, text end
  clean = clean or mask.text
  local name = name_before(what, text, code)
  if name == "tls" then return name, with_advice(text, clean) end
  return name, clean(text)
end

local LATER = "send from a rewrite, access or content handler or a timer; in other phases "
  .. "use koresms.later, or ngx.timer.at"
local RESOLVER = "set the directive `resolver` to the address of a name server; nginx does "
  .. "not read the hosts file"
local TRUST = "lua_ssl_trusted_certificate names the file of the authorities to trust, "
  .. "lua_ssl_verify_depth (1 where it is not set) how long their chain may be"
local NAMES = "the certificate has to name the host as it stands in the setting `host`; "
  .. "nginx compares names, not IP addresses"
local VALIDITY = "look at the server's certificate and at the clock of this machine"
local REASON = "nginx's error log has the reason; lua_ssl_protocols, lua_ssl_ciphers, or "
  .. "client_cert and client_key may be what is missing"
local PAIR = "client_key has to belong to client_cert"
local UNTOLD = "nginx does not tell why: " .. TRUST .. "; " .. NAMES .. "; it has to be valid"

--- What cosockets and the kernel say: a pattern, the failure, and where they matter the phase
-- ("context", "connect", "proxy", "handshake", "send" or "receive") and an advice. The first
-- row that fits counts; the last rows of a phase take what is left.
M.cosocket = {
  { "API disabled in", "context", advice = LATER },
  { "no request found", "context", advice = LATER },
  { "no ctx found", "context", advice = LATER },
  { "", "context", phase = "context" },

  { "no resolver defined", "dns", advice = RESOLVER },
  { "could not be resolved", "dns" },
  { "failed to start the resolver", "dns" },
  { "failed to parse host name", "dns" },
  { "", "connect", phase = "connect" },

  { "", "proxy", phase = "proxy" },

  { "certificate chain too long", "tls", phase = "handshake", advice = TRUST },
  { "self.signed certificate", "tls", phase = "handshake", advice = TRUST },
  { "issuer certificate", "tls", phase = "handshake", advice = TRUST },
  { "verify the first certificate", "tls", phase = "handshake", advice = TRUST },
  { "certificate host mismatch", "tls", phase = "handshake", advice = NAMES },
  { "certificate has expired", "tls", phase = "handshake", advice = VALIDITY },
  { "certificate is not yet valid", "tls", phase = "handshake", advice = VALIDITY },
  { "client private key", "tls", phase = "handshake", advice = PAIR },
  { "certificate refused", "tls", phase = "handshake", advice = UNTOLD },
  -- Also said where the network ended the handshake.
  { "handshake failed", "connect", phase = "handshake", advice = REASON },
  { "^closed$", "connect", phase = "handshake" },
  { "^timeout$", "connect", phase = "handshake" },
  { "", "tls", phase = "handshake" },

  { "^timeout$", "timeout" },
  { "", "connection_lost" },
}

--- Names a failure of a cosocket.
-- @tparam string text as ngx_lua gave it
-- @tparam string phase in which it was said
-- @treturn string
-- @treturn string the text, with an advice where there is one
function M.from_cosocket(text, phase)
  -- ngx_lua puts a number of OpenSSL's before some texts, at times one of an older failure.
  text = text:gsub("^%d+: ", "")
  for _, row in ipairs(M.cosocket) do
    if (not row.phase or row.phase == phase) and text:find(row[1]) then
      text = mask.text(text)
      return row[2], row.advice and text .. " (" .. row.advice .. ")" or text
    end
  end
end

return M
