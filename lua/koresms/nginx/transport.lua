--- The transport inside nginx: one POST over a cosocket of ngx_lua, which waits in nginx's
-- own event loop. A request whose bytes began to leave is never sent again from here.
-- @module koresms.nginx.transport

local core = require "koresms.core"
local failure = require "koresms.failure"
local peer = require "koresms.nginx.peer"
local refusal = require("koresms.nginx.phase").refusal

local clock, post, new_reader = core.clock, core.post, core.reader
local tcp, sleep, cached_time, time = ngx.socket.tcp, ngx.sleep, ngx.now, core.time
local spawn, wait, kill = ngx.thread.spawn, ngx.thread.wait, ngx.thread.kill
local ceil, floor, min, max = math.ceil, math.floor, math.min, math.max

local READ_SIZE = 16384
-- What lua_socket_buffer_size is a multiple of, where nobody sets it to less.
local BUFFER_UNIT = 4096
local PROXY_HEAD_MAX = 16384
-- More than there are messages in flight in one worker: a connection that does not fit into
-- the pool is closed, and the next message pays for a new one.
local POOL_SIZE = 1024
local LONGEST = 2147483647 -- milliseconds; nginx takes no more
-- A wait is cut into pieces of so many seconds, to see in between whether the client was closed.
local WAIT_PIECE = 1

-- How far, in seconds, nginx's own time may be behind before a kept connection is used; nginx
-- counts whole milliseconds. How long a sleep has to be for its event loop to turn, and how many
-- such sleeps there are at most for one message.
local BEHIND, TURN, TURNS_MAX = 0.002, 0.001, 3

-- How many addresses of a name are tried for one attempt.
local ADDRESSES_MAX = 3

local M = {}

local Transport = {}
Transport.__index = Transport

--- Makes a transport. Nothing is connected, so that it can be made in any phase.
-- @tparam table settings of the client
-- @tparam string head of every request, from koresms.core's `head`
-- @treturn[1] table transport
-- @treturn[2] nil
-- @treturn[2] string which setting cannot be used, and why
function M.new(settings, head)
  local to, text = peer.read(settings)
  if not to then return nil, text end
  return setmetatable({
    peer = to, head = head, closed = false,
    idle = floor(min((settings.max_idle or 30) * 1000, LONGEST)),
    max_age = settings.max_age or 300,
    jobs = setmetatable({}, { __mode = "k" }), -- set of those in flight, but for what was killed
  }, Transport)
end

-- The pool of kept connections is another one every `max_age` seconds: nginx does not tell how old
-- a connection is, and one in a pool that nobody asks any more is closed once it is `max_idle` old.
local function renew_pool(self)
  local to, epoch = self.peer, floor(clock() / self.max_age)
  if to.epoch ~= epoch then
    to.epoch, to.pool = epoch, { pool = to.pool_name .. ":" .. epoch }
  end
end

-- The steps below return true, or nil and what the cosocket said.

-- Gives the socket what is left of the time. False where nothing is.
local function budget(sock, deadline)
  local left = min(ceil((deadline - clock()) * 1000), LONGEST)
  if left < 1 then return false end
  sock:settimeouts(left, left, left)
  return true
end

-- A cosocket's timeouts do not cover the resolving of a name, only `resolver_timeout` does
-- (30 s where it is not set): a second light thread keeps the time.
local function connect_by_name(to, sock, deadline)
  local connecting = spawn(function() return sock:connect(to.host, to.port, to.pool) end)
  if coroutine.status(connecting) == "zombie" then return select(2, wait(connecting)) end
  local alarm = spawn(function() sleep(max(deadline - clock(), 0.001)) end)
  local ran, done, text = wait(connecting, alarm)
  kill(connecting)
  kill(alarm)
  if ran and done then return done end
  return nil, ran and (text or "timeout") or done
end

-- A new connection, or nil and a text. nginx takes one of the addresses of a name, by chance. Where
-- that one does not answer another is tried, for half of the time that is left, so that one dead
-- machine of several does not cost a message all of its time.
local function connect(to, deadline)
  local text = "timeout"
  for left = to.needs_resolver and ADDRESSES_MAX or 1, 1, -1 do
    local now, sock = clock(), tcp()
    local done
    local by = left > 1 and now + (deadline - now) / 2 or deadline
    if not budget(sock, by) then break end
    if to.needs_resolver then
      done, text = connect_by_name(to, sock, by)
    else
      done, text = sock:connect(to.host, to.port, to.pool)
    end
    if done then return sock end
    if text:find("resolve", 1, true) then break end
  end
  return nil, text
end

local function tunnel(to, sock, deadline)
  if not budget(sock, deadline) then return nil, "timeout" end
  local sent, text = sock:send(to.proxy.request)
  if not sent then return nil, text end
  local head = ""
  local stop
  repeat
    if not budget(sock, deadline) then return nil, "timeout" end
    local chunk
    chunk, text = sock:receiveany(READ_SIZE)
    if not chunk then return nil, text end
    head = head .. chunk
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

local function handshake(to, sock, deadline)
  if not budget(sock, deadline) then return nil, "timeout" end
  if to.certificate then
    if not sock.setclientcert then return nil, "client_cert needs ngx_lua 0.10.22 or newer" end
    local set, text = sock:setclientcert(to.certificate.cert, to.certificate.key)
    if not set then return nil, text end
  end
  local done, text = sock:sslhandshake(false, to.tls_name, true)
  if not done then return nil, text end
  -- Where a handshake ends without a wait, many versions of ngx_lua close the connection of a
  -- peer whose certificate they refuse, and say that all is well (lua-nginx-module #2506).
  if not sock:getreusedtimes() then return nil, "certificate refused" end
  return true
end

-- Lets nginx see what has come on kept connections. nginx closes one on which anything arrives,
-- and so an answer that nobody asked for is not taken for the answer to the next request. But it
-- looks only when its event loop turns, and while the worker was busy with something else it has
-- not: the time at which nginx last looked is then in the past. A sleep of nothing would not do,
-- since nginx may end it before it looks again; nor would one short sleep, since with
-- `accept_mutex on` nginx ends sleeps before it deals with what it has just seen.
--
-- What remains: an answer that nobody asked for is taken for the answer to a request where it
-- arrives on the same connection after nginx last looked (at most two milliseconds before the
-- request, unless the worker is so busy that it is behind each time) and before the answer
-- itself. HTTP/1.1 has nothing by which the two could be told apart; a server that answers each
-- request once never sends one. Code in the same worker that holds it and calls ngx.update_time
-- hides for how long nginx has not looked, and so does a clock that is set back.
local function catch_up()
  for _ = 1, TURNS_MAX do
    if time() - cached_time() < BEHIND then return end
    sleep(TURN)
    sleep(TURN)
  end
end

-- A connection that is ready for the request, from the pool or new: the socket, or nil, text and
-- the phase that failed. An empty host makes connect() look into the pool and at nothing else, so
-- that a kept connection costs no light thread.
local function open(to, deadline)
  catch_up()
  local kept = tcp()
  if kept:connect("", to.port, to.pool) then return kept end
  local sock, text = connect(to, deadline)
  if not sock then return nil, text, "connect" end
  if (sock:getreusedtimes() or 0) > 0 then return sock end
  local done, phase = true, nil
  if to.proxy then
    done, text = tunnel(to, sock, deadline)
    phase = "proxy"
  end
  if done and to.tls_name then
    done, text = handshake(to, sock, deadline)
    phase = "handshake"
  end
  if done then return sock end
  sock:close()
  return nil, text, phase
end

local DOING = {
  connect = "connecting to %s",
  proxy = "tunnel through %s",
  handshake = "TLS with %s",
  send = "sending to %s",
  receive = "reply of %s",
}

local NAME_SERVER = "timeout; the name server of the directive `resolver` may be what "
  .. "does not answer"

local function failed(to, starts, phase, text)
  local name
  -- Resolving a name is part of connecting, and nginx does not tell which of the two took the time.
  local needs_resolver = phase == "connect" and text == "timeout" and to.needs_resolver
  name, text = failure.from_cosocket(text, phase)
  if needs_resolver then text = NAME_SERVER end
  local place = (phase == "connect" or phase == "proxy") and to.place or to.target
  return { failure = name, starts = starts, text = DOING[phase]:format(place) .. ": " .. text }
end

-- Seconds after the deadline for which what has arrived is still read, from when the worker first
-- comes to it: it may have been busy.
local LATE = 0.02

-- Is there time to wait for more of a reply, or is it late and there may be more of it already?
local function may_read(sock, deadline, late_until)
  if budget(sock, deadline) then return true end
  late_until = late_until or clock() + LATE
  if clock() >= late_until then return false end
  sock:settimeouts(1, 1, 1)
  return true, late_until
end

-- Reads to the end of the reply. True where nothing can be left behind it, else false; or nil,
-- a text and, where the reader gave it, a failure. A chunk that fills nginx's buffer may leave
-- bytes inside the TLS library, and these, unlike those in the socket, go unnoticed until they
-- are taken for the next reply.
local function receive(sock, reader, deadline)
  local chunk, state, text, name, may, late_until
  repeat
    may, late_until = may_read(sock, deadline, late_until)
    if not may then return nil, "timeout" end
    chunk, text = sock:receiveany(READ_SIZE)
    if chunk then
      state, text, name = reader:feed(chunk)
    elseif text == "closed" then
      state, text, name = reader:eof()
    else
      reader:eof()
      return nil, text
    end
    if not state then return nil, text, name end
  until state == "done"
  return chunk ~= nil and #chunk % BUFFER_UNIT ~= 0
end

-- A connected socket, and whether it was used before; or nil and a reply.
local function connected(self, job)
  local to, now = self.peer, clock()
  local connected_by = min(job.deadline, now + job.connect_timeout)
  local sock, text, phase = open(to, connected_by)
  if not sock then
    local reply = failed(to, 0, phase, text)
    if text == "timeout" and connected_by == job.deadline then reply.failure = "timeout" end
    return nil, reply
  end
  if not budget(sock, job.deadline) or job.start_before and clock() >= job.start_before then
    sock:close()
    return nil, { failure = "timeout", starts = 0,
      text = "its time was over before the request was sent" }
  end
  return sock, (sock:getreusedtimes() or 0) > 0
end

-- Sends the bytes of a request: the one place from which they leave. True, or nil and a reply.
local function write_request(self, sock, bytes)
  local done, text = sock:send(bytes)
  if done then return true end
  sock:close()
  return nil, failed(self.peer, 1, "send", text)
end

-- The reply to a request that has left.
local function read_reply(self, sock, deadline)
  local reader = new_reader()
  local empty, text, name = receive(sock, reader, deadline)
  if empty == nil then
    sock:close()
    local reply = failed(self.peer, 1, "receive", text)
    reply.failure = name or reply.failure
    return reply
  end
  local status, body, retry_after, date, reusable = reader:result()
  local keep = reusable and empty and self.idle > 0
  if not (keep and sock:setkeepalive(self.idle, POOL_SIZE)) then sock:close() end
  return { status = status, body = body, retry_after = retry_after, date = date, starts = 1 }
end

--- One POST.
-- @tparam table job `token`, `body`, `deadline` and `start_before` (on the clock of
--   koresms.core), `connect_timeout` (seconds); its `connecting` is set until the request leaves
-- @treturn table what came: `status`, `body`, `retry_after`, `date`; or `failure` and `text`; in
--   both cases `starts` (0 is the proof that no byte of the request left) and `reused` (whether
--   the connection had carried a request before)
function Transport:exchange(job)
  if self.closed then
    return { failure = "cancelled", starts = 0, text = "the client was closed" }
  end
  local refused = refusal()
  if refused then return refused end
  renew_pool(self)
  self.jobs[job], job.left, job.connecting = true, false, true
  local sock, reused = connected(self, job)
  job.connecting = false
  if not sock then
    self.jobs[job] = nil
    return reused
  end
  job.left = true
  local sent, reply = write_request(self, sock, post(self.head, job.token, job.body))
  if sent then reply = read_reply(self, sock, job.deadline) end
  self.jobs[job] = nil
  reply.reused = reused
  return reply
end

--- Waits until `when` on the clock of koresms.core, without holding the worker; ends early
-- where the transport is closed.
function Transport:wait(when)
  local left = when - clock()
  while left > 0 and not self.closed do
    -- nginx counts whole milliseconds, and from the last time it looked at the clock.
    sleep(max(ceil(min(left, WAIT_PIECE) * 1000), 1) / 1000)
    left = when - clock()
  end
end

--- How many exchanges are under way.
-- @treturn number
function Transport:in_flight()
  local count = 0
  for _ in pairs(self.jobs) do count = count + 1 end
  return count
end

--- Whether bytes may have left of an exchange that nobody has the reply of.
-- @tparam table job
-- @treturn boolean
function Transport.may_have_left(job)
  return job.left or false
end

--- Ends its use. What is in flight goes on to its answer; kept connections belong to the worker
-- and go when they are `max_idle` old.
function Transport:close()
  self.closed = true
end

return M
