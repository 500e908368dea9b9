-- Run with some environment: prints what koresms.config makes of it, as JSON.
require "spec.support.paths"
local cjson = require("cjson").new()
local config = require "koresms.config"

local settings, text, code = config.load(cjson.decode(arg[1] or "{}"))
local out = { text = text, code = code, values = {}, where = settings and settings.where }
for _, row in ipairs(config.settings) do
  local value = settings and settings[row.name]
  if type(value) ~= "function" then out.values[row.name] = value end
end
out.private_key = settings and settings.private_key and #settings.private_key
print(cjson.encode(out))
