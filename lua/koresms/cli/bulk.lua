--- Sends the rows of an input, and says what became of each.
--
-- SIGINT, SIGTERM and SIGHUP are only counted meanwhile: the source then ends, and what is in
-- flight is waited for.
local core = require "koresms.core"
local session_of = require("koresms.client").session
local number_set = require "koresms.cli.number_set"
local output = require "koresms.cli.output"
local progress = require "koresms.cli.progress"
local checked_io = require "koresms.cli.checked_io"

local M = {}

local PAUSED, SOME_NOT, SOME_UNKNOWN = 5, 1, output.exit_status.unknown

-- Fields of a result with --json, before `input`.
local fields = {}
for i, field in ipairs(output.result_fields) do fields[i] = field end
fields[#fields + 1] = "index"
fields[#fields + 1] = "line"

-- The progress line that is drawn now, if any: what else is printed must not run into it.
local drawn

--- Takes the progress line away for a while.
function M.make_way()
  if drawn then drawn:clear() end
end

local function tell(self, text)
  self.progress:clear()
  output.complain(text)
end

-- Does what a first signal asks for. Returns how many there were.
local function look(self)
  local times = core.interrupted()
  if times > 0 and not self.interrupted then
    self.interrupted = true
    tell(self, "interrupted: nothing more is started, what is in flight is waited for "
      .. "(once more gives it up)")
    self.stopped = true
  end
  return times
end

-- The next row that is to be sent; nil at the end.
local function next_row(self)
  while not self.fault do
    local row, why = self.input:next()
    if not row then
      self.fault = why
      return nil
    end
    if row.fault then
      if not self.skip_invalid then
        self.fault = self.input:complaint(row) .. "; this row has changed since it was checked"
      end
    elseif not self.seen or self.seen:add(row.to) then
      self.rows = self.rows + 1
      return row
    end
  end
end

-- The next message of the stream. Messages are copied there, so one table will do.
local function source(self)
  local message = {}
  return function()
    look(self)
    local row = not self.stopped and next_row(self)
    if not row then return nil end
    self.pending[self.rows] = row
    message.to, message.from, message.id = row.to, row.from or self.from, row.id
    return message
  end
end

-- Asked by the stream, also while nothing ends: whether it is to start nothing more.
local function watch(self)
  if look(self) > 1 and not session_of(self.client).closed then
    tell(self, "interrupted again: what is in flight is given up")
    self.client:close()
  end
  self.progress:draw()
  return self.stopped
end

local function keep(self, row)
  if self.kept.rest then self.kept.rest:add(row.text) end
end

local function print_result(self, row, result)
  local text
  if self.as_json then
    result.index, result.line = row.index, row.line
    text = output.json(fields, result):sub(1, -2) .. ',"input":'
      .. (self.input:json(row) or "null") .. "}\n"
  else
    text = ("line %d  %s\n"):format(row.line, output.line(result))
  end
  self.progress:make_way()
  local written, why
  if not self.lost then written, why = checked_io.write_now(io.stdout, text) end
  if written then return end
  if not self.lost then
    self.lost = tostring(why)
    tell(self, ("standard output cannot be written: %s; nothing more is started, and what is "
      .. "in flight is told here"):format(self.lost))
    self.stopped = true
  end
  -- Better here than nowhere.
  io.stderr:write(text)
end

local function settle(self, result)
  local row = self.pending[result.index]
  self.pending[result.index] = nil
  if result.code == "cancelled" then
    self.waiting = self.waiting + 1
    return keep(self, row)
  end
  self.progress:count(result.outcome)
  if result.retryable then keep(self, row) end
  if result.outcome == "unknown" and self.kept.unknown then self.kept.unknown:add(row.text) end
  if not (self.quiet and result.outcome == "accepted") then print_result(self, row, result) end
  self.progress:draw()
end

local function send(self)
  local options = { concurrency = self.concurrency, stop = function() return watch(self) end }
  for result in self.client:send_many(source(self), options) do settle(self, result) end
  self.client:close()
end

-- Keeps the rows that were not reached.
local function keep_others(self)
  if not self.stopped or not self.kept.rest then return end
  local row = next_row(self)
  while row do
    keep(self, row)
    row = next_row(self)
  end
end

local function summary(self, found, waiting)
  local p = self.progress
  local parts = { ("%d rows in %s (%s): %s"):format(found.rows, progress.duration(self.seconds),
    self.speed, p:text()) }
  local function add(text, count)
    if count > 0 then parts[#parts + 1] = ("%s: %d"):format(text, count) end
  end
  add("bad rows (not sent)", found.bad)
  add("duplicates skipped", self.seen and found.duplicates or 0)
  add("not started", waiting)
  for _, name in ipairs({ "rest", "unknown" }) do
    local file = self.kept[name]
    if file then add("rows in " .. file.path, file.count) end
  end
  return table.concat(parts, "; ")
end

local function status_of(self, waiting)
  local counted = function(outcome) return self.progress:counted(outcome) end
  if counted("unknown") > 0 or self.lost then return SOME_UNKNOWN end
  if self.fault then return SOME_NOT end
  if waiting > 0 then return PAUSED end
  return counted("rejected") + counted("not_sent") > 0 and SOME_NOT or 0
end

-- Ends the run: what is left is kept, and all is summed up.
local function finish(self, found)
  self.seconds, self.speed = self.progress:elapsed(), self.progress:speed()
  self.progress:clear()
  self.progress:count("not_sent", found.bad)
  local waiting = found.messages - self.rows + self.waiting
  keep_others(self)
  if self.fault then output.complain(self.fault) end
  for _, file in pairs(self.kept) do
    local fault = file:close()
    if fault then
      output.complain(("%s cannot be written: %s; rows are missing in it"):format(file.path, fault))
      self.fault = self.fault or fault
    end
  end
  output.complain(summary(self, found, waiting))
  return status_of(self, waiting)
end

--- Sends the rows of an input that has been checked and rewound.
-- @tparam table client
-- @tparam table input
-- @tparam table found counts of `rows`, `messages`, `bad`, `duplicates`
-- @tparam table kept files: `rest`, for rows that can be sent later, and `unknown`
-- @tparam table arguments of the command
-- @treturn number the exit status
function M.run(client, input, found, kept, arguments)
  local self = {
    client = client, input = input, kept = kept, quiet = arguments.quiet, from = arguments.from,
    concurrency = arguments.concurrency, as_json = arguments.json,
    skip_invalid = arguments.skip_invalid,
    seen = arguments.unique and number_set.new() or nil,
    rows = 0, -- given to the stream, later: or kept
    pending = {}, -- by their index in the stream
    waiting = 0, -- given to the stream, and not started
    progress = progress.new(found.messages, session_of(client).pacer, arguments.quiet),
  }
  drawn = self.progress
  local catcher = core.catch_interrupts()
  io.stdout:setvbuf("full")
  send(self)
  local status = finish(self, found)
  catcher:close()
  return status
end

return M
