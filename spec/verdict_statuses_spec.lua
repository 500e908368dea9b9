-- Every status from 200 to 599, with bodies that speak of a rate limit where the platform would
-- and where anybody might: what is told, and how many requests arrived at the server.

local bed_support = require "spec.support.fault_bed"
local faults = require "spec.support.faults"

local step = faults.step

local function envelope(msg, code)
  return ('{"errors":[{"msg":"%s","code":%s}]}'):format(msg, code)
end

-- In the platform's envelope, in the forms that it may have.
local WITHIN = {
  envelope("You've exceeded the per-minute rate limit. Please wait for sometime before retrying.",
    400),
  envelope("Rate limit for this API has been reached. Please try again after some time.", 403),
  '{"errors":[{"message":"the hourly RATE LIMIT is reached"}]}',
  '{"errors":[{"msg":"one"},{"msg":"rate-limit reached"}]}',
  '{"errors":[{"msg":"no","code":"RATE_LIMIT"}]}',
  '{"errors":["rate limit reached"]}',
  '{"errors":{"msg":"rate limit reached"}}',
  '{"errors":"rate limit reached"}',
  '{"message":"rate limit reached","code":400}',
  '{"errors":[{"msg":"rate\\u0020limit reached"}]}',
  envelope("slow down", 429), envelope("slow down", '"429"'),
}

-- Outside of it: nothing that a page, an echo or another field says is the platform's refusal.
local OUTSIDE = {
  "Rate limit reached", "<html><body>Rate limit reached</body></html>",
  '{"errors":[{"msg":"no","code":400}],"hint":"rate limit"}',
  '{"errors":[{"msg":"no","code":400,"field":"rate limit"}]}',
  '{"request":{"message":"rate limit"}}', '{"rate limit":true}', '["rate limit"]', '"rate limit"',
  '{"errors":[{"msg":{"text":"rate limit"}}]}', '{"errors":[{"rate_limit":1}]}',
  '{"errors":[{"msg":"rate limit reached"}]', -- an object that is not whole
}

-- In the envelope, in words that may mean anything.
local OTHER = {
  envelope("Too many messages", 400), envelope("quota exceeded", 400), envelope("try later", 400),
  envelope("limit of recipients reached", 400), envelope("rated: limited", 400), envelope("", 42),
  '{"errors":[]}', '{"errors":null}', "{}", "", '{"errors":true}',
}

local BODYLESS = { [204] = true, [304] = true }

-- What the contract says of a status whose body has none of the platform's own codes.
local BY_STATUS = { [401] = "unauthorized", [403] = "forbidden", [404] = "not_found" }

local function is_object(body) return pcall(require("cjson").decode, body) and body:find("^{") end

local function has_errors(body)
  return body:find('"errors"', 1, true)
    and not body:find('"errors":%[%]') and not body:find('"errors":null', 1, true)
end

-- The verdict of the contract, and whether it may be repeated.
local function contract(status, body, within)
  local class = math.floor(status / 100)
  if status == 408 or status == 499 or class == 5 then return "unknown/server_error" end
  if status == 429 or class == 4 and within then return "rejected/rate_limited", true end
  if class == 4 then return "rejected/" .. (BY_STATUS[status] or "invalid_request") end
  if class == 3 then return "rejected/redirect" end
  if not is_object(body) then return "unknown/bad_response" end
  return has_errors(body) and "rejected/invalid_request" or "accepted"
end

describe("every status, and what is said of rate limits:", function()
  local bed, server

  setup(function()
    bed = bed_support.start()
    server = bed.servers.plain
  end)
  teardown(function() bed:stop() end)

  -- One message for each status; the bodies take turns, so that over all statuses each is met
  -- with each class many times. `round` is where the turn begins.
  local function cases_of(bodies, within, round)
    local cases = {}
    for status = 200, 599 do
      local body = bodies[(status + round) % #bodies + 1]
      if BODYLESS[status] then body = "" end
      local verdict, again = contract(status, body, within and body ~= "")
      cases[#cases + 1] = { status = status, body = body, verdict = verdict, again = again,
        to = bed:number() }
    end
    return cases
  end

  local function tell_server(cases)
    local answers = {}
    for _, case in ipairs(cases) do
      answers[case.to] = step.respond { status = case.status, body = case.body,
        framing = BODYLESS[case.status] and "none" or nil, headers = { { "Retry-After", "0" } } }
    end
    server:script(nil, { step.serve { answers = answers } })
  end

  local function check(case, result, processed, retries)
    local where = ("%d %s"):format(case.status, case.body)
    local text = result.outcome .. (result.code and "/" .. result.code or "")
    assert(text == case.verdict, ("%s: %s, not %s: %s"):format(where, text, case.verdict,
      result.message or ""))
    local requests = case.again and retries + 1 or 1
    assert(result.attempts == requests and processed == requests,
      ("%s: %d attempts, %d requests, not %d"):format(where, result.attempts, processed, requests))
    assert.equal(case.status, result.status, where)
    assert.equal(case.again or false, result.retryable, where)
  end

  local function play_stream(cases, retries)
    tell_server(cases)
    local client = bed:client(server.origin, { retries = retries, timeout = 30 })
    local messages, results = {}, {}
    for i, case in ipairs(cases) do messages[i] = { to = case.to } end
    for result in client:send_many(messages, { concurrency = 32 }) do
      assert.is_nil(results[result.index])
      results[result.index] = result
    end
    client:close()
    local seen = server:stats { settle = 2 }
    for i, case in ipairs(cases) do check(case, results[i], seen.to[case.to], retries) end
  end

  for _, group in ipairs { { "in the envelope", WITHIN, true }, { "outside of it", OUTSIDE },
                           { "in other words", OTHER } } do
    it(group[1], function()
      local rounds = bed_support.long and #group[2] or 1
      for round = 1, rounds do play_stream(cases_of(group[2], group[3], round), 2) end
    end)
  end

  -- The same for single sends, of what is not to be repeated; and some of what is.
  it("single sends", function()
    local cases, repeated = {}, 0
    for round, group in ipairs { { WITHIN, true }, { OUTSIDE }, { OTHER } } do
      for _, case in ipairs(cases_of(group[1], group[2], round)) do
        if case.again then repeated = repeated + 1 end
        if not case.again or repeated % 20 == 0 then cases[#cases + 1] = case end
      end
    end
    tell_server(cases)
    local client = bed:client(server.origin, { retries = 1 })
    local results = {}
    for i, case in ipairs(cases) do
      local accepted, _, _, failed = client:send { to = case.to }
      results[i] = accepted or failed
    end
    client:close()
    local seen = server:stats { settle = 2 }
    for i, case in ipairs(cases) do check(case, results[i], seen.to[case.to], 1) end
  end)

  it("none is repeated where the message may have been processed", function()
    local never = { [408] = true, [499] = true }
    for status = 500, 599 do never[status] = true end
    local cases = {}
    for status in pairs(never) do
      for _, body in ipairs(WITHIN) do
        cases[#cases + 1] = { status = status, body = body, verdict = "unknown/server_error",
          to = bed:number() }
      end
    end
    play_stream(cases, 3)
  end)
end)
