--- What may stand in the options of `start`, in the settings and in a play: one row a key.
-- Used on both sides, in the program that starts the sandbox and inside nginx.
-- @module koresms.sandbox.rules

local M = {}

local function is(kind)
  return function(value) return type(value) == kind end
end

local function number(least, most, whole)
  return function(value)
    return type(value) == "number" and value >= least and value <= most
      and (not whole or value % 1 == 0)
  end
end

local function one_of(...)
  local allowed = {}
  for _, value in ipairs({...}) do allowed[value] = true end
  return function(value) return allowed[value] == true end
end

local function either(first, second)
  return function(value) return first(value) or second(value) end
end

-- A control character would end the header line, or the line of nginx.conf, that it stands in.
local function line(value)
  return type(value) == "string" and value ~= "" and not value:find("%c")
end

local function headers(value)
  if type(value) ~= "table" then return false end
  for name, text in pairs(value) do
    if type(name) ~= "string" or not name:find("^[%w-]+$") or not line(text) then
      return false
    end
  end
  return true
end

local BOOLEAN = {"true or false", is("boolean")}
local LINE = {"a string without control characters, not empty", line}
local SECONDS = {"a number of seconds, 0 to 3600", number(0, 3600)}
local PORT = {"a port number, 1 to 65535", number(1, 65535, true)}
local RETRY_AFTER = {"a number of seconds, a date as text, or false",
  either(either(number(0, 2^53), line), one_of(false))}

local E164 = {"a number of E.164, such as +911234567890", function(value)
  return type(value) == "string" and #value <= 16 and value:find("^%+[1-9]%d+$") ~= nil
end}

local ADDRESS = {"an IP address, such as 127.0.0.1 or ::1", function(value)
  return type(value) == "string"
    and (value:find("^%d+%.%d+%.%d+%.%d+$") ~= nil or value:find("^[%x:]*:[%x:.]*$") ~= nil)
end}

--- What the running sandbox can be told.
M.settings = {
  per_minute = {"a whole number of at least 1, or false",
    either(number(1, 1e6, true), one_of(false))},
  retry_after = RETRY_AFTER,
  enforce_jti = BOOLEAN,
  scope = BOOLEAN,
  latency = SECONDS,
}

--- The options of `start`, besides the settings.
M.options = {
  bot_id = LINE,
  client_id = LINE,
  client_secret = LINE,
  public_key = {"an RSA public key in PEM", is("string")},
  listen = ADDRESS,
  port = PORT,
  plain_port = PORT,
  prefix = LINE,
  state = LINE,
  lines = BOOLEAN,
  log = LINE,
  workers = {"a whole number, 1 to 64", number(1, 64, true)},
}
for name, row in pairs(M.settings) do M.options[name] = row end

--- One play: what goes wrong with the next requests.
M.play = {
  times = {"a whole number of at least 1, or -1 for always",
    either(number(1, 2^53, true), one_of(-1))},
  when = {'"before" or "after"', one_of("before", "after")},
  status = {"an HTTP status, 200 to 599", number(200, 599, true)},
  body = {"a string", is("string")},
  content_type = LINE,
  headers = {"an object of header names and texts", headers},
  retry_after = RETRY_AFTER,
  delay = SECONDS,
  close = BOOLEAN,
  silent = BOOLEAN,
  json = {'"wrong" or "errors"', one_of("wrong", "errors")},
  html = BOOLEAN,
}

--- A message that the sandbox sends to itself.
M.message = {to = E164, from = E164}

local function names(rules)
  local list = {}
  for name in pairs(rules) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, ", ")
end

--- Checks a table against its rules.
-- @tparam table rules one of the tables above
-- @tparam table given
-- @treturn ?string nil, or what is wrong, naming the key
function M.check(rules, given)
  for key, value in pairs(given) do
    local row = rules[key]
    if not row then
      return ("unknown key %q (known: %s)"):format(tostring(key), names(rules))
    end
    if not row[2](value) then return ("%s must be %s"):format(key, row[1]) end
  end
end

return M
