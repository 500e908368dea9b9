-- The handlers of nginx.conf beside this file.
--
--   POST /sms            Authorization: Bearer <SMS_API_KEY>
--   {"to": "+911234567890", "from": "+19876543210", "id": "order-17"}
--
-- "from" and "id" are optional. The answer is 202 where the message was accepted, else
-- {"error": {"outcome": ..., "code": ..., "message": ..., "retryable": ...}, "id": ...}.

local cjson = require("cjson").new()
local koresms = require "koresms"

local M = {}

local ID_MAX = 64

local client, salt, key

--- Reads the settings, once, before there are workers.
function M.init()
  client = assert(koresms.new { shared_dict = "koresms" })
  local secret = os.getenv("SMS_API_KEY")
  if not secret or #secret < 16 then error("SMS_API_KEY has to have 16 characters or more") end
  -- What is compared is not the key itself, so that how long that takes tells nothing about it.
  local random = assert(io.open("/dev/urandom", "rb"))
  salt = random:read(16)
  random:close()
  key = ngx.hmac_sha1(salt, secret)
end

local function answer(status, object)
  local text = cjson.encode(object)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.header["Content-Length"] = #text
  ngx.print(text)
end

local function refuse(status, code, message)
  return answer(status, { error = { code = code, message = message } })
end

local REFUSALS = {
  [401] = { "unauthorized", "the header Authorization has to be: Bearer <SMS_API_KEY>" },
  [404] = { "not_found", "there are POST /sms and GET /health" },
  [405] = { "method_not_allowed", "this address takes POST" },
  [413] = { "too_large", "the body is larger than 4 kB" },
  [429] = { "too_many_requests", "you ask more often than you may" },
}

--- Tells as JSON what nginx refused.
function M.refuse()
  local row = REFUSALS[ngx.status] or { "refused", "HTTP " .. ngx.status }
  return refuse(ngx.status, row[1], row[2])
end

--- Lets pass whoever has the key.
function M.authenticate()
  local header = ngx.var.http_authorization or ""
  local given = header:match("^[Bb]earer +(%S+)$")
  if given and ngx.hmac_sha1(salt, given) == key then return end
  ngx.header["WWW-Authenticate"] = "Bearer"
  return ngx.exit(401)
end

-- A field of the body: nil where it is not there, false where it is no string.
local function text_of(value)
  if value == nil or value == cjson.null then return nil end
  return type(value) == "string" and value
end

-- The message in the request's body, or nil and what is wrong with it.
local function message_in(body)
  local ok, fields = pcall(cjson.decode, body or "")
  if not ok or type(fields) ~= "table" then return nil, "the body has to be a JSON object" end
  local message = { to = text_of(fields.to), from = text_of(fields.from), id = text_of(fields.id) }
  if not message.to then return nil, "\"to\" has to be a string such as \"+911234567890\"" end
  if message.from == false or message.id == false then
    return nil, "\"from\" and \"id\" have to be strings"
  end
  -- It goes into logs, where a line end would begin a line of the caller's own.
  if message.id and not message.id:find("^[%w._:-]+$") or #(message.id or "") > ID_MAX then
    return nil, ("\"id\" has to be 1 to %d letters, digits and ._:-"):format(ID_MAX)
  end
  return message
end

-- What a caller is told by HTTP. An outcome that is not known is nobody's to repeat blindly, so
-- no status that invites to try again.
local STATUS = { rejected = 502, not_sent = 503, unknown = 500 }
local STATUS_BY_CODE = { invalid_number = 422, rate_limited = 429 }

--- Sends one message.
function M.handle()
  if ngx.req.get_method() ~= "POST" then
    ngx.header.Allow = "POST"
    return ngx.exit(405)
  end
  ngx.req.read_body()
  local message, wrong = message_in(ngx.req.get_body_data())
  if not message then return refuse(400, "invalid_request", wrong) end
  local accepted, text, code, failed = client:send(message)
  if accepted then return answer(202, { id = accepted.id, outcome = accepted.outcome }) end
  if failed.outcome ~= "not_sent" or code ~= "invalid_number" then
    ngx.log(ngx.WARN, "message ", failed.id, ": ", failed.outcome, " (", code, "): ", text)
  end
  if failed.retry_after then ngx.header["Retry-After"] = math.ceil(failed.retry_after) end
  return answer(STATUS_BY_CODE[code] or STATUS[failed.outcome], { id = failed.id, error = {
    outcome = failed.outcome, code = code, message = text, retryable = failed.retryable } })
end

-- What `koresms.later` keeps of a client at most.
local QUEUE_MAX = 1000

--- Says whether this worker can send, and what it has done. The platform is not asked. A pause ends
-- by itself, so it is no reason to take the machine out of service; a full queue is.
function M.health()
  local token, text = client:token()
  if not token then return refuse(503, "sign", text) end
  local stats = client:stats()
  local full = stats.later >= QUEUE_MAX
  stats.status = full and "full" or stats.paused and "paused" or "ok"
  stats.koresms = koresms._VERSION
  return answer(full and 503 or 200, stats)
end

return M
