-- The command `koresms campaign`, on each kind of store.

require "spec.support.paths"

local cjson = require "cjson"
local command = require "spec.support.command"
local koresms = require "koresms"
local shell = require "koresms.sandbox.shell"
local stores = require "spec.support.stores"

local box
setup(function() box = command.start() end)
teardown(function()
  box:stop()
  stores.stop()
end)

local PEOPLE = [[
to,name,dedupe,expires
+15550000001,Ann,a,
+15550000002,Bob,b,2099-01-01T00:00:00Z
+15550000003,"Cy, the third",,
+15550000003,again,,
]]

for _, kind in ipairs(stores.kinds()) do describe("koresms campaign on " .. kind.name, function()
  local where, input

  before_each(function()
    box:reset()
    where, input = kind:location(), box.work .. "/people.csv"
    command.write(input, PEOPLE)
  end)

  local function campaign(words, changes)
    local env = { KORESMS_STORE = where, KORESMS_PER_MINUTE = "false" }
    for name, value in pairs(changes or {}) do env[name] = value end
    local all = { "campaign" }
    for _, word in ipairs(words) do all[#all + 1] = word end
    return box:run(all, box:environment(env))
  end
  local function must(words, changes)
    local status, out, err = campaign(words, changes)
    assert.equal(0, status, err)
    return out, err
  end
  local function status_of(name)
    return cjson.decode((must { "status", name, "--json" }))
  end

  it("goes from a file to a campaign that was sent", function()
    local _, err = must { "import", input, "--name", "diwali" }
    assert.matches("4 rows: 3 new in campaign 'diwali', 1 were there or repeat others; it is "
      .. "paused", err)
    assert.equal("paused", status_of("diwali").state)
    local status, out
    status, out, err = campaign { "run", "diwali" }
    assert.equal(5, status, err)
    assert.equal("", out)
    must { "resume", "diwali" }
    status, out, err = campaign { "run", "diwali", "--json" }
    assert.equal(0, status, err)
    local lines = command.lines(out)
    assert.equal(3, #lines)
    local first = cjson.decode(lines[1])
    assert.equal("accepted", first.outcome)
    assert.equal("diwali", first.campaign)
    assert.equal(3, box:processed())
    assert.equal(3, status_of("diwali").accepted)
    status, out = campaign { "run", "diwali" }
    assert.equal(0, status)
    assert.equal("", out)
    assert.equal(3, box:processed())
  end)

  it("imports again where it was, and starts", function()
    must { "import", input, "--name", "d" }
    local _, err = must { "import", input, "--name", "d", "--start" }
    assert.matches("0 new in campaign 'd', 4 were there", err)
    assert.equal("running", status_of("d").state)
    command.write(input, '{"to":"+15550000009","dedupe":"z","expires":"2099-01-01T00:00:00Z"}\n')
    must { "import", input, "--name", "d" }
    local out = must { "export", "d", "--json" }
    assert.equal("z", cjson.decode(command.lines(out)[4]).dedupe)
  end)

  it("imports nothing where a row is bad, and names each", function()
    command.write(input, "to,expires,dedupe\n+15550000001,,\n+15550000002,tomorrow,\n12,,\n"
      .. "+15550000004,," .. ("x"):rep(501) .. "\n")
    local status, _, err = campaign { "import", input, "--name", "d" }
    assert.equal(2, status)
    assert.matches(":3: expires: ", err)
    assert.matches(":4: to: ", err)
    assert.matches(":5: dedupe: ", err)
    assert.matches("3 of 4 rows are bad; nothing was imported", err)
    status, _, err = campaign { "status" }
    assert.equal(2, status)
    assert.matches("there is no store here", err)
  end)

  it("tells unknown from rejected by its status, and resolves", function()
    must { "import", input, "--name", "d", "--start" }
    box:play { status = 500, when = "after" }
    box:play { status = 400 }
    local status, out, err = campaign { "run", "d", "--concurrency", "1" }
    assert.equal(4, status, err)
    assert.equal(3, #command.lines(out))
    assert.matches("unknown messages: 1; see `koresms campaign export d --state", err, 1, true)
    status, _, err = campaign { "resolve", "d", "--unknown", "skip" }
    assert.equal(2, status)
    assert.matches("say %-%-yes 1", err)
    status = campaign { "resolve", "d", "--unknown", "skip", "--yes", "2" }
    assert.equal(2, status)
    assert.equal(1, status_of("d").unknown)
    must { "resolve", "d", "--unknown", "skip", "--yes", "1" }
    status = campaign { "run", "d" }
    assert.equal(1, status)
    must { "resolve", "d", "--rejected", "retry", "--yes", "1" }
    status, _, err = campaign { "run", "d" }
    assert.equal(0, status, err)
    assert.same({ 2, 1 }, { status_of("d").accepted, status_of("d").skipped })
  end)

  it("takes the recipient from another column", function()
    command.write(input, "phone,dedupe\n+15550000001,a\n")
    local status, _, err = campaign { "import", input, "--name", "d" }
    assert.equal(2, status)
    assert.matches("--to-column", err, 1, true)
    must { "import", input, "--name", "d", "--to-column", "phone", "--start" }
    assert.equal(1, status_of("d").pending)
  end)

  it("exports what became of each, as CSV that can be read back", function()
    must { "import", input, "--name", "d", "--start" }
    box:play { status = 400, body = '{"errors":[{"msg":"no, \\"really\\" not","code":7}]}' }
    campaign { "run", "d", "--concurrency", "1" }
    local out = must { "export", "d" }
    local lines = command.lines(out)
    assert.equal("to,from,id,dedupe,state,code,attempts,at,detail", lines[1])
    assert.equal(4, #lines)
    assert.matches('^%+15550000001,,,a,rejected,invalid_request,1,20%d%d%-.*Z,".*""really"".*"$',
      lines[2])
    assert.equal(1, #command.lines((must { "export", "d", "--state", "unknown" })))
    local status, _, err = campaign { "export", "d", "--state", "unkown" }
    assert.equal(2, status)
    assert.matches("one of accepted", err)
  end)

  it("pauses, resumes, cancels, suppresses and sets limits", function()
    must { "import", input, "--name", "d", "--start" }
    must { "pause", "d", "lunch" }
    assert.matches("d .*paused.*%(lunch%)", (must { "status" }))
    local stopped, _, why = campaign { "run", "d" }
    assert.equal(5, stopped)
    assert.matches("campaign 'd' is paused: lunch; `koresms campaign resume d`", why, 1, true)
    must { "resume", "d" }
    local _, err = must { "suppress", "+15550000001" }
    assert.matches("1 of 1 numbers", err)
    command.write(box.work .. "/list", "number\n+15550000001\n+15550000002,x\n")
    _, err = must { "suppress", box.work .. "/list" }
    assert.matches("1 of 2 numbers", err)
    must { "suppress", "--remove", "+15550000002" }
    must { "quota", "--per-minute", "100", "--per-hour", "false" }
    assert.equal("per_minute 100, per_hour false\n", (must { "quota" }))
    local status
    status, _, err = campaign({ "run", "d" }, { KORESMS_PER_MINUTE = "7" })
    assert.equal(2, status)
    assert.matches("per_minute is 7 .*koresms campaign quota %-%-per%-minute 7", err)
    must { "quota", "--per-minute", "false" }
    status = campaign { "run", "d" }
    assert.equal(0, status)
    assert.same({ 2, 1 }, { status_of("d").accepted, status_of("d").skipped })
    _, err = must { "cancel", "d" }
    assert.matches("0 messages were skipped", err)
    status = campaign { "resume", "d" }
    assert.equal(2, status)
  end)

  it("refuses what it does not understand, by name", function()
    for _, case in ipairs {
      { { "run" }, 2, kind.name == "SQLite" and "no store here" or "no store here" },
      { { "import", input }, 2, "name" },
      { { "import", input, "--name", "d", "--expires", "soon" }, 2, "expires: expected a time" },
      { { "import", input, "--name", "d", "--expires", "2000-01-01T00:00:00Z" }, 2, "is over" },
      { { "import", input, "--name", "" }, 2, "name is empty" },
      { { "import", box.work .. "/nothing", "--name", "d" }, 2, "nothing" },
      { { "status", "d", "--store", "postgres://u:s3cretword@h/d" }, 2, "KORESMS_STORE" },
      { { "quota" }, 2, "no store here" },
      { { "quota", "--per-minute", "0" }, 2, "'0' is neither" },
      { { "resolve", "d" }, 2, "%-%-unknown resend" }, { { "suppress", "+1x" }, 2, "%+1x" },
    } do
      local status, out, err = campaign(case[1])
      assert.equal(case[2], status, err)
      assert.matches(case[3], err)
      assert.equal("", out)
      assert.is_nil(err:find("s3cretword", 1, true))
      assert.is_nil(err:find("traceback", 1, true))
    end
    must { "import", input, "--name", "d" }
    local status, _, err = campaign { "run" }
    assert.equal(2, status)
    assert.matches("which campaigns%?", err)
    status, _, err = campaign { "run", "d", "--until", "25:00" }
    assert.equal(2, status)
    assert.matches("%-%-until: ", err)
  end)

  it("stops at a time, and when it is asked to", function()
    local rows = { "to" }
    for i = 1, 400 do rows[#rows + 1] = stores.number(i) end
    command.write(input, table.concat(rows, "\n") .. "\n")
    must { "import", input, "--name", "d", "--start" }
    local status = campaign { "run", "d", "--until", "2020-01-01T00:00:00Z" }
    assert.equal(5, status)
    assert.equal(0, box:processed())
    assert(box.box:control("PUT", "/_sandbox/settings", { latency = 0.05 }))
    local _, code = shell.run(("timeout --preserve-status -s TERM 1 %s %s bin/koresms campaign "
      .. "run d "
      .. "--concurrency 4 >%s/told 2>%s/said; echo $?"):format(
      command.prefix(box:environment { KORESMS_STORE = where, KORESMS_PER_MINUTE = "false" }),
      command.interpreter, box.work, box.work))
    assert(box.box:control("PUT", "/_sandbox/settings", { latency = 0 }))
    assert.equal("5", code, command.read(box.work .. "/said"))
    local now = status_of "d"
    assert.same({ 0, 0 }, { now.sending, now.unknown })
    assert.equal(now.accepted, box:processed())
    assert.equal(now.accepted, #command.lines(command.read(box.work .. "/told")))
    assert.is_true(now.pending > 0)
  end)

  it("sends one message by the store's quota, beside a campaign", function()
    must { "import", input, "--name", "d", "--start" }
    must { "quota", "--per-minute", "4" }
    local env = box:environment { KORESMS_STORE = where, KORESMS_TIMEOUT = "2" }
    local function send(to)
      local status, out, err = box:run({ "send", "--to", to, "--store", where, "--json" }, env)
      return status, out ~= "" and cjson.decode(out), err
    end
    -- The campaign leaves one permit.
    local status, out, err = campaign({ "run", "d" }, { KORESMS_PER_MINUTE = "4" })
    assert.equal(0, status, err .. out)
    assert.equal(3, box:processed())
    local result
    status, result, err = send "+15550000050"
    assert.equal(0, status, err)
    assert.equal("accepted", result.outcome)
    assert.same({ 1, 0 }, { status_of("outbox").accepted, status_of("outbox").pending })
    status, result = send "+15550000051"
    assert.equal(1, status)
    assert.same({ "not_sent", "rate_limited", true }, { result.outcome, result.code,
      result.retryable })
    assert.equal(4, box:processed())
    assert.equal(1, status_of("outbox").total)
    must { "quota", "--per-minute", "false" }
    must { "suppress", "+15550000057" }
    env.KORESMS_PER_MINUTE = "false"
    status, result = send "+15550000057"
    assert.same({ 1, "store", false }, { status, result.code, result.retryable })
    assert.matches("those that get nothing", result.message)
    assert.equal(4, box:processed())
    box:play { status = 500, when = "after" }
    status = send "+15550000052"
    assert.equal(4, status)
    assert.equal(1, status_of("outbox").unknown)
    box:play { status = 429, retry_after = 30 }
    status = send "+15550000053"
    assert.equal(1, status)
    assert.equal(1, status_of("outbox").rejected)
    status, result = send "+15550000054" -- all wait now
    assert.same({ 1, "rate_limited" }, { status, result.code })
    env.KORESMS_PER_MINUTE = "5"
    status, result = send "+15550000055"
    assert.same({ 1, "store" }, { status, result.code })
    assert.matches("campaign quota", result.message)
    status, _, err = box:run({ "send", "--to", "+15550000056", "--store",
      "postgres://u:s3cretword@h/d" }, env)
    assert.equal(2, status)
    assert.is_nil(err:find("s3cretword", 1, true))
  end)

  it("prints the SQL that makes the same store", function()
    local dialect = kind.name == "SQLite" and "sqlite" or "postgres"
    local out = must { "schema", "--dialect", dialect }
    local file = box.work .. "/schema.sql"
    command.write(file, out)
    local fresh = kind:location()
    local ok, text = shell.run(kind.name == "SQLite" and ("sqlite3 %s <%s 2>&1"):format(fresh, file)
      or ("psql -v ON_ERROR_STOP=1 -q '%s' -f %s 2>&1"):format(fresh, file))
    if not ok and text:find("not found", 1, true) then return pending("no sqlite3 or psql here") end
    assert.is_true(ok, text)
    local store = assert(koresms.store(fresh))
    assert.equal("running", store:status("outbox").state)
    assert.is_true(store:create { name = "x" })
    store:add("x", stores.messages(1))
    assert.is_nil(store:status("x").eta)
    store:close()
  end)
end) end
