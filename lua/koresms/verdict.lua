--- What an ending means: one table for what never left, one for replies.
--
-- `retryable` is true only where sending again cannot duplicate the message.
local cjson = require "cjson"
local mask = require "koresms.mask"

local M = {}

local json = cjson.new()
json.decode_invalid_numbers(false)

--- Endings before a request byte left, by code: the message was not sent.
M.before = {
  invalid_number = { retryable = false },
  config = { retryable = false },
  sign = { retryable = false },
  tls = { retryable = false },
  context = { retryable = false },
  rate_limited = { retryable = true },
  dns = { retryable = true },
  connect = { retryable = true },
  proxy = { retryable = true },
  timeout = { retryable = true },
  cancelled = { retryable = true },
}

--- Endings without a usable answer after a request may have left, by code: nobody knows.
M.after = {
  timeout = "no answer came before the deadline; the request may have been processed",
  connection_lost = "the connection was lost after the request had begun to leave; "
    .. "it may have been processed",
  bad_response = "the answer is of no use; the request may have been processed",
}

local function has_errors(reply)
  local errors = reply.json and reply.json.errors
  if errors == nil or errors == cjson.null then return false end
  return type(errors) ~= "table" or next(errors) ~= nil
end

local function class(n)
  return function(reply) return math.floor(reply.status / 100) == n end
end

local function is(n)
  return function(reply) return reply.status == n end
end

local function is_throttled(reply)
  return reply.status == 429
    or (reply.status >= 400 and reply.status < 500 and reply.body:lower():find("rate[ _-]?limit"))
end

--- Replies, the first row that fits counts. `advice` says where to look.
M.replies = {
  { outcome = "rejected", code = "rate_limited", retryable = true, when = is_throttled,
    advice = "the platform's rate limit was reached; the default is 60 requests a minute for an "
      .. "account (settings per_minute, per_hour)" },
  { outcome = "accepted", when = function(reply)
      return class(2)(reply) and reply.json and not has_errors(reply)
    end },
  { outcome = "rejected", code = "invalid_request", when = function(reply)
      return class(2)(reply) and reply.json
    end,
    advice = "is the SMS channel configured, and the sender's number attached to an "
      .. "experience flow?" },
  { outcome = "unknown", code = "bad_response", when = class(2),
    advice = "the answer is not a JSON object; does the setting host name the platform?" },
  { outcome = "rejected", code = "redirect", when = class(3),
    advice = "a redirect is never followed, since the token would travel; "
      .. "set host to the address that answers" },
  { outcome = "rejected", code = "unauthorized", when = is(401),
    advice = "look at client id and secret (or the private key and algorithm), the bot id, the "
      .. "API scope \"Outbound SMS\" (granted and published), and this machine's clock; "
      .. "an app that enforces JTI needs the setting jti" },
  { outcome = "rejected", code = "forbidden", when = is(403),
    advice = "is the API scope \"Outbound SMS\" granted to the app and published?" },
  { outcome = "rejected", code = "not_found", when = function(reply)
      return reply.status == 404
        or (reply.status == 400 and reply.body:find("Invalid StreamId", 1, true))
    end,
    advice = "look at the settings host and bot_id" },
  { outcome = "unknown", code = "server_error", when = function(reply)
      return reply.status == 408 or class(5)(reply)
    end,
    advice = "the request may have been processed; it is not repeated" },
  { outcome = "rejected", code = "invalid_request", when = class(4),
    advice = "is the SMS channel configured, and the sender's number attached to an "
      .. "experience flow?" },
  { outcome = "unknown", code = "bad_response", when = function() return true end,
    advice = "no HTTP server answers with this status" },
}

local function decode(body)
  local ok, value = pcall(json.decode, body)
  if not ok and body:find("%d%.%d") then
    -- lua-cjson learns the locale's decimal point when an instance is made; the program may
    -- have changed the locale since.
    cjson.new()
    ok, value = pcall(json.decode, body)
  end
  return ok and type(value) == "table" and body:find("^%s*{") and value or nil
end

-- The platform's own words: {"errors":[{"msg":...,"code":...}]} and its relatives.
local function envelope(object, token)
  local errors = object and object.errors
  local first = type(errors) == "table" and errors[1] or errors
  if type(first) == "string" then first = { msg = first } end
  if type(first) ~= "table" then first = type(errors) == "table" and errors or object or {} end
  local text = first.msg or first.message
  local code = first.code
  if type(code) == "string" then
    code = mask.text(code, 100, token)
  elseif type(code) ~= "number" then
    code = nil
  elseif code % 1 == 0 then
    -- lua-cjson makes every number a float, and Lua 5.3 would show 4002 as 4002.0.
    code = math.floor(code)
  end
  return type(text) == "string" and mask.text(text, 1000, token) or nil, code
end

local function describe(row, reply, text, code)
  local said = {}
  if code ~= nil then
    said[1] = type(code) == "number" and ("%.14g"):format(code) or code
  end
  if text then said[#said + 1] = mask.text(text) end
  return ("HTTP %d%s; %s"):format(reply.status,
    said[1] and " (" .. table.concat(said, ": ") .. ")" or "", row.advice)
end

-- The verdict on the newest body of each status: one platform says the same thing over
-- and over, and its verdict is a function of status and body alone.
local last = {}

--- The verdict on a reply whose like was judged before; nil where none was.
-- @tparam number status
-- @tparam string body
-- @treturn ?table
function M.known(status, body)
  local known = last[status]
  return known and known.body == body and known.verdict or nil
end

local function judge_reply(reply, token)
  local known = M.known(reply.status, reply.body)
  if known then return known end
  local seen = { status = reply.status, body = reply.body, json = decode(reply.body) }
  for _, row in ipairs(M.replies) do
    if row.when(seen) then
      local verdict = { outcome = row.outcome, code = row.code,
        retryable = row.retryable or false, status = reply.status }
      if row.outcome ~= "accepted" then
        verdict.platform_message, verdict.platform_code = envelope(seen.json, token)
        verdict.message = describe(row, seen, verdict.platform_message, verdict.platform_code)
      end
      -- A large body is not worth keeping.
      last[reply.status] = #reply.body <= 4096 and { body = reply.body, verdict = verdict } or nil
      return verdict
    end
  end
end

--- Judges one ending.
-- @tparam table reply of a transport: `status` and `body`, or `failure`, `starts`, `text`
-- @tparam ?string token that was sent: where the reply repeats it, it is not shown
-- @treturn table `outcome`, `code`, `retryable`, `message`, `status`, `platform_code`,
--   `platform_message`; shared between calls, so not to be changed
function M.judge(reply, token)
  if not reply.failure then return judge_reply(reply, token) end
  local code = reply.failure
  if reply.starts > 0 then
    if not M.after[code] then code = "connection_lost" end
    return { outcome = "unknown", code = code, retryable = false,
      message = M.after[code] .. (reply.text and " (" .. reply.text .. ")" or "") }
  end
  if not M.before[code] then code = "connect" end
  return { outcome = "not_sent", code = code, retryable = M.before[code].retryable,
    message = reply.text or code }
end

return M
