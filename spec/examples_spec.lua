-- The examples that are single files, run against the sandbox as their readers run them.
local beds = require "spec.support.sandbox_bed"
local command = require "spec.support.command"
local run = require "spec.support.run"
local shell = require "koresms.sandbox.shell"

describe("examples/", function()
  local bed, directory, environment
  setup(function()
    bed = beds.start()
    directory = run.directory()
    local here = shell.absolute(".")
    command.write(directory .. "/koresms", ("#!/bin/sh\nexec %s %s/bin/koresms \"$@\"\n")
      :format(command.interpreter, here))
    shell.run("chmod 755 " .. directory .. "/koresms")
    local env = { PATH = directory .. ":" .. os.getenv("PATH"),
      LUA_PATH = ("%s/lua/?.lua;%s/lua/?/init.lua;;"):format(here, here),
      KORESMS_PER_MINUTE = "false", KORESMS_TIMEOUT = "2" }
    for _, pair in ipairs(bed.box.env) do env[pair[1]] = pair[2] end
    environment = command.prefix(env)
  end)
  teardown(function()
    bed:stop()
    run.clean()
  end)
  before_each(function() bed:reset() end)

  -- What a command prints, and its exit status.
  local function output(text)
    local out = run.output(("%s sh -c %s 2>&1; echo $?"):format(environment, run.quote(text)))
    local printed, status = out:match("^(.-)(%d+)\n$")
    return printed, tonumber(status)
  end

  it("outcomes.lua knows what to do about each", function()
    for _, case in ipairs { { "+911234567890", "^sent: order%-17\n$", 0 },
        { "+15005550403", "^never: forbidden: ", 1 }, { "1500", "^never: invalid_number: ", 1 },
        { "+15005550429", "^later, in %d+ s: ", 3 },
        { "+15005551001", "^look for order%-17 in the SMS provider's log: ", 4 } } do
      local printed, status = output(("KORESMS_RETRIES=0 %s examples/outcomes.lua '%s' order-17")
        :format(command.interpreter, case[1]))
      assert.matches(case[2], printed)
      assert.equal(case[3], status)
    end
    assert.equal(1, select(2, output(command.interpreter .. " examples/outcomes.lua")))
  end)

  it("cron.sh sends each row once, and keeps the others for those whose they are", function()
    local work = directory .. "/spool"
    shell.run("mkdir " .. work)
    run.write(work .. "/new.csv",
      "to,id\n+911234567890,a\n+15005550429,b\n+15005551001,c\n+911234567891,d\n")
    local cron = "KORESMS_RETRIES=0 examples/cron.sh " .. work
    local printed, status = output(cron)
    assert.matches("some may have arrived; a person looks at look/new%.", printed)
    assert.equal(4, status)
    assert.matches("^to,id\n%+15005551001,c\n$", run.output("cat " .. work .. "/look/*.csv"))
    assert.matches("^to,id\n%+15005550429,b\n$", run.output("cat " .. work .. "/later/*.csv"))
    local before = bed:requests()
    -- The next day: only what was left for it.
    assert.equal(1, (select(2, output(cron))))
    assert.equal(before + 1, bed:requests())
    -- Two at once: one of them does nothing.
    printed, status = output(("exec 9>%s/lock; flock 9; %s 9>&-"):format(work, cron))
    assert.equal("the last run has not ended\n", printed)
    assert.equal(1, status)
  end)

  it("metrics.lua counts", function()
    local metrics = dofile("examples/metrics.lua").new()
    local client = bed:new { on_event = metrics.on_event, per_minute = 60, retries = 0 }
    for _, to in ipairs { beds.TO, beds.TO, "+15005550403", "+15005550429" } do
      client:send { to = to }
    end
    local text = metrics.text(client)
    client:close()
    for _, line in ipairs { "# TYPE koresms_messages_total counter",
        'koresms_messages_total{outcome="accepted",code=""} 2',
        'koresms_messages_total{outcome="rejected",code="forbidden"} 1',
        'koresms_messages_total{outcome="rejected",code="rate_limited"} 1',
        'koresms_attempts_total{connection="new"} 1',
        'koresms_attempts_total{connection="reused"} 3',
        "koresms_pauses_total 1", "koresms_in_flight 0", "koresms_permits 0" } do
      assert.truthy(("\n" .. text):find("\n" .. line .. "\n", 1, true), line .. "\n" .. text)
    end
    assert.matches("\nkoresms_paused_seconds %d", text)
    assert.is_nil(text:find("91123456", 1, true))
  end)
end)
