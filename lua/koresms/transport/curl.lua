--- The transport of plain Lua: libcurl, through koresms.curl.
--
-- Every exchange is a ticket of one engine. Whoever waits moves all of them on, and keeps
-- the replies that belong to others until they ask.
local clock = require("koresms.core").clock
local failure = require "koresms.transport.failure"
local stream = require "koresms.stream"

local M = {}

-- A reply larger than this is of no use.
local CAP = 1024 * 1024

-- A wait ends by itself when something happens; this is only its longest piece.
local PIECE = 60

local transport = {}
transport.__index = transport

--- Makes a transport.
-- @tparam table settings the client's
-- @tparam string url of the endpoint
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
function M.new(settings, url)
  local ok, curl = pcall(require, "koresms.curl")
  if not ok then return nil, "the module koresms.curl cannot be loaded: " .. tostring(curl) end
  local engine, text = curl.engine {
    url = url, cap = CAP, max_idle = settings.max_idle,
    http2 = settings.http_version == "2", proxy = settings.proxy,
    ca_file = settings.ca_file, client_cert = settings.client_cert,
    client_key = settings.client_key,
  }
  if not engine then return nil, ("%s: %s"):format(settings.where.http_version, text) end
  return setmetatable({
    engine = engine,
    proxied = settings.proxy ~= nil,
    streams = stream, -- what opens streams over this transport
    flying = {}, -- ticket -> who waits for it: true, or an object with `landed`
    ready = {}, -- ticket -> reply
    body = nil, -- of the last reply: the next one is likely to have the same
  }, transport)
end

--- Starts an exchange.
-- @tparam table request `token`, `body`, `timeout` and `connect_timeout` in seconds
-- @tparam ?table owner its method `answered` is called with the status, the body and the
--   starts of a reply that came, and says whether that was enough; else its table `reply`
--   receives the reply, and its method `landed` is called. Without an owner the reply waits
--   in `ready`.
-- @treturn[1] number a ticket
-- @treturn[2] nil
-- @treturn[2] table the reply, where nothing could be started
function transport:submit(request, owner)
  if not self.engine then return nil, { failure = "cancelled", starts = 0, text = "closed" } end
  local ticket, text = self.engine:submit(request.token, request.body,
    math.max(request.timeout, 0.001), request.connect_timeout)
  if not ticket then return nil, { failure = "connect", starts = 0, text = text } end
  self.flying[ticket] = owner or true
  return ticket
end

-- Writes what the engine gave into a table for it.
local function fill(self, reply, code, a, b, c, d, e)
  if code == 0 then
    reply.status, reply.body, reply.retry_after, reply.date, reply.starts = a, b, c, d, e
    reply.failure, reply.text = nil, nil
  else
    local text, starts, phase, refused, late = a, b, c, d, e
    reply.failure, reply.text = failure.from_curl(code, text, starts, phase, refused, late)
    reply.starts, reply.status = starts, nil
    if self.proxied and reply.failure == "connect" then
      reply.text = reply.text .. " (through the setting proxy)"
    end
  end
end

-- Hands a reply to its waiter, or puts it where it will look.
local function hand_over(self, ticket, code, a, b, c, d, e)
  local owner = self.flying[ticket]
  self.flying[ticket] = nil
  if code == 0 then
    self.body = b
    -- Most replies are like the last one, and need no table.
    if owner ~= true and owner:answered(a, b, e) then return end
  end
  if owner ~= true then
    fill(self, owner.reply, code, a, b, c, d, e)
    return owner:landed()
  end
  local reply = { status = 0, body = "", starts = 0, date = "" }
  fill(self, reply, code, a, b, c, d, e)
  self.ready[ticket] = reply
end

-- Hands over all that has ended. A listener may close the client meanwhile.
local function drain(self, ticket, ...)
  if not ticket then return end
  hand_over(self, ticket, ...)
  if self.engine then return drain(self, self.engine:take(self.body)) end
end

--- Moves every exchange on, for at most `seconds` where nothing ends.
function transport:step(seconds)
  local engine = self.engine
  if engine and engine:step(math.min(seconds, PIECE)) then drain(self, engine:take(self.body)) end
end

--- One exchange, start to end.
-- @tparam table request as in `submit`
-- @treturn table a reply (`status`, `body`, `retry_after`, `date`, `starts`), or a failure
--   (`failure`, `starts`, `text`)
function transport:exchange(request)
  local ticket, refused = self:submit(request)
  if not ticket then return refused end
  while not self.ready[ticket] do self:step(PIECE) end
  local reply = self.ready[ticket]
  self.ready[ticket] = nil
  return reply
end

--- Waits until `when` on the clock of koresms.core, without using the CPU; exchanges that
-- are under way move on.
function transport:wait(when)
  local left = when - clock()
  while left > 0 and self.engine do
    self:step(left)
    left = when - clock()
  end
end

--- Gives up all that is under way and frees the connections.
function transport:close()
  local engine = self.engine
  if not engine then return end
  -- An answer that came is told, whether or not anybody asked for it yet.
  drain(self, engine:take())
  if not self.engine then return end
  self.engine = nil
  for ticket, owner in pairs(self.flying) do
    local starts = engine:cancel(ticket) or 1
    local reply = owner ~= true and owner.reply or {}
    reply.failure = starts == 0 and "cancelled" or "connection_lost"
    reply.starts, reply.text, reply.status = starts, "the client was closed", nil
    if owner == true then self.ready[ticket] = reply else owner:landed() end
  end
  self.flying = {}
  engine:close()
end

return M
