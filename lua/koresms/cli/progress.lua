--- How far a bulk send has come: a line on a terminal, counts and times for people.
local clock = require("koresms.core").clock

local M = {}

-- Seconds between two drawings.
local OFTEN = 0.2

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

-- Whether a descriptor is a terminal; and how many columns it has.
local function terminal(descriptor)
  local ok = os.execute("[ -t " .. descriptor .. " ]")
  return ok == true or ok == 0
end

local function columns()
  local pipe = io.popen("stty size 2>/dev/null <&2")
  local text = pipe and pipe:read("*a") or ""
  if pipe then pipe:close() end
  local width = tonumber(text:match("^%d+ (%d+)"))
  return width and width > 0 and width or 80
end

local progress = {}
progress.__index = progress

--- Begins to count.
-- @tparam number total messages to come
-- @tparam table pacer the client's
-- @treturn table
function M.new(total, pacer)
  local drawing = terminal(2)
  return setmetatable({
    total = total, pacer = pacer, done = 0, counts = {},
    began = clock(), drawn = 0, -- columns of the line that stands there
    drawing = drawing, width = drawing and columns(),
    shared = drawing and terminal(1), -- results go to the same terminal
    again = 0, -- when to draw
  }, progress)
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

local function line(self)
  local left, eta = self.total - self.done, "?"
  if self.done > 0 then
    eta = M.duration(math.max(left / rate_of(self), self.pacer:least_time(left, true)))
  end
  local text, room
  for _, short in ipairs({ false, true }) do
    text = ("%d/%d  %s  %s  ETA %s"):format(self.done, self.total, self:speed(),
      self:text(short), eta)
    room = math.min(30, self.width - 1 - #text - 4)
    if room >= 5 then break end
  end
  if room >= 5 then
    local full = math.floor(room * self.done / math.max(1, self.total))
    text = "[" .. ("#"):rep(full) .. ("-"):rep(room - full) .. "]  " .. text
  end
  -- A line that wraps could not be drawn over.
  return text:sub(1, self.width - 1)
end

--- Draws the line, where there is a terminal and it is time to.
function progress:draw()
  if not self.drawing or clock() < self.again then return end
  local text = line(self)
  io.stderr:write("\r", text, (" "):rep(self.drawn - #text))
  self.drawn, self.again = math.max(self.drawn, #text), clock() + OFTEN
  self.visible = true
end

--- Takes the line away, so that other text can be written.
function progress:clear()
  if not self.visible then return end
  io.stderr:write("\r", (" "):rep(self.drawn), "\r")
  self.drawn, self.visible = 0, false
end

--- Makes room for a result, where it goes to the same terminal.
function progress:make_way()
  if self.shared then self:clear() end
end

return M
