--- The platform's side of the call, inside nginx: POST /api/public/bot/{BotId}/outboundsms.
-- @module koresms.sandbox.app

local cjson = require "cjson"
local plays = require "koresms.sandbox.plays"
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
  store.set_settings({scope = given.scope, enforce_jti = given.enforce_jti,
    per_minute = given.per_minute, retry_after = given.retry_after, latency = given.latency})
end

local function envelope(text, code)
  return ('{"errors":[{"msg":%s,"code":%d}]}'):format(json.encode(text), code)
end

local function refusal(name)
  local row = REFUSALS[name]
  return {status = row[1], body = envelope(row[3], row[2])}
end

local function ordinary_body(status)
  if status >= 400 then return envelope(REASONS[status] or "Played by the sandbox", status) end
  return status < 300 and TRIGGERED or ""
end

-- From the address as it was sent: nginx's own decoding would take an escaped "/" in the
-- bot's id for a separator.
local function addressed_bot()
  local path = ngx.var.request_uri:match("^[^?]*")
  local id = path:match("^/api/public/bot/([^/]+)/outboundsms$")
  return id and id:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
end

-- The claims and the algorithm, or nil and the name of a refusal.
local function authenticate(settings)
  local header = ngx.req.get_headers().auth
  if header == nil or header == "" then return nil, "credentials" end
  if type(header) ~= "string" then return nil, "malformed" end
  local now = ngx.now()
  local claims, algorithm = verifier:check(header, now)
  if not claims then return nil, algorithm end
  if not settings.scope then return nil, "scope" end
  if settings.enforce_jti then
    local jti, expiry = claims.jti, claims.exp
    if type(jti) ~= "string" and type(jti) ~= "number" then return nil, "credentials" end
    -- A second is granted, for nginx's idea of the time may be a little old.
    if not expiry or expiry - now > 3601 then return nil, "jti_expiry" end
    if not store.first_use(jti, expiry - now) then return nil, "jti_replay" end
  end
  return claims, algorithm
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

-- The ordinary answer; a message that passes is processed here, and nowhere else.
local function judge(bot, settings)
  local claims, algorithm = authenticate(settings)
  if not claims then return refusal(algorithm) end
  if bot ~= bot_id then return refusal("bot") end
  if settings.per_minute and not store.permit(settings.per_minute) then
    local reply = refusal("rate")
    reply.retry_after = settings.retry_after
    return reply
  end
  local message = message_in(ngx.req.get_body_data())
  if not message then return refusal("arguments") end
  message.at = ngx.now()
  message.alg, message.sub, message.jti = algorithm, claims.sub, claims.jti
  message.http = ngx.req.http_version()
  message.connection = tonumber(ngx.var.connection)
  store.record(message)
  return {status = 200, body = TRIGGERED, processed = true}
end

local function wait(seconds)
  if seconds and seconds > 0 then ngx.sleep(seconds) end
end

local function send(reply)
  if reply.close then
    store.count("answer:closed")
    return ngx.exit(444)
  end
  store.count("answer:" .. reply.status)
  ngx.status = reply.status
  ngx.header["Content-Type"] = reply.content_type or JSON
  ngx.header["Content-Length"] = #reply.body
  if reply.retry_after then ngx.header["Retry-After"] = tostring(reply.retry_after) end
  for name, value in pairs(reply.headers or {}) do ngx.header[name] = value end
  ngx.print(reply.body)
end

-- The answer to a request for which a play is due. What the play does not say stays ordinary.
local function perform(play, bot, settings)
  local after, replaces = play.when == "after", plays.replaces(play)
  if not after then wait(play.delay) end
  local reply = (after or not replaces) and judge(bot, settings)
  if replaces and (not reply or reply.processed) then
    reply = plays.answer(play, ordinary_body)
  end
  reply.content_type = play.content_type or reply.content_type
  reply.headers = play.headers
  if after then wait(play.delay) end
  return reply
end

--- Handles every request to the platform's addresses.
function M.handle()
  local bot = addressed_bot()
  if not bot then return send(refusal("address")) end
  if ngx.req.get_method() ~= "POST" then
    local reply = refusal("method")
    reply.headers = {Allow = "POST"}
    return send(reply)
  end
  -- Before any answer: over HTTP/2, one that overtakes the body resets the stream.
  ngx.req.read_body()
  store.count("requests")
  local settings = store.settings()
  local play = plays.take()
  local reply = play and perform(play, bot, settings) or judge(bot, settings)
  wait(settings.latency)
  return send(reply)
end

--- The cheapest answer that nginx with Lua can give: counts, checks nothing.
function M.bench()
  ngx.req.read_body()
  store.count("bench")
  ngx.header["Content-Length"] = #TRIGGERED
  ngx.print(TRIGGERED)
end

return M
