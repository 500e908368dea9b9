--- `koresms sandbox`: the stand-in of the platform, in the foreground, alone or around a command.
--
-- Alone, it ends on Ctrl-C or SIGTERM, and, where /proc tells, when the process that started it
-- ends: a script that is killed leaves no sandbox behind. Standard input plays no part,
-- since a script's background job has an empty or an inherited one.
local config = require "koresms.config"
local core = require "koresms.core"
local identity = require "koresms.sandbox.identity"
local options = require "koresms.cli.options"
local output = require "koresms.cli.output"
local requests = require "koresms.cli.requests"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"

local M = {}

M.summary = "Run a local stand-in of the platform."

local POLL = 0.2

-- Seconds that a command has to end in when it is asked to, where nobody waits for it.
local PATIENCE = 5

local USAGE, NOT_RUN, NOT_FOUND = 2, 126, 127

local function address(text)
  local bare = text:match("^%[(.*)%]$") or text
  if bare == "localhost" then return "127.0.0.1" end
  if bare:find("^%d+%.%d+%.%d+%.%d+$") or bare:find("^[%x:]*:[%x:.]*$") then return bare end
  return nil, ("--listen: '%s' is not an IP address, such as 127.0.0.1, 0.0.0.0 or ::1")
    :format(text)
end

function M.define(command)
  command:description(M.summary .. [[
 It checks tokens as the platform documents it, keeps what was
sent for a page in the browser, and plays failures. It listens on loopback unless --listen names
an address.

   koresms sandbox -- lua app.lua           runs a command with the sandbox's environment,
                                            and ends with it, with its exit status
   koresms sandbox --env sandbox.env        stays in the foreground until Ctrl-C or SIGTERM;
                                            in another terminal:
   . ./sandbox.env && koresms send --to +911234567890

Recipients with a meaning: +1500555 and four digits. 0200 to 0599 answer with that status,
1001 closes without an answer, 1002 is silent, 1003 answers with HTML, 1004 with broken JSON,
1005 with errors, 1006 with 429 and Retry-After, 1007 after 2 s.

It needs nginx with ngx_lua, and says how to install what is missing.]])
  command:argument("COMMAND"):target("words"):args("*")
    :description("After --: a command to run, and its arguments.")
  command:option("--port"):argname("N")
    :convert(options.number_of("--port", 1, 65535, true))
    :description("HTTPS port; default: a free one.")
  command:option("--plain-port"):argname("N")
    :convert(options.number_of("--plain-port", 1, 65535, true))
    :description("HTTP port, for the page; default: the one after --port, or a free one.")
  command:option("--listen"):argname("ADDRESS"):convert(address)
    :description("The address to listen on; default: 127.0.0.1.")
  command:option("--env"):argname("FILE")
    :description("Write the environment to this file, too.")
  command:option("--per-minute"):argname("N")
    :convert(options.number_of("--per-minute", 1, 999999, true))
    :description("Refuse more requests than this a minute; default: no limit.")
  command:flag("--enforce-jti")
    :description("Refuse a token without jti, and one seen before.")
end

-- The process that started this one, where /proc tells.
local function parent()
  local file = io.open("/proc/self/stat")
  local text = file and file:read("*a")
  if file then file:close() end
  -- The name of the program stands in parentheses and may hold anything.
  return text and text:match("^.*%) %S (%d+)")
end

-- Complete or not at all, and for its owner only: it holds the secret.
local WRITE = [[
umask 077
if [ -e "$1" ] && [ ! -f "$1" ]; then exit 1; fi
new=$(mktemp "$1.XXXXXX") || exit 1
cat >"$new" && mv -f "$new" "$1" || rm -f "$new"]]

local function write_env(path, text)
  if path:sub(1, 1) == "-" then path = "./" .. path end
  local pipe = io.popen(("exec 2>/dev/null; sh -c %s sh %s"):format(shell.quote(WRITE),
    shell.quote(path)), "w")
  if pipe then
    pipe:write(text)
    pipe:close()
  end
  local file = io.open(path, "rb")
  local written = file and file:read("*a")
  if file then file:close() end
  return written == text
end

-- Settings that say how to send, and not to whom or as whom: a command keeps its own.
local KEPT = {}
for name in ("timeout connect_timeout retries per_minute per_hour max_idle max_age token_ttl jti "
  .. "subject later_flush"):gmatch("%S+") do
  KEPT[name] = true
end

-- What changes in a command's environment: nothing of a real account is left in it.
local function environment(box)
  local changes = { KORESMS_CONFIG = false }
  for _, row in ipairs(config.settings) do
    if row.env and not KEPT[row.name] then changes[row.env] = false end
  end
  for _, pair in ipairs(box.env) do changes[pair[1]] = pair[2] end
  return changes
end

-- Where the secret and the certificate are kept, or nil and why nowhere.
local function state(listen)
  local directory, why = identity.directory()
  if not directory then return nil, why end
  local kept
  kept, why = identity.keep(directory, listen)
  return kept and directory, why
end

local function start(arguments)
  local listen = arguments.listen or "127.0.0.1"
  local directory, why = state(listen)
  local box, text = sandbox.start {
    port = arguments.port, plain_port = arguments.plain_port, listen = listen,
    per_minute = arguments.per_minute, enforce_jti = arguments.enforce_jti,
    state = directory, lines = true,
  }
  return box, text, not directory and why
end

local function announce(box, fresh, arguments)
  output.complain(("sandbox on %s; page: %s/"):format(box.host, box.plain))
  if fresh then
    output.complain(fresh .. ": secret and certificate are new, and end with this run")
  end
  if #arguments.words > 0 then return end
  output.complain((arguments.env and "in another terminal, read " .. arguments.env
    or "export the lines above") .. ", and `koresms send --to +911234567890`. "
    .. "Ctrl-C or SIGTERM stops it")
end

-- Nobody waits for the command any more.
local function give_up(supervisor, lines)
  supervisor:signal("TERM")
  local deadline = core.clock() + PATIENCE
  local status
  repeat
    status = supervisor:wait(POLL)
    lines:show()
  until status or core.clock() > deadline
  supervisor:signal("KILL")
  return status or supervisor:wait(1) or 128 + 9
end

-- Shows requests until the command ends, or, without one, until a signal comes.
local function stay(box, started_by, supervisor, has_command)
  local lines = requests.reader(box.prefix)
  while parent() == started_by do
    local status, signal = supervisor:wait(POLL)
    lines:show()
    if status then return status end
    if signal and not has_command then return 0 end
  end
  return has_command and give_up(supervisor, lines) or 0
end

-- The command, or no more than the signals.
local function supervise(box, words)
  if #words == 0 then return core.supervise() end
  local supervisor, text, what = core.supervise(words, environment(box))
  if supervisor then return supervisor end
  output.complain(("cannot run %s: %s"):format(output.plain(words[1]), text))
  return nil, what == "missing" and NOT_FOUND or NOT_RUN
end

-- `held` gets the supervisor: whatever becomes of this function, its command ends.
local function run(box, fresh, arguments, started_by, held)
  if arguments.env and not write_env(arguments.env, box:exports()) then
    output.complain("--env: " .. output.plain(arguments.env) .. " cannot be written")
    return USAGE
  end
  if #arguments.words == 0 then
    io.stdout:write(box:exports())
    io.stdout:flush()
  end
  announce(box, fresh, arguments)
  local supervisor, status = supervise(box, arguments.words)
  if not supervisor then return status end
  held.supervisor = supervisor
  return stay(box, started_by, supervisor, #arguments.words > 0)
end

function M.run(arguments)
  local started_by = parent()
  local box, text, fresh = start(arguments)
  if not box then
    output.complain_lines("koresms: " .. text)
    return 1
  end
  local held = {}
  local ok, status = pcall(run, box, fresh, arguments, started_by, held)
  if held.supervisor then held.supervisor:close() end
  box:stop()
  if not ok then
    if not tostring(status):find("interrupted!", 1, true) then error(status, 0) end
    return #arguments.words > 0 and 130 or 0
  end
  return status
end

return M
