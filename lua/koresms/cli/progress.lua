--- How far a bulk send has come: a line on a terminal, counts and times for people.
local clock = require("koresms.core").clock
local terminal = require "koresms.cli.terminal"

local M = {}

-- Outcomes, and what they are called; in short where a line is narrow.
local outcomes = {
  { "accepted", "accepted", "acc" }, { "rejected", "rejected", "rej" },
  { "not_sent", "not sent", "not" }, { "unknown", "unknown", "unk" },
}

--- Seconds for people: 0:07, 1:02:03, 2d 03:04:05.
function M.duration(seconds)
  local s = math.max(0, math.floor(seconds + 0.5))
  local d, h, m = math.floor(s / 86400), math.floor(s / 3600) % 24, math.floor(s / 60) % 60
  if d > 0 then return ("%dd %02d:%02d:%02d"):format(d, h, m, s % 60) end
  if h > 0 then return ("%d:%02d:%02d"):format(h, m, s % 60) end
  return ("%d:%02d"):format(m, s % 60)
end

-- Messages a second, for people.
local function speed(rate)
  if rate >= 10 then return ("%.0f/s"):format(rate) end
  if rate >= 1 then return ("%.1f/s"):format(rate) end
  return ("%.1f/min"):format(rate * 60)
end

local progress = {}
progress.__index = progress

--- Begins to count.
-- @tparam number total messages to come
-- @tparam table pacer the client's
-- @tparam ?boolean quiet draw nothing
-- @treturn table
function M.new(total, pacer, quiet)
  return setmetatable({ total = total, pacer = pacer, done = 0, counts = {}, began = clock(),
    line = terminal.line(quiet) }, progress)
end

--- Counts a result, or several.
function progress:count(outcome, number)
  number = number or 1
  self.done = self.done + number
  self.counts[outcome] = (self.counts[outcome] or 0) + number
end

function progress:counted(outcome)
  return self.counts[outcome] or 0
end

function progress:elapsed()
  return clock() - self.began
end

-- Results a second so far.
local function rate_of(self)
  return self.done / math.max(self:elapsed(), 0.001)
end

--- How fast it went so far, for people.
function progress:speed()
  return speed(rate_of(self))
end

--- The counts for people, by outcome.
function progress:text(short)
  local parts = {}
  for i, row in ipairs(outcomes) do
    parts[i] = ("%s %d"):format(row[short and 3 or 2], self:counted(row[1]))
  end
  return table.concat(parts, "  ")
end

-- What keeps messages from starting, and for how long.
local function wait_of(self)
  local now = clock()
  local paused, due = self.pacer:paused(now), self.pacer:due(now, true)
  if paused then return ("goes on in %s (the platform's limit)"):format(M.duration(paused)) end
  if due then return ("goes on in %s (per_minute, per_hour)"):format(M.duration(due - now)) end
end

-- The line for a width.
local function text_of(self, width)
  local left, eta = self.total - self.done, "?"
  if self.done > 0 then
    eta = M.duration(math.max(left / rate_of(self), self.pacer:least_time(left, true)))
  end
  local waits = left > 0 and wait_of(self)
  local text, room
  for _, short in ipairs({ false, true }) do
    text = ("%d/%d  %s  %s  ETA %s%s"):format(self.done, self.total, self:speed(),
      self:text(short), eta, waits and "  " .. waits or "")
    if #text > width and waits then
      text = ("%d/%d  %s  %s"):format(self.done, self.total, self:text(short), waits)
    end
    room = math.min(30, width - #text - 4)
    if room >= 5 then break end
  end
  if room < 5 then return text end
  local full = math.floor(room * self.done / math.max(1, self.total))
  return "[" .. ("#"):rep(full) .. ("-"):rep(room - full) .. "]  " .. text
end

--- Draws the line, where there is a terminal and it is time to.
function progress:draw()
  self.line:draw(function(width) return text_of(self, width) end)
end

--- Takes the line away, so that other text can be written.
function progress:clear() self.line:clear() end

--- Makes room for a result, where it goes to the same terminal.
function progress:make_way() self.line:make_way() end

return M
