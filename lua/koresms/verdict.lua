--- What became of a message: one table for what never left, one for what may have left and had
-- no usable reply, one for replies.
--
-- `retryable` is true only where sending again cannot duplicate the message.
local cjson = require "cjson"
local mask = require "koresms.mask"

local M = {}

local json = cjson.new()
json.decode_invalid_numbers(false)

--- Endings before a request byte left, by code: the message was not sent.
M.not_sent = {
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

--- Endings without a usable reply after a request may have left, by code: whether it was
-- processed is not known.
M.unknown = {
  timeout = "no reply came before the deadline; the request may have been processed",
  connection_lost = "the connection was lost after the request had begun to leave; "
    .. "it may have been processed",
  bad_response = "the reply could not be interpreted; the request may have been processed",
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

-- Server errors, and the two statuses below 500 that say that a request was cut short: 408 by
-- the server's patience, 499 by a proxy in front of it. The request may have been processed.
local function is_server_error(reply)
  return reply.status == 408 or reply.status == 499 or class(5)(reply)
end

-- The errors of the platform's envelope, {"errors":[{"msg":...,"code":...}]}, and of the forms
-- related to it: a list of texts, one object or one text in place of the list, and an object
-- without `errors`, which is then an error itself.
local function errors_of(object)
  local errors = object and object.errors
  local list = type(errors) == "table" and errors[1] ~= nil and errors or { errors }
  local found = {}
  for _, one in ipairs(list) do
    if type(one) == "string" then one = { msg = one } end
    if type(one) == "table" then found[#found + 1] = one end
  end
  if #found == 0 then found[1] = object end
  return found
end

local RATE_LIMIT = "rate[ _-]?limit"
local RATE_LIMIT_CODE = 429

local function says_rate_limit(value)
  return type(value) == "string" and value:lower():find(RATE_LIMIT) ~= nil
end

-- A 4xx may say it in its envelope; nothing else in a body counts, since a page or an echoed
-- request may hold any words.
local function is_rate_limited(reply)
  if reply.status == 429 then return true end
  if not class(4)(reply) then return false end
  for _, one in ipairs(reply.errors) do
    if says_rate_limit(one.msg) or says_rate_limit(one.message) or says_rate_limit(one.code)
        or tonumber(one.code) == RATE_LIMIT_CODE then
      return true
    end
  end
  return false
end

--- Replies: the first row whose `when` holds counts. `advice` says where to look. What may have
-- been processed comes before everything that may be repeated.
M.replies = {
  { outcome = "unknown", code = "server_error", when = is_server_error,
    advice = "the request may have been processed; it is not repeated" },
  { outcome = "rejected", code = "rate_limited", retryable = true, when = is_rate_limited,
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
    advice = "the reply is not a JSON object; does the setting host name the platform?" },
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
  { outcome = "rejected", code = "invalid_request", when = class(4),
    advice = "is the SMS channel configured, and the sender's number attached to an "
      .. "experience flow?" },
  { outcome = "unknown", code = "bad_response", when = function() return true end,
    advice = "no HTTP server answers with this status" },
}

-- What lua-cjson says of a text that is not JSON. Anything else that leaves `decode` (out of
-- memory, an error of a debug hook) says nothing about the text.
local COMPLAINTS = {
  "^Expected .+ but found .+ at character %d+$",
  "^JSON parser does not support UTF%-16 or UTF%-32$",
}

-- The same words are said of a text that is nested too deeply and where there is no room on the
-- stack for what is not.
local TOO_DEEP = "^Found too many nested data structures %((%d+)%)"

local function is_complaint(problem)
  if type(problem) ~= "string" then return false end
  local depth = problem:match(TOO_DEEP)
  if depth then return tonumber(depth) > json.decode_max_depth() end
  for _, pattern in ipairs(COMPLAINTS) do
    if problem:find(pattern) then return true end
  end
  return false
end

-- The value of a JSON text, or nil where it is none. Raises every error that is not the text's.
local function parse(text)
  local ok, value = pcall(json.decode, text)
  if ok then return value end
  if not is_complaint(value) then error(value, 0) end
  return nil
end

-- The JSON object that a body holds, or nil.
local function decode(body)
  local value = parse(body)
  if value == nil and body:find("%d[.,]") then
    -- lua-cjson learns the locale's decimal point when an instance is made; the program may
    -- have changed the locale since.
    cjson.new()
    value = parse(body)
  end
  return type(value) == "table" and body:find("^%s*{") and value or nil
end

-- The platform's own words.
local function platform_text(first, token)
  if not first then return nil end
  local text, code = first.msg or first.message, first.code
  if type(code) == "string" then
    code = mask.text(code, 100, token)
  elseif type(code) ~= "number" or code == math.huge or code == -math.huge then
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

-- The verdict on the newest body of each status: one platform says the same thing over and over,
-- and its verdict is a function of status and body alone. An error on the way to a verdict
-- leaves nothing here.
local last = {}

-- A larger body is not worth keeping.
local REMEMBERED_MAX = 4096

-- A body that holds the token of one request is shown without it, and only for that request.
local function remember(status, body, verdict, token)
  local own = token and token ~= "" and body:find(token, 1, true)
  last[status] = #body <= REMEMBERED_MAX and not own and { body = body, verdict = verdict } or nil
end

local function judge_reply(reply, token)
  local status, body = reply.status, reply.body
  local object = decode(body)
  local seen = { status = status, body = body, json = object, errors = errors_of(object) }
  for _, row in ipairs(M.replies) do
    if row.when(seen) then
      local verdict = { outcome = row.outcome, code = row.code,
        retryable = row.retryable or false, status = status }
      if row.outcome ~= "accepted" then
        verdict.platform_message, verdict.platform_code = platform_text(seen.errors[1], token)
        verdict.message = describe(row, seen, verdict.platform_message, verdict.platform_code)
      end
      remember(status, body, verdict, token)
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
  local code = reply.failure
  if not code then
    local known = last[reply.status]
    if known and known.body == reply.body then return known.verdict end
    return judge_reply(reply, token)
  end
  if reply.starts > 0 then
    if not M.unknown[code] then code = "connection_lost" end
    return { outcome = "unknown", code = code, retryable = false,
      message = M.unknown[code] .. (reply.text and " (" .. reply.text .. ")" or "") }
  end
  if not M.not_sent[code] then code = "connect" end
  return { outcome = "not_sent", code = code, retryable = M.not_sent[code].retryable,
    message = reply.text or code }
end

return M
