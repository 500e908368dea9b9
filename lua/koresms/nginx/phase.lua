--- What the current phase of nginx allows.
-- @module koresms.nginx.phase
-- luacheck: std ngx_lua

local failure = require "koresms.failure"

local get_phase = ngx.get_phase

local M = {}

-- In these ngx_lua can wait for something; in the others its calls raise.
local waits = {}
for _, phase in ipairs { "rewrite", "server_rewrite", "access", "precontent", "content", "timer",
                         "ssl_cert", "ssl_session_fetch", "ssl_client_hello" } do
  waits[phase] = true
end

-- Before there is a worker, and after its last round, no timer is ever run.
local without_timers = { init = true, exit_worker = true }

--- What an exchange comes to where there is no network.
-- @treturn ?table a transport's reply; nil where there is network
function M.refusal()
  local phase = get_phase()
  if waits[phase] then return nil end
  local name, text = failure.from_cosocket("API disabled in the phase " .. phase, "context")
  return { failure = name, starts = 0, text = "no network here: " .. text }
end

--- Whether work can be left to a timer.
-- @treturn boolean
-- @treturn string the phase
function M.has_timers()
  local phase = get_phase()
  return not without_timers[phase], phase
end

return M
