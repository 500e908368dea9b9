--- A stand-in of the platform's Send Outbound SMS call on this machine: a real nginx, with
-- TLS, that checks tokens, keeps what it processed, counts it, and fails on request.
-- @module koresms.sandbox

local cjson = require "cjson"
local client = require "koresms.sandbox.client"
local identity = require "koresms.sandbox.identity"
local launch = require "koresms.sandbox.launch"
local needs = require "koresms.sandbox.needs"
local nginx = require "koresms.sandbox.nginx"
local rules = require "koresms.sandbox.rules"
local shell = require "koresms.sandbox.shell"

local json = cjson.new()
local M = {}

local DEFAULTS = {
  bot_id = "st-00000000-0000-5000-8000-000000000001",
  client_id = "cs-00000000-0000-5000-8000-000000000002",
  scope = true,
  enforce_jti = false,
  per_minute = false,
  retry_after = false,
  latency = 0,
  listen = "127.0.0.1",
  lines = false,
  workers = 1,
  log = "error.log",
}

-- What the server is told, besides the directory of its files.
local TOLD = {"bot_id", "client_id", "client_secret", "public_key", "scope", "enforce_jti",
  "per_minute", "retry_after", "latency", "listen", "lines", "plain_port", "own_address",
  "host"}

local WILDCARDS = {["0.0.0.0"] = "127.0.0.1", ["::"] = "::1"}

-- The server's Lua files stand beside this one, in the source tree as in an installed rock.
local function own_directory()
  local source = debug.getinfo(1, "S").source:match("^@(.*)$")
  return source and shell.absolute(source:match("^(.*)/[^/]*$") or ".")
end

-- Local ports that something uses now. Only spares nginx its slow retries: a port that is
-- taken in between is noticed when nginx binds it. Empty where there is no /proc.
local function used_ports()
  local used = {}
  for _, path in ipairs({"/proc/net/tcp", "/proc/net/tcp6"}) do
    local file = io.open(path)
    if file then
      for port in file:read("*a"):gmatch("%d+: %x+:(%x%x%x%x) ") do
        used[tonumber(port, 16)] = true
      end
      file:close()
    end
  end
  return used
end

-- A port below those that the system gives to outgoing connections.
local function free_port(used)
  for _ = 1, 100 do
    local digits = shell.random("-hex", 4)
    local port = digits and 20000 + tonumber(digits, 16) % 12000
    if port and not used[port] then
      used[port] = true
      return port
    end
  end
end

local Box = {control = client.control, get = client.get}
Box.__index = Box

--- Stops nginx, removes its directory, and returns when both are gone.
function Box:stop()
  local pipe = self.pipe
  self.pipe = nil
  if not pipe then return end
  -- A child of this program may hold the pipe, too, so that closing it may not end it.
  pipe:write("stop\n")
  pipe:close()
end

--- The environment as `export` lines for a shell.
-- @treturn string
function Box:exports()
  local lines = {}
  for index, pair in ipairs(self.env) do
    lines[index] = ("export %s=%s\n"):format(pair[1], shell.quote(pair[2]))
  end
  return table.concat(lines)
end

-- The secret is of no use where the server was given a public key.
local function environment(box)
  local env = {
    {"KORESMS_HOST", box.host},
    {"KORESMS_BOT_ID", box.bot_id},
    {"KORESMS_CLIENT_ID", box.client_id},
    {"KORESMS_CA_FILE", box.ca_file},
    {"KORESMS_FROM", "+19876543210"},
  }
  if not box.public_key then
    table.insert(env, 4, {"KORESMS_CLIENT_SECRET", box.client_secret})
  end
  return env
end

-- Where the box is reached: TLS under a name that its certificate holds.
local function addresses(box)
  local address = WILDCARDS[box.listen] or box.listen
  if address:find(":", 1, true) then address = "[" .. address .. "]" end
  local name = box.listen == "127.0.0.1" and "localhost" or address
  box.own_address = address
  box.host = ("https://%s:%d"):format(name, box.port)
  box.plain = ("http://%s:%d"):format(address, box.plain_port)
end

-- The plain port stands beside the other one where that was asked for, so that an open page
-- finds its sandbox again after a restart.
local function choose_ports(box, options)
  local used = used_ports()
  for _, name in ipairs({"port", "plain_port"}) do
    if options[name] then used[options[name]] = true end
  end
  local beside = options.port and options.port + 1
  if beside and beside <= 65535 and not used[beside] then
    used[beside] = true
    box.plain_port = box.plain_port or beside
  end
  box.port = box.port or free_port(used)
  box.plain_port = box.plain_port or free_port(used)
  return box.port and box.plain_port
end

-- The secret and the certificate: kept ones where a directory for them was given.
local function identify(box)
  if box.state then
    local kept, text = identity.keep(shell.absolute(box.state), box.listen)
    if not kept then return nil, text end
    box.client_secret = box.client_secret or kept.client_secret
    box.ca_file, box.key_file = kept.ca_file, kept.key_file
  else
    box.client_secret = box.client_secret or shell.random("-base64", 32)
    box.ca_file, box.key_file = box.prefix .. "/cert.pem", box.prefix .. "/key.pem"
  end
  return true
end

-- A box with everything but a running nginx.
local function prepare(options)
  local box = setmetatable({}, Box)
  for name, value in pairs(DEFAULTS) do box[name] = value end
  for name, value in pairs(options) do box[name] = value end
  local mark = shell.random("-hex", 8)
  if not (mark and choose_ports(box, options)) then
    return nil, needs.missing() or "the sandbox found no free port"
  end
  box.prefix = shell.absolute(box.prefix
    or (os.getenv("TMPDIR") or "/tmp") .. "/koresms-sandbox." .. mark)
  if box.log ~= DEFAULTS.log then box.log = shell.absolute(box.log) end
  addresses(box)
  local identified, text = identify(box)
  if not identified then return nil, text end
  box.env = environment(box)
  return box
end

local function attempt(options, server, directory)
  local box, text = prepare(options)
  if not box then return nil, text end
  if shell.run("[ -e " .. shell.quote(box.prefix) .. " ]") then
    return nil, "the prefix must not exist yet, and this one does: " .. box.prefix
  end
  local told = {directory = directory}
  for _, name in ipairs(TOLD) do told[name] = box[name] end
  local taken
  box.pipe, text, taken = launch.launch(box.prefix, server.program, json.encode(told),
    nginx.conf(server, box), box.listen, box.state ~= nil)
  if not box.pipe then return nil, text, taken end
  return box
end

--- Starts a sandbox. It runs until `box:stop()`, or until the box is collected, or until
-- this program ends, however it ends.
-- @tparam ?table options bot_id, client_id, client_secret; public_key (PEM) for RS256 and
--   RS512 in place of the secret; scope, enforce_jti, per_minute, retry_after, latency; listen
--   (an IP address, 127.0.0.1 by default); port, plain_port (free ones by default); prefix (a
--   directory to make, removed at the end); state (a directory that keeps the secret and the
--   certificate from one start to the next); log (a file, for nginx's error log); lines (true:
--   a line for each request in the files requests.1, requests.2 and so on under the prefix);
--   workers
-- @treturn table box with host, plain, ca_file, bot_id, client_id, client_secret, prefix, env,
--   and the methods stop, exports, get, control
-- @treturn nil,string
function M.start(options)
  if options ~= nil and type(options) ~= "table" then
    error("koresms.sandbox.start takes a table of options, not a " .. type(options), 2)
  end
  options = options or {}
  local wrong = rules.check(rules.options, options)
  if wrong then error("koresms.sandbox.start: " .. wrong, 2) end
  local server, lacking = nginx.find()
  if not server then return nil, needs.missing(lacking) end
  local directory = own_directory()
  if not directory then return nil, "the sandbox's Lua files must be files, for nginx to read" end
  local box, text, taken
  for _ = 1, 5 do
    box, text, taken = attempt(options, server, directory)
    -- A port that was asked for stays what it is, so trying again cannot help.
    if box or not taken or options.port or options.plain_port then break end
  end
  return box, text
end

return M
