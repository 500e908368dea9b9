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
    for _, pair in ipairs(koresms.box.env) do assert.matches("export " .. pair[1] .. "=", out, 1, true) end
    assert.matches("\n%-%-\nkoresms: [^\n]*Ctrl%-C[^\n]*\ngone", out)
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
    assert.is_true(shell.run(("n=0; while [ -e %s ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done; "
      .. "[ ! -e %s ]"):format(shell.quote(ca), shell.quote(ca))))
  end)

  it("says what keeps it from starting, and exits with 1", function()
    local status, out, err = koresms:run({ "sandbox", "--port", ("%d"):format(koresms.box.port) })
    assert.same({ 1, "" }, { status, out })
    assert.matches("taken", err, 1, true)
  end)
end)
