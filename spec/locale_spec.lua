local run = require "spec.support.run"

local interpreter = arg and arg[-1] and arg[-1]:find("lua") and arg[-1]
  or rawget(_G, "jit") and "luajit" or "lua" .. _VERSION:match("%d.%d")

describe("a locale with a decimal comma", function()
  local directory
  setup(function()
    directory = run.directory()
    run.output("localedef -f UTF-8 -i de_DE " .. directory .. "/comma 2>&1")
  end)
  teardown(run.clean)

  -- What a program prints that has this locale at its disposal.
  local function printed(text)
    local file = run.write(directory .. "/program.lua", "require 'spec.support.paths'\n" .. text)
    return run.output(("env LOCPATH=%s KORESMS_TIMEOUT=2.5 KORESMS_RETRIES=3 %s %s %s 2>&1"):format(
      directory, run.preload(), interpreter, file))
  end

  local function skip()
    if printed("print(os.setlocale('comma'))") ~= "comma\n" then
      pending("this machine has no locale to make one from")
      return true
    end
  end

  it("changes no setting", function()
    if skip() then return end
    assert.equal("2.5 3", printed([[
      os.setlocale("comma")
      local s = assert(require("koresms.config").load { host = "h", bot_id = "b", token = "t" })
      os.setlocale("C")
      io.write(s.timeout, " ", s.retries)]]))
  end)

  it("changes no verdict, whenever it comes and goes", function()
    if skip() then return end
    for _, change in ipairs({ { "C", "comma" }, { "comma", "C" }, { "comma", "comma" } }) do
      assert.equal("accepted 4.5", printed(([[
        os.setlocale("%s")
        local verdict = require "koresms.verdict"
        os.setlocale("%s")
        local v = verdict.judge({ status = 200, starts = 1, body = '{"message":"x","cost":1.5}' })
        local w = verdict.judge({ status = 400, starts = 1,
          body = '{"errors":[{"msg":"x","code":4.5}]}' })
        os.setlocale("C")
        io.write(v.outcome, " ", tostring(w.platform_code))]]):format(change[1], change[2])))
    end
  end)
end)
