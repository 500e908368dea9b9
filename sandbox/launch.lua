--- Runs nginx so that it never outlives the program that started it.
-- A supervisor, a small shell script, makes the directory, starts nginx and then reads its
-- standard input, a pipe that this program holds open. A line in it is the order to stop. The
-- pipe also ends when this program dies, however it dies; the supervisor then stops nginx and
-- removes the directory. Should this program die while a child of its own holds the pipe open,
-- the supervisor sees within two seconds that its owner is gone.
-- @module koresms.sandbox.launch

local certificate = require "koresms.sandbox.certificate"
local needs = require "koresms.sandbox.needs"
local shell = require "koresms.sandbox.shell"

local M = {}

-- $1 directory, $2 nginx, $3 this program's process, $4 "own" where the supervisor leads a
-- process group of its own. The reader's signal is what interrupts a wait at once.
-- Whatever fails, the pipe is read to its end: writing to a dead pipe would kill the writer.
local SUPERVISOR = [[
umask 077
prefix=$1 nginx=$2 owner=$3 group=$4
server= reader= sleeper=
finish() {
  trap '' HUP INT TERM
  for process in $reader $sleeper $server; do kill -TERM "$process"; done
  if [ "$server" ]; then wait "$server"; fi
  cd / && rm -rf "$prefix"
  if [ "$group" = own ]; then kill -KILL -$$; fi
  exit
}
unset LUA_PATH LUA_CPATH LUA_INIT NGINX LD_PRELOAD
exec >/dev/null 2>&1
if mkdir -m 700 "$prefix"; then
  trap finish HUP INT TERM
  cd "$prefix"
  exec 2>stderr 3<&0
  IFS= read -r settings
  printf '%s\n' "$settings" >settings.json
  while IFS= read -r line && [ "$line" != . ]; do printf '%s\n' "$line"; done >nginx.conf
  (read -r line; kill -TERM $$) <&3 &
  reader=$!
  exec </dev/null 3<&-
  if CERTIFICATE; then
    "$nginx" -p "$prefix" -c nginx.conf -e error.log &
    server=$!
    tries=0
    while [ ! -e up ] && [ $tries -lt 1000 ] && kill -0 "$server"; do
      sleep 0.02
      tries=$((tries + 1))
    done
  fi
  [ -e up ] || : >down
  while kill -0 "$owner"; do
    sleep 2 &
    sleeper=$!
    wait $sleeper
  done
  finish
fi
while read -r line; do :; done
]]

-- Its own session keeps the supervisor out of reach of what hits this program's process
-- group: Ctrl-C, a closed terminal, `timeout`. It needs to live on to clean up.
local COMMAND = [[
script=%s
if command -v setsid >/dev/null; then
  exec setsid sh -c "$script" koresms-sandbox %s %s $PPID own
fi
exec sh -c "$script" koresms-sandbox %s %s $PPID
]]

-- Longer than the supervisor itself waits for nginx.
local WAIT = [[
cd / && tries=0
while [ ! -e %s/up ] && [ ! -e %s/down ] && [ $tries -lt 1250 ]; do
  if [ $tries = 250 ] && [ ! -d %s ]; then exit 1; fi
  sleep 0.02
  tries=$((tries + 1))
done
[ -e %s/up ]
]]

-- What nginx says when it cannot start, and what that means: a pattern, a text that may
-- use its capture, and whether other ports may help.
local TROUBLES = {
  {"bind%(%) to (%S+) failed[^\n]*[Ii]n use", "the address %s is taken", true},
  {"koresms sandbox: ([^\n]+)", "%s"},
  {"%[emerg%] ([^\n]+)", "nginx did not start: %s"},
  {"init_by_lua error: ([^\n]+)", "nginx did not start: %s"},
}

local function trouble(prefix)
  local file = io.open(prefix .. "/stderr")
  if not file then return "the sandbox could not make its directory " .. prefix end
  local said = file:read("*a")
  file:close()
  if said:find("module '[^']*' not found") then
    local missing = needs.missing()
    if missing then return missing end
  end
  for _, row in ipairs(TROUBLES) do
    local capture = said:match(row[1])
    if capture then return row[2]:format(capture), row[3] end
  end
  local last = said:match("([^\n]+)\n*$") or "it gave no reason"
  return "the sandbox did not start: " .. last
end

--- Starts nginx in a new directory and waits until it accepts connections.
-- @tparam string prefix the directory, which must not exist
-- @tparam string program nginx
-- @tparam string settings one line, kept in settings.json
-- @tparam string conf the text of nginx.conf
-- @tparam ?string listen the address on which it listens, 127.0.0.1 by default
-- @tparam ?boolean kept whether there is a certificate; else one is made for this run
-- @treturn file the pipe; closing it stops nginx, removes the directory, and waits for both
-- @treturn nil,string,boolean a text, and whether other ports may help
function M.launch(prefix, program, settings, conf, listen, kept)
  local directory, nginx = shell.quote(prefix), shell.quote(program)
  local script = shell.quote((SUPERVISOR:gsub("CERTIFICATE", function()
    return kept and ":" or certificate.script(listen or "127.0.0.1", 30)
  end)))
  local pipe, text = io.popen(COMMAND:format(script, directory, nginx, directory, nginx), "w")
  if not pipe then return nil, "the sandbox cannot start a process: " .. tostring(text) end
  -- The secret in the settings takes this way because argv can be read by everybody.
  pipe:write(settings, "\n", conf, ".\n")
  pipe:flush()
  local up = shell.run((WAIT:gsub("%%s", function() return directory end)))
  if up then return pipe end
  local reason, taken = trouble(prefix)
  pipe:close()
  return nil, reason, taken
end

return M
