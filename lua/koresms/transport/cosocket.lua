--- The transport inside nginx: one POST over a cosocket of ngx_lua, which waits in nginx's
-- own event loop. A request whose bytes began to leave is never sent again from here.
-- @module koresms.transport.cosocket

local core = require "koresms.core"
local failure = require "koresms.transport.failure"

local clock, new_request, new_reader = core.clock, core.request, core.reader
local tcp, sleep = ngx.socket.tcp, ngx.sleep
local spawn, wait, kill = ngx.thread.spawn, ngx.thread.wait, ngx.thread.kill
local ceil, min = math.ceil, math.min

local PIECE = 16384
local PROXY_HEAD_MAX = 16384
-- More than there are messages in flight in one worker: a connection that does not fit into
-- the pool is closed, and the next message pays for a new one.
local POOL_SIZE = 1024
local LONGEST = 2147483647 -- milliseconds; nginx takes no more

local M = {}

local Transport = {}
Transport.__index = Transport

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

-- Settings ----------------------------------------------------------------------------

local function literal(host)
  return host:find(":", 1, true) and "[" .. host .. "]" or host
end

-- False for addresses, which nginx connects to without asking a name server.
local function is_name(host)
  return not (host:find(":", 1, true) or host:find("^%d+%.%d+%.%d+%.%d+$"))
end

local function decode(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- The proxy of "http://user:password@host:port", and what it is asked for a tunnel.
local function read_proxy(text, target)
  local scheme, rest = text:match("^(%a[%w+.-]*)://(.*)$")
  if scheme and scheme:lower() ~= "http" then
    return nil, "proxy: only an http:// proxy can be used inside nginx"
  end
  local user, place = (rest or text):match("^(.*)@(.*)$")
  place = place or rest or text
  local at, wrong = core.origin("http://" .. place)
  if not at then return nil, "proxy " .. wrong end
  if not place:find(":%d+/?$") then at.port = 1080 end -- as libcurl has it
  local lines = { ("CONNECT %s HTTP/1.1"):format(target), "Host: " .. target,
    "User-Agent: koresms/" .. core._VERSION }
  if user then
    user = decode(user:find(":", 1, true) and user or user .. ":")
    lines[#lines + 1] = "Proxy-Authorization: Basic " .. ngx.encode_base64(user)
  end
  return { host = at.host, port = at.port,
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

--- Makes a transport. Nothing is connected.
-- @tparam table settings of the client
-- @tparam table origin from core.origin
-- @treturn[1] table transport
-- @treturn[2] nil
-- @treturn[2] string which setting cannot be used, and why
function M.new(settings, origin)
  local tls = origin.scheme == "https"
  local path, text = core.path(settings.bot_id)
  if not path then return nil, "bot_id " .. text end
  if tls and settings.ca_file then
    return nil, "ca_file cannot be applied inside nginx, which trusts what "
      .. "lua_ssl_trusted_certificate names; set that directive and leave ca_file out"
  end
  if settings.http_version == "2" then
    return nil, "http_version \"2\" is not available inside nginx; use \"1.1\""
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
  local peer = proxy or origin
  return setmetatable({
    path = path, authority = origin.authority, target = target,
    tls_name = tls and origin.host,
    proxy = proxy, certificate = certificate,
    peer = ("%s%s:%d"):format(proxy and "proxy " or "", literal(peer.host), peer.port),
    host = literal(peer.host), port = peer.port, by_name = is_name(peer.host),
    pool = { pool = pool_name(target, origin.scheme, settings.proxy or "",
      certificate and certificate.pem or "", settings.client_key or "") },
    idle = math.floor(min((settings.max_idle or 30) * 1000, LONGEST)),
  }, Transport)
end

-- Connecting: each step returns true, or nil and what the cosocket said ------------------

-- Gives the socket what is left of the time. False where nothing is.
local function budget(sock, deadline)
  local left = min(ceil((deadline - clock()) * 1000), LONGEST)
  if left < 1 then return false end
  sock:settimeouts(left, left, left)
  return true
end

-- A cosocket's timeouts do not cover the resolving of a name, only `resolver_timeout` does
-- (30 s where it is not set): a second light thread keeps the time.
local function connect_by_name(self, sock, deadline)
  local connecting = spawn(function() return sock:connect(self.host, self.port, self.pool) end)
  if coroutine.status(connecting) == "zombie" then return select(2, wait(connecting)) end
  local alarm = spawn(function() sleep(math.max(deadline - clock(), 0.001)) end)
  local ran, done, text = wait(connecting, alarm)
  kill(connecting)
  kill(alarm)
  if ran and done then return done end
  return nil, ran and (text or "timeout") or done
end

local function connect(self, sock, deadline)
  if not budget(sock, deadline) then return nil, "timeout" end
  if self.by_name then return connect_by_name(self, sock, deadline) end
  return sock:connect(self.host, self.port, self.pool)
end

local function tunnel(self, sock, deadline)
  if not budget(sock, deadline) then return nil, "timeout" end
  local sent, text = sock:send(self.proxy.request)
  if not sent then return nil, text end
  local head = ""
  local stop
  repeat
    if not budget(sock, deadline) then return nil, "timeout" end
    local piece
    piece, text = sock:receiveany(PIECE)
    if not piece then return nil, text end
    head = head .. piece
    stop = head:find("\r\n\r\n", 1, true)
  until stop or #head > PROXY_HEAD_MAX
  local status = head:match("^HTTP/1%.[01] (%d%d%d)[ \r]")
  if not stop or not status then return nil, "its answer to CONNECT is not HTTP" end
  if status == "407" then
    return nil, "it refused the tunnel with status 407: look at user and password in `proxy`"
  end
  if status:sub(1, 1) ~= "2" then return nil, "it refused the tunnel with status " .. status end
  if stop + 3 < #head then return nil, "it sent more than an answer to CONNECT" end
  return true
end

local function handshake(self, sock, deadline)
  if not budget(sock, deadline) then return nil, "timeout" end
  if self.certificate then
    if not sock.setclientcert then return nil, "client_cert needs ngx_lua 0.10.22 or newer" end
    local set, text = sock:setclientcert(self.certificate.cert, self.certificate.key)
    if not set then return nil, text end
  end
  local done, text = sock:sslhandshake(false, self.tls_name, true)
  if not done then return nil, text end
  return true
end

-- A connection that is ready for the request, from the pool or new: true, or nil, text and the
-- phase that failed. An empty host makes connect() look into the pool and at nothing else, so
-- that a kept connection costs no light thread. nginx itself closes a kept connection on which
-- anything arrives.
local function open(self, sock, deadline)
  if sock:connect("", self.port, self.pool) then return true end
  local done, text = connect(self, sock, deadline)
  if not done then return nil, text, "connect" end
  if sock:getreusedtimes() > 0 then return true end
  if self.proxy then
    done, text = tunnel(self, sock, deadline)
    if not done then return nil, text, "proxy" end
  end
  if self.tls_name then
    done, text = handshake(self, sock, deadline)
    if not done then return nil, text, "handshake" end
  end
  return true
end

-- The exchange ------------------------------------------------------------------------

local DOING = {
  context = "no network in this phase of nginx",
  connect = "connecting to %s",
  proxy = "tunnel through %s",
  handshake = "TLS with %s",
  send = "sending to %s",
  receive = "reply of %s",
}

local function failed(self, starts, phase, text)
  local name
  name, text = failure.from_cosocket(text, phase)
  local place = (phase == "connect" or phase == "proxy") and self.peer or self.target
  return { failure = name, starts = starts, text = DOING[phase]:format(place) .. ": " .. text }
end

-- Reads to the end of the reply: true, or nil, a text and, where the reader gave it, a failure.
local function receive(sock, reader, deadline)
  local state, text, name
  repeat
    if not budget(sock, deadline) then return nil, "timeout" end
    local piece
    piece, text = sock:receiveany(PIECE)
    if piece then
      state, text, name = reader:feed(piece)
    elseif text == "closed" then
      state, text, name = reader:eof()
    else
      reader:eof()
      return nil, text
    end
    if not state then return nil, text, name end
  until state == "done"
  return true
end

--- One POST.
-- @tparam table request `token`, `body`, `timeout` and `connect_timeout` in seconds
-- @treturn table what came: `status`, `body`, `retry_after`, `date`, `starts`; or `failure`,
--   `starts` (0 is the proof that no byte of the request left), `text`
function Transport:exchange(request)
  local bytes = new_request(self.path, self.authority, request.token, request.body)
  local now = clock()
  local deadline = now + request.timeout
  local connected_by = min(deadline, now + request.connect_timeout)
  local made, sock = pcall(tcp)
  if not made then return failed(self, 0, "context", sock) end
  local done, text, phase = open(self, sock, connected_by)
  if not done then
    sock:close()
    local reply = failed(self, 0, phase, text)
    if text == "timeout" and connected_by == deadline then reply.failure = "timeout" end
    return reply
  end
  if not budget(sock, deadline) then
    sock:close()
    return { failure = "timeout", starts = 0, text = "no time was left to send the request" }
  end
  -- From here on a byte may have left.
  done, text = sock:send(bytes)
  if not done then
    sock:close()
    return failed(self, 1, "send", text)
  end
  local reader = new_reader()
  local name
  done, text, name = receive(sock, reader, deadline)
  if not done then
    sock:close()
    local reply = failed(self, 1, "receive", text)
    reply.failure = name or reply.failure
    return reply
  end
  local status, body, retry_after, date, reusable = reader:result()
  if not (reusable and self.idle > 0 and sock:setkeepalive(self.idle, POOL_SIZE)) then
    sock:close()
  end
  return { status = status, body = body, retry_after = retry_after, date = date, starts = 1 }
end

--- Waits without holding the worker.
function Transport:sleep(seconds) -- luacheck: no self
  if seconds > 0 then sleep(seconds) end
end

--- Nothing to do: kept connections belong to the worker and go when they are `max_idle` old.
function Transport:close() -- luacheck: no self
end

return M
