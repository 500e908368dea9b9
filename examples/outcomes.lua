-- Sends one message and does for each outcome what has to be done.
--
--     lua outcomes.lua +911234567890 order-17
--
-- Exit status: 0 sent, 1 it will never go like this, 3 later, 4 somebody has to look.
local koresms = require "koresms"

local to, id = arg[1], arg[2]
if not to then
  io.stderr:write("usage: lua outcomes.lua NUMBER [ID]\n")
  os.exit(1)
end

-- Each takes the result, and returns what to print and the exit status.
local outcomes = {
  accepted = function(result)
    return ("sent: %s"):format(result.id), 0
  end,
  -- It did not leave, or the platform refused it. Only `retryable` says whether to try again.
  not_sent = function(result)
    if result.retryable then
      return ("later, in %d s: %s"):format(math.ceil(result.retry_after or 1), result.message), 3
    end
    return ("never: %s: %s"):format(result.code, result.message), 1
  end,
  -- It may have arrived. Whoever sends it again may text somebody twice: a person decides.
  unknown = function(result)
    return ("look for %s in the SMS provider's log: %s"):format(result.id, result.message), 4
  end,
}
outcomes.rejected = outcomes.not_sent

local accepted, _, _, failed = koresms.send { to = to, id = id }
local result = accepted or failed
local text, status = outcomes[result.outcome](result)
print(text)
os.exit(status)
