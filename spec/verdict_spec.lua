local verdict = require "koresms.verdict"

local OK = '{"message": "Triggered the configured Experience flow to deliver message '
  .. 'via SMS channel"}'

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
  { 401, envelope("Permission denied. Scope is incorrect!", 4002), "rejected", "unauthorized",
    false },
  { 401, envelope("error verifying the jwt: possibly a replay", 401), "rejected", "unauthorized",
    false },
  { 403, "", "rejected", "forbidden", false },
  { 404, "<html>", "rejected", "not_found", false },
  { 400, envelope("Invalid StreamId", 400), "rejected", "not_found", false },
  { 400, envelope("Invalid file id", 400), "rejected", "invalid_request", false },
  { 405, envelope("Method Not Allowed", 405), "rejected", "invalid_request", false },
  { 407, "", "rejected", "invalid_request", false },
  { 412, envelope("Validation errors/ Invalid arguments", 412), "rejected", "invalid_request",
    false },
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
  { 403, envelope("Rate limit for this API has been reached. Please try again after some time.",
    403),
    "rejected", "rate_limited", true },
  { 400, envelope("You've exceeded the per-minute rate limit. Please wait for sometime before "
    .. "retrying.", 400), "rejected", "rate_limited", true },
  { 401, "Rate Limit reached", "rejected", "unauthorized", false },
  { 400, '{"request":{"note":"rate limit"},"errors":[{"msg":"no"}]}', "rejected",
    "invalid_request", false },
  { 400, '{"errors":[{"msg":"no"},{"message":"rate_limit reached"}]}', "rejected", "rate_limited",
    true },
  { 400, '{"errors":[null,7,"RateLimit reached"]}', "rejected", "rate_limited", true },
  { 400, '{"errors":"Rate limit reached"}', "rejected", "rate_limited", true },
  { 400, '{"errors":{"msg":"Rate limit reached"}}', "rejected", "rate_limited", true },
  { 400, '{"message":"Rate limit reached"}', "rejected", "rate_limited", true },
  { 400, envelope("slow down", 429), "rejected", "rate_limited", true },
  { 400, envelope("slow down", '"429"'), "rejected", "rate_limited", true },
  { 302, envelope("Rate limit reached", 1), "rejected", "redirect", false },
  { 200, envelope("Rate limit reached", 429), "rejected", "invalid_request", false },
  { 408, envelope("Rate limit reached", 429), "unknown", "server_error", false },
  { 499, "", "unknown", "server_error", false },
  { 499, envelope("Rate limit reached", 429), "unknown", "server_error", false },
  { 400, envelope("Rate-Limit exceeded", '"x"'), "rejected", "rate_limited", true },
  { 403, envelope("no", '"RATE_LIMIT"'), "rejected", "rate_limited", true },
  { 500, "rate limit", "unknown", "server_error", false },
  { 503, envelope("Rate limit reached", 429), "unknown", "server_error", false },
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
    v = verdict.judge({ status = 401, body = envelope("Invalid SDK credentials", 4002),
      starts = 1 })
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
    for _, odd in ipairs({ '{"errors":[1]}', '{"errors":[{"code":1e999}]}',
      '{"errors":{}}', '{"errors":[{"msg":{},"code":[]}]}',
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
    for code in pairs(verdict.not_sent) do assert.is_not_nil(wanted[code], code) end
    assert.equal("connect", verdict.judge({ failure = "connection_lost", starts = 0 }).code)
  end)

  it("calls what may have left unknown, and never retryable", function()
    for _, code in ipairs({ "timeout", "connection_lost", "bad_response" }) do
      local v = verdict.judge({ failure = code, starts = 1, text = "why" })
      assert.same({ "unknown", code, false }, { v.outcome, v.code, v.retryable })
      assert.truthy(v.message:find("why", 1, true))
    end
    for code in pairs(verdict.not_sent) do
      local v = verdict.judge({ failure = code, starts = 1 })
      assert.equal("unknown", v.outcome)
      assert.is_false(v.retryable)
    end
  end)
end)

-- Errors that are thrown into a verdict: a debug hook, as an interpreter has it for Ctrl-C and a
-- program for scripts that run too long. Where one lands in the decoding of a body, it says
-- nothing about that body.
describe("a verdict that is broken off", function()
  local BODY = '{"message":"Triggered %d","a":[1,2,{"b":"\\u00e4"}]}'

  local function judge(body) return verdict.judge({ status = 200, starts = 1, body = body }) end

  -- Judges with an error at the n-th call or return, or at the n-th instruction.
  -- Returns whether there was one, and the error that came out.
  local function broken_off(n, mask, body, problem)
    local left, fired = n, false
    local function hook()
      left = left - 1
      if left > 0 and mask ~= "" then return end
      debug.sethook()
      fired = true
      error(problem, 0)
    end
    local ok, why = pcall(function()
      debug.sethook(hook, mask, mask == "" and n or nil)
      local v = judge(body)
      debug.sethook()
      return v
    end)
    debug.sethook()
    return fired, not ok and why or nil
  end

  it("raises the error on, and is itself the next time", function()
    if rawget(_G, "jit") then rawget(_G, "jit").off() end
    local thrown = 0
    for serial, problem in ipairs { "interrupted!", "not enough memory", { "an object" } } do
      for mask_number, mask in ipairs { "", "c", "r" } do
        for n = 1, 2000 do
          local body = BODY:format(serial * 1e5 + mask_number * 1e4 + n)
          local fired, why = broken_off(n, mask, body, problem)
          if not fired then break end
          thrown = thrown + 1
          assert.equal(problem, why)
          assert.equal("accepted", judge(body).outcome)
        end
      end
    end
    if rawget(_G, "jit") then rawget(_G, "jit").on() end
    assert(thrown > 100, thrown)
  end)

  -- lua-cjson says the same of a stack without room as of a text that is nested too deeply.
  it("takes a full stack for no fault of the body", function()
    local function at_depth(n, run)
      if n == 0 then return run() end
      return (at_depth(n - 1, run))
    end
    local deepest, step = 0, 2 ^ 18
    while step >= 1 do
      if pcall(at_depth, deepest + step, function() end) then deepest = deepest + step end
      step = step / 2
    end
    local full = 0
    for room = 1, 800, 90 do
      local body = ('{"n":%d,"a":%s%s}'):format(room, ("["):rep(900), ("]"):rep(900))
      local ok, v = pcall(at_depth, deepest - room, function() return judge(body) end)
      if not ok then full = full + 1 end
      assert(not ok or v.outcome == "accepted", room)
      assert.equal("accepted", judge(body).outcome)
    end
    assert(full > 0, "the stack was never full")
  end)

  it("is none where a body is not JSON, whatever lua-cjson says of it", function()
    local texts = { "{", '{"a":', '{"a":"\\x"}', '{"a":"\\u12"}', '{"a":"x', "[1,", "nan",
      '{"a":01}',
      "\0\0", "{\0", "x\0", "{}x", "{1:2}", '{"a" 1}', '{"a":-}', '{"a":0x10}',
      '{"a":"\\ud800"}', '{"a":"\\', "\239\187\191{}", '{"a":Infinity}', '{"a":1 "b":2}', "[1 2]",
      ("["):rep(1001), '{"a":' .. ("["):rep(5000) .. ("]"):rep(5000) .. "}" }
    for _, text in ipairs(texts) do assert.equal("bad_response", judge(text).code, text) end
    local seed = os.time()
    local state = seed
    local function random(n)
      state = (state * 16807) % 2147483647
      return state % n + 1
    end
    for _ = 1, 5000 do
      local body = BODY:format(random(1e6))
      for _ = 1, random(4) do
        local at = random(#body)
        body = body:sub(1, at - 1) .. string.char(random(256) - 1) .. body:sub(at + random(3) - 1)
      end
      local ok, v = pcall(judge, body)
      assert(ok and (v.outcome == "accepted" or v.code == "bad_response"),
        ("seed %d: %q"):format(seed, body))
    end
  end)
end)
