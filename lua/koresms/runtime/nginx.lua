--- What a client is made of inside nginx, where only its own sockets wait without holding up the
-- worker process; libcurl is never loaded there.
-- @module koresms.runtime.nginx
local phase = require "koresms.nginx.phase"
local shared_pacer = require "koresms.nginx.shared_pacer"
local transport = require "koresms.nginx.transport"
local workers = require "koresms.nginx.workers"

local M = {}

--- Makes the parts of a client. Nothing is connected, so that it can be done in any phase.
-- @tparam table settings
-- @tparam string _ where to connect; the transport has its own reader of settings
-- @tparam string head of every request
-- @treturn[1] table as in koresms.runtime.plain, and `refusal`: a function that returns why
--   nothing can be sent from here, or nil; `queued`: how many messages wait in the client's queue
-- @treturn[2] nil
-- @treturn[2] string which setting cannot be used, and why
function M.open(settings, _, head)
  local made, text = transport.new(settings, head)
  if not made then return nil, text end
  local pacer
  pacer, text = shared_pacer.open(settings)
  if not pacer then return nil, text end
  return { transport = made, pacer = pacer, open_workers = workers.open,
    refusal = phase.refusal,
    queued = function() return 0 end } -- until koresms.nginx.later has a queue for the client
end

return M
