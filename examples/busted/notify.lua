-- An application that texts its customers. What it makes of each outcome is what
-- spec/notify_spec.lua tests.
local koresms = require "koresms"

local M = {}

--- Texts a customer; returns what the application does next.
-- @tparam table client
-- @tparam table customer number, id
-- @treturn string "done", "later", "look" or "drop"
-- @treturn ?string why
function M.text(client, customer)
  local result, text, code, failed = client:send { to = customer.number, id = customer.id }
  if result then return "done" end
  -- It may have arrived: sending again could text twice, so a person looks at it.
  if failed.outcome == "unknown" then return "look", text end
  if failed.retryable then return "later", text end
  return "drop", code
end

--- The client that the application uses, from the environment.
function M.client()
  return assert(koresms.new())
end

return M
