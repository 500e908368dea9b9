-- The command, run as a process, against the sandbox.

local paths = require "spec.support.paths"

local cjson = require "cjson"
local command = require "spec.support.command"
local shell = require "koresms.sandbox.shell"
local output = require "koresms.cli.output"
local utf8 = require "koresms.utf8"

local unpack = table.unpack or unpack

local FROM, TO = "+19876543210", "+911234567890"

local koresms

describe("koresms", function()
  setup(function() koresms = command.start() end)
  teardown(function() koresms:stop() end)
  before_each(function() koresms:reset() end)

  describe("usage", function()
    it("prints its version and its help on standard output", function()
      local status, out, err = koresms:run({ "--version" }, {})
      assert.same({ 0, "koresms " .. require("koresms")._VERSION .. "\n", "" },
        { status, out, err })
      status, out, err = koresms:run({ "--help" }, {})
      assert.same({ 0, "" }, { status, err })
      for _, word in ipairs({ "Exit status:", "some unknown", "KORESMS_CONFIG", "send", "token",
        "check", "sandbox" }) do
        assert.matches(word, out, 1, true)
      end
      for _, row in ipairs(require("koresms.config").settings) do
        if row.env then assert.matches(row.env .. " ", out, 1, true) end
      end
    end)

    for name, arguments in pairs({
      ["no subcommand"] = {},
      ["an unknown subcommand"] = { "sendd" },
      ["an unknown option"] = { "send", "--to", TO, "--form", FROM },
      ["a missing --to"] = { "send", "--json" },
      ["--to without a value"] = { "send", "--to" },
      ["a second --to"] = { "send", "--to", TO, "--to", TO },
      ["an argument too many"] = { "send", "--to", TO, TO },
      ["a port that is none"] = { "sandbox", "--port", "70000" },
    }) do
      it("exits with 2 on " .. name, function()
        local status, out, err = koresms:run(arguments)
        assert.same({ 2, "" }, { status, out })
        assert.matches("^Usage: koresms", err)
        assert.equal(0, koresms:processed())
      end)
    end

    for _, name in ipairs({ "client-secret", "token", "proxy" }) do
      it("refuses --" .. name .. ", and says where it belongs", function()
        for _, arguments in ipairs({ { "send", "--to", TO, "--" .. name, "hunter2hunter2" },
          { "--" .. name .. "=hunter2hunter2", "check" }, { "token", "--" .. name } }) do
          local status, out, err = koresms:run(arguments)
          assert.same({ 2, "" }, { status, out })
          assert.matches("KORESMS_" .. name:upper():gsub("-", "_"), err, 1, true)
          assert.matches("KORESMS_CONFIG", err, 1, true)
          assert.not_matches("hunter2", err, 1, true)
        end
      end)
    end

    it("finds its modules through a symbolic link, from another directory", function()
      local _, here = shell.run("pwd")
      assert.is_true(shell.run(("ln -s %s/bin/koresms %s/link"):format(shell.quote(here),
        koresms.work)))
      local absolute = paths.cpath:gsub("^[^/]", function(first) return here .. "/" .. first end)
      local ok, out = shell.run(("cd / && env -i PATH=\"$PATH\" LUA_CPATH=%s %s "
        .. "%s/link --version 2>&1"):format(
        shell.quote(absolute), command.interpreter, koresms.work))
      assert.is_true(ok, out)
      assert.matches("^koresms %d", out)
    end)
  end)

  describe("without configuration", function()
    for name, changes in pairs({
      KORESMS_HOST = { KORESMS_HOST = false },
      KORESMS_BOT_ID = { KORESMS_BOT_ID = false },
      KORESMS_CLIENT_ID = { KORESMS_CLIENT_ID = false },
      KORESMS_CLIENT_SECRET = { KORESMS_CLIENT_SECRET = false },
      KORESMS_FROM = { KORESMS_FROM = false },
    }) do
      it("names " .. name .. " and exits with 2", function()
        local status, out, err = koresms:run({ "send", "--to", TO, "--json" },
          koresms:environment(changes))
        assert.same({ 2, "" }, { status, out })
        assert.matches(name, err, 1, true)
        assert.equal(0, koresms:processed())
      end)
    end

    it("names the source of a value that is wrong", function()
      command.write(koresms.work .. "/settings.json", '{"retries": 1000}')
      local config = koresms.work .. "/settings.json"
      for text, changes in pairs({
        ["KORESMS_TIMEOUT: expected a number"] = { KORESMS_TIMEOUT = "soon" },
        [config .. ": setting 'retries'"] = { KORESMS_CONFIG = config },
      }) do
        for _, arguments in ipairs({ { "send", "--to", TO }, { "token" } }) do
          local status, out, err = koresms:run(arguments, koresms:environment(changes))
          assert.same({ 2, "" }, { status, out })
          assert.matches(text, err, 1, true)
        end
      end
    end)
  end)

  describe("send", function()
    local fields = { "outcome", "code", "message", "retryable", "retry_after", "status",
      "platform_code", "platform_message", "attempts", "id", "from", "to", "elapsed" }

    -- The one line of output: decoded, and the names of its fields in their order.
    local function only(out)
      assert.equal(1, #command.lines(out), out)
      local order = {}
      for name in out:gmatch('[{,]"([%l_]+)":') do order[#order + 1] = name end
      return cjson.decode(out), order
    end

    local function send(...)
      return koresms:run({ "send", "--to", TO, ... })
    end

    it("prints one result object, every field in its place", function()
      local status, out, err = send("--json")
      assert.same({ 0, "" }, { status, err })
      local result, order = only(out)
      assert.same(fields, order)
      assert.same({ "accepted", cjson.null, 200, 1, FROM, TO }, { result.outcome, result.code,
        result.status, result.attempts, result.from, result.to })
      assert.matches("^%x+$", result.id)
      assert.is_false(result.retryable)
      assert.is_number(result.elapsed)
      assert.equal(1, koresms:processed())
    end)

    it("prints one line for people, without a whole number", function()
      local status, out, err = send()
      assert.same({ 0, "" }, { status, err })
      assert.matches("^accepted  %+9112%*%*%*%*%*90  id %x+  %d+%.%d%d s\n$", out)
      assert.equal(1, koresms:processed())
    end)

    it("takes the sender from --from", function()
      local status, out = send("--json", "--from", "+12025550123")
      assert.equal(0, status)
      assert.equal("+12025550123", (only(out)).from)
      assert.equal(1, koresms:processed())
    end)

    for _, number in ipairs({ "", "0911234567890", "911234567890", "+91 1234567890",
      "+9112345678901234", "tel:+911234567890", "+91123456789\n" }) do
      it(("calls %q not sent and exits with 1"):format(number), function()
        for _, arguments in ipairs({ { "--to", number }, { "--to", number, "--dry-run" },
          { "--to", TO, "--from", number }, { "--to", TO, "--from", number, "--dry-run" } }) do
          local status, out = koresms:run({ "send", "--json", unpack(arguments) })
          assert.equal(1, status)
          local result, order = only(out)
          assert.same(fields, order)
          assert.same({ "not_sent", "invalid_number", 0 },
            { result.outcome, result.code, result.attempts })
          assert.equal(number, arguments[3] == "--from" and result.from or result.to)
        end
        assert.equal(0, koresms:processed())
      end)
    end

    it("exits with 1 on a rejected message, with the platform's code and what to do", function()
      local env = koresms:environment({ KORESMS_CLIENT_SECRET = "another secret" })
      local status, out = koresms:run({ "send", "--to", TO, "--json" }, env)
      assert.equal(1, status)
      assert.matches('"platform_code":4002,', out, 1, true)
      local result = only(out)
      assert.same({ "rejected", "unauthorized", 401, "Invalid SDK credentials" },
        { result.outcome, result.code, result.status, result.platform_message })
      status, out = koresms:run({ "send", "--to", TO }, env)
      assert.equal(1, status)
      assert.matches("^rejected  %+9112%*+90  unauthorized  .*client id and secret.*\n$", out)
      assert.equal(1, #command.lines(out))
      assert.not_matches("another secret", out, 1, true)
      assert.equal(0, koresms:processed())
    end)

    it("exits with 4 on an unknown outcome", function()
      koresms:play({ status = 503, times = 2 })
      local status, out = send("--json")
      assert.equal(4, status)
      local result = only(out)
      assert.same({ "unknown", "server_error", 1 }, { result.outcome, result.code,
        result.attempts })
      status, out = send()
      assert.equal(4, status)
      assert.matches("^unknown  %+9112%*+90  server_error  HTTP 503", out)
    end)

    it("keeps what the platform says on one line", function()
      koresms:play({ status = 412,
        body = '{"errors":[{"msg":"a\\nb\\u001b[31m +911234567890","code":"ValidationError"}]}' })
      local status, out = send()
      assert.equal(1, status)
      assert.equal(1, #command.lines(out))
      assert.not_matches("[%z\1-\9\11-\31]", out)
      assert.not_matches(TO, out, 1, true)
      assert.matches("ValidationError", out, 1, true)
    end)

    it("prints UTF-8, whatever the platform says", function()
      for _, format in ipairs({ "--json", false }) do
        koresms:play({ status = 400, body = '{"errors":[{"msg":"M\\u00fcl","code":"a\\u009bb"}]}' })
        local _, out = koresms:run({ "send", "--to", TO, format or nil })
        assert.matches("M\195\188l", out, 1, true)
        if not format then assert.not_matches("\194\155", out, 1, true) end
      end
      assert.equal("\239\191\189M\239\191\189l\195\188\239\191\189\239\191\189",
        utf8.clean("\255M\252l\195\188\226\130"))
      assert.equal('{"x":"\239\191\189"}', output.json({ "x" }, { x = "\255" }))
    end)

    it("exits with 4 where it cannot write what became of the message", function()
      if not shell.run("[ -c /dev/full ]") then return pending("no /dev/full") end
      local status, _, err = koresms:run({ "send", "--to", TO, "--json" }, nil, "/dev/full")
      assert.equal(4, status)
      assert.matches("standard output cannot be written", err, 1, true)
      assert.equal(1, koresms:processed())
    end)

    it("exits with 4 where nobody reads what became of the message", function()
      local file = os.tmpname()
      shell.run(("{ %s %s bin/koresms send --to %s 2>%s; echo status $? >>%s; } "
        .. "</dev/null | exec 0<&-")
        :format(command.prefix(koresms:environment()), command.interpreter, TO, file, file))
      local said
      for _ = 1, 50 do -- the shell waits for the last of a pipe alone
        said = command.read(file)
        if said:find("status", 1, true) then break end
        shell.run("sleep 0.1")
      end
      os.remove(file)
      assert.matches("standard output cannot be written", said, 1, true)
      assert.matches("status 4\n$", said)
    end)

    it("exits with 1 where it cannot write what a dry run found", function()
      if not shell.run("[ -c /dev/full ]") then return pending("no /dev/full") end
      local status, _, err = koresms:run({ "send", "--to", TO, "--dry-run" }, nil, "/dev/full")
      assert.equal(1, status)
      assert.matches("standard output cannot be written", err, 1, true)
      assert.equal(0, koresms:processed())
      local file = os.tmpname()
      command.write(file, "to\n" .. TO .. "\n")
      status = koresms:run({ "send-many", file, "--dry-run" }, nil, "/dev/full")
      os.remove(file)
      assert.equal(1, status)
    end)

    it("warns and exits with 4 where Ctrl-C breaks it off", function()
      koresms:play({ delay = 20, when = "after" })
      local _, out = shell.run(([[
        %s %s bin/koresms send --to %s 2>&1 </dev/null &
        pid=$!; sleep 1; kill -INT $pid; wait $pid; echo "status $?"]]):format(
        command.prefix(koresms:environment({ KORESMS_TIMEOUT = "5" })), command.interpreter, TO))
      assert.matches("may have been sent", out, 1, true)
      assert.matches("status 4$", out)
    end)

    describe("--dry-run", function()
      it("checks and signs, sends nothing, and shows no whole number", function()
        local status, out, err = send("--dry-run")
        assert.same({ 0, "" }, { status, err })
        assert.equal(1, #command.lines(out))
        assert.matches(koresms.box.host .. "/api/public/bot/" .. koresms.box.bot_id
          .. "/outboundsms", out, 1, true)
        assert.matches("+9112*****90", out, 1, true)
        assert.not_matches(TO, out, 1, true)
        assert.not_matches(FROM, out, 1, true)
        assert.not_matches("eyJ", out, 1, true)
        assert.equal(0, koresms:processed())
      end)

      it("prints an object with --json", function()
        local status, out = send("--dry-run", "--json")
        assert.equal(0, status)
        assert.same({ dry_run = true, from = FROM, to = TO,
          url = koresms.box.host .. "/api/public/bot/" .. koresms.box.bot_id .. "/outboundsms" },
          cjson.decode(out))
        assert.equal(0, koresms:processed())
      end)

      it("needs no platform", function()
        local status = koresms:run({ "send", "--to", TO, "--dry-run" },
          koresms:environment({ KORESMS_HOST = "https://nonexistent.invalid" }))
        assert.equal(0, status)
      end)
    end)
  end)

  describe("token", function()
    it("prints a token and nothing else, and the documented curl call is accepted", function()
      local status, out, err = koresms:run({ "token" })
      assert.same({ 0, "" }, { status, err })
      assert.matches("^[%w_-]+%.[%w_-]+%.[%w_-]+\n$", out)
      local script = ([[
        curl -sS --noproxy '*' --cacert "$KORESMS_CA_FILE" -H "auth: $(%s bin/koresms token)" \
          -H 'Content-Type: application/json' \
          -d '{"fromNo":"+19876543210","toNo":"+911234567890"}' \
          "$KORESMS_HOST/api/public/bot/$KORESMS_BOT_ID/outboundsms"]]):format(command.interpreter)
      local ok, text = shell.run(command.prefix(koresms:environment()) .. " sh -c "
        .. shell.quote(script))
      assert.is_true(ok)
      assert.matches("Triggered", text, 1, true)
      assert.equal(1, koresms:processed())
    end)
  end)
end)
