--- Settings: one row each, and where their values come from.
--
-- The option in code, the variable and the key in the file follow from a row's name.
-- Precedence: options, environment, file, default.
local core = require "koresms.core"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"
local sources = require "koresms.sources"
local suspicions = require "koresms.suspicions"

local M = {}

-- Each check returns nil where the value will do, else what is wrong with it.

local function between(low, high, whole)
  return function(value)
    if value >= low and value <= high and (not whole or value % 1 == 0) then return nil end
    return ("expected %s from %s to %.0f, got %s"):format(
      whole and "a whole number" or "a number", tostring(low), high, tostring(value))
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

local BOM = "\239\187\191"

-- What an editor, a shell or a file of another kind leaves in a secret or an id.
local function soiled(value)
  if value:find(BOM, 1, true) then return "has a byte order mark (U+FEFF); save it without one" end
  if value:find("%z") then return "has a NUL byte; is this another kind of file?" end
  if value:find("[\r\n]") then return "has a line end; give the value alone, on one line" end
end

local function host(value)
  local fault = soiled(value)
  if fault then return fault end
  local _, wrong = core.origin(value)
  return wrong
end

local function bot_id(value)
  local fault = soiled(value)
  if fault then return fault end
  local _, wrong = core.path(value)
  return wrong
end

local function name(value)
  return #value > 255 and ("is too long: at most 255 bytes, got %d"):format(#value)
    or soiled(value) or visible(value)
end

local function client_id(value)
  return name(value) or value:find(" ", 1, true) and "has a blank; no client id has one" or nil
end

local function secret(value)
  local fault = soiled(value)
  if fault then return fault end
  if #value < 2 or #value > 1024 then
    return ("expected 2 to 1024 bytes, got %d; the platform's secrets have 44"):format(#value)
  end
end

local function token(value)
  if type(value) == "string" and value:find("[^!-~]") then
    return "has a blank, line end or other byte that a token cannot have"
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
  if not handle then return "cannot be read: " .. sources.explain(value, why) end
  local _, reason = handle:read(1)
  handle:close()
  return reason and ("cannot be read: %s: %s"):format(value, reason) or nil
end

-- A file that OpenSSL is to read. Where it is encrypted, OpenSSL would ask for the passphrase,
-- on the terminal or on standard input, and wait.
local function pem(value)
  local fault = visible(value)
  if fault then return fault end
  local text, why = sources.read(value)
  if not text then return "cannot be read: " .. why end
  if text:find("%-BEGIN ENCRYPTED") or text:find("Proc%-Type:[^\n]*ENCRYPTED") then
    return ("%s: is encrypted, and nothing here asks for a passphrase; give a key without one "
      .. "(openssl pkey -in FILE -out NEWFILE)"):format(value)
  end
end

local function proxy(value)
  local _, fault = core.proxy(value)
  return fault
end

local per_window = between(1, 1e6, true)

local function window(value)
  return value ~= false and per_window(value) or nil
end

--- The settings, in the order in which they are documented; also by name.
-- Fields of a row: `name`; `env` (nil where the setting has no variable); `type` ("string",
-- "number", "boolean", "limit" for a number or false, "token" for a string or function,
-- "function"); `default`; `required`; `secret` (never shown); `apart` (an option of the command,
-- which refuses what is secret in it by itself); `check`; `help`.
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
    help = "a proxy that tunnels, http://user:password@host:port; also https, socks5, socks5h" },
  { name = "ca_file", type = "string", check = file,
    help = "certificates to trust, PEM, in place of the system's" },
  { name = "client_cert", type = "string", check = pem, help = "a client certificate, PEM" },
  { name = "client_key", type = "string", check = pem,
    help = "its private key, PEM, without a passphrase" },
  { name = "max_idle", type = "number", default = 30, check = between(0, 3600),
    help = "seconds after which an idle connection is not used again" },
  { name = "max_age", type = "number", default = 300, check = between(1, 86400),
    help = "seconds after which a kept connection is not used again" },
  { name = "allow_http", type = "boolean", default = false,
    help = "allow http:// to a host other than loopback; the token travels in the clear" },
  { name = "shared_dict", type = "string", check = visible,
    help = "OpenResty: the lua_shared_dict of the pacer, one for each account" },
  { name = "later_flush", type = "number", default = 2, check = between(0, 3600),
    help = "OpenResty: seconds for which `later` goes on sending when a worker exits" },
  { name = "store", type = "string", check = visible, secret = true, apart = true,
    help = "a store of messages: a file of SQLite, or postgres://..." },
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

-- What ends in a number is an IPv4 address, or core.origin refuses it.
local function is_loopback(address)
  return loopback[address:lower()] or address:find("^127%.%d+%.%d+%.%d+$") ~= nil
end

-- The text for a setting that no source gives.
local function missing(row, empty)
  return ("%s is required: %s. Set %s, or the option or file key %s%s"):format(row.name,
    row.help, row.env, row.name,
    empty[row.name] and (" (%s is set, but empty)"):format(row.env) or "")
end

-- The same for the credential.
local function no_credential(settings, empty)
  if settings.algorithm:find("^RS") then return missing(M.settings.private_key_file, empty) end
  return missing(M.settings.client_secret, empty) .. "; or client_secret_file, or token"
    .. (settings.private_key_file
      and ("; %s is for the algorithms RS256 and RS512, and algorithm is %s"):format(
        settings.where.private_key_file, settings.algorithm) or "")
end

-- A text for each setting that is wanted and not there.
local function all_missing(settings, empty)
  local texts = {}
  for _, row in ipairs(M.settings) do
    if row.required and settings[row.name] == nil then texts[#texts + 1] = missing(row, empty) end
  end
  if settings.credential ~= "token" and settings.client_id == nil then
    texts[#texts + 1] = missing(M.settings.client_id, empty)
  end
  if not settings.credential then texts[#texts + 1] = no_credential(settings, empty) end
  return texts
end

-- What no row can see alone. Returns nil where all is well; else a text, and where settings are
-- missing one for each.
local function whole_fault(settings, levels, empty)
  local chosen, fault = choose_credential(settings, levels)
  if fault then return fault end
  settings.credential = chosen
  local texts = all_missing(settings, empty)
  if texts[1] and rawget(_G, "ngx") then
    texts[#texts + 1] = "nginx keeps no variable of its environment, unless the directive `env` "
      .. "names it (env KORESMS_HOST;)"
  end
  if texts[1] then return table.concat(texts, "; "), texts end
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

-- As `M.load`, but for what is wrong, which may quote a path as it came.
local function collect(options)
  local levels, empty, fault = sources.levels(M.settings, options)
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
  settings.store = nil -- koresms.store reads it; a client has no use for it
  local texts
  fault, texts = whole_fault(settings, levels, empty)
  fault = fault or read_secret_file(settings)
  if fault then return nil, fault, "config", texts end
  settings.suspicions = suspicions.of(settings)
  return settings
end

--- Collects the settings of one client.
-- Misuse (a wrong type, an unknown option) raises at the caller's line.
-- @tparam ?table options settings by name
-- @treturn[1] table the settings by name, the secrets among them; `where` has the source of
--   each by name; `credential` says which of the credentials is used; `suspicions` has a text
--   for each value that is probably not what it was meant to be
-- @treturn[2] nil
-- @treturn[2] string what is wrong, with the setting and its source
-- @treturn[2] string the code "config"
-- @treturn[2] ?table where settings are missing: a text for each
function M.load(options)
  misuse.check("bad argument #1 to 'new'", "option", options or {}, option_types)
  local settings, fault, code, texts = collect(options or {})
  if settings then return settings end
  for i, text in ipairs(texts or {}) do texts[i] = mask.printable(text) end
  return nil, mask.printable(fault), code, texts
end

return M
