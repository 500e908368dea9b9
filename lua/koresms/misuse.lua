--- Wrong use of the API: raised at the caller's line, naming what was meant.
local M = {}

local mask = require "koresms.mask"

-- Where this library's own files stand, so that their stack levels can be skipped.
local home = debug.getinfo(1, "S").source:gsub("misuse%.lua$", "")

-- The stack level of the first function that is neither C nor ours, as seen from the
-- function that calls `caller`.
local function caller()
  local level = 2
  while true do
    local info = debug.getinfo(level, "S")
    if not info then return 0 end
    if info.what ~= "C" and info.source:sub(1, #home) ~= home
      and info.source ~= "=(tail call)" then
      return level - 1
    end
    level = level + 1
  end
end

--- Raises.
-- @tparam string text what was wrong and what would be right
function M.raise(text)
  error(text, caller())
end

--- Raises where there are more arguments than a function takes.
-- @tparam string name of the function
-- @tparam number place of the first one that is too many
-- @param ... those from there on
function M.check_arity(name, place, ...)
  if select("#", ...) > 0 then
    M.raise(("bad argument #%d to '%s' (no value expected)"):format(place, name))
  end
end

-- The number of edits between two short names; two letters changed over count as one.
local function distance(a, b)
  local before, row = nil, {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local above = row
    row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost)
      if before and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before = above
  end
  return row[#b]
end

-- Names that other interfaces use, the platform's own among them.
local aliases = {
  fromNo = "from", toNo = "to", from_no = "from", to_no = "to", sender = "from",
  recipient = "to", number = "to", phone = "to", secret = "client_secret",
  botId = "bot_id", streamId = "bot_id", stream_id = "bot_id", clientId = "client_id",
  clientSecret = "client_secret", appId = "client_id", url = "host", base_url = "host",
  ttl = "token_ttl", alg = "algorithm", sub = "subject", cafile = "ca_file",
  bot = "bot_id", stream = "bot_id", client = "client_id", app_id = "client_id",
  secret_file = "client_secret_file", private_key = "private_key_file",
  key_file = "private_key_file", cert = "client_cert", key = "client_key", ca = "ca_file",
  mobile = "to", msisdn = "to", phone_number = "to", phoneNumber = "to", tel = "to",
  telephone = "to", cell = "to", message_id = "id", messageId = "id",
}

--- Names of a message's text, which is the first thing that other interfaces ask for.
M.texts = { "text", "body", "message", "msg", "content", "sms" }

local is_text = {}
for _, name in ipairs(M.texts) do is_text[name] = true end

--- Why there is no name for a message's text.
M.NO_TEXT = "the API takes no text: it comes from the experience flow to which the sending "
  .. "number is attached"

--- Whether a name, in any case of letters, is one of a message's text.
-- @param name of any type
-- @treturn boolean
function M.is_text(name)
  return type(name) == "string" and is_text[name:lower()] or false
end

--- The known name that an unknown one was probably meant to be.
-- @param name the unknown key, of any type
-- @tparam table known set: name -> true (or any true value)
-- @treturn ?string
function M.suggest(name, known)
  if type(name) ~= "string" then return nil end
  if known[aliases[name]] then return aliases[name] end
  local best, least = nil, math.min(3, math.ceil(#name / 2))
  for candidate in pairs(known) do
    if type(candidate) == "string" then
      local d = distance(name:lower(), candidate)
      if d < least or (d == least and best and candidate < best) then
        best, least = candidate, d
      end
    end
  end
  return best
end

--- A text that names an unknown key.
-- @tparam string what the kind of key, such as "option"
-- @param name
-- @tparam table known
-- @treturn string
function M.unknown(what, name, known)
  if M.is_text(name) then return ("unknown %s '%s'; %s"):format(what, name, M.NO_TEXT) end
  local meant = M.suggest(name, known)
  -- A number or a token may stand where a name belongs.
  return ("unknown %s '%s'%s"):format(what, mask.text(tostring(name), 80),
    meant and (" (did you mean '%s'?)"):format(meant) or "")
end

--- Raises where a function of a module was called with a colon: `koresms:send{...}`.
-- @tparam table module
-- @tparam string name of the function
-- @param first what it was given first
function M.check_dot(module, name, first)
  if rawequal(first, module) then
    M.raise(("calling '%s' with a colon (write koresms.%s)"):format(name, name))
  end
end

--- Checks a table of named values that a caller gave.
-- @tparam string where such as "bad argument #1 to 'send'"
-- @tparam string what the kind of key
-- @param given must be a table
-- @tparam table types name -> type name, or a set of type names
function M.check(where, what, given, types)
  if type(given) ~= "table" then
    M.raise(("%s (table expected, got %s)"):format(where, type(given)))
  end
  for name, value in pairs(given) do
    local wanted = types[name]
    if not wanted then
      M.raise(("%s (%s)"):format(where, M.unknown(what, name, types)))
    end
    local got = type(value)
    if got ~= wanted and not (type(wanted) == "table" and wanted[got]) then
      M.raise(("%s (%s '%s': %s expected, got %s)"):format(where, what, name,
        type(wanted) == "table" and wanted.text or wanted, got))
    end
  end
end

return M
