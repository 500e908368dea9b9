--- Where a store is: a file of SQLite, or the address of a PostgreSQL database. An address may
-- hold a password, which no text here repeats.
-- @module koresms.store.location

local M = {}

local function decode(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- Why an address would be read otherwise than it was meant, and its password taken for a name.
local function fault_of(rest)
  local authority, behind = rest:match("^([^/?]*)(.*)$")
  local _, signs = authority:gsub("@", "")
  if signs > 1 or behind:find("@", 1, true) then
    return "the database's address has an '@' or a '/' too many; in a name, a password or a "
      .. "parameter '@' is written %40, '/' %2F, '?' %3F, ':' %3A and '%' %25"
  end
  if signs == 0 and authority:find(":[^%d:%],]*%a[^%]]*$") and not authority:find("^%[") then
    return "the database's address has a port that is no number; a password is followed by @HOST"
  end
  if rest:find("[%c ]") then return "the database's address has a blank or a control character" end
end

--- Reads a location.
-- @tparam string text
-- @treturn[1] table `kind` ("sqlite", "postgres"), `where` (what the driver takes), `shown` (for
--   people), `password` (boolean: does it hold one?), `prepare` (boolean)
-- @treturn[2] nil
-- @treturn[2] string
function M.parse(text)
  if text == "" then return nil, "a store's location is empty" end
  if text:find("%z") then return nil, "a store's location has a NUL byte" end
  local scheme, rest = text:match("^(postgres%a*)://(.*)$")
  if not scheme then
    local other = text:match("^(%a[%w+.-]*)://")
    if other and not other:lower():find("postgres", 1, true) then
      return nil, ("a store is a file of SQLite or postgres://..., not %s://"):format(
        #other <= 20 and other or "...")
    end
    -- Addresses that are written otherwise hold passwords, too, and would be shown.
    local plain = text:lower():gsub("^[%s\"']+", "")
    if plain:find("://", 1, true) or plain:find("^postgres%a*[:;]") or plain:find("^postgres%a*//")
      or plain:find("^%l+%s*=[^/]*%s%l+%s*=") or plain:find("^password%s*=") then
      return nil, "a database's address is written postgres://USER:PASSWORD@HOST/DATABASE"
    end
    return { kind = "sqlite", where = text, shown = text, password = false, prepare = true }
  end
  if scheme ~= "postgres" and scheme ~= "postgresql" then
    return nil, "a database's address begins with postgres:// or postgresql://"
  end
  local fault = fault_of(rest)
  if fault then return nil, fault end
  local before, query = rest:match("^([^?]*)%??(.*)$")
  local kept, prepare = {}, true
  local password = before:match("^[^/@]*:[^/@]*@") ~= nil
  for pair in query:gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name = decode(name):lower()
    if name == "prepare" then
      if value ~= "true" and value ~= "false" then
        return nil, "the parameter prepare of the database's address is true or false"
      end
      prepare = value == "true"
    else
      if name == "password" or name == "sslpassword" then password = true end
      kept[#kept + 1] = pair
    end
  end
  local where = "postgresql://" .. before .. (kept[1] and "?" .. table.concat(kept, "&") or "")
  local host, path = before:gsub("^.*@", ""):match("^([^/]*)/?(.*)$")
  return { kind = "postgres", where = where, prepare = prepare, password = password,
    shown = "postgres://" .. (host ~= "" and host or "(local)") .. "/" .. path }
end

return M
