-- What the command says to whoever is on the wrong way: what was meant, and what is right.

local command = require "spec.support.command"

local TO, FROM = "+911234567890", "+19876543210"

describe("koresms says what was meant:", function()
  local koresms

  setup(function() koresms = command.start() end)
  teardown(function() koresms:stop() end)
  before_each(function() koresms:reset() end)

  -- A command that has to end with 2 and send nothing; each of these has to be said.
  local function refused(arguments, env, ...)
    local status, out, err = koresms:run(arguments, env)
    assert.same({ 2, "" }, { status, out })
    for _, wanted in ipairs({ ... }) do assert.matches(wanted, err, 1, true) end
    assert.not_matches(TO, err, 1, true)
    assert.equal(0, koresms:processed())
    return err
  end

  it("alone it lists its commands", function()
    local err = refused({}, nil, "a command is required", "koresms help COMMAND")
    for _, name in ipairs({ "send", "send%-many", "token", "check", "sandbox" }) do
      assert.matches("\n   " .. name .. " +%u", err)
    end
  end)

  it("helps, with a command and without", function()
    local _, all = koresms:run({ "--help" })
    local _, send = koresms:run({ "send", "--help" })
    for _, case in ipairs({ { { "help" }, all }, { { "help", "send" }, send } }) do
      local status, out, err = koresms:run(case[1])
      assert.same({ 0, case[2], "" }, { status, out, err })
    end
    refused({ "help", "sned" }, nil, "no command 'sned'")
    refused({ "send-many", "x", "--per-minute", "30" }, nil, "'--per-minute'",
      "it is a setting: KORESMS_PER_MINUTE")
    refused({ "help", "campaign", "imprt" }, nil, "imprt")
    local _, out = koresms:run({ "help", "campaign", "import" })
    assert.matches("--expires", out, 1, true)
  end)

  it("a text, in whatever word", function()
    for _, word in ipairs({ "text", "body", "message", "msg", "content", "sms" }) do
      for _, name in ipairs({ "send", "send-many" }) do
        for _, arguments in ipairs({ { "--" .. word, "hello" }, { "--" .. word .. "=hello" },
          { "--" .. word },
          { "--to", TO, "--" .. word, "hello", "world" } }) do
          table.insert(arguments, 1, name)
          if name == "send" or arguments[2] ~= "--to" then
            refused(arguments, nil, "--" .. word .. " is no option", "the API takes no text",
              "experience flow")
          end
        end
      end
    end
  end)

  it("a recipient without --to", function()
    refused({ "send", TO }, nil, "--to NUMBER")
    refused({ "send", "--from", FROM, TO }, nil, "--to NUMBER")
    refused({ TO }, nil, "unknown command '+9112*****90'")
  end)

  it("an option that is nearly one", function()
    refused({ "send", "--t", TO }, nil, "--to")
    refused({ "send", "--to", TO, "--form", FROM }, nil, "--from")
    refused({ "sendmany", "x" }, nil, "send-many")
  end)

  it("the option of a value that will not do", function()
    for _, value in ipairs({ "0", "1025", "many", "-1", "1.5" }) do
      refused({ "send-many", "x", "--concurrency=" .. value }, nil, "--concurrency: '" .. value
        .. "'", "1 to 1024")
    end
    refused({ "send-many", "x", "--from", "x" }, nil, "--from: ")
    refused({ "send-many", "x", "--rest", "-" }, nil, "--rest: ")
  end)

  it("all settings that are missing", function()
    for _, arguments in ipairs({ { "send", "--to", TO }, { "send-many", "-" }, { "token" } }) do
      local err = refused(arguments, {})
      assert.equal(4, #command.lines(err), err)
      for i, name in ipairs({ "HOST", "BOT_ID", "CLIENT_ID", "CLIENT_SECRET" }) do
        assert.matches("^koresms: " .. name:lower() .. " is required: .*Set KORESMS_" .. name
          .. ",",
          command.lines(err)[i])
      end
    end
    refused({ "token" }, { KORESMS_ALGORITHM = "RS256" }, "private_key_file is required")
    refused({ "token" }, { KORESMS_TOKEN = "a.b.c" }, "host is required", "bot_id is required")
  end)

  it("a variable that is nearly a setting, without its value", function()
    local changes = { KORESMS_TIMOUT = "hunter2", KORESMS_SECRET = "hunter2",
      KORESMS_QQQQQQQQ = "hunter2" }
    for _, arguments in ipairs({ { "send", "--to", TO }, { "token" },
      { "send-many", "/dev/null" } }) do
      local _, _, err = koresms:run(arguments, koresms:environment(changes))
      assert.matches("koresms: KORESMS_TIMOUT is no setting and has no effect; "
        .. "KORESMS_TIMEOUT is\n", err, 1, true)
      assert.matches("KORESMS_SECRET is no setting and has no effect; KORESMS_CLIENT_SECRET is",
        err, 1, true)
      assert.not_matches("QQQ", err, 1, true)
      assert.not_matches("hunter2", err, 1, true)
    end
    assert.equal(1, koresms:processed())
  end)

  it("a key in a file of settings", function()
    command.write(koresms.work .. "/settings.json", '{"bot": "st-1"}')
    refused({ "token" }, koresms:environment { KORESMS_CONFIG = koresms.work .. "/settings.json" },
      "unknown setting 'bot' (did you mean 'bot_id'?)")
    command.write(koresms.work .. "/settings.json", '{"text": "hello"}')
    refused({ "token" }, koresms:environment { KORESMS_CONFIG = koresms.work .. "/settings.json" },
      "unknown setting 'text'; the API takes no text")
  end)

  local function refused_rows(text, ...)
    command.write(koresms.work .. "/rows", text)
    return refused({ "send-many", koresms.work .. "/rows" }, nil, ...)
  end

  it("columns, where there is none of recipients", function()
    refused_rows("name,city\n", "no column 'to'; it has 'name', 'city'\n")
    refused_rows("mobile,name\n" .. TO .. ",x\n",
      "column 'mobile' is not understood (did you mean 'to'?); --to-column")
    refused_rows("a,b,c,d,e,f,g,h,i,j,k,l\n", "'j', and 2 more\n")
    refused_rows("name," .. TO .. "\n", "'name', '+9112*****90'")
    refused_rows("name,\27[2J\n", "'name', ' [2J'")
  end)

  it("columns that are no UTF-8", function()
    refused_rows("to,Stra\223e\n" .. TO .. ",x\n",
      "rows:1: the header: byte 8 is not UTF-8; save the file as UTF-8")
  end)

  it("a key of texts, once, which is not sent", function()
    local line = ('{"to":"%s","Body":"hello"}\n'):format(TO)
    command.write(koresms.work .. "/rows", ('{"to":"%s"}\n'):format(TO) .. line .. line)
    local status, _, err = koresms:run({ "send-many", koresms.work .. "/rows" })
    assert.equal(0, status)
    local _, count = err:gsub("rows:2: key 'Body' is not sent; the API takes no text", "")
    assert.equal(1, count, err)
  end)

  it("a column of texts, which is not sent", function()
    command.write(koresms.work .. "/rows", "to,text\n" .. TO .. ",hello\n")
    local status, _, err = koresms:run({ "send-many", koresms.work .. "/rows" })
    assert.equal(0, status)
    assert.matches("column 'text' is not sent; the API takes no text", err, 1, true)
  end)
end)
