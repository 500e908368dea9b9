--- A long text that is read row by row, of which only a piece is in memory.
local M = {}

--- A row that is longer than so many bytes is taken for a fault.
M.MOST = 1024 * 1024

M.TOO_LONG = ("the row is longer than %d bytes"):format(M.MOST)

local byte, find, gsub, sub = string.byte, string.find, string.gsub, string.sub

local buffer = {}
buffer.__index = buffer

--- Makes a buffer.
-- @tparam function feed gives the next piece; nil at the end, and then what went wrong, if
--   anything did
-- @treturn table with `buffer`, `at` (the place in it where the row begins), `line` (the line
--   of the text in which that is), `broken` (what went wrong), and the methods below
function M.new(feed)
  return setmetatable({ feed = feed, buffer = "", at = 1, line = 1 }, buffer)
end

local function more(self)
  local piece, why = self.feed()
  if not piece then
    self.broken = self.broken or why
    return false
  end
  self.buffer = self.buffer .. piece
  return true
end

--- Where a plain text or a pattern is found from a place on.
-- @treturn ?number one past the end of the text where it is not; nil where the row has become
--   too long
function buffer:seek(what, from, plain)
  while true do
    local at = find(self.buffer, what, from, plain)
    if at then return at end
    from = #self.buffer + 1
    if from - self.at > M.MOST then return nil end
    if not more(self) then return from end
  end
end

--- The byte at a place; nil behind the end of the text.
function buffer:peek(at)
  return byte(self.buffer, at) or more(self) and byte(self.buffer, at) or nil
end

--- The line that begins where the row begins, with its end; "" at the end of the text; nil
-- where it is too long.
function buffer:first_line()
  local stop = find(self.buffer, "\n", self.at, true)
  if not stop then
    self.buffer, self.at = sub(self.buffer, self.at), 1
    stop = self:seek("\n", 1, true)
  end
  return stop and sub(self.buffer, self.at, stop)
end

--- The row ends before a place; the next one begins there.
-- @tparam number behind
-- @tparam boolean one_line whether the row was one line
-- @treturn string the row
function buffer:leave(behind, one_line)
  local row = sub(self.buffer, self.at, behind - 1)
  local lines = 1
  if not one_line then
    local _, ends = gsub(row, "\n", "")
    lines = ends
  end
  self.at, self.line = behind, self.line + lines
  return row
end

return M
