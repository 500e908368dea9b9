--- The option `--store`.
local koresms = require "koresms"
local location = require "koresms.store.location"

local PASSWORD = "--store holds a password, and every user of the machine can read a command line; "
  .. "set KORESMS_STORE instead, or keep the password in ~/.pgpass"

--- Opens the store that the option or the settings name.
-- @tparam ?string where the option
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
return function(where)
  local parsed = where and location.parse(where)
  if parsed and parsed.password then return nil, PASSWORD end
  return koresms.store(where)
end
