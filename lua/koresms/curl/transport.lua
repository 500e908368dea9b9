--- The transport of plain Lua: libcurl connects, and HTTP/1.1 is ours, through koresms.curl.
--
-- Each exchange has a request object of its own, which alone gets the answer. Whoever waits moves
-- all requests of the engine on.
-- @module koresms.curl.transport
local core = require "koresms.core"
local failure = require "koresms.failure"
local mask = require "koresms.mask"

local clock = core.clock

local M = {}

-- A reply larger than this cannot be the platform's.
local REPLY_MAX = 1024 * 1024

-- A wait ends by itself when something happens; this is only its longest piece, in seconds.
local WAIT_MAX = 60

local Transport = {}
Transport.__index = Transport

-- What libcurl takes for a proxy; user and password are options of their own.
local function address_of(proxy)
  local host = proxy.host:find(":", 1, true) and "[" .. proxy.host .. "]" or proxy.host
  return ("%s://%s:%d"):format(proxy.scheme, host, proxy.port)
end

--- Makes a transport. Nothing is connected.
-- @tparam table settings the client's
-- @tparam string origin where to connect, as a URL without path
-- @tparam string head of every request, from koresms.core's `head`
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string why the C module cannot be loaded
function M.new(settings, origin, head)
  local ok, curl = pcall(require, "koresms.curl")
  if not ok then return nil, "the module koresms.curl cannot be loaded: " .. tostring(curl) end
  local proxy = settings.proxy and core.proxy(settings.proxy)
  local engine = curl.engine {
    url = origin, head = head, reply_max = REPLY_MAX,
    max_idle = settings.max_idle, max_age = settings.max_age,
    proxy = proxy and address_of(proxy), proxy_port = proxy and proxy.port,
    proxy_user = proxy and proxy.user, proxy_password = proxy and proxy.password,
    ca_file = settings.ca_file, client_cert = settings.client_cert,
    client_key = settings.client_key,
  }
  return setmetatable({ engine = engine, new_request = curl.request,
    next_finished = curl.next_finished, proxied = proxy ~= nil,
    -- The secrets that libcurl is given, and what they were written as.
    clean = mask.cleaner(proxy and proxy.user
      and { settings.proxy:match("//(.*)@"), proxy.user, proxy.password } or {}),
  }, Transport)
end

--- Starts an exchange.
-- @tparam userdata request from `new_request`
-- @tparam table job `token`, `body`, `deadline` and `start_before` (on the clock of
--   koresms.core), `connect_timeout` (seconds)
-- @treturn boolean whether it has finished already
function Transport:start(request, job)
  return self.engine:start(request, job.token, job.body, job.deadline, job.connect_timeout,
    job.start_before)
end

--- The reply to a request that has finished.
-- @tparam userdata request
-- @tparam table reply to write into: `status`, `body`, `retry_after`, `date`, or `failure` and
--   `text`; in both cases `starts` (0 is the proof that no byte left) and `reused` (whether the
--   connection had carried a request before)
-- @treturn table reply
function Transport:reply(request, reply)
  local status, a, b, c, d, e = request:reply(self.body)
  reply.status = status
  if status then
    self.body = a
    reply.body, reply.retry_after, reply.date, reply.reused, reply.starts = a, b, c, d, 1
    reply.failure, reply.text = nil, nil
    return reply
  end
  local what, starts, text, code, reused = a, b, c, d, e
  reply.starts, reply.reused = starts, reused
  reply.failure, reply.text = failure.from_curl(what, starts, text, code, self.clean)
  if self.proxied and reply.failure == "connect" then
    reply.text = reply.text .. " (through the setting proxy)"
  end
  return reply
end

--- Moves every exchange on; waits where none has finished.
-- @tparam number seconds at most
function Transport:step(seconds)
  self.engine:step(math.min(seconds, WAIT_MAX))
end

--- One exchange, start to end.
-- @tparam table job as in `start`
-- @treturn table reply, as in `reply`
function Transport:exchange(job)
  local request = self.new_request()
  job.request = request
  if not self:start(request, job) then
    local engine = self.engine
    repeat engine:step(WAIT_MAX) until request:finished()
  end
  return self:reply(request, {})
end

--- Waits until some time, without using the CPU; exchanges that are under way move on. Ends early
-- where the transport is closed.
-- @tparam number when on the clock of koresms.core
function Transport:wait(when)
  local left = when - clock()
  while left > 0 and not self.closed do
    self:step(left)
    left = when - clock()
  end
end

--- How many exchanges are under way.
-- @treturn number
function Transport:in_flight()
  return self.closed and 0 or self.engine:in_flight()
end

--- Whether bytes may have left of an exchange that nobody has the reply of.
-- @tparam table job
-- @treturn boolean
function Transport.may_have_left(job)
  return job.request ~= nil and job.request:started()
end

--- Gives up all that is under way and closes the connections.
function Transport:close()
  self.closed = true
  self.engine:close()
end

return M
