--- What libcurl, cosockets and the kernel say, translated into the names of failures that
-- koresms.verdict knows.
local M = {}

--- libcurl's codes (curl/curl.h) before a request byte left. A time-out is judged by how
-- far the transfer had come.
M.curl = {
  [5] = "proxy", -- could not resolve the proxy
  [6] = "dns",
  [7] = "connect",
  [35] = "tls", -- handshake
  [51] = "tls", -- peer verification, before 7.62
  [53] = "tls", -- engine not found
  [54] = "tls", -- engine cannot be set
  [58] = "tls", -- client certificate
  [59] = "tls", -- cipher
  [60] = "tls", -- peer verification
  [64] = "tls", -- level of security
  [66] = "tls", -- engine cannot be initialised
  [77] = "tls", -- ca_file
  [80] = "tls", -- shutdown
  [82] = "tls", -- list of revoked certificates
  [83] = "tls", -- issuer
  [90] = "tls", -- pinned key
  [91] = "tls", -- status of the certificate
  [97] = "proxy",
  [98] = "tls", -- client certificate required
}

--- libcurl's codes after a request byte may have left, where it is not a lost connection.
M.curl_after = {
  [1] = "bad_response", -- HTTP/0.9, or no HTTP at all
  [8] = "bad_response",
  [61] = "bad_response",
  [63] = "bad_response",
}

local phases = { resolve = "dns", connect = "connect", proxy = "proxy", tls = "connect" }

local TIMED_OUT = 28

--- Names a failure of libcurl.
-- @tparam number code a CURLcode
-- @tparam number starts times request bytes began to leave
-- @tparam string phase "resolve", "connect", "proxy" or "tls"
-- @tparam boolean refused the reply was refused for what it held
-- @tparam boolean late the deadline has passed
-- @treturn string
function M.from_curl(code, starts, phase, refused, late)
  if starts > 0 then
    if refused then return "bad_response" end
    if code == TIMED_OUT then return "timeout" end
    return M.curl_after[code] or "connection_lost"
  end
  if code == TIMED_OUT then return late and "timeout" or phases[phase] end
  -- A tunnel that the proxy refused or broke ends in a code of its own connection.
  return M.curl[code] or (phase == "proxy" and "proxy") or "connect"
end

return M
