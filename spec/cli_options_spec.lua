-- The options that make the command pleasant: whose id, how long, what is printed, and where to.

local bulk = require "spec.support.bulk"
local command = require "spec.support.command"
local shell = require "koresms.sandbox.shell"

local A, B, LOST = "+911234567890", "+911234567891", "+15005551001"

describe("the command's options", function()
  local many, koresms

  setup(function()
    many = bulk.start()
    koresms = many.koresms
  end)
  teardown(function() many:stop() end)
  before_each(function() many:reset() end)

  it("--id gives the message an id", function()
    local status, out = koresms:run { "send", "--to", A, "--id", "order-7" }
    assert.equal(0, status)
    assert.matches("  id order-7  ", out, 1, true)
    assert.equal("order-7", (koresms:run { "send", "--to", A, "--id", "order-7", "--json" }) == 0
      and command.read(many.out):match('"id":"([^"]*)"'))
  end)

  it("--timeout bounds a message", function()
    local status, out = koresms:run { "send", "--to", "+15005551002", "--timeout", "0.3" }
    assert.equal(4, status)
    assert.matches("^unknown  .*  timeout  ", out)
    for _, wrong in ipairs { "x", "0", "1e3", "nan", "" } do
      local code, _, err = koresms:run { "send", "--to", A, "--timeout", wrong }
      assert.equal(2, code)
      assert.matches("--timeout: '" .. wrong .. "' is not a number", err)
    end
    assert.equal(1, koresms:processed())
  end)

  it("--verbose prints the events, with masked numbers", function()
    for _, arguments in ipairs { { "send", "--to", A }, { "send-many", many.input } } do
      command.write(many.input, "to\n" .. A .. "\n")
      arguments[#arguments + 1] = "--verbose"
      local status, out, err = koresms:run(arguments)
      assert.equal(0, status)
      assert.matches("koresms: attempt id=%x+ to=%+9112%*+90 attempt=1\n", err)
      assert.matches("koresms: attempt id=%x+ to=%+9112%*+90 attempt=1 elapsed=[%d.]+ "
        .. "reused=false\n", err)
      assert.matches("koresms: verdict .* outcome=accepted status=200", err)
      assert.is_nil((out .. err):find(A:sub(2), 1, true))
    end
  end)

  it("--quiet prints what was not accepted", function()
    local status, out, err = many:run("to\n" .. A .. "\n+15005550403\n" .. B .. "\n", { "--quiet" })
    assert.equal(1, status)
    assert.same({ 1 }, { #command.lines(out) })
    assert.matches("^line 3  rejected  ", out)
    assert.matches("3 rows in .*: accepted 2  rejected 1", err)
  end)

  it("--unknown keeps the rows of which nobody knows, as they came", function()
    local file = many.work .. "/unknown"
    local text = "name,to\nx," .. A .. "\ny," .. LOST .. "\n"
    local status, _, err = many:run(text, { "--unknown", file, "--rest", many.rest })
    assert.equal(4, status)
    assert.equal("name,to\ny," .. LOST .. "\n", command.read(file))
    assert.is_nil(io.open(many.rest))
    assert.matches("rows in " .. file .. ": 1", err, 1, true)
    -- The name of a file that is there, and of none.
    status, _, err = many:run(text, { "--unknown", file })
    assert.equal(2, status)
    assert.matches("--unknown takes the name of a new file", err, 1, true)
    status, _, err = many:run(text, { "--unknown", "-" })
    assert.equal(2, status)
    assert.matches("--unknown: standard output has the results", err, 1, true)
    status, _, err = many:run(text, { "--unknown", many.rest, "--rest", many.rest })
    assert.equal(2, status)
    assert.matches("give two files", err, 1, true)
    os.remove(file)
    -- Without such rows there is no file.
    assert.equal(0, (many:run("to\n" .. A .. "\n", { "--unknown", file })))
    assert.is_nil(io.open(file))
  end)

  it("--to-column names the column, or key, of the recipients", function()
    for _, text in ipairs {
      "name,phone,to\nx," .. A .. ",y\n",
      '{"phone":"' .. A .. '","to":["not a number"]}\n',
    } do
      local status, results, err = many:results(text, { "--to-column", "phone" })
      assert.equal(0, status, err)
      assert.equal(A, results[1].to)
      assert.equal(A, results[1].input.phone)
      assert.truthy(results[1].input.to)
    end
    local status, _, err = many:run("name,to\nx," .. A .. "\n", { "--to-column", "phone" })
    assert.equal(2, status)
    assert.matches("the header has no column 'phone' (--to-column); it has 'name', 'to'", err, 1,
      true)
    status, _, err = many:run('{"to":"' .. A .. '"}\n', { "--to-column", "%s(" })
    assert.equal(2, status)
    assert.matches("no key '%s('", err, 1, true)
  end)

  it("token --curl prints a command that sends, and holds no token", function()
    local _, out, err = koresms:run { "token", "--curl" }
    assert.equal("", err)
    assert.is_nil(out:find("eyJ", 1, true))
    local line = out:gsub("koresms token", command.prefix(koresms:environment()) .. " "
      .. command.interpreter .. " bin/koresms token"):gsub("RECIPIENT", A)
      :gsub("SENDER", "+19876543210")
    local _, said = shell.run(line)
    assert.matches("Triggered the configured Experience flow", said, 1, true)
    assert.equal(1, koresms:processed())
  end)

  it("--version --verbose names the libraries", function()
    local status, out = koresms:run { "--version", "--verbose" }
    assert.equal(0, status)
    assert.matches("^koresms %d+%.%d+%.%d+\nLua .+\nlibcurl .+\nOpenSSL .+\nSQLite .+\nlibpq .+\n$",
      out)
    assert.same({ 0, out }, { (koresms:run { "--verbose", "--version" }), command.read(many.out) })
    out = select(2, koresms:run { "--version" })
    assert.matches("^koresms %d+%.%d+%.%d+\n$", out)
  end)

  -- On a terminal of its own, by script(1) of util-linux.
  local function on_terminal(line)
    local _, out = shell.run(("script -qc %s /dev/null </dev/null"):format(shell.quote(line)))
    return out
  end

  it("colours outcomes on a terminal, unless NO_COLOR is set", function()
    local function seen(variables)
      command.write(many.input, "to\n" .. A .. "\n" .. LOST .. "\n")
      return on_terminal(many:line({ many.input }, variables))
    end
    local out = seen { TERM = "xterm" }
    assert.matches("\27[32maccepted\27[0m", out, 1, true)
    assert.matches("\27[31munknown\27[0m", out, 1, true)
    for _, variables in ipairs { { TERM = "xterm", NO_COLOR = "1" }, { TERM = "dumb" }, {} } do
      out = seen(variables)
      assert.matches("line 2  accepted", out, 1, true)
      assert.is_nil(out:find("\27", 1, true))
    end
  end)

  it("says on a terminal what it waits for", function()
    command.write(many.input, "to\n" .. A .. "\n" .. B .. "\n")
    local line = many:line({ many.input }, { KORESMS_PER_MINUTE = "1" })
    assert.matches("goes on in [01]:%d%d %(per_minute, per_hour%)",
      on_terminal("timeout -s INT 1.5 " .. line))
    many.koresms:play { times = 1, status = 429, retry_after = 50 }
    line = many:line({ many.input, "--concurrency", "1" })
    assert.matches("goes on in 0:%d%d %(the platform's limit%)",
      on_terminal("timeout -s INT 1.5 " .. line))
  end)
end)
