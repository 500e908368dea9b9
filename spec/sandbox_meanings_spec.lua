-- Recipients with a meaning, through plain Lua, inside nginx, and with curl.

local paths = require "spec.support.paths"

local cjson = require "cjson"
local core = require "koresms.core"
local koresms = require "koresms"
local openresty = require "spec.support.openresty"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"

-- The four digits; what curl ends with and the status it sees; what koresms makes of it;
-- whether the message was processed.
local ROWS = {
  { "0200", 0, 200, "accepted", nil, true },
  { "0201", 0, 201, "accepted", nil, true },
  { "0204", 0, 204, "unknown", "bad_response", true },
  { "0299", 0, 299, "accepted", nil, true },
  { "0300", 0, 300, "rejected", "redirect", false },
  { "0304", 0, 304, "rejected", "redirect", false },
  { "0400", 0, 400, "rejected", "invalid_request", false },
  { "0401", 0, 401, "rejected", "unauthorized", false },
  { "0403", 0, 403, "rejected", "forbidden", false },
  { "0404", 0, 404, "rejected", "not_found", false },
  { "0408", 0, 408, "unknown", "server_error", false },
  { "0429", 0, 429, "rejected", "rate_limited", false },
  { "0499", 0, 499, "unknown", "server_error", false },
  { "0500", 0, 500, "unknown", "server_error", false },
  { "0599", 0, 599, "unknown", "server_error", false },
  { "1001", 52, nil, "unknown", "connection_lost", true },
  { "1002", 28, nil, "unknown", "timeout", true },
  { "1003", 0, 200, "unknown", "bad_response", true },
  { "1004", 0, 200, "unknown", "bad_response", true },
  { "1005", 0, 200, "rejected", "invalid_request", false },
  { "1006", 0, 429, "rejected", "rate_limited", false },
  { "1007", 0, 200, "accepted", nil, true },
  { "0000", 0, 200, "accepted", nil, true },
  { "0199", 0, 200, "accepted", nil, true },
  { "0600", 0, 200, "accepted", nil, true },
  { "1000", 0, 200, "accepted", nil, true },
  { "1008", 0, 200, "accepted", nil, true },
  { "9999", 0, 200, "accepted", nil, true },
}

-- Longer than the two seconds of 1007; only 1002 takes so long.
local ENOUGH = 3

describe("a recipient with a meaning", function()
  local box, client, token

  local function settings(host)
    return { host = host, bot_id = box.bot_id, client_id = box.client_id, ca_file = box.ca_file,
      client_secret = box.client_secret, from = "+19876543210", retries = 0, per_minute = false,
      timeout = ENOUGH }
  end

  setup(function()
    box = assert(sandbox.start())
    client = assert(koresms.new(settings(box.host)))
    token = assert(client:token())
  end)

  teardown(function()
    client:close()
    box:stop()
  end)

  before_each(function()
    assert(box:control("DELETE", "state"))
    client:close()
    client = assert(koresms.new(settings(box.host)))
  end)

  local function number(digits) return "+1500555" .. digits end

  local function processed() return box:get("state").count end

  local function url()
    return ("%s/api/public/bot/%s/outboundsms"):format(box.plain, box.bot_id)
  end

  local function body(to)
    return cjson.encode { fromNo = "+19876543210", toNo = to }
  end

  local function curl(to)
    local _, text = shell.run(("curl -si --max-time %d -H %s --data-raw %s %s; echo curl "
      .. "$?"):format(ENOUGH,
      shell.quote("auth: " .. token), shell.quote(body(to)), url()))
    return tonumber(text:match("curl (%d+)$")), tonumber(text:match("^HTTP/%S+ (%d+)")), text
  end

  for _, row in ipairs(ROWS) do
    local digits, ending, status, outcome, code, done =
      row[1], row[2], row[3], row[4], row[5], row[6]
    it(("%s for curl and for koresms"):format(digits), function()
      local curl_ending, curl_status = curl(number(digits))
      assert.same({ ending, status }, { curl_ending, curl_status })
      assert.equal(done and 1 or 0, processed())
      local accepted, _, _, failed = client:send { to = number(digits) }
      local result = accepted or failed
      assert.same({ outcome, code, 1 }, { result.outcome, result.code, result.attempts })
      assert.equal(done and 2 or 0, processed())
      for _, entry in ipairs(box:get("messages?all=1").messages) do
        assert.same({ done, outcome }, { entry.processed, entry.outcome })
      end
    end)
  end

  it("answers as the list says, besides the status", function()
    local text = select(3, curl(number "1003"))
    assert.matches("content%-type: text/html", text:lower())
    text = select(3, curl(number "1005"))
    assert.is_table(cjson.decode(text:match("\r\n\r\n(.*)curl %d+$")).errors)
    text = select(3, curl(number "1004"))
    assert.is_false(pcall(cjson.decode, text:match("\r\n\r\n(.*)curl %d+$")))
    local _, _, _, limited = client:send { to = number "1006" }
    assert.equal(2, limited.retry_after)
  end)

  it("is judged after the token, the bot and the limit", function()
    assert(box:control("POST", "settings", { per_minute = 1 }))
    local old = token
    token = token:sub(1, -6) .. "AAAAA"
    assert.equal(401, select(2, curl(number "0503")))
    token = old
    assert.equal(503, select(2, curl(number "0503")))
    assert.equal(429, select(2, curl(number "0503")))
  end)

  it("yields to a play that was asked for", function()
    assert(box:control("POST", "play", { status = 418 }))
    assert.equal(418, select(2, curl(number "0503")))
    assert.equal(503, select(2, curl(number "0503")))
  end)

  it("answers each status from 200 to 599, with a body where HTTP has one", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    local file = assert(io.open(path, "w"))
    for status = 200, 599 do
      file:write(status > 200 and "next\n" or "",
        ('url = "%s"\nheader = "auth: %s"\ndata-raw = "%s"\n'
        .. 'write-out = "\\n%%{http_code} %%{size_download}\\n"\nsilent\n'):format(url(), token,
        body(number(("0%d"):format(status))):gsub('"', '\\"')))
    end
    file:close()
    local _, text = shell.run("curl -K " .. path)
    local status = 199
    for code, size in text:gmatch("\n(%d%d%d) (%d+)") do
      status = status + 1
      assert.equal(status, tonumber(code))
      assert.equal(status ~= 204 and status ~= 304, tonumber(size) > 0)
    end
    assert.equal(599, status)
  end)

  it("comes to the same inside nginx", function()
    if paths.version ~= "jit" then return end -- nginx loads what is built for LuaJIT
    local server = openresty.start {
      init = [[koresms = require "koresms"]],
      locations = "",
    }
    finally(function() server:stop() end)
    local numbers = {}
    for i, row in ipairs(ROWS) do numbers[i] = number(row[1]) end
    local plain = settings(box.plain)
    plain.ca_file = nil
    local before = core.clock()
    local results = server:run([[
      local threads, results = {}, {}
      for i, to in ipairs(given.numbers) do
        threads[i] = ngx.thread.spawn(function()
          local client = assert(koresms.new(given.settings))
          local accepted, _, _, failed = client:send { to = to }
          local result = accepted or failed
          client:close()
          return { outcome = result.outcome, code = result.code, attempts = result.attempts,
            after = result.retry_after }
        end)
      end
      for i, thread in ipairs(threads) do results[i] = select(2, ngx.thread.wait(thread)) end
      return results
    ]], { numbers = numbers, settings = plain })
    assert.is_true(core.clock() - before < 10 * ENOUGH)
    for i, row in ipairs(ROWS) do
      assert.same({ row[1], row[4], row[5], 1 },
        { row[1], results[i].outcome, results[i].code, results[i].attempts })
    end
  end)

  it("is what `koresms send` tells", function()
    local interpreter = paths.version == "jit" and "luajit" or "lua" .. paths.version
    local env = box:exports():gsub("export ", ""):gsub("\n", " ")
    for _, row in ipairs {
      { "0429", "rejected", "rate_limited" }, { "1001", "unknown", "connection_lost" },
      { "1002", "unknown", "timeout" },
    } do
      local out = run.output(("env LUA_CPATH=%s %s KORESMS_RETRIES=0 KORESMS_TIMEOUT=1 "
        .. "%s bin/koresms send --to %s --json"):format(shell.quote(paths.cpath), env, interpreter,
          number(row[1])))
      local result = cjson.decode(out)
      assert.same({ row[2], row[3] }, { result.outcome, result.code })
    end
  end)
end)
