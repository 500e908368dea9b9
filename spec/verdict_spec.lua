local verdict = require "koresms.verdict"

local OK = '{"message": "Triggered the configured Experience flow to deliver message via SMS channel"}'

local function envelope(msg, code)
  return ('{"errors":[{"msg":%q,"code":%s}]}'):format(msg, code)
end

-- status, body, outcome, code, retryable
local replies = {
  { 200, OK, "accepted", nil, false },
  { 201, "{}", "accepted", nil, false },
  { 200, ' \r\n{"message":"x"}', "accepted", nil, false },
  { 200, '{"errors":null}', "accepted", nil, false },
  { 200, '{"errors":[]}', "accepted", nil, false },
  { 200, envelope("Validation errors", 412), "rejected", "invalid_request", false },
  { 200, '{"errors":"no"}', "rejected", "invalid_request", false },
  { 200, "", "unknown", "bad_response", false },
  { 200, "<html>ok</html>", "unknown", "bad_response", false },
  { 200, '["accepted"]', "unknown", "bad_response", false },
  { 200, "[]", "unknown", "bad_response", false },
  { 200, '"accepted"', "unknown", "bad_response", false },
  { 200, "true", "unknown", "bad_response", false },
  { 200, OK:sub(1, -2), "unknown", "bad_response", false },
  { 200, OK .. "x", "unknown", "bad_response", false },
  { 200, '{"a":' .. ("["):rep(10000) .. ("]"):rep(10000) .. "}", "unknown", "bad_response", false },
  { 204, "", "unknown", "bad_response", false },
  { 301, "", "rejected", "redirect", false },
  { 302, OK, "rejected", "redirect", false },
  { 307, "", "rejected", "redirect", false },
  { 308, "", "rejected", "redirect", false },
  { 401, envelope("Invalid SDK credentials", 4002), "rejected", "unauthorized", false },
  { 401, envelope("Invalid JWT token", 4002), "rejected", "unauthorized", false },
  { 401, envelope("Permission denied. Scope is incorrect!", 4002), "rejected", "unauthorized", false },
  { 401, envelope("error verifying the jwt: possibly a replay", 401), "rejected", "unauthorized", false },
  { 403, "", "rejected", "forbidden", false },
  { 404, "<html>", "rejected", "not_found", false },
  { 400, envelope("Invalid StreamId", 400), "rejected", "not_found", false },
  { 400, envelope("Invalid file id", 400), "rejected", "invalid_request", false },
  { 405, envelope("Method Not Allowed", 405), "rejected", "invalid_request", false },
  { 407, "", "rejected", "invalid_request", false },
  { 412, envelope("Validation errors/ Invalid arguments", 412), "rejected", "invalid_request", false },
  { 412, envelope("Missing app details in the payload", '"ValidationError"'), "rejected",
    "invalid_request", false },
  { 422, "", "rejected", "invalid_request", false },
  { 408, "", "unknown", "server_error", false },
  { 500, envelope("Internal Server Error", 500), "unknown", "server_error", false },
  { 502, "<html>", "unknown", "server_error", false },
  { 503, "", "unknown", "server_error", false },
  { 504, "", "unknown", "server_error", false },
  { 599, OK, "unknown", "server_error", false },
  { 429, "", "rejected", "rate_limited", true },
  { 429, OK, "rejected", "rate_limited", true },
  { 403, envelope("Rate limit for this API has been reached. Please try again after some time.", 403),
    "rejected", "rate_limited", true },
  { 400, envelope("You've exceeded the per-minute rate limit. Please wait for sometime before "
    .. "retrying.", 400), "rejected", "rate_limited", true },
  { 401, "Rate Limit reached", "rejected", "rate_limited", true },
  { 400, envelope("Rate-Limit exceeded", '"x"'), "rejected", "rate_limited", true },
  { 403, envelope("no", '"RATE_LIMIT"'), "rejected", "rate_limited", true },
  { 500, "rate limit", "unknown", "server_error", false },
  { 600, "", "unknown", "bad_response", false },
  { 101, "", "unknown", "bad_response", false },
}

describe("verdict", function()
  local seen = {}
  for _, case in ipairs(replies) do
    local status, body, outcome, code, retryable = case[1], case[2], case[3], case[4], case[5]
    seen[outcome .. "/" .. tostring(code)] = true
    it(("of %d %.40s"):format(status, body), function()
      for _ = 1, 2 do -- the second is answered from memory
        local v = verdict.judge({ status = status, body = body, starts = 1 })
        assert.equal(outcome, v.outcome)
        assert.equal(code, v.code)
        assert.equal(retryable, v.retryable)
        assert.equal(status, v.status)
        assert.equal(outcome == "accepted", v.message == nil)
      end
    end)
  end

  it("has a case for each row of the table", function()
    for _, row in ipairs(verdict.replies) do
      assert.truthy(seen[row.outcome .. "/" .. tostring(row.code)], row.code)
    end
  end)

  it("passes on the platform's words, number or string as they came", function()
    local v = verdict.judge({ status = 412, body = replies[33][2], starts = 1 })
    assert.equal("ValidationError", v.platform_code)
    assert.equal("Missing app details in the payload", v.platform_message)
    v = verdict.judge({ status = 401, body = envelope("Invalid SDK credentials", 4002), starts = 1 })
    assert.equal(4002, v.platform_code)
    assert.equal("4002", tostring(v.platform_code))
    assert.truthy(v.message:find("4002: Invalid SDK credentials", 1, true), v.message)
    v = verdict.judge({ status = 400, body = '{"status":"Error","message":"no"}', starts = 1 })
    assert.equal("no", v.platform_message)
    v = verdict.judge({ status = 400, body = '{"errors":[{"message":"no"}]}', starts = 1 })
    assert.equal("no", v.platform_message)
    for _, flat in ipairs({ '{"errors":["no"]}', '{"errors":"no"}', '{"errors":{"msg":"no"}}' }) do
      assert.equal("no", verdict.judge({ status = 400, body = flat, starts = 1 }).platform_message)
    end
    for _, odd in ipairs({ '{"errors":[1]}', '{"errors":{}}', '{"errors":[{"msg":{},"code":[]}]}',
      '{"errors":7}', '{"errors":true}', '{"errors":null}' }) do
      v = verdict.judge({ status = 400, body = odd, starts = 1 })
      assert.equal("invalid_request", v.code)
      assert.is_nil(v.platform_message)
      assert.is_nil(v.platform_code)
    end
  end)

  it("hides numbers and tokens that the platform repeats", function()
    local v = verdict.judge({ status = 400, starts = 1,
      body = envelope("bad toNo +911234567890 for eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln", 400) })
    assert.is_nil((v.message .. v.platform_message):find("1234567", 1, true))
    assert.is_nil((v.message .. v.platform_message):find("eyJ", 1, true))
    assert.truthy(v.message:find("+9112*****90", 1, true), v.message)
  end)

  it("names what to look at", function()
    local function message(status, body)
      return verdict.judge({ status = status, body = body or "", starts = 1 }).message
    end
    assert.truthy(message(401):find("Outbound SMS", 1, true))
    assert.truthy(message(401):find("clock", 1, true))
    assert.truthy(message(412):find("experience flow", 1, true))
    assert.truthy(message(412):find("SMS channel", 1, true))
    assert.truthy(message(404):find("bot_id", 1, true))
    assert.truthy(message(302):find("host", 1, true))
  end)

  it("calls what never left not_sent, with what may be repeated", function()
    local wanted = { invalid_number = false, config = false, sign = false, tls = false,
      context = false, rate_limited = true, dns = true, connect = true, proxy = true,
      timeout = true, cancelled = true }
    for code, retryable in pairs(wanted) do
      local v = verdict.judge({ failure = code, starts = 0, text = "why" })
      assert.same({ "not_sent", code, retryable, "why" },
        { v.outcome, v.code, v.retryable, v.message })
    end
    for code in pairs(verdict.before) do assert.is_not_nil(wanted[code], code) end
    assert.equal("connect", verdict.judge({ failure = "connection_lost", starts = 0 }).code)
  end)

  it("calls what may have left unknown, and never retryable", function()
    for _, code in ipairs({ "timeout", "connection_lost", "bad_response" }) do
      local v = verdict.judge({ failure = code, starts = 1, text = "why" })
      assert.same({ "unknown", code, false }, { v.outcome, v.code, v.retryable })
      assert.truthy(v.message:find("why", 1, true))
    end
    for code in pairs(verdict.before) do
      local v = verdict.judge({ failure = code, starts = 1 })
      assert.equal("unknown", v.outcome)
      assert.is_false(v.retryable)
    end
  end)
end)
