--- Whose turn it is: the campaigns of a worker, one after another, the outbox before each; and
-- what each of them waits for.
-- @module koresms.store.rota
local clock = require("koresms.core").clock
local output = require "koresms.store.text"

local M = {}

-- Seconds between two looks at a campaign that has nothing to send; and where others were quicker.
local POLL, BUSY = 0.5, 0.05

-- Seconds that rows of another worker are waited for: its lease, and a sweep.
local OTHERS = 70

local OUTBOX = 1

local Rota = {}
Rota.__index = Rota

local function add(self, row)
  if self.by_id[row.id] then return end
  local campaign = { id = row.id, name = row.name, again = 0, state = row.state,
    reason = row.reason }
  self.by_id[row.id] = campaign
  if row.id == OUTBOX then self.outbox = campaign else self.list[#self.list + 1] = campaign end
end

-- All campaigns that run. Those that begin to later are found by a worker that stays.
local function refresh(self)
  local rows, text = self.link:run("campaigns")
  if not rows then return nil, text end
  for _, row in ipairs(rows) do
    if row.state == "running" then add(self, row) end
  end
  self.refresh_at = clock() + 2
  return true
end

--- Makes a rota.
-- @tparam table link
-- @tparam ?table names of campaigns; nil: all that run
-- @tparam ?boolean stay whether more may come
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
function M.new(link, names, stay)
  local self = setmetatable({ link = link, stay = stay or false, all = names == nil, by_id = {},
    list = {}, place = 0, refresh_at = 0 }, Rota)
  if not names then
    local ok, text = refresh(self)
    if not ok then return nil, text end
    return self
  end
  for _, name in ipairs(names) do
    local rows, text = link:run("campaign", name)
    if not rows then return nil, text end
    if not rows[1] then
      return nil, ("no campaign is called %s in store %s"):format(output.name(name),
        link.location.shown)
    end
    add(self, rows[1])
  end
  return self
end

function Rota:name(id)
  return self.by_id[id] and self.by_id[id].name
end

--- How many campaigns there are.
function Rota:count()
  return #self.list + (self.outbox and 1 or 0)
end

local function is_due(campaign, now)
  return campaign and not campaign.over and campaign.again <= now
end

--- The campaign whose turn it is; nil where all wait.
function Rota:next()
  local now = clock()
  if self.all and self.stay and now >= self.refresh_at and self.link.conn then refresh(self) end
  if is_due(self.outbox, now) then return self.outbox end
  local count = #self.list
  for _ = 1, count do
    self.place = self.place % count + 1
    if is_due(self.list[self.place], now) then return self.list[self.place] end
  end
end

-- Each of these returns seconds to wait and why, where it is the reason that nothing was taken.
local reasons = {
  function(found)
    if found.state ~= "running" then return POLL, "campaign " .. found.state end
  end,
  function(found)
    if found.paused and found.paused > 0 then
      return math.min(found.paused, POLL), ("account paused for %.0f s: %s"):format(found.paused,
        found.pause_reason or "")
    end
  end,
  function(found)
    if not found.due then return POLL, "nothing to send" end
    if found.due > 0 then return math.min(found.due, POLL), "next attempt" end
  end,
  function(found)
    local wait = math.max(found.per_minute and found.minute or 0,
      found.per_hour and found.hour or 0)
    if wait > 0 then return math.min(wait, POLL), "quota" end
  end,
}

-- Whether a campaign from which nothing was taken has nothing (more) for this run.
local function is_over(self, campaign, found, flying)
  if self.stay then return found.state == "cancelled" and not found.sending end
  if found.state ~= "running" then return not flying end
  if found.due then return false end
  if not found.sending then return true end
  if flying then
    campaign.others_since = nil
    return false
  end
  campaign.others_since = campaign.others_since or clock()
  return clock() - campaign.others_since > OTHERS
end

--- Nothing was taken from a campaign.
-- @tparam table campaign
-- @tparam table found of the statement `look`
-- @tparam boolean flying whether this worker has messages in flight
function Rota:seen(campaign, found, flying)
  campaign.state, campaign.reason = found.state, found.reason
  campaign.pending = found.due ~= nil
  if found.due then campaign.others_since = nil end
  if is_over(self, campaign, found, flying) then
    campaign.over = true
    return
  end
  local wait, why = BUSY, "others"
  for _, reason in ipairs(reasons) do
    local seconds, text = reason(found)
    if seconds then
      wait, why = seconds, text
      break
    end
  end
  self.waits = why
  campaign.again = clock() + math.max(wait, 0.001)
end

--- A campaign's state was changed by this worker.
function Rota:look_again(id)
  local campaign = self.by_id[id]
  if campaign then campaign.again = 0 end
end

--- Is there nothing more to wait for?
function Rota:is_done()
  if self.stay then return false end
  if self.outbox and not self.outbox.over then return false end
  for _, campaign in ipairs(self.list) do
    if not campaign.over then return false end
  end
  return true
end

--- When the next campaign is to be asked.
function Rota:when()
  local soonest = clock() + POLL
  for _, campaign in pairs(self.by_id) do
    if not campaign.over and campaign.again < soonest then soonest = campaign.again end
  end
  return soonest
end

--- How the run ended: `left` says whether a campaign has messages that were not taken.
-- @tparam boolean stopped
-- @treturn table
function Rota:summary(stopped)
  local names, left = {}, stopped or false
  for _, campaign in pairs(self.by_id) do
    names[#names + 1] = campaign.name
    if campaign.pending or not campaign.over then left = true end
  end
  return { campaigns = names, left = left }
end

return M
