-- `koresms sandbox`, run as a process.

require "spec.support.paths"

local command = require "spec.support.command"
local shell = require "koresms.sandbox.shell"

local koresms

describe("koresms sandbox", function()
  setup(function() koresms = command.start() end)
  teardown(function() koresms:stop() end)

  -- Runs a shell script that starts the command in the background and knows it as $pid
  -- once it is up.
  local function script(arguments, body)
    local start = ([[
      cd %s && : >env
      (cd "$OLDPWD" && exec %s %s bin/koresms sandbox %s) >env 2>log </dev/null &
      pid=$!
      n=0; until grep -q KORESMS_FROM env || [ $n = 100 ]; do n=$((n + 1)); sleep 0.1; done
      ca=$(sed -n "s/^export KORESMS_CA_FILE='\(.*\)'$/\1/p" env)
      gone() {
        n=0; while [ -e "$ca" ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
        [ ! -e "$ca" ] && echo gone
      }
    ]]):format(koresms.work, command.prefix({}), command.interpreter, arguments)
    local path = koresms.work .. "/script"
    command.write(path, start .. body)
    return select(2, shell.run("sh " .. path .. " 2>&1"))
  end

  it("prints what to export, and how to use and stop it", function()
    local out = script("", [[
      kill -0 $pid && cat env && echo -- && cat log
      kill -TERM $pid; gone; wait $pid]])
    for _, pair in ipairs(koresms.box.env) do
      assert.matches("export " .. pair[1] .. "=", out, 1, true)
    end
    assert.matches("\n%-%-\nkoresms: [^\n]*page: http://127%.0%.0%.1:%d+/\n", out)
    assert.matches("koresms: [^\n]*Ctrl%-C[^\n]*\ngone", out)
  end)

  it("is what koresms send talks to, and knows its options", function()
    local out = script("--per-minute 1 --enforce-jti", ([[
      . ./env
      cd "$OLDPWD"
      export KORESMS_RETRIES=0
      send() { %s bin/koresms send --to +911234567890 --json; }
      send
      export KORESMS_JTI=1
      send
      send
      kill -TERM $pid; gone]]):format(command.interpreter))
    local results = command.lines(out)
    assert.matches('"code":"unauthorized"', results[1], 1, true)
    assert.matches('"outcome":"accepted"', results[2], 1, true)
    assert.matches('"code":"rate_limited"', results[3], 1, true)
  end)

  it("ends on Ctrl-C with 0, leaving nothing", function()
    assert.matches("gone\nstatus 0$", script("", [[
      kill -INT $pid; gone; wait $pid; echo "status $?"]]))
  end)

  it("ends when the process that started it ends", function()
    if not shell.run("[ -r /proc/self/stat ]") then return pending("no /proc") end
    local out = script("", "echo $ca; kill -KILL $$")
    local ca = out:match("^/[^\n]+")
    assert.is_string(ca)
    assert.is_true(shell.run(("n=0; while [ -e %s ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep "
      .. "0.1; done; "
      .. "[ ! -e %s ]"):format(shell.quote(ca), shell.quote(ca))))
  end)

  it("writes the environment to a file that only its owner reads", function()
    local file = koresms.work .. "/env file"
    local out = script("--env " .. shell.quote(file), ([[
      cmp env %s && stat -c %%a %s
      kill -TERM $pid; gone]]):format(shell.quote(file), shell.quote(file)))
    assert.matches("^600\n", out)
    local status, stdout, err = koresms:run { "sandbox", "--env", "/nonexistent/env" }
    assert.same({ 2, "" }, { status, stdout })
    assert.matches("--env: /nonexistent/env cannot be written", err, 1, true)
    status = koresms:run { "sandbox", "--env", koresms.work }
    assert.equal(2, status)
  end)

  it("writes a line for each request to standard error, with the number masked", function()
    local out = script("", ([[
      . ./env
      (cd "$OLDPWD"
        %s bin/koresms send --to +911234567890 >/dev/null
        KORESMS_CLIENT_SECRET=other %s bin/koresms send --to +911234567890 >/dev/null
        KORESMS_RETRIES=0 %s bin/koresms send --to +15005551001 >/dev/null)
      sleep 0.5
      grep -v '^koresms' log
      kill -TERM $pid; gone]]):format(command.interpreter, command.interpreter,
      command.interpreter))
    local lines = command.lines(out)
    assert.matches("^%d%d:%d%d:%d%d  accepted  200     %+9112%*%*%*%*%*90  %d+ ms$", lines[1])
    assert.matches("rejected  401     +9112*****90", lines[2], 1, true)
    assert.matches("HS256 does not match the client secret", lines[2], 1, true)
    assert.matches("unknown   closed  +15005551001", lines[3], 1, true)
    assert.is_nil(out:find("911234567890", 1, true))
  end)

  it("keeps secret and certificate from one start to the next", function()
    local home = koresms.work .. "/home"
    shell.run("mkdir " .. shell.quote(home))
    local port = 0
    for _ = 1, 20 do
      port = 20000 + tonumber(shell.random("-hex", 2), 16) % 12000
      if not shell.run(("ss -tln 2>/dev/null | grep -qE ':(%d|%d) '"):format(port, port + 1)) then
        break
      end
    end
    local function environment(...)
      local env = { HOME = home, ... }
      local _, out = koresms:run({ "sandbox", "--port", ("%d"):format(port), "--", "env" }, env)
      local list = {}
      for _, line in ipairs(command.lines(out)) do
        if line:find("^KORESMS_") then list[#list + 1] = line end
      end
      table.sort(list)
      return list
    end
    local first = environment()
    assert.is_true(#first >= 6)
    assert.same(first, environment())
    local directory = home .. "/.local/state/koresms"
    assert.matches(directory .. "/sandbox/cert.pem", table.concat(first, "\n"), 1, true)
    local _, modes = shell.run(("stat -c %%a %s %s/sandbox.secret %s/sandbox/key.pem"):format(
      directory, directory, directory))
    assert.equal("700\n600\n600", modes)

    -- What was damaged is made anew, and stays from then on.
    shell.run(("echo x >%s/sandbox.secret; echo x >%s/sandbox/cert.pem"):format(directory,
      directory))
    local mended = environment()
    assert.not_same(first, mended)
    assert.same(mended, environment())
    local _, names = shell.run("ls " .. directory)
    assert.equal("sandbox\nsandbox.secret", names)
  end)

  it("prefers XDG_STATE_HOME, and says where nothing is kept", function()
    local state = koresms.work .. "/state"
    local _, out, err = koresms:run({ "sandbox", "--", "env" }, { XDG_STATE_HOME = state,
      HOME = "/" })
    assert.matches("KORESMS_CA_FILE=" .. state .. "/koresms/sandbox/cert.pem", out, 1, true)
    assert.is_nil(err:find("are new", 1, true))
    for _, env in ipairs { {}, { HOME = "relative" }, { HOME = "/proc" } } do
      local status
      status, out, err = koresms:run({ "sandbox", "--", "env" }, env)
      assert.equal(0, status)
      assert.matches("secret and certificate are new", err, 1, true)
      assert.matches("KORESMS_CLIENT_SECRET=", out, 1, true)
    end
  end)

  it("says what keeps it from starting, and exits with 1", function()
    local status, out, err = koresms:run({ "sandbox", "--port", ("%d"):format(koresms.box.port) })
    assert.same({ 1, "" }, { status, out })
    assert.matches("taken", err, 1, true)
  end)
end)
