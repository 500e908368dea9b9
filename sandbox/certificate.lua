--- The shell that makes a certificate: by the supervisor for one run, or to be kept.
-- @module koresms.sandbox.certificate

local M = {}

-- Makes key.pem and cert.pem in the directory where it runs; $names is its subjectAltName. A
-- key on an elliptic curve is made at once.
local SCRIPT = [[
  printf '%s\n' '[req]' 'distinguished_name = name' 'x509_extensions = server' 'prompt = no' \
    '[name]' 'CN = koresms sandbox' '[server]' 'basicConstraints = critical, CA:TRUE' \
    'keyUsage = critical, digitalSignature, keyCertSign' 'extendedKeyUsage = serverAuth' \
    'subjectKeyIdentifier = hash' "subjectAltName = $names" >openssl.cnf
  openssl req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
    -nodes -days $days -keyout key.pem -out cert.pem]]

--- The names that a certificate holds.
-- @tparam string listen the address on which the sandbox listens
function M.names(listen)
  local names = "DNS:localhost, IP:127.0.0.1, IP:::1"
  if listen == "127.0.0.1" or listen == "::1" then return names end
  -- Where it listens everywhere, other machines know this one by its name.
  if listen == "0.0.0.0" or listen == "::" then return names .. ", DNS:$(uname -n)" end
  return names .. ", IP:" .. listen
end

--- A command of the shell; its status says whether the certificate was made.
-- @tparam string listen
-- @tparam number days for which it is valid
function M.script(listen, days)
  return ('{ names="%s" days=%d\n%s\n}'):format(M.names(listen), days, SCRIPT)
end

return M
