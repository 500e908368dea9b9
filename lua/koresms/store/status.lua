--- How far a campaign has come, and when it will have ended.
-- @module koresms.store.status
local limits = require "koresms.store.limits"
local output = require "koresms.store.text"

local M = {}

-- Seconds that so many messages take at a store's limits; nil where there is none.
local function eta_of(pending, account)
  if pending == 0 then return 0 end
  local seconds
  for _, window in ipairs(limits.windows) do
    local limit = account[window.name]
    if limit then
      local share = math.max(1, limit - limits.reserve(limit))
      seconds = math.max(seconds or 0, pending / share * (window.span + 1))
    end
  end
  return seconds and math.ceil(seconds)
end

--- The status of a campaign.
-- @tparam table link
-- @tparam table campaign a row of the statement `campaign`
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
function M.of(link, campaign)
  local rows, text = link:run("counts", campaign.id)
  if not rows then return nil, text end
  local found = { name = campaign.name, state = campaign.state, reason = campaign.reason,
    total = 0 }
  for state in pairs(output.states) do found[state] = 0 end
  for _, row in ipairs(rows) do
    found[row.state] = row.n
    found.total = found.total + row.n
  end
  rows, text = link:run("account")
  if not rows then return nil, text end
  found.eta = eta_of(found.pending, rows[1])
  return found
end

return M
