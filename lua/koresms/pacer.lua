--- The pacer: how many requests may begin in any rolling minute and hour.
--
-- A window is cut into buckets, so that its memory does not grow with its limit. A permit
-- counts until its whole bucket is older than the window: never more than the limit in any
-- rolling window, and at least 99 % of it in the long run. Times are given by the caller.
local M = {}

local BUCKETS = 100

local window = {}
window.__index = window

local function new_window(limit, span)
  return setmetatable({
    limit = limit, span = span, width = span / BUCKETS,
    counts = {}, total = 0,
    oldest = nil, -- the first bucket that may hold permits
  }, window)
end

-- Forgets the permits that have left the window.
function window:advance(now)
  local first = math.floor(now / self.width) - BUCKETS
  while self.oldest and self.oldest < first do
    self.total = self.total - (self.counts[self.oldest] or 0)
    self.counts[self.oldest] = nil
    self.oldest = self.total > 0 and self.oldest + 1 or nil
  end
end

-- Seconds until there is a permit; 0 where there is one now.
function window:wait(now)
  self:advance(now)
  if self.total < self.limit then return 0 end
  while not self.counts[self.oldest] do self.oldest = self.oldest + 1 end
  return (self.oldest + 1 + BUCKETS) * self.width - now
end

function window:spend(now)
  local bucket = math.floor(now / self.width)
  self.counts[bucket] = (self.counts[bucket] or 0) + 1
  self.total = self.total + 1
  self.oldest = self.oldest or bucket
end

local pacer = {}
pacer.__index = pacer

--- Makes a pacer.
-- @param per_minute requests in any 60 s, or false
-- @param per_hour requests in any 3600 s, or false
function M.new(per_minute, per_hour)
  local self = setmetatable({ windows = {}, resume = -math.huge }, pacer)
  if per_minute then self.windows[1] = new_window(per_minute, 60) end
  if per_hour then self.windows[#self.windows + 1] = new_window(per_hour, 3600) end
  return self
end

--- Takes a permit, of all windows or of none.
-- @tparam number now seconds on a clock that is never set back
-- @treturn number 0 where it was taken, else the seconds until one may be there
function pacer:take(now)
  local wait = math.max(0, self.resume - now)
  for _, w in ipairs(self.windows) do wait = math.max(wait, w:wait(now)) end
  if wait > 0 then return wait end
  for _, w in ipairs(self.windows) do w:spend(now) end
  return 0
end

--- Gives no permit for a while. A shorter pause does not end a longer one.
-- @tparam number now
-- @tparam number seconds
function pacer:pause(now, seconds)
  self.resume = math.max(self.resume, now + seconds)
end

return M
