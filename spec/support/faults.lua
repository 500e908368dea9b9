--- The fault bench from Lua: starts the server of `faultd/`, tells it what to do and
-- asks it what it processed. Commands go down a pipe and replies come through a FIFO,
-- so a call costs tens of microseconds and needs no socket.
--
--     local faults = require "spec.support.faults"
--     local bench = faults.start()
--     local server = bench:listen{ connections = { faults.script("processed_reset") } }
--     ... a client of server.origin sends ...
--     server:stats{ settle = 1 }.processed
--     bench:stop()
--
-- A script is a list of steps; `faults.step` makes them. The named ones of
-- `faults/*.lua` are in `faults.named` and, in order, in `faults.list`.

local cjson = require("cjson").new()

local BASE = "spec.support.faults."
local here = debug.getinfo(1, "S").source:match("^@(.*)faults%.lua$") or "./"

local M = {}

M.step = require(BASE .. "step")
M.OK_BODY = M.step.OK_BODY
M.OK_REPLY = M.step.OK_REPLY

-- Named scenarios ---------------------------------------------------------------------

M.list, M.named = {}, {}

for _, file in ipairs { "request", "framing", "content", "tls", "proxy" } do
  for _, entry in ipairs(require(BASE .. file)) do
    assert(not M.named[entry.name], "two scenarios are called " .. entry.name)
    M.named[entry.name] = entry
    M.list[#M.list + 1] = entry
  end
end

local function find(entry)
  if type(entry) == "table" then return entry end
  return M.named[entry] or error("no scenario is called " .. tostring(entry), 3)
end

--- The connection script of a named scenario.
-- @tparam string|table entry its name, or its row
-- @tparam[opt] table arg what it needs: `k` for a sweep, `location` for a redirect
-- @treturn table a list of steps
function M.script(entry, arg)
  entry = find(entry)
  local steps = entry.steps
  if type(steps) == "function" then steps = steps(arg or {}) end
  return steps
end

--- The same for the `requests` of `faults.bot_id`, where the first request was read
-- already.
-- @treturn table|nil nil for a scenario that acts earlier than that
function M.request_script(entry, arg)
  local steps = M.script(entry, arg)
  if not steps or not steps[1] or steps[1]["do"] ~= "read_request" then return nil end
  local rest = {}
  for i = 2, #steps do rest[i - 1] = steps[i] end
  return rest
end

--- The numbers over which a sweep runs: `k` from 0 on, exclusive of the whole.
-- @tparam string|table entry
-- @tparam[opt] number request_bytes length of the client's request, for those sweeps
-- @treturn number|nil the last `k`, nil where the scenario is no sweep
function M.last_k(entry, request_bytes)
  entry = find(entry)
  if entry.sweep == "request" then
    return assert(request_bytes, "this sweep needs the length of the request") - 1
  end
  return entry.sweep and entry.sweep - 1
end

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

local function base64url(text)
  local out = {}
  local function digit(n)
    out[#out + 1] = ALPHABET:sub(n + 1, n + 1)
  end
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    digit(math.floor(n / 262144))
    digit(math.floor(n / 4096) % 64)
    if b then digit(math.floor(n / 64) % 64) end
    if c then digit(n % 64) end
  end
  return table.concat(out)
end

local serial = 0

--- A bot id that carries its own script: request number n that names it is answered by
-- `requests[n]`, later ones by `default` (the documented success). No call is needed,
-- and each bot id has a count of its own: `bench:stats{ scenario = bot_id }`.
-- @tparam table plan `requests`, `default`
-- @treturn string
function M.bot_id(plan)
  serial = serial + 1
  return base64url(cjson.encode {
    requests = plan.requests, default = plan.default, serial = serial,
  })
end

-- The server --------------------------------------------------------------------------

local Bench, Listener = {}, {}
Bench.__index, Listener.__index = Bench, Listener

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- Sanitizers and other things preloaded into the Lua under test stay out of the commands
-- below: the first shell does nothing but start the next one without them.
local function sh(script, mode)
  return assert(io.popen("exec env -u LD_PRELOAD -u LD_LIBRARY_PATH -u PYTHONPATH sh -c "
    .. quote(script), mode))
end

local DIRECTORY = [[
d=$(mktemp -d -t koresms-faults.XXXXXX) && mkfifo "$d/replies" && echo "$d"]]

-- Where the server dies early, the shell writes a reply in its place; the directory goes
-- with it in any case.
local SERVER = [[
trap '' INT HUP
python=/usr/bin/python3; [ -x $python ] || python=python3
$python -B %s %s $PPID || timeout 5 sh -c \
  'echo "{\"ok\":false,\"error\":\"the bench server ended with an error\"}" > "$0"' %s
rm -rf %s]]

--- Starts the server. It ends with this process, or by `bench:stop()`.
-- @treturn table bench
function M.start()
  local maker = sh(DIRECTORY, "r")
  local directory = maker:read("*l")
  maker:close()
  assert(directory, "no temporary directory with a FIFO could be made")
  local replies = directory .. "/replies"
  local self = setmetatable({ directory = directory }, Bench)
  self.commands = sh(SERVER:format(quote(here .. "faultd"), quote(directory),
    quote(replies), quote(directory)), "w")
  self.commands:setvbuf("full")
  self.replies = assert(io.open(replies, "r"))
  self:call { cmd = "ping" }
  return self
end

--- One command, as `faultd/__main__.py` lists them.
-- @tparam table command
-- @treturn table its reply; raises what the server did not like
function Bench:call(command)
  if not self.commands then error("the bench was stopped", 2) end
  self.commands:write(cjson.encode(command), "\n")
  self.commands:flush()
  local line = self.replies:read("*l")
  if not line then error("the bench server is gone", 2) end
  local reply = cjson.decode(line)
  if not reply.ok then error("fault bench: " .. reply.error, 2) end
  return reply
end

local function copy(source, into)
  for key, value in pairs(source or {}) do into[key] = value end
  return into
end

--- Opens a listener (options: see `Listener` in `faultd/listener.py`).
-- @tparam[opt] table options
-- @treturn table listener with `port`, `host`, `origin`, and the methods below
function Bench:listen(options)
  local reply = self:call(copy(options, { cmd = "listen" }))
  options = options or {}
  local host = options.host or "127.0.0.1"
  local literal = host:find(":", 1, true) and "[" .. host .. "]" or host
  local scheme = options.tls and "https" or "http"
  return setmetatable({
    bench = self, port = math.floor(reply.port), host = host, scheme = scheme,
    origin = ("%s://%s:%d"):format(scheme, literal, reply.port),
  }, Listener)
end

--- Gives a listener new scripts and sets its counters to zero.
-- @tparam[opt] table connections a script for each connection in turn
-- @tparam[opt] table default the script of later ones (answers properly)
function Listener:script(connections, default)
  self.bench:call {
    cmd = "script", host = self.host, port = self.port, connections = connections,
    default = default,
  }
end

--- A named scenario for the first connection, proper answers on later ones.
function Listener:play(entry, arg)
  self:script({ M.script(entry, arg) })
end

--- What the listener saw since its last script.
-- @tparam[opt] table options `settle` (wait at most so many seconds until everything
-- sent is counted), `connections` and `requests` (true: list them)
-- @treturn table accepted, begun, processed, proxied, connects, others, handshakes,
-- handshake_failures, handshake_error, `to` (processed by toNo), settled
function Listener:stats(options)
  local reply = self.bench:call(copy(options, {
    cmd = "stats", host = self.host, port = self.port }))
  if #reply.errors > 0 then
    error("fault bench: " .. table.concat(reply.errors, "; "), 2)
  end
  return reply
end

function Listener:close()
  self.bench:call { cmd = "close", host = self.host, port = self.port }
end

--- Opens the listener that a named scenario of TLS, proxy or connecting needs.
-- @tparam string|table entry
-- @tparam[opt] table arg for `faults.script`
-- @tparam[opt] table more further options
function Bench:listen_for(entry, arg, more)
  entry = find(entry)
  local options = copy(entry.listen, {})
  local script = M.script(entry, arg)
  if script then options.connections = { script } end
  return self:listen(copy(more, options))
end

--- Processed in all: without options `processed`, `twice` (numbers processed more than
-- once) and `live` connections; with `scenario` (a bot id) its `processed` and `to`.
function Bench:stats(options)
  return self:call(copy(options, { cmd = "stats" }))
end

--- Forgets scenarios and totals, so that a long run does not grow.
function Bench:forget()
  self:call { cmd = "forget" }
end

--- Certificates and keys by file name, made on the first call (half a second).
function Bench:certs()
  self.files = self.files or self:call({ cmd = "certs" }).files
  return self.files
end

--- A name server on UDP (options: see `faultd/dns.py`); with the `port` of one that
-- runs it is changed.
-- @treturn table `port`, `queries` so far
function Bench:dns(options)
  return self:call(copy(options, { cmd = "dns" }))
end

function Bench:stop()
  if not self.commands then return end
  self.commands:write("stop\n")
  self.commands:close()
  self.replies:close()
  self.commands, self.replies = nil, nil
end

-- Private networks --------------------------------------------------------------------

--- The shell text that runs a command with its own network, hosts file and resolver.
-- @tparam table options `hosts` (lines), `resolver` (address of the name server)
-- @tparam string command shell text
-- @treturn string|nil nil where this machine does not permit it
function M.in_namespace(options, command)
  local tool = "sh " .. quote(here .. "netns.sh")
  local probe = os.execute("unset LD_PRELOAD; " .. tool .. " --probe >/dev/null 2>&1")
  if probe ~= true and probe ~= 0 then return nil end
  local words = { tool }
  for _, line in ipairs(options.hosts or {}) do
    words[#words + 1] = "--host " .. quote(line)
  end
  if options.resolver then
    words[#words + 1] = "--resolver " .. quote(options.resolver)
  end
  words[#words + 1] = "sh -c " .. quote(command)
  return table.concat(words, " ")
end

return M
