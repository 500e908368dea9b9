-- `koresms sandbox -- COMMAND`: its environment, its output, its status, and what stays behind.

require "spec.support.paths"

local command = require "spec.support.command"
local core = require "koresms.core"
local shell = require "koresms.sandbox.shell"

local koresms

describe("koresms sandbox -- COMMAND", function()
  setup(function() koresms = command.start() end)
  teardown(function() koresms:stop() end)

  local function run(words, env)
    return koresms:run({ "sandbox", "--", (table.unpack or unpack)(words) }, env or {})
  end

  -- A shell script that runs the command in the background as $pid, once COMMAND has written
  -- its process to the file `inner`; `ca` is the certificate's file.
  local function script(inner, body)
    local path = koresms.work .. "/script"
    command.write(path, ([[
      cd %s && rm -f inner ca && work=$PWD
      (cd "$OLDPWD" && exec %s %s bin/koresms sandbox -- sh -c %s sh "$work") \
        >out 2>err </dev/null &
      pid=$!
      n=0; until [ -s inner ] || [ $n = 100 ]; do n=$((n + 1)); sleep 0.1; done
      inner=$(cat inner) ca=$(cat ca)
      gone() { n=0; while "$@" 2>/dev/null && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
        "$@" 2>/dev/null || echo gone; }
    ]]):format(koresms.work, command.prefix({}), command.interpreter,
      shell.quote('echo "$KORESMS_CA_FILE" >"$1/ca"; echo $$ >"$1/inner"; ' .. inner)) .. body)
    return select(2, shell.run("sh " .. path .. " 2>&1"))
  end

  it("gives it the environment, and leaves it its own output and input", function()
    local status, out, err = run { "sh", "-c", "echo $KORESMS_HOST; echo err >&2; cat" }
    assert.equal(0, status)
    assert.matches("^https://localhost:%d+\n$", out)
    assert.matches("\nerr\n", err, 1, true)
    assert.is_nil(out:find("export", 1, true))
  end)

  it("lets it send", function()
    local status, out = run { command.interpreter, "bin/koresms", "send", "--to", "+911234567890",
      "--json" }
    assert.equal(0, status)
    assert.matches('"outcome":"accepted"', out, 1, true)
    status = run { command.interpreter, "bin/koresms", "send", "--to", "+15005550500" }
    assert.equal(4, status)
  end)

  it("leaves it nothing of a real account, and its own pace", function()
    local _, out = run({ "env" }, { KORESMS_TOKEN = "real", KORESMS_CLIENT_SECRET_FILE = "/real",
      KORESMS_CONFIG = "/real", KORESMS_PROXY = "http://real:1", KORESMS_CLIENT_SECRET = "real",
      KORESMS_HOST = "real.example.com", KORESMS_TIMEOUT = "3", OTHER = "kept" })
    assert.is_nil(out:find("=[^\n]*real"))
    assert.matches("KORESMS_TIMEOUT=3\n", out, 1, true)
    assert.matches("OTHER=kept\n", out, 1, true)
  end)

  for _, row in ipairs {
    { "its status", { "sh", "-c", "exit 7" }, 7 },
    { "128 + n where a signal ended it", { "sh", "-c", "kill -KILL $$" }, 137 },
    { "127 where there is no such command", { "no-such-command", "-x" }, 127,
      "cannot run no-such-command" },
    { "126 where it cannot be run", { "/tmp" }, 126, "cannot run /tmp" },
  } do
    it("ends with " .. row[1], function()
      local status, out, err = run(row[2])
      assert.same({ row[3], "" }, { status, out })
      assert.matches(row[4] or "", err, 1, true)
    end)
  end

  it("takes options of the command as such", function()
    local _, out = run { "echo", "--port", "x", "--", "-h" }
    assert.equal("--port x -- -h\n", out)
  end)

  for _, name in ipairs { "TERM", "HUP", "INT" } do
    it("passes SIG" .. name .. " on, and leaves nothing", function()
      local out = script('trap "echo caught; exit 9" ' .. name .. "; while :; do sleep 0.1; "
        .. "done", ([[
        kill -%s $pid; wait $pid; echo "status $?"; cat out
        gone kill -0 $inner; gone test -e "$ca"]]):format(name))
      assert.equal("status 9\ncaught\ngone\ngone", out)
    end)
  end

  it("does not wait for what the command leaves in the background", function()
    local before = core.clock()
    local out = script("sleep 20 & echo $! >\"$1/left\"; exit 3", [[
      wait $pid; echo "status $?"; gone test -e "$ca"; kill $(cat left)]])
    assert.equal("status 3\ngone", out)
    assert.is_true(core.clock() - before < 15)
  end)

  it("ends the command and the sandbox where it is killed itself", function()
    if not shell.run("[ -r /proc/self/stat ]") then return pending("no /proc") end
    local out = script("exec sleep 60", [[
      kill -KILL $pid; gone kill -0 $inner; gone test -e "$ca"]])
    assert.equal("gone\ngone", out)
  end)

  it("refuses what its options cannot be, and names the option", function()
    for _, case in ipairs { { "--listen", "example.com", "is not an IP address" },
        { "--port", "https", "is not a whole number from 1 to 65535" },
        { "--plain-port", "0", "is not a whole number from 1 to 65535" },
        { "--per-minute", "0.5", "is not a whole number from 1 to 999999" } } do
      local status, _, err = koresms:run { "sandbox", case[1], case[2] }
      assert.equal(2, status)
      assert.matches(case[1] .. ": '" .. case[2] .. "' " .. case[3], err, 1, true)
    end
  end)
end)
