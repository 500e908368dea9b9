-- What cron, service managers, containers and CI do to a process: the command sends all the same,
-- or says what is in its way.

local paths = require "spec.support.paths" -- luacheck: ignore

local command = require "spec.support.command"
local run = require "spec.support.run"
local shell = require "koresms.sandbox.shell"

local TO = "+911234567890"

describe("the command in a process", function()
  local koresms, program
  setup(function()
    koresms = command.start()
    local here = shell.absolute(".")
    -- Its place must not depend on the directory that it runs in.
    program = ("%s %s/bin/koresms"):format(command.interpreter, here)
  end)
  teardown(function() koresms:stop() end)
  before_each(function() koresms:reset() end)

  -- Runs shell text in which %s is the command, with more variables. Returns status and output.
  local function within(text, changes)
    local env = koresms:environment(changes)
    env.LUA_PATH = ("%s/lua/?.lua;%s/lua/?/init.lua;;"):format(shell.absolute("."),
      shell.absolute("."))
    local line = text:gsub("%%s", (program:gsub("%%", "%%%%")))
    local out = run.output(("%s sh -c %s 2>&1 </dev/null; echo $?"):format(command.prefix(env),
      run.quote(line)))
    local printed, status = out:match("^(.-)(%d+)\n$")
    return tonumber(status), printed
  end

  local SEND = "%s send --to " .. TO

  for _, case in ipairs {
    { "without a home", "unset HOME; " .. SEND },
    { "whose home is not there", SEND, { HOME = "/nonexistent" } },
    { "in the plainest locale", SEND, { LANG = "C", LC_ALL = "C" } },
    { "in a locale with a decimal comma", SEND,
      { LC_ALL = "de_DE.UTF-8", KORESMS_TIMEOUT = "2.5" } },
    { "in a locale that is not there", SEND, { LC_ALL = "xx_XX.UTF-8" } },
    { "without a terminal's name", "unset TERM; " .. SEND },
    { "with variables of a proxy", SEND, { http_proxy = "http://127.0.0.1:1",
      https_proxy = "http://127.0.0.1:1", ALL_PROXY = "socks5://127.0.0.1:1", no_proxy = "*" } },
    { "whose files nobody may read", "umask 777; " .. SEND },
    { "whose directory is gone", "d=$(mktemp -d); cd $d; rmdir $d; " .. SEND },
    { "without a directory for temporary files",
      "printf 'to\n" .. TO .. "\n' | %s send-many -", { TMPDIR = "/nonexistent" } },
    { "that ignores signals", "trap '' HUP INT QUIT TERM PIPE CHLD USR1 ALRM; " .. SEND },
    { "in the background", SEND .. " & wait $!" },
    { "with few processes and files", "ulimit -n 24; " .. SEND },
    { "with an odd timezone", SEND, { TZ = "Pacific/Kiritimati" } },
    { "with variables of other programs", SEND, { LUA_INIT = "", BASH_ENV = "/nonexistent",
      SSL_CERT_FILE = "/nonexistent", SSL_CERT_DIR = "/nonexistent",
      CURL_CA_BUNDLE = "/nonexistent", OPENSSL_CONF = "/nonexistent",
      HOSTALIASES = "/nonexistent", RES_OPTIONS = "attempts:1" } },
    { "with a variable of any bytes", SEND, { OTHER = "\255\27[2J" } },
  } do
    it(case[1] .. " sends", function()
      local status, out = within(case[2], case[3])
      assert.equal(0, status, out)
      assert.matches("accepted  +9112*****90", out, 1, true)
      assert.equal(1, koresms:processed())
    end)
  end

  for _, case in ipairs {
    { "whose standard output is full", SEND .. " >/dev/full", 4, "No space left on device", 1 },
    { "whose reader is gone", "trap '' PIPE; { sleep 0.3; " .. SEND .. "; echo $? >&2; } | true",
      0, "Broken pipe", 1 },
    { "whose rest cannot be written", "printf 'to\n+15005550429\n' | KORESMS_RETRIES=0 "
      .. "%s send-many - --rest /proc/none/rest.csv", 2, "No such file or directory", 0 },
    { "without any variable", "env -i PATH=\"$PATH\" LUA_PATH=\"$LUA_PATH\" "
      .. "LUA_CPATH=\"$LUA_CPATH\" " .. SEND, 2, "KORESMS_HOST", 0 },
    { "with a misspelt variable", SEND, 0, "KORESMS_TIMOUT is no setting", 1,
      { KORESMS_TIMOUT = "3" } },
    { "with an empty variable", SEND, 2, "no sender", 0, { KORESMS_FROM = "" } },
    { "with a time and its unit", SEND, 2, "KORESMS_TIMEOUT: expected a number such as", 0,
      { KORESMS_TIMEOUT = "10s" } },
  } do
    it(case[1] .. " is told", function()
      local status, out = within(case[2], case[6])
      assert.equal(case[3], status, out)
      assert.truthy(out:find(case[4], 1, true), out)
      assert.equal(case[5], koresms:processed())
    end)
  end
end)
