--- The pacer: how many requests may begin in any rolling minute and hour.
--
-- A window is cut into buckets, so that its memory does not grow with its limit. A permit
-- counts until its whole bucket is older than the window, and a little longer: never more
-- than the limit in any rolling window, and at least 98 % of it in the long run. Times are
-- given by the caller.
local M = {}

local BUCKETS = 1000

-- Requests do not take equally long to arrive: what leaves 60 s apart may arrive closer.
local GUARD = 0.1

-- After a pause one message goes first. The others ask again so often (seconds) whether it has
-- passed, and no longer wait for it after so many.
local PROBE_INTERVAL, PROBE_MAX = 0.05, 1

local running, status = coroutine.running, coroutine.status

-- One permit in so many is kept for single sends, so that a stream never starves them.
local RESERVE = 60

M.GUARD, M.RESERVE, M.PROBE_INTERVAL, M.PROBE_MAX = GUARD, RESERVE, PROBE_INTERVAL, PROBE_MAX

local window = {}
window.__index = window

local function new_window(limit, span)
  return setmetatable({
    limit = limit, reserve = math.floor(limit / RESERVE),
    width = span / BUCKETS, life = span + GUARD,
    counts = {}, total = 0,
    oldest = nil, -- the first bucket that may hold permits
    changing = false, -- still set where an error broke a change off
  }, window)
end

-- Makes what follows from the buckets' counts again.
function window:recount()
  local total, oldest = 0, nil
  for bucket, count in pairs(self.counts) do
    total = total + count
    if not oldest or bucket < oldest then oldest = bucket end
  end
  self.total, self.oldest, self.changing = total, oldest, false
end

-- When the permits of a bucket have left the window.
function window:ending(bucket)
  return (bucket + 1) * self.width + self.life
end

function window:advance(now)
  if self.changing then self:recount() end
  while self.oldest and self:ending(self.oldest) <= now do
    self.changing = true
    self.total = self.total - (self.counts[self.oldest] or 0)
    self.counts[self.oldest] = nil
    self.oldest = self.total > 0 and self.oldest + 1 or nil
    self.changing = false
  end
end

-- When to ask again; nil where there is a permit now.
function window:full(now, kept)
  self:advance(now)
  if self.total + kept < self.limit then return nil end
  while not self.counts[self.oldest] do self.oldest = self.oldest + 1 end
  return self:ending(self.oldest)
end

function window:spend(now)
  local bucket = math.floor(now / self.width)
  self.changing = true
  self.counts[bucket] = (self.counts[bucket] or 0) + 1
  self.total = self.total + 1
  self.oldest = self.oldest or bucket
  self.changing = false
end

local pacer = {}
pacer.__index = pacer

--- Makes a pacer.
-- @param per_minute requests in any 60 s, or false
-- @param per_hour requests in any 3600 s, or false
function M.new(per_minute, per_hour)
  local self = setmetatable({ windows = {}, resume_at = 0 }, pacer)
  if per_minute then self.windows[1] = new_window(per_minute, 60) end
  if per_hour then self.windows[#self.windows + 1] = new_window(per_hour, 3600) end
  return self
end

--- A pacer that gives each permit, and knows no pause: somebody else paces.
function M.unlimited()
  local self = M.new(false, false)
  function self.pause() end
  return self
end

--- Who sends a message: of a stream the job itself, since one coroutine may start many; else the
-- coroutine, since one that asks again is not waiting for what it sent before.
-- @tparam table job
-- @return a table, a coroutine, or "main" where Lua 5.1 has no name for it
function M.sender(job)
  return job.index and job or running() or "main"
end

-- Whether the message is under way that goes first after a pause: not where it was broken off.
local function is_out(probe, sender)
  local first = probe.sender
  if not first or first == sender then return false end
  if type(first) == "thread" then return status(first) ~= "dead" end
  return not first.told
end

-- When all windows have a permit; nil where they do now.
local function full_until(self, now, stream)
  local windows, when = self.windows, nil
  for i = 1, #windows do
    local full = windows[i]:full(now, stream and windows[i].reserve or 0)
    if full and not (when and when > full) then when = full end
  end
  return when
end

--- When a permit can be had.
-- @tparam number now
-- @tparam ?boolean stream
-- @treturn ?number nil where it is now
function pacer:due(now, stream)
  return self.resume_at > now and self.resume_at or full_until(self, now, stream)
end

--- Takes a permit, of all windows or of none. After a pause one message goes first, whether it has
-- its permit already or not.
-- @tparam number now seconds on a clock that is never set back
-- @tparam boolean stream leave the share of single sends alone
-- @tparam table job whose permit it is: `permit` is whether it has one, `index` is set in a stream,
--   `told` once it has ended
-- @treturn ?number nil where it was taken, else the time at which to ask again, on the
--   same clock
function pacer:take(now, stream, job)
  if self.resume_at > now then return self.resume_at end
  local probe, sender = self.probe, nil
  if probe and probe.sender and probe.ends <= now then
    -- Nobody takes its place: where answers take longer, each would hold up the next.
    probe, self.probe = nil, nil
  end
  if probe then
    sender = M.sender(job)
    if is_out(probe, sender) then return now + PROBE_INTERVAL end
  end
  if not job.permit then
    local when, windows = full_until(self, now, stream), self.windows
    if when then return when end
    for i = 1, #windows do windows[i]:spend(now) end
  end
  if probe then self.probe = { sender = sender, ends = now + PROBE_MAX } end
  return nil
end

--- Gives no permit for a while, and then one alone until its request has ended. A shorter pause
-- does not end a longer one.
-- @tparam number now
-- @tparam number seconds
function pacer:pause(now, seconds)
  self.resume_at = math.max(self.resume_at, now + seconds)
  self.probe = {}
end

--- A request has ended.
-- @tparam table job
-- @tparam boolean passed whether the platform has answered, and does not throttle
function pacer:ended(job, passed)
  local probe = self.probe
  if probe and probe.sender == M.sender(job) then self.probe = not passed and {} or nil end
end

--- Permits that could be had at once.
-- @tparam number now
-- @treturn ?number nil where there is no limit
function pacer:permits(now)
  local least
  for _, w in ipairs(self.windows) do
    w:advance(now)
    least = math.min(least or math.huge, math.max(w.limit - w.total, 0))
  end
  return least and self.resume_at > now and 0 or least
end

--- Ends a pause.
function pacer:resume()
  self.resume_at = 0
  self.probe = nil
end

--- The least time in which the limits let so many messages of a stream begin.
-- @tparam number count
-- @tparam ?boolean used_up whether the limits are used up already: else the first window is free
--   at once
-- @treturn number seconds
function pacer:least_time(count, used_up)
  local seconds = 0
  for _, w in ipairs(self.windows) do
    local share = w.limit - w.reserve
    local windows = used_up and count / share or math.floor((count - 1) / share)
    seconds = math.max(seconds, windows * (w.life + w.width))
  end
  return count > 0 and seconds or 0
end

--- Seconds for which no permit is given, because of a pause.
-- @tparam number now
-- @treturn ?number nil where there is no pause
function pacer:paused(now)
  return self.resume_at > now and self.resume_at - now or nil
end

return M
