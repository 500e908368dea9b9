--- The pacer inside nginx: one for all workers, in a dictionary that they share.
--
-- Permits are numbered from 1, and a record that never changes says when each was given. `add`
-- lets one process alone write the record of a number, so no lock is needed. Number n is given
-- only once number n - limit is older than the window: those whose numbers differ by a multiple
-- of the limit are a window apart, hence no window ever holds more than the limit.
-- luacheck: std ngx_lua

local pacer = require "koresms.pacer"

local M = {}

-- What is older than anybody asks for is deleted, but for so many records. A process that is
-- killed between writing a record and counting it leaves the count one behind for good, and
-- the last number is then found by going on from there.
local MARGIN = 64

-- A record that nobody deletes, because the limit was larger when it was written, goes after so
-- many windows. nginx measures that on the clock of the day, so it has to be a long time.
M.STALE = 10

-- Of the dictionary's memory: a record, and what nginx keeps for itself.
local RECORD, OVERHEAD = 130, 16384

-- A list in the dictionary to which several processes append.
local Log = {}
Log.__index = Log

local function new_log(dict, name, kept, lifetime)
  dict:safe_add(name, 0)
  return setmetatable({ dict = dict, counter = name, prefix = name .. ":", kept = kept,
    lifetime = lifetime or 0 }, Log)
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

-- True; or false where another process has the number, with a text where there is no memory.
function Log:append(n, value)
  local done, text = self.dict:safe_add(self.prefix .. n, value, self.lifetime)
  if not done then return false, text ~= "exists" and text or nil end
  self.dict:incr(self.counter, 1)
  self.dict:delete(self.prefix .. (n - self.kept))
  return true
end

local Shared = {}
Shared.__index = Shared

local function new_window(dict, name, limit, span)
  return { limit = limit, reserve = math.floor(limit / pacer.RESERVE), life = span + pacer.GUARD,
    permits = new_log(dict, name, limit + MARGIN, M.STALE * span) }
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
    local done, text = window.permits:append(n, now)
    if done then return nil end
    if text then
      ngx.log(ngx.ERR, "koresms: no message is sent, for lua_shared_dict ", self.name,
        " has no room for permits (", text, "); leave it to koresms alone, or make it larger")
      return now + 1
    end
  end
end

--- As in koresms.pacer.
function Shared:take(now, stream)
  local last = self.pauses:last()
  local when = last > 0 and self.pauses:read(last) or 0
  for _, window in ipairs(self.windows) do
    when = math.max(when, due(window, window.permits:last() + 1, stream and window.reserve or 0))
  end
  if when > now then return when end
  for _, window in ipairs(self.windows) do
    -- Another process may have been faster. What was taken of the first window is lost then.
    when = spend(self, window, now, stream and window.reserve or 0)
    if when then return when end
  end
  return nil
end

--- As in koresms.pacer; for all workers.
function Shared:pause(now, seconds)
  local resume = now + seconds
  while true do
    local last = self.pauses:last()
    if last > 0 and self.pauses:read(last) >= resume then return end
    local done, text = self.pauses:append(last + 1, resume)
    if done or text then return end
  end
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
    pauses = new_log(dict, "koresms:pause", MARGIN) }, Shared)
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
