--- What becomes of a row, and of those behind it, when a message has ended: one table.
--
-- A row goes on as `accepted`, `rejected` or `unknown`, or back to `pending`; an ending that says
-- something about more than its message pauses the campaign or the account.
-- @module koresms.store.states
local mask = require "koresms.mask"
local utf8 = require "koresms.utf8"

local M = {}

--- Endings by outcome and code; `[true]` is for any other code. Fields: `state`; `row`: how many
-- in a row pause the campaign; `at_once`: the first one does; `wait`: seconds before the next
-- attempt double with each in a row; `account`: all wait until the platform wants to hear again;
-- `late`: it was marked, and could not start in time.
M.endings = {
  accepted = { [true] = { state = "accepted" } },
  unknown = { [true] = { state = "unknown", row = 5 } },
  rejected = {
    rate_limited = { state = "pending", account = true },
    unauthorized = { state = "pending", at_once = true },
    forbidden = { state = "pending", at_once = true },
    not_found = { state = "pending", at_once = true },
    redirect = { state = "pending", at_once = true },
    [true] = { state = "rejected", row = 20 },
  },
  not_sent = {
    invalid_number = { state = "rejected", row = 20 },
    sign = { state = "pending", at_once = true },
    tls = { state = "pending", at_once = true },
    config = { state = "pending", at_once = true },
    context = { state = "pending", at_once = true },
    cancelled = { state = "pending" },
    rate_limited = { state = "pending" },
    timeout = { state = "pending", late = true },
    [true] = { state = "pending", row = 5, wait = true },
  },
}

--- Seconds that an account is paused at most without a person.
M.ACCOUNT_PAUSE_MAX = 3600

local WAIT_MAX = 60

--- The ending of a result.
function M.ending(result)
  local by_code = M.endings[result.outcome]
  return by_code[result.code] or by_code[true]
end

--- Counts endings of one campaign, to see when too many of a kind come in a row.
-- @treturn table
function M.new_run()
  return { key = nil, count = 0 }
end

-- How many endings of this kind have come in a row.
local function count(run, ending, result)
  local key = ending.row and (ending.wait and "wait" or ending.state)
  if result.code == "cancelled" then return 0 end
  if key == run.key then run.count = run.count + 1 else run.key, run.count = key, 1 end
  return run.count
end

--- What follows from a result.
-- @tparam table run of `new_run`, for the row's campaign
-- @tparam table result
-- @treturn table `state`, `wait` (seconds), `pause` (a reason to pause the campaign, or nil),
--   `account` (seconds for which the account is paused, or nil), `late` (boolean)
function M.follow(run, result)
  local ending = M.ending(result)
  local times = count(run, ending, result)
  local step = { state = ending.state, wait = 0, late = ending.late or false }
  if ending.wait then step.wait = math.min(2 ^ (times - 1), WAIT_MAX) end
  if ending.at_once then
    step.pause = ("%s: %s"):format(result.code, mask.text(result.message or ""))
  elseif ending.row and times >= ending.row then
    step.pause = ("%d in a row ended as %s (%s): %s"):format(times, result.outcome,
      tostring(result.code), mask.text(result.message or ""))
  end
  if ending.account then
    local seconds = result.retry_after or 60
    if seconds >= M.ACCOUNT_PAUSE_MAX then
      step.pause = ("the platform asked to wait for %d s: %s"):format(seconds,
        mask.text(result.message or ""))
    end
    step.account = math.min(seconds, M.ACCOUNT_PAUSE_MAX)
  end
  return step
end

--- The text that is stored with a row: short, valid, on one line.
-- @tparam table result
-- @treturn ?string
function M.detail(result)
  if not result.message then return nil end
  local text = utf8.clean(mask.text(utf8.clean(result.message), 300))
  return (text:gsub("%c", " "):gsub("\194[\128-\159]", " "))
end

return M
