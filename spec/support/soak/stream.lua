--- One stream of the soak, the same in plain Lua and inside nginx: a source and a loop that take
-- their time, and a line for each result.

local M = {}

-- Seconds that a source or a loop's body may take for each message.
local PAUSES = { 0, 0, 0, 0, 0.002, 0.005, 0.02, 0.1, 0.5 }

-- Messages of a stream without pauses, and seconds that one with pauses may take.
local MOST, LONGEST = 60, 4

--- Sends the messages of one stream.
-- @tparam table given `client`, `timeout`, `dice` (draws from 1 to n), `sleep`, `clock`, `first`
--   (a number that nobody else has), `stopped` (ends the stream early), `write` (a line)
-- @treturn number how many were pulled
function M.run(given)
  local dice, sleep = given.dice, given.sleep
  local before, after = PAUSES[dice(#PAUSES)], PAUSES[dice(#PAUSES)]
  local count = math.min(MOST, math.max(2, math.floor(LONGEST / (before + after + 1e-9))))
  local pulled = 0
  local function source()
    if pulled == count or given.stopped() then return nil end
    if before > 0 then sleep(before) end
    pulled = pulled + 1
    return { to = ("+91%010d"):format(given.first + pulled - 1) }
  end
  local options = { concurrency = dice(64), timeout = given.timeout }
  for result in given.client:send_many(source, options) do
    given.write(("%s %s %s %d %.3f %.3f"):format(result.to, result.outcome, result.code or "-",
      result.attempts, result.elapsed, given.clock()))
    if after > 0 then sleep(after) end
  end
  given.write(("pulled %d %d"):format(given.first, pulled))
  return pulled
end

return M
