--- A client: validate, pace, sign, exchange, judge, and perhaps again.
local core = require "koresms.core"
local http_date = require "koresms.http_date"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"
local pacer = require "koresms.pacer"
local verdict = require "koresms.verdict"

local M = {}

-- Full jitter: a random time up to a bound that doubles with each repeat.
local BACKOFF, BACKOFF_MOST = 0.25, 8

local PAUSE_MOST = 3600

local message_types = { to = "string", from = "string", id = "string" }

local send_types = { timeout = "number", connect_timeout = "number", retries = "number" }

local client = {}

-- Nothing secret is a field of a client: whatever prints tables may print it.
local private = setmetatable({}, { __mode = "k" })

local function random()
  return tonumber(core.random_id():sub(1, 8), 16) / 2 ^ 32
end

-- Tells the caller's listener. What it does wrong must not reach a send.
local function tell(self, event)
  local listener = self.settings.on_event
  if listener then pcall(listener, event) end
end

-- Seconds until the throttled platform wants to hear from us again.
local function pause_of(reply)
  local now, wait = core.time(), nil
  local text = reply.retry_after
  if text then
    wait = text:find("^%d+$") and tonumber(text)
    local date = not wait and http_date.parse(text)
    if date then
      -- The server's own clock, where it tells it, makes ours not matter.
      wait = math.max(0, date - (reply.date and http_date.parse(reply.date) or now))
    end
  end
  return math.min(wait or 60 - now % 60, PAUSE_MOST)
end

-- A verdict of our own, in the shape of koresms.verdict's.
local function own(code, text, retry_after)
  local judged = verdict.judge({ failure = code, starts = 0, text = text })
  judged.retry_after = retry_after
  return judged
end

-- Waits for a permit; returns a verdict where none comes before the deadline.
local function permit(self, transport, job)
  while true do
    local now = core.clock()
    local wait = self.pacer:take(now)
    if wait == 0 then return nil end
    if now + wait >= job.deadline then
      return own("rate_limited", ("no permit before the deadline: the next one comes in %.1f s "
        .. "(settings per_minute, per_hour, timeout)"):format(wait), wait)
    end
    transport:sleep(wait)
    if self.closed then return own("cancelled", "the client was closed") end
  end
end

local function sign(self)
  local token, text = private[self].token()
  if token then return token end
  return nil, own("sign", text)
end

-- One attempt. Returns its verdict and, for a throttled reply, the seconds to wait.
local function attempt(self, transport, job)
  local refused = permit(self, transport, job)
  if refused then return refused end
  local token
  token, refused = sign(self)
  if refused then return refused end
  job.tries = job.tries + 1
  if self.settings.on_event then
    tell(self, { kind = "attempt", id = job.id, attempt = job.tries,
      from = mask.number(job.from), to = mask.number(job.to) })
  end
  local left = job.deadline - core.clock()
  if left <= 0 then return own("timeout", "the deadline passed before the request was sent") end
  local reply = transport:exchange({ token = token, body = core.body(job.from, job.to),
    timeout = left, connect_timeout = job.connect_timeout })
  job.attempts = job.attempts + reply.starts
  local judged = verdict.judge(reply)
  if judged.code == "rate_limited" then
    local pause = pause_of(reply)
    self.pacer:pause(core.clock(), pause)
    if self.settings.on_event then tell(self, { kind = "pause", seconds = pause }) end
    return judged, pause
  end
  return judged
end

-- Seconds to wait before the next attempt; nil where there must be none.
local function delay_of(job, judged, pause)
  if not judged.retryable or job.tries > job.retries or job.tries == 0 then return nil end
  -- After a pause the pacer itself holds the message back.
  local bound = math.min(BACKOFF * 2 ^ (job.tries - 1), BACKOFF_MOST)
  local delay = random() * bound
  if core.clock() + (pause or 0) + delay >= job.deadline then return nil end
  return delay
end

-- The result that the caller sees.
local function conclude(self, job, judged, pause)
  local result = {
    outcome = judged.outcome, code = judged.code, message = judged.message,
    retryable = judged.retryable, retry_after = judged.retry_after or pause,
    status = judged.status, platform_code = judged.platform_code,
    platform_message = judged.platform_message, attempts = job.attempts,
    id = job.id, from = job.from, to = job.to, index = job.index,
    elapsed = core.clock() - job.started,
  }
  if self.settings.on_event then
    tell(self, { kind = "verdict", id = job.id, outcome = result.outcome, code = result.code,
      status = result.status, attempts = result.attempts, elapsed = result.elapsed,
      from = mask.number(job.from), to = mask.number(job.to) })
  end
  return result
end

-- Why a message cannot be sent at all, as a verdict; nil where it can.
local function obstacle(self, job)
  if self.closed then return own("cancelled", "the client was closed") end
  for _, field in ipairs({ "to", "from" }) do
    if job[field] == nil then
      return own("invalid_number", "from: no sender; give message.from, or set from (KORESMS_FROM)")
    end
    local ok, text = core.e164(job[field])
    if not ok then return own("invalid_number", field .. ": " .. text) end
  end
end

--- Carries one message to its verdict.
-- @tparam table transport or anything with its `exchange` and `sleep`
-- @tparam table job from `M.job`
-- @treturn table the result
function M.deliver(self, transport, job)
  local judged, pause = obstacle(self, job), nil
  if judged then return conclude(self, job, judged) end
  while true do
    judged, pause = attempt(self, transport, job)
    local delay = delay_of(job, judged, pause)
    if not delay then return conclude(self, job, judged, pause) end
    if self.settings.on_event then
      tell(self, { kind = "retry", id = job.id, code = judged.code,
        seconds = delay + (pause or 0) })
    end
    transport:sleep(delay)
    if self.closed then
      return conclude(self, job, own("cancelled", "the client was closed"))
    end
  end
end

--- Checks a message and the options of a send, and copies them. Raises on misuse.
-- @tparam string where such as "bad argument #1 to 'send'"
-- @tparam table message
-- @tparam table options checked options of the send
-- @tparam ?number index
-- @treturn table
function M.job(self, where, message, options, index)
  misuse.check(where, "field", message, message_types)
  if message.to == nil then
    misuse.raise(where .. " (field 'to': string expected, got nil)")
  end
  local settings, now = self.settings, core.clock()
  return {
    id = message.id or core.random_id(), index = index,
    to = message.to, from = message.from or settings.from,
    started = now, deadline = now + (options.timeout or settings.timeout),
    connect_timeout = options.connect_timeout or settings.connect_timeout,
    retries = options.retries or settings.retries,
    tries = 0, -- requests handed to the transport
    attempts = 0, -- those of which bytes may have left
  }
end

local function positive(options, name)
  local value = options[name]
  if value ~= nil and not (value > 0 and value <= 86400) then
    misuse.raise(("bad argument #2 to 'send' (option '%s': a number from 0.001 to 86400 "
      .. "expected)"):format(name))
  end
end

local no_options = {}

--- Checks the options of one send. Raises on misuse.
function M.send_options(options)
  if options == nil then return no_options end
  misuse.check("bad argument #2 to 'send'", "option", options, send_types)
  positive(options, "timeout")
  positive(options, "connect_timeout")
  local retries = options.retries
  if retries and not (retries >= 0 and retries <= 100 and retries % 1 == 0) then
    misuse.raise("bad argument #2 to 'send' (option 'retries': a whole number from 0 to 100 "
      .. "expected)")
  end
  return options
end

--- The values that `send` returns for a result.
function M.returns(result)
  if result.outcome == "accepted" then return result end
  return nil, result.message, result.code, result
end

--- Sends one message. It is never sent a second time where the first may have arrived.
--
-- A wrong type, an unknown field or option, or a wrong number of arguments raises at the
-- caller's line. All else is returned.
-- @function client:send
-- @tparam table message `to` (E.164, a string), `from` (likewise; default: the setting),
--   `id` (a string of the caller's own; default: 128 random bits in hexadecimal)
-- @tparam[opt] table options `timeout` and `connect_timeout` (seconds, up to 86400), `retries`
--   (0 to 100), each in place of the setting
-- @treturn[1] table the result; its `outcome` is "accepted"
-- @treturn[2] nil
-- @treturn[2] string text for people
-- @treturn[2] string one of the codes: `invalid_number`, `sign`, `rate_limited`, `dns`,
--   `connect`, `proxy`, `tls`, `timeout`, `cancelled`, `context`, `connection_lost`,
--   `bad_response`, `server_error`, `unauthorized`, `forbidden`, `not_found`, `redirect`,
--   `invalid_request`
-- @treturn[2] table the result, in the same shape
-- @see https://docs.kore.ai/ai-for-service/apis/contact-center/send-outbound-sms
function client:send(message, options, ...)
  if select("#", ...) > 0 then misuse.raise("bad argument #3 to 'send' (no value expected)") end
  local checked = M.send_options(options)
  local job = M.job(self, "bad argument #1 to 'send'", message, checked)
  return M.returns(M.deliver(self, private[self].transport, job))
end

--- Signs a token: for curl, and for support.
-- @function client:token
-- @treturn[1] string the compact JWT, a credential until it expires
-- @treturn[2] nil
-- @treturn[2] string text for people
-- @treturn[2] string the code "sign"
function client:token()
  local token, text = private[self].token()
  if token then return token end
  return nil, text, "sign"
end

--- Asks the endpoint with a body that holds no numbers, so that no message is sent.
-- @function client:probe
-- @tparam ?number timeout seconds
-- @treturn table the transport's reply
function client:probe(timeout)
  local token, refused = sign(self)
  if not token then return { failure = refused.code, starts = 0, text = refused.message } end
  return private[self].transport:exchange({ token = token, body = "{}",
    timeout = timeout or self.settings.timeout,
    connect_timeout = self.settings.connect_timeout })
end

--- Closes the client: its connections end, and what has not started is `cancelled`.
-- It may be called twice. The collector does the same.
-- @function client:close
function client:close()
  self.closed = true
  private[self].transport:close()
end

local metatable = {
  __index = client,
  __name = "koresms.client",
  __metatable = "koresms.client",
  __close = client.close,
  __tostring = function(self)
    return ("koresms.client (%s, bot %s)"):format(self.settings.host, self.settings.bot_id)
  end,
}

-- What signs, as a function that returns a token, or nil and a text.
local function signing(settings)
  local given = settings.token
  if type(given) == "string" then return function() return given end end
  if given then
    return function()
      local ok, token, why = pcall(given)
      if not ok then return nil, "the token callback raised an error" end
      if type(token) ~= "string" or token == "" or token:find("[^!-~]") then
        return nil, type(token) == "string"
          and "the token callback returned text that is no token (blank, control or empty)"
          or ("the token callback returned %s, expected a string%s"):format(type(token),
            type(why) == "string" and " (" .. mask.text(why) .. ")" or "")
      end
      return token
    end
  end
  local signer, text = core.signer {
    algorithm = settings.algorithm, secret = settings.client_secret,
    private_key = settings.private_key, client_id = settings.client_id,
    subject = settings.subject, ttl = settings.token_ttl, jti = settings.jti,
  }
  if not signer then
    return nil, ("%s: %s"):format(settings.where[settings.private_key and "private_key_file"
      or "client_secret"], text)
  end
  return function() return signer:token(core.time()) end
end

-- Settings that are nobody's to read once they are in use.
local secrets = { "client_secret", "private_key", "token", "proxy" }

--- Makes a client from settings.
-- @tparam table settings of koresms.config
-- @tparam function open_transport koresms.transport's constructor for this environment
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string the code "config"
function M.new(settings, open_transport)
  local token, text = signing(settings)
  if not token then return nil, text, "config" end
  local url = core.origin(settings.host).origin .. core.path(settings.bot_id)
  local transport
  transport, text = open_transport(settings, url)
  if not transport then return nil, text, "config" end
  for _, name in ipairs(secrets) do settings[name] = nil end
  local self = setmetatable({ settings = settings, closed = false,
    pacer = pacer.new(settings.per_minute, settings.per_hour) }, metatable)
  private[self] = { token = token, transport = transport }
  return self
end

return M
