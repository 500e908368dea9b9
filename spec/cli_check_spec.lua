-- `koresms check`, run as a process, against the sandbox.

require "spec.support.paths"

local cjson = require "cjson"
local command = require "spec.support.command"
local sandbox = require "koresms.sandbox"

local FROM = "+19876543210"

local koresms

describe("koresms check", function()
  setup(function() koresms = command.start() end)
  teardown(function() koresms:stop() end)
  before_each(function() koresms:reset() end)

  -- Exit status, and the states of the steps with their texts.
  local function check(changes, env)
    local status, out, err = koresms:run({ "check", "--json" }, env or koresms:environment(changes))
    assert.equal("", err)
    local states, texts = {}, {}
    for _, line in ipairs(command.lines(out)) do
      local row = cjson.decode(line)
      states[#states + 1] = row.step .. " " .. row.state
      texts[row.step] = (texts[row.step] or "") .. row.text
    end
    assert.equal(0, koresms:processed())
    assert.not_matches(koresms.box.client_secret, out, 1, true)
    assert.not_matches(FROM, out, 1, true)
    return status, states, texts
  end

  -- The states where all is well up to a step that fails.
  local function failing(step)
    local list, state = {}, "ok"
    for _, name in ipairs({ "configuration", "name", "connection", "tls", "clock", "token",
      "bot" }) do
      if name == step then state = "FAIL" end
      list[#list + 1] = name .. " " .. state
      if name == step then state = "skip" end
    end
    list[#list + 1] = "message skip"
    return list
  end

  it("finds nothing wrong, sends nothing, and says what was never tried", function()
    local status, states, texts = check()
    assert.equal(0, status)
    assert.same(failing(nil), states)
    assert.matches("not tried on the live platform", texts.token, 1, true)
    assert.matches("SMS channel", texts.message, 1, true)
    assert.matches("experience flow", texts.message, 1, true)
    assert.equal(1, koresms.box:get("/_sandbox/state").requests)
  end)

  it("prints one line a step for people", function()
    local status, out, err = koresms:run({ "check" })
    assert.same({ 0, "" }, { status, err })
    assert.equal(8, #command.lines(out))
    for _, line in ipairs(command.lines(out)) do assert.matches("^%l+ +%l+  +%S", line) end
  end)

  it("names all that is missing, and exits with 2", function()
    local status, states, texts = check(nil, {})
    assert.equal(2, status)
    for _, state in ipairs(states) do assert.equal("configuration FAIL", state) end
    for _, name in ipairs({ "HOST", "BOT_ID", "CLIENT_ID", "CLIENT_SECRET" }) do
      assert.matches("Set KORESMS_" .. name .. ",", texts.configuration, 1, true)
    end
  end)

  it("names variables that are no settings, without their values", function()
    local status, states, texts = check({ KORESMS_TIMEOT = "hunter2", KORESMS_bot_id = "hunter2",
      KORESMS_CONFIGG = "hunter2" })
    assert.equal(0, status)
    assert.equal("configuration warn", states[3])
    assert.matches("KORESMS_TIMEOT is no setting and has no effect; KORESMS_TIMEOUT is",
      texts.configuration, 1, true)
    assert.matches("KORESMS_bot_id is no setting and has no effect; KORESMS_BOT_ID is",
      texts.configuration, 1, true)
    assert.matches("KORESMS_CONFIG is", texts.configuration, 1, true)
    assert.not_matches("hunter2", texts.configuration, 1, true)
  end)

  -- Without its warnings; those apart.
  local function without_warnings(states)
    local list, warned = {}, 0
    for _, state in ipairs(states) do
      if state == "configuration warn" then warned = warned + 1 else list[#list + 1] = state end
    end
    return list, warned
  end

  it("warns of a soiled secret without showing it, and goes on", function()
    local secret = koresms.box.client_secret
    for value, wanted in pairs({ [" " .. secret] = "blank at its beginning",
      [secret .. "\t"] = "control character",
      ['"' .. secret .. '"'] = "quote",
      ["KORESMS_CLIENT_SECRET=" .. secret] = "name of a variable" }) do
      local status, states, texts = check({ KORESMS_CLIENT_SECRET = value })
      local list, warned = without_warnings(states)
      assert.same({ 1, 1 }, { status, warned })
      assert.same(failing("token"), list)
      assert.matches("KORESMS_CLIENT_SECRET has [^.]*" .. wanted, texts.configuration)
    end
    for value, wanted in pairs({ [secret .. "\n"] = "line end",
      ["\239\187\191" .. secret] = "byte order mark" }) do
      local status, states, texts = check({ KORESMS_CLIENT_SECRET = value })
      assert.same({ 2, { "configuration FAIL" } }, { status, states })
      assert.matches(wanted, texts.configuration, 1, true)
    end
  end)

  it("warns of files of secrets that others may read", function()
    local work = koresms.work
    command.write(work .. "/secret", koresms.box.client_secret .. "\n")
    command.write(work .. "/settings.json", '{"retries": 1}')
    local changes = { KORESMS_CLIENT_SECRET = false, KORESMS_CLIENT_SECRET_FILE = work .. "/secret",
      KORESMS_CONFIG = work .. "/settings.json" }
    for mode, count in pairs({ ["600"] = 0, ["644"] = 2, ["640"] = 2, ["604"] = 2, ["711"] = 0 }) do
      os.execute(("chmod %s %s/secret %s/settings.json"):format(mode, work, work))
      local status, states, texts = check(changes)
      local list, warned = without_warnings(states)
      assert.same({ 0, count }, { status, warned }, mode)
      assert.same(failing(nil), list)
      if count > 0 then
        assert.matches("KORESMS_CLIENT_SECRET_FILE: others than its owner may read",
          texts.configuration, 1, true)
        assert.matches("KORESMS_CONFIG: others than its owner may read", texts.configuration, 1,
          true)
      end
    end
  end)

  for step, row in pairs({
    name = { { KORESMS_HOST = "https://nonexistent.invalid" }, "KORESMS_HOST" },
    connection = { { KORESMS_HOST = "https://localhost:1" }, "firewall" },
  }) do
    it("stops at " .. step, function()
      local status, states, texts = check(row[1])
      assert.equal(1, status)
      assert.same(failing(step), states)
      assert.matches(row[2], texts[step], 1, true)
    end)
  end

  it("stops at tls, where another authority signed", function()
    local other = assert(sandbox.start())
    local status, states, texts = check({ KORESMS_CA_FILE = other.ca_file })
    other:stop()
    assert.equal(1, status)
    assert.same(failing("tls"), states)
    assert.matches("KORESMS_CA_FILE", texts.tls, 1, true)
  end)

  it("stops at the token, where the secret is wrong", function()
    local status, states, texts = check({ KORESMS_CLIENT_SECRET = ("x"):rep(44) })
    assert.equal(1, status)
    assert.same(failing("token"), states)
    assert.matches("client id and secret", texts.token, 1, true)
  end)

  it("stops at the token, where the scope is missing", function()
    assert(koresms.box:control("PUT", "/_sandbox/settings", { scope = false }))
    local status, states, texts = check()
    assert.equal(1, status)
    assert.same(failing("token"), states)
    assert.matches('scope "Outbound SMS" is not granted to the app, or not published',
      texts.token, 1, true)
  end)

  it("stops at the bot, where nobody knows its id", function()
    local status, states, texts = check({ KORESMS_BOT_ID = "st-other" })
    assert.equal(1, status)
    assert.equal("bot FAIL", states[7])
    assert.matches("bot_id", texts.bot, 1, true)
  end)

  for name, what in pairs({
    ["a proxy's own refusal"] = { status = 400, html = true },
    ["a method not allowed"] = { status = 405 },
    ["a server error"] = { status = 500 },
    ["a throttled answer"] = { status = 429 },
    ["a page"] = { status = 200, html = true },
    ["no answer"] = { close = true },
  }) do
    it("does not take " .. name .. " for an accepted token", function()
      koresms:play(what)
      local status, states = check()
      assert.equal(1, status)
      assert.equal("token FAIL", states[6])
      assert.equal("bot skip", states[7])
    end)
  end

  it("sees a redirect as a wrong address", function()
    koresms:play({ status = 302, headers = { Location = "https://localhost:1/" } })
    local status, states = check()
    assert.equal(1, status)
    assert.equal("bot FAIL", states[7])
  end)

  it("compares the clocks", function()
    koresms:play({ headers = { Date = "Tue, 01 Nov 2033 08:00:00 GMT" } })
    local status, states, texts = check()
    assert.equal(1, status)
    assert.equal("clock FAIL", states[5])
    assert.matches("behind the server's", texts.clock, 1, true)
  end)

  it("skips the steps that plain HTTP and a proxy do not have", function()
    local _, states = check({ KORESMS_HOST = koresms.box.plain })
    assert.equal("tls skip", states[4])
    local status
    status, states = check({ KORESMS_PROXY = "http://localhost:1" })
    assert.equal(1, status)
    assert.same({ "name skip", "connection FAIL" }, { states[2], states[3] })
  end)
end)
