--- The transport of plain Lua: libcurl, through koresms.curl.
--
-- Every exchange is a ticket of one engine. Whoever waits moves all of them on, and keeps
-- the replies that belong to others until they ask.
local failure = require "koresms.transport.failure"

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
  return setmetatable({
    engine = curl.engine {
      url = url, cap = CAP, max_idle = settings.max_idle,
      http2 = settings.http_version == "2", proxy = settings.proxy,
      ca_file = settings.ca_file, client_cert = settings.client_cert,
      client_key = settings.client_key,
    },
    flying = {}, -- set of tickets
    ready = {}, -- ticket -> reply
  }, transport)
end

--- Starts an exchange.
-- @tparam table request `token`, `body`, `timeout` and `connect_timeout` in seconds
-- @treturn[1] number a ticket
-- @treturn[2] nil
-- @treturn[2] table the reply, where nothing could be started
function transport:submit(request)
  if not self.engine then return nil, { failure = "cancelled", starts = 0, text = "closed" } end
  local ticket, text = self.engine:submit(request.token, request.body,
    math.max(request.timeout, 0.001), request.connect_timeout)
  if not ticket then return nil, { failure = "connect", starts = 0, text = text } end
  self.flying[ticket] = true
  return ticket
end

local function reply_of(code, a, b, c, d, e)
  if code == 0 then
    return { status = a, body = b, retry_after = c, date = d, starts = e }
  end
  local text, starts, phase, refused, late = a, b, c, d, e
  return { failure = failure.from_curl(code, starts, phase, refused, late),
    starts = starts, text = text }
end

-- Puts what has ended where its waiter looks for it.
local function drain(self, ticket, ...)
  while ticket do
    self.flying[ticket] = nil
    self.ready[ticket] = reply_of(...)
    return drain(self, self.engine:take())
  end
end

--- Moves every exchange on, for at most `seconds` where nothing ends.
function transport:step(seconds)
  if self.engine:step(math.min(seconds, PIECE)) then drain(self, self.engine:take()) end
end

--- The reply to a ticket, once; nil where there is none yet.
function transport:reply(ticket)
  local reply = self.ready[ticket]
  self.ready[ticket] = nil
  return reply
end

--- One exchange, start to end.
-- @tparam table request as in `submit`
-- @treturn table a reply (`status`, `body`, `retry_after`, `date`, `starts`), or a failure
--   (`failure`, `starts`, `text`)
function transport:exchange(request)
  local ticket, refused = self:submit(request)
  if not ticket then return refused end
  while true do
    local reply = self:reply(ticket)
    if reply then return reply end
    self:step(PIECE)
  end
end

--- Waits without using the CPU; exchanges that are under way move on.
function transport:sleep(seconds)
  local clock = require("koresms.core").clock
  local ending = clock() + seconds
  local left = seconds
  while left > 0 and self.engine do
    self:step(left)
    left = ending - clock()
  end
end

--- Gives up all that is under way and frees the connections.
function transport:close()
  if not self.engine then return end
  for ticket in pairs(self.flying) do
    local starts = self.engine:cancel(ticket) or 1
    self.ready[ticket] = { failure = starts == 0 and "cancelled" or "connection_lost",
      starts = starts, text = "the client was closed" }
  end
  self.flying = {}
  self.engine:close()
  self.engine = nil
end

return M
