-- The command shows no secret, no token but where it is asked for one, and no whole number but
-- in the results that a program reads and in the rows that it gives back.

local bed_support = require "spec.support.fault_bed"
local command = require "spec.support.command"
local faults = require "spec.support.faults"
local marks = require "spec.support.secret_marks"
local run = require "spec.support.run"

local step = faults.step

-- Which options were driven, by subcommand; "" is none.
local driven = {}

local function drive(arguments)
  local name = ""
  for _, word in ipairs(arguments) do
    if not word:find("^%-") and name == "" then name = word end
    driven[name] = driven[name] or {}
    local option = word:match("^(%-[%w-]+)")
    if option then driven[name][option] = true end
  end
end

describe("the command shows no secret", function()
  local bed, work

  setup(function()
    bed = bed_support.start()
    work = run.directory()
  end)
  teardown(function()
    bed:stop()
    run.clean()
  end)

  local function file(name, text) return run.write(work .. "/" .. name, text) end

  -- The settings of a server, all marked; false takes one out.
  local function environment(changes)
    local env = { KORESMS_HOST = bed.servers.plain.origin, KORESMS_BOT_ID = "st-1",
      KORESMS_CLIENT_ID = "cs-1", KORESMS_CLIENT_SECRET = marks.secret,
      KORESMS_FROM = marks.from, KORESMS_PER_MINUTE = "false", KORESMS_RETRIES = "0",
      KORESMS_TIMEOUT = "2" }
    for name, value in pairs(changes or {}) do env[name] = value or nil end
    return env
  end

  local function line_of(arguments, env)
    drive(arguments)
    local words = { command.prefix(env), command.interpreter, "bin/koresms" }
    for _, word in ipairs(arguments) do words[#words + 1] = run.quote(word) end
    return table.concat(words, " ")
  end

  -- Runs it, and returns both streams.
  local function output(arguments, env, input)
    os.execute(("unset LD_PRELOAD; %s >%s/out 2>%s/err <%s"):format(line_of(arguments, env), work,
      work, input and run.quote(input) or "/dev/null"))
    return command.read(work .. "/out"), command.read(work .. "/err")
  end

  -- Results for programs have the numbers of their message, and the row as it came.
  local function without_own(json)
    return (json:gsub('"(%w+)":("[^"]*")', function(name)
      return (name == "to" or name == "from") and '"":""' or nil
    end):gsub('"input":{.-}', ""))
  end

  -- Runs it and looks.
  local function look(arguments, env, input)
    local where = table.concat(arguments, " ")
    local out, err = output(arguments, env or environment(), input)
    -- What a build with sanitizers has to say is no word of the command.
    assert(not err:find("ASan") and not err:find("Sanitizer"), err)
    marks.look(where .. ": standard error", err)
    for _, word in ipairs(arguments) do
      if word == "--json" then out = without_own(out) end
    end
    marks.look(where .. ": standard output", out)
    return out, err
  end

  -- How the platform answers: well, with all that it was sent, not at all.
  local function answer(kind)
    local scripts = {
      well = { step.serve() }, refused = faults.script("read_head_close"),
      echoed = { step.read_request(), step.respond { status = 400, body = marks.echo() } },
      cut = faults.script("processed_reset"), html = faults.script("body_html"),
    }
    bed.servers.plain:script({}, scripts[kind])
  end

  local CSV = "to,name\n" .. marks.to .. ",MARK\n" .. marks.to .. ",MARK\n"
  local BAD_CSV = "to,from\n" .. marks.to .. "x,+12\n" .. marks.to:sub(2) .. "," .. marks.from
    .. "\n" .. marks.to .. "," .. marks.from .. "9999\n\"" .. marks.to .. "\n"
  local LINES = ('{"to":"%s"}\n{"to":"%s","extra":1}\n'):format(marks.to, marks.to)
  local BAD_LINES = ('{"to":"%s}\n{"toNo":"%s"}\n{"to":%s}\n["%s"]\n'):format(marks.to, marks.to,
    marks.to:sub(2), marks.to)

  for _, kind in ipairs { "well", "echoed", "refused", "cut", "html" } do
    it("when the platform answers: " .. kind, function()
      answer(kind)
      for _, flags in ipairs { {}, { "--json" }, { "--dry-run" }, { "--dry-run", "--json" } } do
        local rows = file("rows.csv", CSV)
        for _, arguments in ipairs { { "send", "--to", marks.to },
            { "send", "--to", marks.to, "--from", marks.from, "--id", "x", "--timeout", "2",
              "--verbose" },
            { "send-many", rows, "--verbose", "--timeout", "2", "--quiet", "--to-column", "to" },
            { "send-many", rows, "--concurrency", "2", "--from", marks.from } } do
          for _, flag in ipairs(flags) do arguments[#arguments + 1] = flag end
          look(arguments)
        end
      end
      look({ "check" })
      look({ "check", "--json" })
    end)
  end

  it("of rows that are bad", function()
    answer("well")
    for name, text in pairs { ["a.csv"] = CSV, ["b.csv"] = BAD_CSV, ["c.jsonl"] = LINES,
        ["d.jsonl"] = BAD_LINES, ["e.csv"] = "number\n" .. marks.to .. "\n",
        ["f.csv"] = marks.to .. "\n" } do
      local rows = file(name, text)
      look({ "send-many", rows })
      look({ "send-many", "-" }, environment(), rows)
      look({ "send-many", rows, "--skip-invalid", "--unique", "--dry-run" })
      look({ "send-many", rows, "--skip-invalid", "--json", "--unique" })
      os.remove(work .. "/rest")
      os.remove(work .. "/unknown")
      look({ "send-many", rows, "--skip-invalid", "--rest", work .. "/rest", "--unknown",
        work .. "/unknown" })
      look({ "send-many", rows, "--to-column", "toNo" })
    end
  end)

  it("of rows that are kept for later", function()
    local rows, rest = file("rows.csv", CSV), work .. "/rest"
    os.remove(rest)
    local _, err = look({ "send-many", rows, "--rest", rest },
      environment { KORESMS_HOST = "http://127.0.0.1:1" })
    assert.truthy(err:find("rows in " .. rest, 1, true), err)
    -- They are the caller's own, as they came, and nothing else.
    assert.equal(CSV, command.read(rest))
  end)

  it("on a terminal", function()
    if run.output("command -v script") == "" then return pending("no script command") end
    for _, kind in ipairs { "well", "echoed", "cut" } do
      answer(kind)
      for _, flags in ipairs { {}, { "--json" } } do
        local arguments = { "send-many", file("rows.csv", CSV), flags[1] }
        local out = run.output(("script -qec %s /dev/null </dev/null"):format(
          run.quote(line_of(arguments, environment { TERM = "xterm" }))))
        assert.truthy(out:find("0/2", 1, true), out)
        marks.look("a terminal", flags[1] and without_own(out) or out)
      end
    end
  end)

  it("of numbers and options that are wrong", function()
    for _, arguments in ipairs { { "send", "--to", marks.to .. "x" },
      { "send", "--to", marks.to:sub(2) },
        { "send", "--to", marks.to, "--from", marks.from .. "0000" }, { "send" },
        { "send", "--to", marks.to, "--to", marks.to }, { "send", marks.to },
        { "send", "--to", marks.to:sub(2), "--json" }, { "send", "--dry-run", "--to",
          marks.to .. "x" },
        { "send", "--client-secret", marks.secret, "--to", marks.to },
        { "send", "--token=" .. marks.token }, { "token", "--client-secret=" .. marks.secret },
        { "--proxy=http://u:" .. marks.password .. "@h" }, { "--token", marks.token, "check" },
        { "--client-secret", marks.secret, "check" }, { "--proxy", "http://u:" .. marks.password
          .. "@h" },
        { "check", "--token", marks.token }, {}, { "--help" }, { "-h" }, { "--version" }, { "cow" },
        { "send", "--text", marks.to }, { "send", "--body=" .. marks.to, "x" },
        { "send", "--message", marks.to }, { "send", "--msg", marks.to },
        { "send", "--content=" .. marks.to }, { "send", "--sms", marks.to },
        { "send-many", "--msg", marks.to }, { "send-many", "--content", marks.to },
        { "send-many", "--sms=" .. marks.to },
        { "send-many", "--text", marks.to }, { "send-many", "--body=" .. marks.to, "x" },
        { "send-many", "--message", marks.to }, { marks.to }, { "help" }, { "help", "send" },
        { "help", marks.to },
        { "help", "--help" }, { "send-many", "x", marks.to }, { "send", "--to", marks.to,
          "--" .. marks.to },
        { "send-many", "--concurrency", marks.to, "x" },
        { "send", "--help" }, { "send-many", "--help" }, { "token", "--help" },
        { "check", "--help" },
        { "sandbox", "--help" }, { "sandbox", "--port", "0" }, { "send-many", "/none" },
        { "send-many", "--concurrency", "0", "x" }, { "send-many", "--from", marks.from .. "0000",
          "x" },
        { "send-many", "--rest", "/", "-" }, { "campaign", "--help" }, { "campaign" },
        { "token", "--curl" }, { "completion", "bash" }, { "completion", marks.to },
        { "completion", "--help" }, { "--version", "--verbose" },
        { "send", "--timeout", marks.to, "--to", marks.to },
        { "send-many", "--unknown", "-", "x" }, { "send-many", "x", "--to-column", marks.to },
        { "send", "--to", marks.to, "--store", "postgres://u:" .. marks.password .. "@h/d" },
        { "campaign", "status", "--store", "postgres://u:" .. marks.password .. "@h/d" } } do
      local out, err = look(arguments)
      assert(out ~= "" or err ~= "", table.concat(arguments, " "))
    end
  end)

  it("of settings that are wrong", function()
    local key = file("key.pem", "-----BEGIN PRIVATE KEY-----\n" .. marks.secret .. "\n")
    for name, changes in pairs {
      ["another secret"] = { KORESMS_CLIENT_SECRET = "MARKED-another-secret" },
      ["nobody there"] = { KORESMS_HOST = "http://127.0.0.1:1" },
      ["a setting that is none"] = { KORESMS_SECRETS = marks.secret },
      secret = { KORESMS_CLIENT_SECRET = marks.secret:rep(40) },
      token = { KORESMS_TOKEN = marks.token .. " x" },
      opaque = { KORESMS_TOKEN = marks.opaque },
      proxy = { KORESMS_PROXY = "http://u:" .. marks.password .. "@h x" },
      ["a proxy that is not there"] = { KORESMS_PROXY = "http://u:" .. marks.password
        .. "@127.0.0.1:1" },
      sender = { KORESMS_FROM = marks.from .. "00000" },
      store = { KORESMS_STORE = "postgres://u:" .. marks.password .. "@127.0.0.1:1/d" },
      ["a bad store"] = { KORESMS_STORE = "postgres://u:" .. marks.password .. "@x@h%zz/d" },
      host = { KORESMS_HOST = "https://u:" .. marks.password .. "@h" },
      key = { KORESMS_CLIENT_SECRET = false, KORESMS_PRIVATE_KEY_FILE = key,
        KORESMS_ALGORITHM = "RS256" },
      file = { KORESMS_CLIENT_SECRET = false, KORESMS_CLIENT_SECRET_FILE = file("s",
        marks.secret .. "\0") },
      both = { KORESMS_CLIENT_SECRET_FILE = file("t", marks.secret) },
      json = { KORESMS_CONFIG = file("a.json", '{"client_secret": "' .. marks.secret .. '",}') },
      lua = { KORESMS_CONFIG = file("a.lua", 'return { client_secret = "' .. marks.secret
        .. '", x }') },
      misspelt = { KORESMS_CLIENT_SECRT = marks.secret },
    } do
      local env = environment(changes)
      for _, arguments in ipairs { { "check" }, { "check", "--json" }, { "send", "--to", marks.to },
          { "send", "--to", marks.to, "--dry-run" }, { "send-many", "-", "--dry-run" },
          { "campaign", "status" } } do
        local out, err = look(arguments, env)
        assert(out ~= "" or err ~= "", name)
      end
      if name ~= "token" and name ~= "opaque" then look({ "send-many", "-" }, env, "/dev/null") end
    end
  end)

  it("but its token, where it is asked for it", function()
    local out, err = look({ "token" })
    assert.truthy(out:find("^eyJ[%w_-]+%.[%w_-]+%.[%w_-]+\n$"), out)
    assert.equal("", err)
    out, err = output({ "token" }, environment { KORESMS_CLIENT_SECRET = false,
      KORESMS_TOKEN = marks.token })
    assert.same({ marks.token .. "\n", "" }, { out, err })
  end)

  -- Settings in a file, so that no command line of the specs' own has them.
  local function settings_file(name)
    return { KORESMS_CONFIG = file(name, ('{"host":"%s","bot_id":"st-1","client_id":"c",'
      .. '"client_secret":"%s","from":"%s","timeout":1,"retries":0}'):format(
      bed.servers.plain.origin, marks.secret, marks.from)) }
  end

  -- Runs it, and returns the command lines of its process and of those that it starts.
  local function command_lines(arguments, env, stop)
    local script = ([[
      %s >%s/out 2>%s/err </dev/null & process=$!
      look() { { tr '\0' ' ' </proc/$1/cmdline && echo; } 2>/dev/null; }
      while [ -e /proc/$process ] && [ "$(cut -d' ' -f3 /proc/$process/stat 2>/dev/null)" != Z ]; do
        look $process
        for child in $(pgrep -P $process); do look $child; done
        %s
        sleep 0.01
      done
      wait]]):format(line_of(arguments, env), work, work, stop or ":")
    return run.output(script)
  end

  it("on its command line, nor a token there", function()
    for _, arguments in ipairs { { "send", "--to", "+12" }, { "send-many", file("one.csv", CSV) },
        { "send-many", file("one.csv", CSV), "--dry-run" }, { "check" }, { "token" } } do
      bed.servers.plain:script({}, faults.script("accept_never_read"))
      local lines, tries = "", 0
      -- Some are over before anybody looks.
      repeat
        lines, tries = lines .. command_lines(arguments, settings_file("all.json")), tries + 1
      until lines:find("bin/koresms " .. arguments[1], 1, true) or tries == 50
      assert(tries < 50, lines)
      marks.look("the command lines of " .. arguments[1], lines)
    end
  end)

  it("while it plays the platform", function()
    local ports = {}
    for i = 1, 2 do
      local server = bed.bench:listen()
      ports[i] = ("%d"):format(server.port)
      server:close()
    end
    local lines = command_lines({ "sandbox", "--port", ports[1], "--plain-port", ports[2],
      "--per-minute", "5", "--enforce-jti", "--listen", "127.0.0.1", "--env", work .. "/env" },
      settings_file("sandbox.json"),
      ("if grep -q '^koresms: sandbox on' %s/err; then kill $process 2>/dev/null; fi"):format(work))
    assert.truthy(lines:find("bin/koresms sandbox", 1, true), lines)
    local out, err = command.read(work .. "/out"), command.read(work .. "/err")
    assert.truthy(out:find("export KORESMS_HOST=", 1, true), out .. err)
    marks.look("the sandbox's command line", lines)
    -- It exports secrets, its own.
    marks.look("the sandbox", out .. err)
  end)

  it("with any option that there is", function()
    local parser = require("koresms.cli").build()
    local function check(name, one)
      for _, option in ipairs(one._options) do
        local found = false
        for _, alias in ipairs(option._aliases) do
          found = found or driven[name] ~= nil and driven[name][alias] ~= nil
        end
        assert(found, ("no case drives %s %s"):format(name, option._aliases[#option._aliases]))
      end
    end
    check("", parser)
    assert(#parser._commands > 0)
    for _, one in ipairs(parser._commands) do check(one._name, one) end
  end)
end)
