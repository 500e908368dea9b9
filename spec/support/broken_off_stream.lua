--- A stream of which a step may be broken off: goes on with it to its end, and sees that each
-- message is told once.

local breaker = require "spec.support.breaker"

local Stream = {}
Stream.__index = Stream

-- Seconds after which a stream that gives nothing is stuck.
local STUCK = 3

local patience = tonumber(os.getenv("FAULTS_PATIENCE")) or 1

local M = {}

--- Opens a stream.
-- @tparam table ledger of support/broken_off.lua
-- @tparam table options `kinds` of the messages, in their order; `concurrency`, `retries`; `pull`:
--   the source is a function; `also`: see the ledger's `told`
-- @treturn table with the methods below
function M.open(ledger, options)
  local self = setmetatable({ ledger = ledger, also = options.also, list = {}, places = {},
    told = {},
    pulled = 0, pull = options.pull, over = false, failed = false,
    broken = false, -- a step was broken off
  }, Stream)
  for i, kind in ipairs(options.kinds) do
    local to = ledger.ground:number(kind)
    self.list[i], self.places[to] = { to = to, id = to }, i
  end
  local source = self.list
  if options.pull then
    source = breaker.spare(function()
      local message = self.list[self.pulled + 1]
      if message then self.pulled = self.pulled + 1 end
      return message
    end)
  end
  local began = os.time()
  self.iterator = ledger.client:send_many(source, { concurrency = options.concurrency,
    stop = breaker.spare(function()
      if os.time() - began > STUCK * patience then
        ledger.stuck = true
        error("the stream is stuck", 0)
      end
      return false
    end) })
  return self
end

--- Notes a result.
function Stream:take(result)
  local place = self.places[result.to]
  if not place or self.told[place] then
    return self.ledger:problem("message %s is told twice", tostring(result.index))
  end
  -- What a function gave may be lost before it is counted; an array has places of its own.
  if result.index ~= place and not (self.pull and self.broken) then
    self.ledger:problem("message %d is told as message %s", place, tostring(result.index))
  end
  self.told[place] = true
  self.ledger:told(result.to, result, self.also)
end

-- Notes what one step gave.
local function note(self, ok, result, broken_off)
  if ok and result ~= nil then return self:take(result) end
  if not ok and broken_off and result == breaker.ERROR then
    self.broken = true
    return
  end
  self.over = true
  if not ok then
    self.failed = true
    self.ledger:problem("a step raised: %s", tostring(result))
  end
end

--- Takes one result; with `n` the step is broken off at its n-th place.
function Stream:step(n)
  if self.over then return end
  local fired, ok, result = breaker.run(n, self.iterator)
  note(self, ok, result, fired)
end

--- Goes on to the end of the stream.
-- @tparam[opt=0] number losses messages that may be missing because of something else that was
--   broken off
function Stream:finish(losses)
  for _ = 1, #self.list + 3 do
    if self.over then break end
    note(self, pcall(self.iterator))
  end
  if not self.over then self.ledger:problem("the stream does not end") end
  if self.failed then return end
  -- After its end nothing comes any more.
  local ok, more = pcall(self.iterator)
  if not ok or more ~= nil then
    self.ledger:problem("after its end the stream gave %s", tostring(more))
  end
  local lost = {}
  for i, message in ipairs(self.list) do
    if not self.told[i] then lost[#lost + 1] = message end
  end
  local most = math.max(losses or 0, self.broken and 1 or 0)
  if #lost > most then
    self.ledger:problem("%d of %d messages are not told", #lost, #self.list)
  end
  self.ledger:lost(lost, most)
end

return M
