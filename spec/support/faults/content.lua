--- Well-formed replies with every status and body that matters. The message is processed
-- once and answered in full. Fields of a row: see request.lua; also `retry_after`: what
-- the header says (seconds, or nil where it says nothing usable).

local step = require("spec.support.faults.step")

local rows = {}

local function add(group, name, fields, more)
  local row = more or {}
  row.name, row.group = name, group
  row.processed, row.answers = 1, true
  row.status, row.body = fields.status or 200, row.body or "object"
  row.steps = step.after_reading(step.respond(fields))
  rows[#rows + 1] = row
end

local HTML = "<!DOCTYPE html><html><body><h1>It works</h1></body></html>"

-- Bodies of a 2xx -----------------------------------------------------------------------

local deep = { { ["repeat"] = "[", n = 10000 }, { ["repeat"] = "]", n = 10000 } }

for _, row in ipairs {
  { "documented", step.OK_BODY, "object" },
  { "other_object", '{"status":"ok"}', "object" },
  { "empty_object", "{}", "object" },
  { "padded_object", " \r\n\t{ } \n", "object" },
  { "html", HTML, "other" },
  { "empty", "", "none" },
  { "blank", " \r\n", "other" },
  { "text", "OK", "other" },
  { "truncated", '{"message":"Trig', "other" },
  { "truncated_object", '{"message":"Triggered"', "other" },
  { "deep_array", deep, "other" },
  { "deep_object", { { ["repeat"] = '{"a":', n = 10000 }, "1",
    { ["repeat"] = "}", n = 10000 } }, "object", true },
  { "deep_errors", { '{"errors":', deep, "}" }, "errors", true },
  { "invalid_utf8", { '{"message":"', { b64 = "//6A" }, '"}' }, "object", true },
  { "nul_inside", { '{"message":"', { b64 = "AA==" }, '"}' }, "other" },
  { "byte_order_mark", { { b64 = "77u/" }, "{}" }, "other" },
  { "array", '[{"message":"Triggered"}]', "other" },
  { "empty_array", "[]", "other" },
  { "string", '"Triggered"', "other" },
  { "number", "200", "other" },
  { "null", "null", "other" },
  { "true", "true", "other" },
  { "two_objects", "{}{}", "other" },
  { "trailing_text", '{"message":"Triggered"} and more', "other" },
  { "errors", '{"errors":[{"msg":"Invalid number","code":400}]}', "errors" },
  { "errors_string_code", '{"errors":[{"msg":"no","code":"ValidationError"}]}', "errors" },
  { "errors_empty", '{"errors":[]}', "errors" },
  { "errors_text", '{"errors":"no"}', "errors" },
  { "errors_null", '{"errors":null}', "errors" },
} do
  add("body", "body_" .. row[1], { body = row[2] }, { body = row[3], either = row[4] })
end

for _, status in ipairs { 201, 202, 299 } do
  add("body", "success_" .. status, { status = status })
end

-- Redirects: `arg.location`, else a name that nothing answers ---------------------------

for _, status in ipairs { 301, 302, 303, 307, 308 } do
  local function redirect(name, location)
    add("redirect", "redirect_" .. status .. name, { status = status }, { body = "none" })
    rows[#rows].steps = function(arg)
      local target = arg.location or location
      return step.after_reading(step.respond {
        status = status, body = "",
        headers = target and { { "Location", target } } or nil,
      })
    end
  end
  redirect("", "/api/public/bot/elsewhere/outboundsms")
  -- The bot id of the specs' clients.
  redirect("_itself", "/api/public/bot/st-1/outboundsms")
  redirect("_other_host", "https://elsewhere.invalid/api/public/bot/x/outboundsms")
  redirect("_http", "http://127.0.0.1:1/api/public/bot/x/outboundsms")
  redirect("_nowhere")
end
add("redirect", "status_300", { status = 300, body = "" }, { body = "none" })
add("redirect", "status_304", { status = 304, body = "", framing = "none" },
  { body = "none" })

-- Throttling ----------------------------------------------------------------------------

local LIMITED = '{"errors":[{"msg":"Rate limit exceeded","code":429}]}'

for _, row in ipairs {
  { "", nil, nil },
  { "_seconds", "1", 1 },
  { "_zero", "0", 0 },
  { "_hour", "3600", 3600 },
  { "_date", { http_date = 2 }, 2 },
  { "_date_past", { http_date = -60 }, 0 },
  { "_date_far", "Fri, 31 Dec 9999 23:59:59 GMT", nil },
  { "_date_bad", "Fri, 99 Foo 2026 99:99:99 GMT", nil },
  { "_negative", "-5", nil },
  { "_absurd", "999999999999999999999999", nil },
  { "_fraction", "1.5", nil },
  { "_word", "soon", nil },
  { "_blank", "", nil },
  { "_long", { ["repeat"] = "1", n = 5000 }, nil },
} do
  add("throttled", "throttled" .. row[1], {
    status = 429, body = LIMITED, headers = row[2] and { { "Retry-After", row[2] } } or nil,
  }, { body = "errors", retry_after = row[3] })
end
add("throttled", "throttled_twice", {
  status = 429, body = LIMITED, headers = { { "Retry-After", "1" }, { "Retry-After", "9" } },
}, { body = "errors", either = true })
add("throttled", "throttled_html", { status = 429, body = HTML }, { body = "other" })
add("throttled", "throttled_no_body", { status = 429, body = "" }, { body = "none" })
add("throttled", "limit_told_in_400", {
  status = 400, body = '{"errors":[{"msg":"API rate limit reached","code":400}]}',
}, { body = "errors" })
-- As the platform's documentation has them; it does not say with which status.
for _, row in ipairs {
  { "minute", "You've exceeded the per-minute rate limit. "
    .. "Please wait for sometime before retrying." },
  { "hour", "You've exceeded the hourly rate limit. Please wait for sometime before retrying." },
  { "api", "Rate limit for this API has been reached. Please try again after some time." },
} do
  local text = row[2]
  local body = ('{"errors":[{"msg":"%s","code":400}]}'):format(text)
  add("throttled", "limit_of_the_" .. row[1], { status = 400, body = body },
    { body = "errors", platform_message = text, platform_code = 400 })
end
add("throttled", "limit_told_in_403", {
  status = 403, body = '{"errors":[{"msg":"Rate Limit Exceeded","code":403}]}',
  headers = { { "Retry-After", "2" } },
}, { body = "errors", retry_after = 2 })
add("throttled", "limit_told_by_a_page", {
  status = 403, body = "Rate Limit Exceeded", headers = { { "Retry-After", "2" } },
}, { body = "other", retry_after = 2 })
add("throttled", "unavailable_503", {
  status = 503, body = HTML, headers = { { "Retry-After", "1" } },
}, { body = "other", retry_after = 1 })

-- Error envelopes: status, name, text, code ---------------------------------------------

for _, row in ipairs {
  { 401, "sdk_credentials", "Invalid SDK credentials", "4002" },
  { 401, "not_a_jwt", "Invalid JWT token", "4002" },
  { 401, "scope", "Permission denied. Scope is incorrect!", "4002" },
  { 401, "jti", "error verifying the jwt: jti is already used", "401" },
  { 401, "apikey", "Invalid apikey", "4002" },
  { 400, "stream_id", "Invalid StreamId", "400" },
  { 400, "file_id", "Invalid file id", "400" },
  { 412, "arguments", "Validation errors/ Invalid arguments", "412" },
  { 412, "string_code", "Missing app details in the payload", '"ValidationError"' },
  { 405, "method", "Method Not Allowed", "405" },
  { 500, "internal", "Internal Server Error", "500" },
} do
  add("envelope", "envelope_" .. row[2], {
    status = row[1], body = ('{"errors":[{"msg":"%s","code":%s}]}'):format(row[3], row[4]),
  }, { body = "errors", platform_message = row[3],
    platform_code = tonumber(row[4]) or row[4]:sub(2, -2) })
end

for _, row in ipairs {
  { "message_for_msg", '{"errors":[{"message":"Permission denied","code":4002}]}', "errors" },
  { "status_error", '{"status":"Error","message":"Invalid request"}', "object" },
  { "bare_text", "Unauthorized", "other" },
  { "html", HTML, "other" },
  { "empty", "", "none" },
  { "no_code", '{"errors":[{"msg":"no code"}]}', "errors" },
  { "no_msg", '{"errors":[{"code":4002}]}', "errors" },
  { "empty_list", '{"errors":[]}', "errors" },
  { "list_of_text", '{"errors":["no"]}', "errors" },
  { "object", '{"errors":{"msg":"no","code":1}}', "errors" },
  { "code_null", '{"errors":[{"msg":null,"code":null}]}', "errors" },
  { "code_object", '{"errors":[{"msg":{"a":1},"code":[1]}]}', "errors" },
  { "code_huge", '{"errors":[{"msg":"no","code":1e400}]}', "errors" },
  { "two_errors", '{"errors":[{"msg":"a","code":1},{"msg":"b","code":2}]}', "errors" },
  { "control_bytes", '{"errors":[{"msg":"a\\u0000\\r\\n\\u001b[31mb","code":1}]}', "errors" },
  { "long_msg", { '{"errors":[{"msg":"', { ["repeat"] = "a", n = 100000 },
    '","code":1}]}' }, "errors" },
  { "deep", { '{"errors":', deep, "}" }, "errors" },
  { "array", '[{"msg":"no","code":1}]', "other" },
} do
  add("envelope", "envelope_401_" .. row[1], { status = 401, body = row[2] },
    { body = row[3] })
end
add("envelope", "envelope_header", {
  status = 401, body = '{"errors":[{"msg":"Invalid apikey","code":4002}]}',
  headers = { { "response-error-description",
    '{"errors":[{"msg":"Invalid apikey","code":4002}]}' } },
}, { body = "errors" })

-- Every other status, as a gateway tells it ---------------------------------------------

for _, status in ipairs {
  400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 417, 421,
  422, 423, 425, 426, 428, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 511, 520, 599,
} do
  add("status", "status_" .. status, { status = status, body = HTML }, { body = "other" })
end

return rows
