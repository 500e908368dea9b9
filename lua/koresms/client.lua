--- A client: what a program holds to send messages.
local core = require "koresms.core"
local delivery = require "koresms.delivery"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"
local stream = require "koresms.stream"
local verdict = require "koresms.verdict"

local M = {}

local send_types = { timeout = "number", connect_timeout = "number", retries = "number" }

local stream_types = { timeout = "number", connect_timeout = "number", retries = "number",
  concurrency = "number", stop = "function" }

local client = {}

local NAME = "koresms.client"

-- Under this key a client has a function that returns its session: what it is made of. Whatever
-- prints tables may print a client, and a session holds tokens.
local SESSION = {}

--- What a client is made of: for the command and for koresms.later.
-- @param self
-- @treturn ?table `settings` (without secrets), `pacer`, `transport`, `sign`, `closed`, and
--   further parts of the runtime; nil where it is not a client
-- @local
function M.session(self)
  local own = type(self) == "table" and rawget(self, SESSION)
  return own and own()
end

-- The same. Raises where a method was called without its client: `client.send(message)`.
local function session_of(self, method)
  local session = M.session(self)
  if not session then
    misuse.raise(("calling '%s' without a client (write client:%s)"):format(method, method))
  end
  return session
end

local function positive(where, options, name)
  local value = options[name]
  if value ~= nil and not (value > 0 and value <= 86400) then
    misuse.raise(("%s (option '%s': a number from 0.001 to 86400 expected)"):format(where, name))
  end
end

local function whole(where, options, name, low, high)
  local value = options[name]
  if value ~= nil and not (value >= low and value <= high and value % 1 == 0) then
    misuse.raise(("%s (option '%s': a whole number from %d to %d expected)"):format(where, name,
      low, high))
  end
end

local no_options = {}

-- Checks the options of a send or a stream. Raises on misuse.
local function check_options(where, options, types)
  if options == nil then return no_options end
  misuse.check(where, "option", options, types)
  positive(where, options, "timeout")
  positive(where, options, "connect_timeout")
  whole(where, options, "retries", 0, 100)
  if types.concurrency then whole(where, options, "concurrency", 1, 1024) end
  return options
end

--- Checks the options of a send or a stream. Raises on misuse.
-- @local
M.check_options = check_options

--- Checks what `send` was given. Raises on misuse.
-- @treturn table the options
-- @local
function M.check_send(message, options, ...)
  misuse.check_arity("send", 3, ...)
  local checked = check_options("bad argument #2 to 'send'", options, send_types)
  delivery.check("bad argument #1 to 'send'", message)
  return checked
end

-- The values that `send` returns for a result.
local function returns(result)
  if result.outcome == "accepted" then return result end
  return nil, result.message, result.code, result
end

--- Sends one message. It is never sent a second time where the first may have arrived.
--
-- A wrong type, an unknown field or option, or a wrong number of arguments raises at the
-- caller's line. All else is returned. The platform's page:
-- https://docs.kore.ai/ai-for-service/apis/contact-center/send-outbound-sms
-- @function client:send
-- @tparam table message `to` (E.164, a string), `from` (likewise; default: the setting),
--   `id` (a string of the caller's own; default: 128 random bits in hexadecimal), `start_before`
--   (a time on the clock of `koresms.clock`: after it no request of the message begins)
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
function client:send(message, options, ...)
  local session = session_of(self, "send")
  misuse.check_arity("send", 3, ...)
  local checked = check_options("bad argument #2 to 'send'", options, send_types)
  local plan = checked == no_options and session.plan or delivery.plan(session, checked)
  delivery.check("bad argument #1 to 'send'", message)
  local job = delivery.fill({}, plan, message)
  delivery.begin(job)
  local refused = delivery.preflight(session, job)
  if refused then return returns(delivery.result(session, job, refused)) end
  local ok, result = pcall(delivery.carry, session, session.transport, job)
  if ok then return returns(result) end
  delivery.broken_off(session, job)
  error(result, 0)
end

--- Sends many messages under the client's limits, and gives each result as it is known.
--
-- The source is read ahead by one message, so that any number of them streams in constant
-- memory; a message waits for its permit without its time running. In plain Lua nothing moves
-- while the loop's body or the source runs: `timeout` holds within a second where each of them
-- returns within half a second. Leaving the loop starts
-- nothing more; what was under way can still be had by going on with the same iterator, and
-- what had not started is `cancelled` there. Where the client is closed, so is the rest of an
-- array, while a function is not asked for more. Where the source raises, or gives what is no
-- message, what is in flight is answered first; then the error is raised. In a process that was
-- forked off meanwhile, the stream starts nothing: the rest is its parent's to send.
--
--     for result in client:send_many(list, { concurrency = 16 }) do ... end
-- @function client:send_many
-- @param messages an array of messages as for `send`, or a function. It is called with the number
--   of free places, at least 1, and returns the next message; nil at the end; or false and a
--   time, on the clock of `koresms.clock`, at which it wants to be asked again
-- @tparam[opt] table options those of `send` for each message; `concurrency`: how many are in
--   flight at most (1 to 1024, default 16); `stop`: a function that is asked at least twice a
--   second while the stream waits, and once it returns true nothing more starts, as where the
--   loop is left
-- @treturn function an iterator; each step gives a result, in the order in which they are
--   known, whose `index` is the message's place in the source. On Lua 5.4 it also gives the
--   loop a closing value.
function client:send_many(messages, options, ...)
  local session = session_of(self, "send_many")
  misuse.check_arity("send_many", 3, ...)
  local given = type(messages)
  if given ~= "table" and given ~= "function" then
    misuse.raise(("bad argument #1 to 'send_many' (table or function expected, got %s)"):format(
      given))
  end
  if given == "table" and messages[1] == nil and next(messages) ~= nil then
    misuse.raise("bad argument #1 to 'send_many' (an array of messages expected, got a table "
      .. "with other keys)")
  end
  local checked = check_options("bad argument #2 to 'send_many'", options, stream_types)
  return stream.open(session, messages, checked)
end

--- Signs a token: for curl, and for support.
-- @function client:token
-- @treturn[1] string the compact JWT, a credential until it expires
-- @treturn[2] nil
-- @treturn[2] string text for people
-- @treturn[2] string the code "sign"
function client:token(...)
  local session = session_of(self, "token")
  misuse.check_arity("token", 1, ...)
  local token, text = session.sign()
  if token then return token end
  return nil, text, "sign"
end

--- What the client has done since it was made, in this process, and what it is doing.
-- @function client:stats
-- @treturn table `in_flight` (requests under way), `waiting` (messages that wait for a permit or
--   for their next attempt); `accepted`, `rejected`, `not_sent`, `unknown` (results; a send that an
--   error broke off counts as `unknown` where bytes may have left, else as `not_sent`);
--   `permits` (that could be had now, nil without a limit), `paused` (seconds, nil where there is
--   no pause), `connections_opened` and `connections_reused` (requests on a new connection, and on
--   a kept one), `last_accepted` (Unix time, or nil); inside nginx `later` (messages in its queue)
function client:stats(...)
  local session = session_of(self, "stats")
  misuse.check_arity("stats", 1, ...)
  local tally, now, waiting = session.tally, core.clock(), 0
  for _ in pairs(tally.waits) do waiting = waiting + 1 end
  return {
    in_flight = session.transport:in_flight(), waiting = waiting,
    accepted = tally.accepted, rejected = tally.rejected, not_sent = tally.not_sent,
    unknown = tally.unknown, permits = session.pacer:permits(now),
    paused = session.pacer:paused(now),
    connections_opened = tally.opened, connections_reused = tally.reused,
    last_accepted = tally.last_accepted and core.time() - (now - tally.last_accepted),
    later = session.queued and session.queued(self),
  }
end

--- Ends a pause that a throttled reply began; with `shared_dict` that of all workers.
-- @function client:resume
function client:resume(...)
  local session = session_of(self, "resume")
  misuse.check_arity("resume", 1, ...)
  session.pacer:resume(core.clock())
end

--- A stream as of `send_many`, at another pace than the client's.
-- @tparam table self
-- @param messages
-- @tparam table options those of `send_many`, and `pacer`
-- @treturn function as of `send_many`
-- @local
function M.stream_at(self, messages, options)
  return stream.open(M.session(self), messages, options)
end

--- Asks the endpoint with a body that holds no numbers, so that no message is sent.
-- @tparam table session
-- @treturn table the transport's reply
-- @treturn table the verdict on it
-- @local
function M.probe(session)
  local token, text = session.sign()
  local reply = { failure = "sign", starts = 0, text = text }
  if token then
    reply = session.transport:exchange({ token = token, body = "{}",
      deadline = core.clock() + session.settings.timeout,
      connect_timeout = session.settings.connect_timeout })
  end
  return reply, verdict.judge(reply, token)
end

--- Closes the client: its connections end, and what has not started is `cancelled`.
-- It may be called twice. The collector does the same.
-- @function client:close
function client:close(...)
  local session = session_of(self, "close")
  misuse.check_arity("close", 1, ...)
  session.closed = true
  session.transport:close()
end

local metatable = {
  __index = client,
  __newindex = function(_, name)
    misuse.raise(("a client has no field '%s' to set; give settings to koresms.new"):format(
      mask.text(tostring(name), 80)))
  end,
  __name = NAME,
  __metatable = NAME,
  __close = function(self) self:close() end, -- it is given an error, too
  __tostring = function(self)
    local settings = M.session(self).settings
    return mask.printable(("koresms.client (%s, bot %s)"):format(settings.host, settings.bot_id))
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
          and "the token callback returned an invalid token (blank, control or empty)"
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
    -- What is wrong with a claim begins with the setting's name.
    local name, fault = text:match("^([%l_]+): (.*)$")
    if not settings.where[name] then
      name, fault = settings.private_key and "private_key_file" or settings.credential, text
    end
    return nil, ("%s: %s"):format(settings.where[name], fault)
  end
  return function() return signer:token() end
end

-- Settings that are nobody's to read once they are in use.
local secrets = { client_secret = true, private_key = true, token = true, proxy = true }

--- Makes a client from settings.
-- @tparam table settings of koresms.config
-- @tparam table runtime koresms.runtime.plain or koresms.runtime.nginx
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string the code "config"
-- @local
function M.new(settings, runtime)
  local sign, text = signing(settings)
  if not sign then return nil, text, "config" end
  local origin = core.origin(settings.host)
  local head = core.head(core.path(settings.bot_id), origin.authority)
  local session
  session, text = runtime.open(settings, origin.origin, head)
  if not session then return nil, text, "config" end
  session.sign, session.closed, session.tally = sign, false, delivery.new_tally()
  session.settings = {}
  for name, value in pairs(settings) do
    if not secrets[name] then session.settings[name] = value end
  end
  session.plan = delivery.plan(session, no_options)
  return setmetatable({ [SESSION] = function() return session end }, metatable)
end

return M
