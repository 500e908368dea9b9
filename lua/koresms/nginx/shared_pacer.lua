--- The pacer inside nginx: one for all workers, in a dictionary that they share.
--
-- Permits are numbered from 1, and a record that never changes says when each was given. `add`
-- lets one process alone write the record of a number, so no lock is needed. Number n is given
-- only once number n - limit is older than the window: those whose numbers differ by a multiple
-- of the limit are a window apart, hence no window ever holds more than the limit.
-- luacheck: std ngx_lua

local pacer = require "koresms.pacer"

local M = {}

-- So many records stay besides those that are in use. A process that is killed between writing a
-- record and counting it leaves the count one behind for good, and the last number is then found
-- by going on from there.
local MARGIN = 64

-- Every DELETE_EVERY records, up to DELETED_MAX old ones are deleted: more than came, so that what
-- an older, larger limit left behind goes, too.
local DELETE_EVERY, DELETED_MAX = 8, 32

-- When the message that goes first after a pause began, or that it has passed, stands under this
-- name and the pause's number.
local FIRST, PASSED = "koresms:first:", 0

-- Of the dictionary's memory: a record, and what nginx keeps for itself.
local RECORD, OVERHEAD = 130, 16384

-- A list in the dictionary to which several processes append. Nothing in it expires by itself:
-- nginx measures that on the clock of the day, which may be set forward, and permits would then
-- be given twice. The dictionary is first touched when a message is about to be sent: a master
-- process that loads the configuration must never wait for a lock that a worker held when it
-- was killed.
local Log = {}
Log.__index = Log

-- `kept` is how many of the newest records whoever appends may ask for. `life` is for how many
-- seconds after its time a record may be asked for by somebody else, whose limit is larger; nil
-- where nobody does.
local function new_log(dict, name, kept, life)
  return setmetatable({ dict = dict, counter = name, prefix = name .. ":", first = name .. ":first",
    kept = kept, life = life }, Log)
end

function Log:read(n)
  return self.dict:get(self.prefix .. n)
end

-- The number of the last record.
function Log:last()
  local n = self.dict:get(self.counter) or 0
  while self:read(n + 1) do n = n + 1 end
  return n
end

function Log:is_in_use(value, now)
  return self.life ~= nil and value + self.life > now
end

-- Deletes some of the oldest records. What is older than the window alone would not do: a process
-- that looked at its clock a while ago could miss what it has to wait for, while a number that
-- is so far behind is asked for by none that can still get the number it wants. Several
-- processes may do this at once; at worst one of them writes an older `first`, and the next one
-- begins there.
local function delete_old(self, n, now)
  local oldest_kept = n - self.kept - MARGIN
  local first = self.dict:get(self.first) or math.max(1, oldest_kept - DELETED_MAX)
  local at = math.min(first, n)
  local stop = math.min(oldest_kept, at + DELETED_MAX)
  while at < stop do
    local value = self:read(at)
    if value and self:is_in_use(value, now) then break end
    self.dict:delete(self.prefix .. at)
    -- The log of pauses, which alone has no life, has a second key for each of them.
    if not self.life then self.dict:delete(FIRST .. at) end
    at = at + 1
  end
  if at ~= first then self.dict:safe_set(self.first, at) end
end

-- True; or false where another process has the number, with a text where there is no memory.
function Log:append(n, value, now)
  if n % DELETE_EVERY == 0 then delete_old(self, n, now) end
  local done, text = self.dict:safe_add(self.prefix .. n, value)
  if not done then return false, text ~= "exists" and text or nil end
  self.dict:incr(self.counter, 1, 0)
  return true
end

local no_windows = {}

local Shared = {}
Shared.__index = Shared

local function new_window(dict, name, limit, span)
  local life = span + pacer.GUARD
  return { limit = limit, reserve = math.floor(limit / pacer.RESERVE), life = life,
    permits = new_log(dict, name, limit, life) }
end

-- When permit n can be had by one who leaves `kept` of the limit to others.
local function due(window, n, kept)
  local before = window.permits:read(n - (window.limit - kept))
  return before and before + window.life or 0
end

-- Takes a permit of one window. Returns when to ask again, nil where it was taken.
local function spend(self, window, now, kept)
  while true do
    local n = window.permits:last() + 1
    local when = due(window, n, kept)
    if when > now then return when end
    local done, text = window.permits:append(n, now, now)
    if done then return nil end
    if text then
      ngx.log(ngx.ERR, "koresms: no message is sent, for lua_shared_dict ", self.name,
        " has no room for permits (", text, "); leave it to koresms alone, or make it larger")
      return now + 1
    end
  end
end

-- When to ask again, where another message goes first after a pause; nil where this one does, or
-- the first has passed.
local function wait_for_first(self, pause, now, job)
  local key, dict, probe = FIRST .. pause, self.pauses.dict, self.probe
  if probe and probe.key == key and probe.sender == pacer.sender(job) then return nil end
  local first = dict:get(key)
  if not first then
    local done, text = dict:safe_add(key, now)
    if done then
      dict:delete(FIRST .. pause - 1)
      self.probe = { sender = pacer.sender(job), key = key }
      return nil
    end
    if text ~= "exists" then return nil end
    first = now
  end
  if first == PASSED then return nil end
  if now < first + pacer.PROBE_MAX then return now + pacer.PROBE_INTERVAL end
  dict:replace(key, PASSED)
  return nil
end

--- As in koresms.pacer. After a pause one message of all workers goes first.
function Shared:take(now, stream, job)
  local last, windows = self.pauses:last(), job.permit and no_windows or self.windows
  local when = last > 0 and self.pauses:read(last) or 0
  for _, window in ipairs(windows) do
    when = math.max(when, due(window, window.permits:last() + 1, stream and window.reserve or 0))
  end
  if when > now then return when end
  when = last > 0 and wait_for_first(self, last, now, job)
  if when then return when end
  for _, window in ipairs(windows) do
    -- Another process may have been faster. What was taken of the first window is lost then.
    when = spend(self, window, now, stream and window.reserve or 0)
    if when then return when end
  end
  return nil
end

--- As in koresms.pacer.
function Shared:ended(job, passed)
  local probe = self.probe
  if probe.sender ~= pacer.sender(job) then return end
  self.probe = nil
  local dict = self.pauses.dict
  if passed then
    dict:replace(probe.key, PASSED)
  elseif dict:get(probe.key) ~= PASSED then
    dict:delete(probe.key)
  end
end

--- As in koresms.pacer; for all workers.
function Shared:pause(now, seconds)
  local resume = now + seconds
  while true do
    local last = self.pauses:last()
    if last > 0 and self.pauses:read(last) >= resume then return end
    local done, text = self.pauses:append(last + 1, resume, now)
    if done or text then return end
  end
end

--- As in koresms.pacer; for all workers.
function Shared:resume(now)
  while self:paused(now) do
    local last = self.pauses:last()
    local done, text = self.pauses:append(last + 1, now, now)
    if done then self.pauses.dict:safe_set(FIRST .. last + 1, PASSED) end
    if done or text then return end
  end
end

--- As in koresms.pacer.
function Shared:paused(now)
  local last = self.pauses:last()
  local resume = last > 0 and self.pauses:read(last) or 0
  return resume > now and resume - now or nil
end

-- How many permits of a window are in use: the records are in the order of their times.
local function used(window, now)
  local last = window.permits:last()
  local low, high = math.max(last - window.limit, 0), last
  while low < high do
    local middle = math.floor((low + high) / 2) + 1
    local given = window.permits:read(middle)
    if given and given + window.life > now then high = middle - 1 else low = middle end
  end
  return last - low
end

--- As in koresms.pacer.
function Shared:permits(now)
  local least
  for _, window in ipairs(self.windows) do
    least = math.min(least or math.huge, math.max(window.limit - used(window, now), 0))
  end
  return least and self:paused(now) and 0 or least
end

local function round_up(bytes)
  local kilobytes = math.ceil(bytes / 1024)
  return kilobytes < 1024 and kilobytes .. "k" or math.ceil(kilobytes / 1024) .. "m"
end

local function new_shared(settings)
  local name, per_minute, per_hour = settings.shared_dict, settings.per_minute, settings.per_hour
  local dict = ngx.shared[name]
  local need = OVERHEAD + RECORD * ((per_minute or 0) + (per_hour or 0) + 3 * MARGIN)
  local where = settings.where.shared_dict
  if not dict then
    return nil, ("%s: nginx has no shared dictionary '%s'; add the directive "
      .. "`lua_shared_dict %s %s;` to the block http"):format(where, name, name, round_up(need))
  end
  if dict:capacity() < need then
    return nil, ("%s: the shared dictionary '%s' is too small for the limits; make it "
      .. "`lua_shared_dict %s %s;` at least"):format(where, name, name, round_up(need))
  end
  local self = setmetatable({ name = name, windows = {},
    pauses = new_log(dict, "koresms:pause", 1) }, Shared)
  if per_minute then self.windows[1] = new_window(dict, "koresms:minute", per_minute, 60) end
  if per_hour then
    self.windows[#self.windows + 1] = new_window(dict, "koresms:hour", per_hour, 3600)
  end
  return self
end

local warned = false

-- The pacer of one worker alone, which says so when it is first asked.
local function new_own(settings)
  local made = pacer.new(settings.per_minute, settings.per_hour)
  if #made.windows == 0 then return made end
  function made:take(...)
    self.take = nil
    local workers = ngx.worker.count()
    if workers > 1 and not warned then
      warned = true
      ngx.log(ngx.WARN, "koresms: each of ", workers, " workers keeps to the limit by itself, so ",
        "that together they send up to ", workers, " times as much; give the setting ",
        "shared_dict (KORESMS_SHARED_DICT) the name of a lua_shared_dict")
    end
    return self:take(...)
  end
  return made
end

--- Makes the pacer of a client.
-- @tparam table settings
-- @treturn[1] table with the methods of koresms.pacer's
-- @treturn[2] nil
-- @treturn[2] string what is wrong with the dictionary
function M.open(settings)
  if settings.shared_dict then return new_shared(settings) end
  return new_own(settings)
end

return M
