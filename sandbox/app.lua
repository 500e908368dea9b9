--- The platform's side of the call, inside nginx: POST /api/public/bot/{BotId}/outboundsms.
-- @module koresms.sandbox.app

local cjson = require "cjson"
local exchange = require "koresms.sandbox.exchange"
local guard = require "koresms.sandbox.guard"
local lines = require "koresms.sandbox.lines"
local plays = require "koresms.sandbox.plays"
local recipients = require "koresms.sandbox.recipients"
local store = require "koresms.sandbox.store"
local token = require "koresms.sandbox.token"

local json = cjson.new()
local M = {}

local JSON = "application/json; charset=utf-8"

local TRIGGERED =
  '{"message": "Triggered the configured Experience flow to deliver message via SMS channel"}'

local RATE = "You've exceeded the per-minute rate limit. "
  .. "Please wait for sometime before retrying."

-- Refusals: HTTP status, the envelope's code, its text.
local REFUSALS = {
  credentials = {401, 4002, "Invalid SDK credentials"},
  malformed = {401, 4002, "Invalid JWT token"},
  scope = {401, 4002, "Permission denied. Scope is incorrect!"},
  jti_expiry = {401, 401,
    'error verifying the jwt: if "jti" claim "exp" must be <= 1 hour(s)'},
  jti_replay = {401, 401, "error verifying the jwt: possibly a replay"},
  bot = {400, 400, "Invalid StreamId"},
  page = {403, 403, "Forbidden: a web page from elsewhere cannot use the sandbox"},
  address = {404, 404, "Not Found"},
  method = {405, 405, "Method Not Allowed"},
  arguments = {412, 412, "Validation errors/ Invalid arguments"},
  rate = {429, 429, RATE},
}

-- What a play says with a status alone.
local REASONS = {
  [400] = "Bad Request", [401] = "Invalid SDK credentials", [403] = "Forbidden",
  [404] = "Not Found", [408] = "Request Timeout", [429] = RATE,
  [500] = "Internal Server Error", [502] = "Bad Gateway", [503] = "Service Unavailable",
  [504] = "Gateway Timeout",
}

local verifier, bot_id

--- Called once, before nginx makes its workers.
-- @tparam table given what settings.json holds
function M.init(given)
  local text
  verifier, text = token.new(given)
  -- The mark lets the starting program tell this text from nginx's own.
  if not verifier then error("koresms sandbox: " .. text, 0) end
  bot_id = given.bot_id
  store.begin({scope = given.scope, enforce_jti = given.enforce_jti,
    per_minute = given.per_minute, retry_after = given.retry_after, latency = given.latency})
end

--- A token that this sandbox takes, or nil where it knows a public key only.
function M.sign()
  return verifier:sign(ngx.now())
end

--- The bot's id.
function M.bot()
  return bot_id
end

local function envelope(text, code)
  return ('{"errors":[{"msg":%s,"code":%d}]}'):format(json.encode(text), code)
end

local function refusal(name)
  local row = REFUSALS[name]
  return {status = row[1], body = envelope(row[3], row[2])}
end

-- The body that belongs to a status: none where HTTP has none, or the platform's envelope.
local function ordinary_body(status)
  if status == 204 or status == 304 then return "" end
  if status < 300 then return TRIGGERED end
  return envelope(REASONS[status] or "Played by the sandbox", status)
end

-- From the address as it was sent: nginx's own decoding would take an escaped "/" in the
-- bot's id for a separator.
local function addressed_bot()
  local path = ngx.var.request_uri:match("^[^?]*")
  local id = path:match("^/api/public/bot/([^/]+)/outboundsms$")
  return id and id:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
end

-- Adds a check to the report; returns whether it passed.
local function note(report, name, ok, text)
  report.checks[#report.checks + 1] = {name = name, ok = ok, text = text}
  return ok
end

-- The checks that the settings add to a token's own; the name of a refusal, or nil.
local function enforced(report, settings)
  if not note(report, "scope", settings.scope, settings.scope
    and "the application has the scope Outbound SMS"
    or "the application has no scope Outbound SMS") then
    return "scope"
  end
  if not settings.enforce_jti then return nil end
  local now, jti, expiry = ngx.now(), report.claims.jti, report.claims.exp
  if type(jti) ~= "string" and type(jti) ~= "number" then
    note(report, "jti", false, "jti is missing, and is enforced")
    return "credentials"
  end
  -- A second is granted, for nginx's idea of the time may be a little old.
  if not expiry or expiry - now > 3601 then
    note(report, "jti", false, "a token with jti must expire within an hour")
    return "jti_expiry"
  end
  if not note(report, "jti", store.first_use(jti, expiry - now), "jti was not used before") then
    report.checks[#report.checks].text = "jti was used before"
    return "jti_replay"
  end
end

local function is_number(value)
  return type(value) == "string" and #value <= 16 and value:find("^%+[1-9]%d+$") ~= nil
end

-- The message in the request's body, or nil.
local function message_in(body)
  local ok, fields = pcall(json.decode, body or "")
  if ok and type(fields) == "table" and is_number(fields.fromNo) and is_number(fields.toNo) then
    return {from = fields.fromNo, to = fields.toNo}
  end
end

local function process(seen)
  local message = {from = seen.message.from, to = seen.message.to, at = ngx.now()}
  local claims = seen.token.claims
  message.alg, message.sub, message.jti = seen.token.header.alg, claims.sub, claims.jti
  message.http = ngx.req.http_version()
  message.connection = tonumber(ngx.var.connection)
  store.record(message)
end

local function wait(seconds)
  if seconds and seconds > 0 then ngx.sleep(seconds) end
end

-- The answer to a message that passed every check: the ordinary one, or what the play says.
-- Only here is a message processed.
local function answer(seen, play)
  local replaces = play and plays.replaces(play)
  local processed = not replaces or play.when == "after"
  if processed then process(seen) end
  local reply = replaces and plays.answer(play, ordinary_body)
    or {status = 200, body = TRIGGERED}
  reply.processed = processed
  return reply
end

-- Judges the request: a refusal, or the answer. A recipient with a meaning is a play, too,
-- where none was asked for.
local function judge(seen, settings, play)
  local name = seen.token.refusal or enforced(seen.token, settings)
  if name then return refusal(name) end
  if seen.bot ~= bot_id then return refusal("bot") end
  if not store.permit(settings.per_minute) then
    local reply = refusal("rate")
    reply.retry_after = settings.retry_after
    return reply
  end
  if not seen.message then return refusal("arguments") end
  if play then return answer(seen, play) end
  local meaning = recipients.meaning(seen.message.to)
  if not meaning then return answer(seen) end
  seen.record.recipient = plays.describe(meaning)
  local reply = answer(seen, meaning)
  wait(meaning.delay)
  return reply
end

-- The answer to a request for which a play is due. What the play does not say stays ordinary.
local function perform(seen, settings, play)
  seen.record.played = plays.describe(play)
  local after = play.when == "after"
  if not after then wait(play.delay) end
  local reply
  if after or not plays.replaces(play) then
    reply = judge(seen, settings, play)
  else
    reply = plays.answer(play, ordinary_body)
  end
  reply.content_type = play.content_type or reply.content_type
  reply.headers = play.headers
  if after then wait(play.delay) end
  return reply
end

local function reply_headers(reply)
  local list = {}
  if reply.body ~= "" then list[1] = {"Content-Type", reply.content_type or JSON} end
  if reply.retry_after then list[#list + 1] = {"Retry-After", tostring(reply.retry_after)} end
  for name, value in pairs(reply.headers or {}) do list[#list + 1] = {name, value} end
  return list
end

local function send(record, reply)
  local headers = not (reply.close or reply.silent) and reply_headers(reply)
  exchange.finish(record, reply, headers)
  store.log(record)
  lines.write(record)
  if reply.close or reply.silent then
    store.count(reply.close and "answer:closed" or "answer:silent")
    if reply.silent then return ngx.exec("/_silence") end
    return ngx.exit(444)
  end
  store.count("answer:" .. reply.status)
  ngx.status = reply.status
  for _, pair in ipairs(headers) do ngx.header[pair[1]] = pair[2] end
  if reply.body == "" then return ngx.send_headers() end
  ngx.header["Content-Length"] = #reply.body
  ngx.print(reply.body)
end

--- Handles every request to the platform's addresses.
function M.handle()
  -- Before any answer: over HTTP/2, one that overtakes the body resets the stream.
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  local record = exchange.begin(body)
  if guard.check_call() then return send(record, refusal("page")) end
  local bot = addressed_bot()
  if not bot then return send(record, refusal("address")) end
  if ngx.req.get_method() ~= "POST" then
    local reply = refusal("method")
    reply.headers = {Allow = "POST"}
    return send(record, reply)
  end
  store.count("requests")
  local seen = {record = record, bot = bot, message = message_in(body),
    token = verifier:inspect(ngx.req.get_headers().auth, ngx.now())}
  record.token = seen.token
  if seen.message then record.from, record.to = seen.message.from, seen.message.to end
  local settings = store.settings()
  local play = plays.take()
  local reply = play and perform(seen, settings, play) or judge(seen, settings)
  wait(settings.latency)
  return send(record, reply)
end

--- Keeps the connection, and never answers on it.
function M.silence()
  ngx.sleep(3600)
  return ngx.exit(444)
end

--- The cheapest answer that nginx with Lua can give: counts, checks nothing.
function M.bench()
  ngx.req.read_body()
  store.count("bench")
  ngx.header["Content-Length"] = #TRIGGERED
  ngx.print(TRIGGERED)
end

return M
