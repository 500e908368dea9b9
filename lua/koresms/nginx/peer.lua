--- What a cosocket's connection is made of, read from the settings once: where it goes, by
-- which proxy, with which certificate, and its name in nginx's pool of kept connections.
-- @module koresms.nginx.peer
-- luacheck: std ngx_lua

local core = require "koresms.core"

local M = {}

-- Connections of one name in the pool may stand in for each other, so the name has to differ
-- where anything differs that made them. Secrets among that stay out of the name itself,
-- which nginx may log.
local identities, identity_count = {}, 0

local function pool_name(authority, ...)
  local identity = table.concat({ authority, ... }, "\0")
  if not identities[identity] then
    identity_count = identity_count + 1
    identities[identity] = ("koresms:%d:%s"):format(identity_count, authority)
  end
  return identities[identity]
end

local function literal(host)
  return host:find(":", 1, true) and "[" .. host .. "]" or host
end

-- What to connect to. nginx would ask a name server even for localhost, which is no name to ask
-- for (RFC 6761).
local function destination(host)
  return host:lower() == "localhost" and "127.0.0.1" or literal(host)
end

-- False for addresses, which nginx connects to without asking a name server.
local function is_name(host)
  return not (host:find(":", 1, true) or host:find("^%d+%.%d+%.%d+%.%d+$"))
end

-- The proxy of a setting, and what it is asked for a tunnel.
local function read_proxy(text, target)
  local proxy, wrong = core.proxy(text)
  if not proxy then return nil, "proxy: " .. wrong end
  if proxy.scheme ~= "http" then
    return nil, "proxy: only an http:// proxy can be used inside nginx"
  end
  local lines = { ("CONNECT %s HTTP/1.1"):format(target), "Host: " .. target,
    "User-Agent: koresms/" .. core._VERSION }
  if proxy.user then
    lines[#lines + 1] = "Proxy-Authorization: Basic "
      .. ngx.encode_base64(proxy.user .. ":" .. proxy.password)
  end
  return { host = proxy.host, port = proxy.port,
    request = table.concat(lines, "\r\n") .. "\r\n\r\n" }
end

local function read_pem(name, path)
  local file, text = io.open(path, "rb")
  if not file then return nil, ("%s cannot be read: %s"):format(name, text) end
  local pem = file:read("*a")
  file:close()
  -- OpenSSL would ask for the pass phrase on the terminal, and nginx would wait.
  if not pem or pem:find("ENCRYPTED", 1, true) then
    return nil, name .. " is encrypted or no file; give one without a pass phrase"
  end
  return pem
end

-- The client certificate, parsed once: `cert`, `key`, and `pem`, which tells it from others.
local function read_certificate(settings)
  local ssl = require "ngx.ssl"
  local cert, key, pem, text
  pem, text = read_pem("client_cert", settings.client_cert)
  if not pem then return nil, text end
  cert, text = ssl.parse_pem_cert(pem)
  if not cert then return nil, "client_cert holds no certificate in PEM: " .. text end
  local key_pem = pem
  if settings.client_key then
    key_pem, text = read_pem("client_key", settings.client_key)
    if not key_pem then return nil, text end
  end
  key, text = ssl.parse_pem_priv_key(key_pem)
  if not key then return nil, "client_key holds no private key in PEM: " .. text end
  return { cert = cert, key = key, pem = pem }
end

--- Reads the settings of one peer.
-- @tparam table settings of the client
-- @treturn[1] table `host`, `port` and `place` (for
--   people) of what is connected to, `needs_resolver` where `host` is no address; `proxy` with its
--   `request`; `tls_name`; `certificate`; `target` (for people); `pool_name`
-- @treturn[2] nil
-- @treturn[2] string which setting cannot be used, and why
function M.read(settings)
  local origin, text
  origin, text = core.origin(settings.host)
  if not origin then return nil, "host " .. text end
  local tls = origin.scheme == "https"
  if tls and settings.ca_file then
    return nil, "ca_file cannot be applied inside nginx, which trusts what "
      .. "lua_ssl_trusted_certificate names; set that directive and leave ca_file out"
  end
  local target = ("%s:%d"):format(literal(origin.host), origin.port)
  local proxy, certificate
  if settings.proxy then
    proxy, text = read_proxy(settings.proxy, target)
    if not proxy then return nil, text end
  end
  if tls and settings.client_cert then
    certificate, text = read_certificate(settings)
    if not certificate then return nil, text end
  end
  local first = proxy or origin
  local name = pool_name(target, origin.scheme, settings.proxy or "",
    certificate and certificate.pem or "", settings.client_key or "")
  return {
    target = target,
    host = destination(first.host), port = first.port,
    needs_resolver = is_name(destination(first.host)),
    place = ("%s%s:%d"):format(proxy and "proxy " or "", literal(first.host), first.port),
    proxy = proxy, tls_name = tls and origin.host, certificate = certificate,
    pool_name = name,
  }
end

return M
