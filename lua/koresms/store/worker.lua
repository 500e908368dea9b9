--- A worker: takes messages out of a store, and puts back what became of them.
--
-- One turn is one transaction: it stores what has ended, takes permits, and marks rows as
-- `sending`; those rows, and no others, then leave at once. An ending leaves memory when its
-- transaction is known to have been committed. Where the answer to a turn is lost, nobody knows
-- whether it took effect: nothing is repaired, the worker goes on under a new number, and what
-- it may have marked under the old one is found by the sweep once that number's lease is over.
-- Endings of rows are stored under the number that took them.
--
-- Whoever changes this changes spec/model/outbox.pml first.
-- @module koresms.store.worker
local cjson = require "cjson"
local core = require "koresms.core"
local limits = require "koresms.store.limits"
local origin = require "koresms.store.origin"

local M = {}

local clock = core.clock
local json = cjson.new()

--- Seconds for which a worker is taken for alive after its last sign. It renews its lease, and
-- looks for the dead, six times as often.
M.LEASE = 60

local function interval() return M.LEASE / 6 end

--- Seconds that a message of a worker may take at most: what was stopped for longer than a lease
-- must not leave when it goes on, since a person may have had it sent again.
function M.timeout_max() return M.LEASE / 2 end

local RETRY_INTERVAL = 1

--- Seconds without the store after which a worker ends.
M.PATIENCE = 60

-- A permit is kept for its window and so many seconds more, and its message leaves at least
-- SLACK before that. Where the store takes longer, the margin grows.
local MARGIN, SLACK = 1.0, 0.5
M.MARGIN_MAX = 30

-- Milliseconds by which the wall clock may wander from ours between two turns.
local SHIFT = 200

local Worker = {}
Worker.__index = Worker

-- 53 random bits: never the same number twice.
local function new_number()
  local id, why = core.random_id()
  if not id then return nil, why end
  return tonumber(id:sub(1, 13), 16) * 2 + tonumber(id:sub(14, 14), 16) % 2
end

local function host_name()
  local file = io.open("/proc/sys/kernel/hostname")
  local text = file and file:read("*l")
  if file then file:close() end
  return text or "?"
end

-- Takes a number that nobody had, and a lease for it.
local function register(self)
  local number, text = new_number()
  if not number then return nil, text, "random" end
  local ok, code
  ok, text, code = self.link:run("lease", number, self.name, M.LEASE)
  if not ok then return nil, text, code end
  self.number = number
  self.renew_at = clock() + interval()
  origin.remember(self.link, number)
  return true
end

local function load_account(self)
  local rows, text, code = self.link:run("account")
  if not rows then return nil, text, code end
  self.account = rows[1]
  return true
end

-- Nothing is sent from a copy that may lack the last marks.
local function check_origin(self)
  local original, text, code = origin.is_original(self.link)
  if original then return true end
  if original == nil then return nil, text, code end
  origin.pause_all(self.link)
  return nil, origin.REASON, "restored"
end

-- What a connection needs before its first turn.
local function enter(self)
  local ok, text, code = check_origin(self)
  if ok then ok, text, code = register(self) end
  if ok then ok, text, code = load_account(self) end
  if not ok then return nil, text, code end
  self.conn = self.link.conn
  -- Others could not renew their leases either while the database was away.
  self.sweep_at = clock() + (self.alone and 0 or M.LEASE)
  return true
end

--- Makes a worker.
-- @tparam table link an open one
-- @tparam string kind "run" or "send"
-- @tparam boolean alone whether no other worker of this kind can be alive
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
function M.new(link, kind, alone)
  local self = setmetatable({
    link = link, alone = alone, name = ("%s %s"):format(kind, host_name()),
    margin = MARGIN, endings = {}, stored = {}, failing_since = nil, retry_at = 0,
    offset = core.time() - clock(),
  }, Worker)
  local ok, text = enter(self)
  if not ok then return nil, text end
  if alone then
    ok, text = link:run("end_leases", self.number)
    if not ok then return nil, text end
  end
  return self
end

--- The store did not answer as it should. What is known is kept; it is tried again later.
function Worker:failed(text, code)
  local now = clock()
  self.failing_since = self.failing_since or now
  self.problem = text
  self.retry_at = now + RETRY_INTERVAL
  self.fatal = self.fatal or code == "restored" or code == "newer" or code == "none"
    or code == "settings"
  -- With the connection goes the number: a statement of this one may yet be carried out.
  if self.link:is_lost(code) then self.link:close() end
  if not self.link.conn then self.conn = nil end
  return nil
end

local function recovered(self)
  self.failing_since, self.problem = nil, nil
  return true
end

--- Has the store failed for so long that the worker ends?
function Worker:is_over()
  return self.fatal or self.failing_since and clock() - self.failing_since > M.PATIENCE
end

--- Makes the connection good again, where it is time to. Returns whether it is. A connection that
-- others have opened meanwhile gets a new number, too.
function Worker:ready()
  local same = self.conn ~= nil and self.link:connection() == self.conn
  if same and not self.failing_since then return true end
  if self.fatal or clock() < self.retry_at then return false end
  if same then return true end
  local ok, text, code = self.link:open()
  if ok then ok, text, code = enter(self) end
  if ok then return recovered(self) end
  self:failed(text, code)
  self.link:close()
  self.conn = nil
  return false
end

-- Runs a statement of upkeep; returns whether it went well.
local function keep(self, name, ...)
  local rows, text, code = self.link:run(name, ...)
  if rows then return rows end
  return self:failed(text, code)
end

--- Renews the lease and looks for what dead workers left, each where it is time to.
function Worker:upkeep()
  if not self:ready() then return false end
  local now = clock()
  if now >= self.renew_at then
    if not keep(self, "lease", self.number, self.name, M.LEASE) then return false end
    self.renew_at = now + interval()
  end
  if now >= self.sweep_at then
    for _, name in ipairs { "sweep", "skip_cancelled", "pull_permits" } do
      if not keep(self, name) then return false end
    end
    self.sweep_at = now + interval()
  end
  return true
end

-- Milliseconds by which the wall clock was set; nil where it was not.
local function clock_shift(self)
  local offset = core.time() - clock()
  local shift = math.floor((offset - self.offset) * 1000 + 0.5)
  if math.abs(shift) < SHIFT then return nil end
  return shift, offset
end

local function null_or(text)
  return text and json.encode(text) or "null"
end

local function encode(ending, bare)
  return ('{"i":"%.0f","n":%d,"k":"%.0f","s":"%s","c":%s,"d":%s,"w":%d}'):format(ending.id,
    ending.attempt, ending.worker, ending.state, null_or(ending.code),
    bare and "null" or null_or(ending.detail), ending.wait)
end

local function encode_all(endings, bare)
  local parts = {}
  for i, ending in ipairs(endings) do parts[i] = encode(ending, bare) end
  return "[" .. table.concat(parts, ",") .. "]"
end

-- One transaction. Returns its rows.
local function run_turn(self, results, campaign, free)
  local account = self.account
  local shift, offset = clock_shift(self)
  local pause = self.pause
  local rows, text, code = self.link:turn {
    results = results, worker = self.number, free = pause and 0 or free, campaign = campaign,
    keep_minute = limits.reserve(account.per_minute), keep_hour = limits.reserve(account.per_hour),
    minute = account.per_minute ~= nil, hour = account.per_hour ~= nil, margin = self.margin,
    pause = pause and pause.seconds, pause_reason = pause and pause.reason, shift = shift,
  }
  if not rows then return nil, text, code end
  if shift then self.offset = offset end
  self.pause = nil
  return rows
end

-- The endings from the first on are stored: they may be told.
local function confirm(self, count)
  for i = 1, count do
    local ending = self.endings[i]
    if ending.result then self.stored[#self.stored + 1] = ending.result end
  end
  local left = {}
  for i = count + 1, #self.endings do left[#left + 1] = self.endings[i] end
  self.endings = left
end

-- One ending that the database does not take must not keep the others from being stored.
local function store_one_by_one(self)
  while #self.endings > 0 do
    local ending = self.endings[1]
    local rows, text, code = run_turn(self, encode_all { ending }, 0, 0)
    if not rows and self.link:is_bad_data(code) then
      rows, text, code = run_turn(self, encode_all({ ending }, true), 0, 0)
      if not rows and self.link:is_bad_data(code) then
        -- Its row stays `sending`, and becomes `unknown`.
        self.complaint, rows = text, {}
        ending.result = nil
      end
    end
    if not rows then return self:failed(text, code) end
    confirm(self, 1)
  end
  return recovered(self)
end

-- The margin follows how long the store takes.
local function adapt(self, late)
  if late then
    self.margin = math.min(self.margin * 2, M.MARGIN_MAX)
  else
    self.margin = math.max(self.margin * 0.99, MARGIN)
  end
end

--- Messages that were marked could not start in time.
function Worker:was_late()
  adapt(self, true)
end

--- One turn.
-- @tparam number campaign its id; 0: none
-- @tparam number free how many messages could start at once
-- @treturn ?table the rows that may start now, each with `start_before`; nil where the store
--   failed
function Worker:turn(campaign, free)
  if not self:ready() then return nil end
  local count, began = #self.endings, clock()
  local rows, text, code = run_turn(self, encode_all(self.endings), campaign, free)
  if not rows then
    if count > 0 and self.link:is_bad_data(code) then
      if not store_one_by_one(self) then return nil end
      return {}
    end
    return self:failed(text, code)
  end
  recovered(self)
  confirm(self, count)
  local start_before = began + self.margin - SLACK
  local in_time = clock() < start_before
  if #rows > 0 then adapt(self, not in_time) end
  local starting = {}
  for _, row in ipairs(rows) do
    if row.state == "sending" then
      row.worker, row.start_before, row.campaign = self.number, start_before, campaign
      if in_time then starting[#starting + 1] = row else self:give_back(row) end
    end
  end
  return starting
end

--- A row that was marked, and of which no byte has left, goes back.
function Worker:give_back(row)
  self:finish(row, { state = "pending", wait = 0 })
end

--- Keeps what became of a row, until it is stored.
-- @tparam table row
-- @tparam table ending `state`, `wait`, and where there is one `code`, `detail` and `result`, which
--   is told once it is stored
function Worker:finish(row, ending)
  ending.id, ending.attempt, ending.worker = row.id, row.attempts, row.worker
  self.endings[#self.endings + 1] = ending
end

--- Looks at a campaign; the row of the statement `look`. nil where the store failed.
function Worker:look(campaign)
  if not self:ready() then return nil end
  local account = self.account
  local rows = keep(self, "look", campaign, limits.reserve(account.per_minute),
    limits.reserve(account.per_hour), self.number)
  if not rows then return nil end
  local row = rows[1]
  if not row then return { state = "gone" } end
  for _, name in ipairs { "sending", "alive", "original" } do
    row[name] = row[name] == true or row[name] == 1
  end
  if not row.original then
    origin.pause_all(self.link)
    return self:failed(origin.REASON, "restored")
  end
  if not row.alive then self.renew_at = 0 end
  account.per_minute, account.per_hour = row.per_minute, row.per_hour
  return row
end

--- Pauses a campaign that runs, with a reason; whether that could be written down.
function Worker:pause_campaign(campaign, reason)
  if not self:ready() then return false end
  local rows = keep(self, "set_state", campaign, "paused", reason, "running")
  return rows and (rows.changes == 0 or keep(self, "event", campaign, "pause", reason)) and true
    or false
end

--- All wait, from the next turn on.
function Worker:pause_account(seconds, reason)
  if not self.pause or self.pause.seconds < seconds then
    self.pause = { seconds = seconds, reason = reason }
  end
end

--- Ends the worker. Its lease goes where it has stored all that it knows.
function Worker:close()
  if self.conn and self.link:connection() == self.conn and #self.endings == 0
    and not self.failing_since then
    self.link:run("lease", self.number, self.name, -1)
  end
end

return M
