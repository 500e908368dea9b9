-- Every scenario of the fault bench, one case each, and of a sweep one for each k: what the
-- client says of the message, and what the server knows of it.

local bed_support = require "spec.support.fault_bed"
local expected = require "spec.support.fault_verdicts"
local faults = require "spec.support.faults"
local own = require "spec.support.fault_own"
local verdict = require "koresms.verdict"

-- Which rows of the verdict tables were used; noted before anything is judged.
local used = { not_sent = {}, unknown = {}, replies = {} }
for _, name in ipairs { "not_sent", "unknown" } do
  local rows = verdict[name]
  verdict[name] = setmetatable({}, { __index = function(_, code)
    if rows[code] then used[name][code] = true end
    return rows[code]
  end })
  used[name .. "_rows"] = rows
end
for index, row in ipairs(verdict.replies) do
  local when = row.when
  row.when = function(reply)
    local fits = when(reply)
    if fits then used.replies[index] = true end
    return fits
  end
end

local CONTRACT = expected.contract

local function text_of(result)
  return result.outcome .. (result.code and "/" .. result.code or "")
end

local function list(set)
  local out = {}
  for one in pairs(set) do out[#out + 1] = one end
  table.sort(out)
  return table.concat(out, " or ")
end

describe("every fault told honestly:", function()
  local bed, seen, throttled = nil, {}, {}

  setup(function() bed = bed_support.start() end)
  teardown(function()
    for _, case in ipairs(throttled) do case:close() end
    bed:stop()
  end)

  -- What holds for every result, whatever happened.
  local function check_result(result, where, timeout, took)
    local text = text_of(result)
    seen[text] = true
    local retryable = CONTRACT[result.outcome][result.code]
    assert(result.code == nil and result.outcome == "accepted" or retryable ~= nil,
      where .. ": the contract knows no " .. text)
    assert.equal(retryable or false, result.retryable, where .. ": retryable")
    assert.equal(result.outcome == "accepted", result.message == nil, where .. ": message")
    if result.outcome == "not_sent" then assert.equal(0, result.attempts, where) end
    if result.outcome ~= "not_sent" then assert.is_true(result.attempts >= 1, where) end
    assert(took < timeout + bed_support.LATE, ("%s took %.2f s, of %.2f"):format(where, took,
      timeout))
    assert(result.elapsed <= took + 0.001, where .. ": elapsed")
    return text
  end

  -- What the server knows has to agree with what the client says.
  local function check_processed(case, where)
    local result, row = case.result, case.row
    local processed = case:processed()
    assert(case.stats.settled, where .. ": the server did not come to rest")
    assert(processed <= result.attempts,
      ("%s: processed %d, attempts %d"):format(where, processed, result.attempts))
    if result.outcome == "accepted" then
      assert(processed == 1 and (row.answers or row.either or row.sweep),
        where .. ": accepted, but not by the server")
    elseif result.outcome == "not_sent" then
      assert.equal(0, processed, where .. ": not_sent")
    end
    if not row.either then assert.equal(row.processed, processed, where .. ": processed") end
  end

  local function check_text(case, where)
    local result, row = case.result, case.row
    local hint = expected.hints[row.name]
    if result.code == "tls" then
      -- "host name" is libcurl's own.
      local text = result.message:gsub("host name", "")
      local named = {}
      for _, word in ipairs { "ca_file", "client_cert", "clock", "host" } do
        if text:find(word, 1, true) then named[#named + 1], named[word] = word, true end
      end
      assert(#named > 0 and (not hint or named[hint]),
        ("%s does not name %s: %s"):format(where, hint or "a setting", text))
    end
    if row.platform_message then
      assert.equal(row.platform_message, result.platform_message, where)
      assert.equal(row.platform_code, result.platform_code, where)
    end
    if result.status and row.status and row.group ~= "proxy" and not row.either then
      assert.equal(row.status, result.status, where)
    end
  end

  -- The client is none the worse for it.
  local function check_next(case, where)
    local nothing_came = case.result.attempts > 0 and not case.result.status
    local result, fresh = case:again()
    check_result(result, where .. ", then", bed_support.ENOUGH, result.elapsed)
    assert(result.outcome == "accepted",
      ("%s: the next send is %s: %s"):format(where, text_of(result), result.message or ""))
    assert.equal(1, result.attempts, where .. ", then")
    assert(fresh or not nothing_came, where .. ": the connection was used again")
  end

  local function check_throttled(case, where)
    local result = case.result
    local pause = expected.pauses[case.row.name]
    local asked = result.retry_after
    if pause then
      assert(asked >= pause[1] - 0.001 and asked <= pause[2],
        ("%s: retry_after %.3f"):format(where, asked))
    else
      assert(asked > 0 and asked <= 60, where .. ": retry_after " .. tostring(asked))
    end
    case.over = bed_support.clock() + asked
    -- Whoever may wait until the pause is over is not refused.
    if asked > 0.1 then
      local early = bed:send(case.client, { timeout = 0.05 })
      check_result(early, where .. ", then", 0.05, early.elapsed)
      assert.equal("not_sent/rate_limited", text_of(early), where .. ", then")
      local left = case.over - bed_support.clock()
      assert(math.abs(early.retry_after - left) < 0.2,
        ("%s, then: retry_after %.3f, %.3f are left"):format(where, early.retry_after, left))
    end
    if asked < 5 then throttled[#throttled + 1] = case else case:close() end
  end

  local function check(row, k, way)
    local where = ("%s %s%s"):format(way, row.name, k and " k=" .. k or "")
    local case = bed:play(row, k, way)
    local whole = row.sweep and faults.last_k(row, bed.bytes) + 1
    local text = check_result(case.result, where, case.timeout, case.took)
    local allowed = expected.of(row, k, way, whole)
    assert(allowed[text], ("%s: expected %s, got %s: %s"):format(where, list(allowed), text,
      case.result.message or ""))
    check_processed(case, where)
    check_text(case, where)
    if case.before and not row.either then
      assert.equal("accepted", case.before.outcome, where .. ": the message before")
    end
    if case.result.code == "rate_limited" then return check_throttled(case, where) end
    -- A tunnel that let an answer through may still break at its limit.
    if not (row.group == "proxy" and row.sweep and text == "accepted") then
      check_next(case, where)
    end
    case:close()
  end

  -- A row that needs a listener of its own says which; the others are played both ways.
  local function ways(row)
    if row.group == "proxy" then return { "tls", "plain" } end
    if row.listen then return { row.group } end
    return { "plain", "tls" }
  end

  local function cases(rows, offset)
    for index, row in ipairs(rows) do
      if bed_support.mine(index + offset) then
        for _, way in ipairs(ways(row)) do
          it(("%s, %s"):format(row.name, way), function()
            for _, k in ipairs(bed:ks(row)) do check(row, k, way) end
          end)
        end
      end
    end
  end

  cases(faults.list, 0)
  cases(expected.more, 1)

  it("sends again once the pause of a throttled client is over", function()
    for _, case in ipairs(throttled) do
      case.server:script()
      local begin = bed_support.clock()
      local result = bed:send(case.client, { timeout = 10 })
      assert.equal("accepted", result.outcome, case.row.name)
      assert(bed_support.clock() >= case.over - 0.01, case.row.name .. ": the pause was not over")
      assert(bed_support.clock() - math.max(case.over, begin) < 1, case.row.name .. ": late")
    end
  end)

  for _, case in ipairs(own) do
    it(case.name, function()
      local result = case.run(bed)
      local text = check_result(result, case.name, case.timeout or 5, result.elapsed)
      assert(("|" .. case.verdict .. "|"):find("|" .. text .. "|", 1, true),
        ("expected %s, got %s: %s"):format(case.verdict, text, result.message))
    end)
  end

  -- What has no case ----------------------------------------------------------------------

  it("has a verdict for each scenario, and a scenario for each verdict", function()
    for _, row in ipairs(faults.list) do
      assert(expected.rows[row.name], "no verdict is written for " .. row.name)
    end
    for _, name in ipairs { "rows", "over_tls", "hints", "pauses" } do
      for scenario in pairs(expected[name]) do
        assert(faults.named[scenario], "no scenario is called " .. scenario)
      end
    end
  end)

  if not bed_support.whole then return end

  it("has a case for each code of the contract and each row of the verdict tables", function()
    for outcome, codes in pairs(CONTRACT) do
      for code in pairs(codes) do
        assert(seen[outcome .. "/" .. code], "no case ends in " .. outcome .. "/" .. code)
      end
    end
    for _, name in ipairs { "not_sent", "unknown" } do
      for code in pairs(used[name .. "_rows"]) do
        assert(used[name][code] or seen["not_sent/" .. code],
          ("no case uses verdict.%s.%s"):format(name, code))
      end
    end
    for index, row in ipairs(verdict.replies) do
      assert(used.replies[index], ("no case uses verdict.replies[%d], %s"):format(index,
        row.code or row.outcome))
    end
  end)

  it("has a case for each setting that a fault could touch", function()
    local config = require "koresms.config"
    -- Settings for nginx, where there is no libcurl, and of what no single send uses.
    local elsewhere = { shared_dict = true, later_flush = true, store = true }
    for _, row in ipairs(config.settings) do
      assert(bed.options[row.name] or elsewhere[row.name], "no case gives " .. row.name)
    end
  end)
end)
