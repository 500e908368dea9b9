-- The endpoint of examples/nginx, against the fault bench.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so once is enough.
if paths.version ~= "jit" then return end

local cjson = require("cjson").new()
local faults = require "spec.support.faults"
local openresty_support = require "spec.support.openresty"
local run = require "spec.support.run"

local step = faults.step

local KEY = "0123456789abcdef"

describe("the example for nginx", function()
  local bench, platform, nginx

  setup(function()
    bench = faults.start()
    platform = bench:listen()
    nginx = openresty_support.start {
      http = "lua_shared_dict koresms 1m;",
      init = ([[
        local variables = { SMS_API_KEY = "%s", KORESMS_HOST = "%s", KORESMS_BOT_ID = "st-1",
          KORESMS_CLIENT_ID = "cs-1", KORESMS_CLIENT_SECRET = "secret",
          KORESMS_FROM = "+19876543210",
          KORESMS_PER_MINUTE = "false", KORESMS_MAX_IDLE = "0",
          KORESMS_RETRIES = "0" }
        os.getenv = function(name) return variables[name] end
        require("examples.nginx.sms").init()]]):format(KEY, platform.origin),
      locations = [[
        location = /sms {
          access_by_lua_block { require("examples.nginx.sms").authenticate() }
          content_by_lua_block { require("examples.nginx.sms").handle() }
        }
        location = /health { content_by_lua_block { require("examples.nginx.sms").health() } }]],
    }
  end)
  teardown(function()
    nginx:stop()
    bench:stop()
    run.clean()
  end)

  -- Posts a body; returns the answer's object and its status.
  local function post(fields)
    local body = run.write(os.tmpname(), type(fields) == "string" and fields
      or cjson.encode(fields))
    local text, status = nginx:get("/sms",
      ("-H 'Authorization: Bearer %s' --data-binary @%s"):format(KEY, body))
    os.remove(body)
    return cjson.decode(text), status
  end

  it("sends, and tells what became of it", function()
    local answer, status = post({ to = "+911234567890", id = "order-17" })
    assert.same({ 202, { id = "order-17", outcome = "accepted" } }, { status, answer })
    answer, status = post({ to = "+91 1234" })
    assert.same({ 422, "invalid_number" }, { status, answer.error.code })
  end)

  it("tells how it is", function()
    assert.equal(202, (select(2, post({ to = "+911234567890" }))))
    local text, status = nginx:get("/health")
    local health = cjson.decode(text)
    assert.same({ 200, "ok", 0, 0 }, { status, health.status, health.later, health.in_flight })
    assert.is_true(health.accepted >= 1 and os.time() - health.last_accepted < 60)
    -- Throttled for some time: still in service, and says so.
    platform:script(nil, { step.read_request(), step.respond { status = 429,
      headers = { { "Retry-After", "2" } } } })
    assert.equal(429, (select(2, post({ to = "+911234567890" }))))
    text, status = nginx:get("/health")
    assert.same({ 200, "paused" }, { status, cjson.decode(text).status })
    nginx:run("ngx.sleep(2.2)")
    platform:script()
    assert.equal("ok", cjson.decode((nginx:get("/health"))).status)
  end)

  it("lets nobody write into its log", function()
    local before = nginx:log()
    platform:script({}, { step.read_request(), step.respond { status = 400,
      body = '{"errors":[{"msg":"no\\n2026/11/24 [alert] forged \\u001b[2J +91/1234/567890",'
        .. '"code":1}]}' } })
    for _, id in ipairs({ "a\n2026/11/24 [alert] forged", "a\27[2J", "a\r", "a b", "",
      ("a"):rep(65), "\194\155",
      "a\0b" }) do
      local answer, status = post({ to = "+911234567890", id = id })
      assert.same({ 400, "invalid_request" }, { status, answer.error.code })
    end
    local _, status = post({ to = "+911234567890", id = "order_18:a.b-c" })
    assert.equal(502, status)
    local log = nginx:log():sub(#before + 1):gsub("^\n", "")
    assert.matches("message order_18:a.b-c: rejected (invalid_request): ", log, 1, true)
    assert.equal(0, select(2, log:gsub("\n", "")), log)
    assert.not_matches("[%z\1-\31]", log)
    assert.not_matches("1234/567890", log, 1, true)
  end)
end)
