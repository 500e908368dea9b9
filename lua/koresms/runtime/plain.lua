--- What a client is made of in plain Lua.
-- @module koresms.runtime.plain
local pacer = require "koresms.pacer"
local transport = require "koresms.curl.transport"
local workers = require "koresms.curl.workers"

local M = {}

--- Makes the parts of a client.
-- @tparam table settings
-- @tparam string origin where to connect, as a URL without path
-- @tparam string head of every request
-- @treturn[1] table `transport`, `pacer`, `open_workers` (see koresms.stream)
-- @treturn[2] nil
-- @treturn[2] string what is missing
function M.open(settings, origin, head)
  local made, text = transport.new(settings, origin, head)
  if not made then return nil, text end
  return {
    transport = made,
    pacer = pacer.new(settings.per_minute, settings.per_hour),
    open_workers = workers.open,
  }
end

return M
