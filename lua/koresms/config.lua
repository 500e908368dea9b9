--- Settings: one row each, and where their values come from.
--
-- The option in code, the variable and the key in the file follow from a row's name.
-- Precedence: options, environment, file, default.
local core = require "koresms.core"
local misuse = require "koresms.misuse"
local sources = require "koresms.sources"

local M = {}

-- Each check returns nil where the value will do, else what is wrong with it.

local function between(low, high, whole)
  return function(value)
    if value >= low and value <= high and (not whole or value % 1 == 0) then return nil end
    return ("expected %s from %g to %g, got %s"):format(
      whole and "a whole number" or "a number", low, high, tostring(value))
  end
end

local function one_of(...)
  local known, list = {}, table.concat({ ... }, ", ")
  for _, name in ipairs({ ... }) do known[name] = true end
  return function(value)
    return not known[value] and ("expected one of %s"):format(list) or nil
  end
end

local function visible(value)
  return value:find("[%c]") and "has a line end, NUL or other control character" or nil
end

local function host(value)
  local _, fault = core.origin(value)
  return fault
end

local function bot_id(value)
  local _, fault = core.path(value)
  return fault
end

local function name(value)
  return #value > 255 and ("is too long: at most 255 bytes, got %d"):format(#value)
    or visible(value)
end

local function client_id(value)
  return name(value) or value:find(" ", 1, true) and "has a blank; no client id has one" or nil
end

local function secret(value)
  if value:find("%z") then return "has a NUL byte; is this another kind of file?" end
  if #value < 2 or #value > 1024 then
    return ("expected 2 to 1024 bytes, got %d; the platform's secrets have 44"):format(#value)
  end
end

local function token(value)
  if type(value) == "string" and value:find("[^!-~]") then
    return "has a blank, line end or other byte that no token has"
  end
end

local function number(value)
  local _, fault = core.e164(value)
  return fault
end

local function file(value)
  local fault = visible(value)
  if fault then return fault end
  local handle, why = io.open(value, "rb")
  if not handle then return "cannot be read: " .. why end
  local _, reason = handle:read(1)
  handle:close()
  return reason and ("cannot be read: %s: %s"):format(value, reason) or nil
end

local function proxy(value)
  if visible(value) or value:find(" ", 1, true) then return "has a blank or control character" end
  local scheme = value:match("^(%w+)://[^/]+/?$")
  local known = { http = true, https = true, socks5 = true, socks5h = true }
  if not known[scheme] then
    return "expected an address such as http://proxy.example:3128"
  end
end

local per_window = between(1, 1e6, true)

local function window(value)
  return value ~= false and per_window(value) or nil
end

--- The settings, in the order in which they are documented; also by name.
-- Fields of a row: `name`; `env` (nil where the setting has no variable); `type` ("string",
-- "number", "boolean", "limit" for a number or false, "token" for a string or function,
-- "function"); `default`; `required`; `secret` (never shown); `check`; `help`.
M.settings = {
  { name = "host", type = "string", required = true, check = host,
    help = "the platform's origin, such as platform.kore.ai" },
  { name = "bot_id", type = "string", required = true, check = bot_id,
    help = "the bot (stream) id, st-..." },
  { name = "client_id", type = "string", check = client_id,
    help = "the client id of the JWT app, cs-..." },
  { name = "client_secret", type = "string", check = secret, secret = true,
    help = "the client secret of the JWT app, as the platform shows it" },
  { name = "client_secret_file", type = "string", check = visible,
    help = "a file that holds the client secret alone" },
  { name = "private_key_file", type = "string", check = visible,
    help = "an RSA private key in PEM form, for RS256 and RS512" },
  { name = "token", type = "token", check = token, secret = true,
    help = "a ready-made token; in code also a function that returns one" },
  { name = "algorithm", type = "string", default = "HS256",
    check = one_of("HS256", "HS512", "RS256", "RS512"), help = "of the signature" },
  { name = "subject", type = "string", default = "koresms", check = name,
    help = "the claim sub, which the platform takes as a filler" },
  { name = "token_ttl", type = "number", default = 300, check = between(1, 3600, true),
    help = "seconds until a token expires" },
  { name = "jti", type = "boolean", default = false,
    help = "give each token an id of its own, for apps that enforce JTI" },
  { name = "from", type = "string", check = number,
    help = "the sender where a message names none, E.164" },
  { name = "timeout", type = "number", default = 10, check = between(0.001, 86400),
    help = "seconds for a message, repeats included" },
  { name = "connect_timeout", type = "number", default = 5, check = between(0.001, 86400),
    help = "seconds for name, connection and TLS of one attempt" },
  { name = "retries", type = "number", default = 2, check = between(0, 100, true),
    help = "repeats at most, and only where none can duplicate" },
  { name = "per_minute", type = "limit", default = 60, check = window,
    help = "requests in any 60 seconds, or false" },
  { name = "per_hour", type = "limit", default = false, check = window,
    help = "requests in any hour, or false" },
  { name = "proxy", type = "string", check = proxy, secret = true,
    help = "a proxy that tunnels (HTTP CONNECT), http://host:port" },
  { name = "ca_file", type = "string", check = file,
    help = "certificates to trust, PEM, in place of the system's" },
  { name = "client_cert", type = "string", check = file, help = "a client certificate, PEM" },
  { name = "client_key", type = "string", check = file, help = "its private key, PEM" },
  { name = "max_idle", type = "number", default = 30, check = between(0, 3600),
    help = "seconds after which an idle connection is not used again" },
  { name = "allow_http", type = "boolean", default = false,
    help = "allow http:// to a host other than loopback; the token travels in the clear" },
  { name = "shared_dict", type = "string", check = visible,
    help = "OpenResty: the lua_shared_dict of the pacer, one for each account" },
  { name = "later_flush", type = "number", default = 2, check = between(0, 3600),
    help = "OpenResty: seconds for which `later` goes on sending when a worker exits" },
  { name = "on_event", type = "function", code_only = true,
    help = "called with a table for each attempt, retry, verdict and pause" },
}

-- What each type takes in code and, after its text was read, from elsewhere.
local types = {
  string = "string", number = "number", boolean = "boolean", ["function"] = "function",
  limit = { number = true, boolean = true, text = "number or false" },
  token = { string = true, ["function"] = true, text = "string or function" },
}

local option_types = {}
for _, row in ipairs(M.settings) do
  M.settings[row.name] = row
  row.env = not row.code_only and "KORESMS_" .. row.name:upper() or nil
  option_types[row.name] = types[row.type]
end

--- Option name -> type name, as `koresms.new` takes them.
M.option_types = option_types

-- A value's fault, or nil. Values from code have the right type already.
local function fault_of(row, value)
  if row.type == "limit" and value == true then return "expected a number or false" end
  if row.type == "number" or row.type == "limit" then
    if value ~= value or value == math.huge or value == -math.huge then
      return "expected a finite number"
    end
  end
  if value == "" then return "is empty" end
  return row.check and row.check(value)
end

-- The credential of one source: a token, or what the algorithm signs with.
local function credential(values, algorithm)
  if values.token ~= nil then return "token" end
  if algorithm:find("^RS") then
    return values.private_key_file ~= nil and "private_key_file" or nil
  end
  if values.client_secret ~= nil and values.client_secret_file ~= nil then
    return nil, "client_secret and client_secret_file are both given; give one"
  end
  return values.client_secret ~= nil and "client_secret"
    or values.client_secret_file ~= nil and "client_secret_file" or nil
end

local credentials = { "token", "client_secret", "client_secret_file", "private_key_file" }

-- Keeps the credential of the source that comes first; the others are dropped.
local function choose_credential(settings, levels)
  for _, level in ipairs(levels) do
    local chosen, fault = credential(level.values, settings.algorithm)
    if fault then return nil, level.label .. ": " .. fault end
    if chosen then
      for _, other in ipairs(credentials) do
        settings[other] = other == chosen and settings[other] or nil
      end
      return chosen
    end
  end
end

local loopback = { localhost = true, ["::1"] = true }

local function is_loopback(address)
  if loopback[address:lower()] then return true end
  local b, c, d = address:match("^127%.(%d+)%.(%d+)%.(%d+)$")
  -- With a larger number it is a name, which may stand for any address.
  return b ~= nil and math.max(tonumber(b), tonumber(c), tonumber(d)) <= 255
end

-- The text for a setting that no source gives.
local function missing(row, empty)
  return ("%s is required: %s. Set %s, or the option or file key %s%s"):format(row.name,
    row.help, row.env, row.name,
    empty[row.name] and (" (%s is set, but empty)"):format(row.env) or "")
end

-- What no row can see alone. Returns nil where all is well.
local function whole_fault(settings, levels, empty)
  for _, row in ipairs(M.settings) do
    if row.required and settings[row.name] == nil then return missing(row, empty) end
  end
  local chosen, fault = choose_credential(settings, levels)
  if fault then return fault end
  settings.credential = chosen
  local rsa = settings.algorithm:find("^RS") ~= nil
  if not chosen then
    return missing(M.settings[rsa and "private_key_file" or "client_secret"], empty)
      .. (rsa and "" or "; or client_secret_file, or token")
      .. (not rsa and settings.private_key_file
        and ("; %s is for the algorithms RS256 and RS512, and algorithm is %s"):format(
          settings.where.private_key_file, settings.algorithm) or "")
  end
  if chosen ~= "token" and settings.client_id == nil then
    return missing(M.settings.client_id, empty)
  end
  if settings.client_key and not settings.client_cert then
    return "client_key is given without client_cert; give both, or neither"
  end
  local origin = core.origin(settings.host)
  if origin.scheme == "http" and not settings.allow_http and not is_loopback(origin.host) then
    return settings.where.host .. ": http:// sends the token in the clear; use https://, "
      .. "or set allow_http"
  end
end

-- Secrets that stand in files are read last, when it is known that they are wanted, and once:
-- such a file may be a pipe.
local function read_secret_file(settings)
  for from, to in pairs({ client_secret_file = "client_secret",
                          private_key_file = "private_key" }) do
    local path = settings[from]
    if path then
      local text, why = sources.read(path)
      if not text then return ("%s: %s"):format(settings.where[from], why) end
      if to == "client_secret" then
        text = text:gsub("\r?\n$", "")
        local fault = secret(text)
        if fault then return ("%s: %s: %s"):format(settings.where[from], path, fault) end
      end
      settings[to] = text
    end
  end
end

--- Collects the settings of one client.
-- Misuse (a wrong type, an unknown option) raises at the caller's line.
-- @tparam ?table options settings by name
-- @treturn[1] table the settings by name, the secrets among them; `where` has the source of
--   each by name; `credential` says which of the credentials is used
-- @treturn[2] nil
-- @treturn[2] string what is wrong, with the setting and its source
-- @treturn[2] string the code "config"
function M.load(options)
  misuse.check("bad argument #1 to 'new'", "option", options or {}, option_types)
  local levels, empty, fault = sources.levels(M.settings, options or {})
  if not levels then return nil, fault, "config" end
  local settings, where = {}, {}
  for _, row in ipairs(M.settings) do
    settings[row.name] = row.default
    where[row.name] = "default"
    for _, level in ipairs(levels) do
      local value = level.values[row.name]
      if value ~= nil then
        fault = fault_of(row, value)
        if fault then
          return nil, ("%s: %s"):format(level.name(row), fault), "config"
        end
        -- What a file or a variable gives may be a float on Lua 5.3 and later: 60.0 a minute.
        if type(value) == "number" and value % 1 == 0 then value = math.floor(value) end
        settings[row.name], where[row.name] = value, level.name(row)
        break
      end
    end
  end
  settings.where = where
  fault = whole_fault(settings, levels, empty) or read_secret_file(settings)
  if fault then return nil, fault, "config" end
  return settings
end

return M
