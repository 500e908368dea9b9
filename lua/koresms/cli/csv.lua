--- Reads CSV as RFC 4180 has it, in constant memory: quoted fields with quotes and line ends
-- in them, CRLF or LF. What breaks the rules is a fault of its row, and not guessed at.
local row_buffer = require "koresms.cli.row_buffer"

local M = {}

local byte, find, gsub, sub = string.byte, string.find, string.gsub, string.sub

local QUOTE, COMMA, LF, CR = 34, 44, 10, 13

local UNCLOSED = "a quote is opened here and not closed"
local UNCLOSED_LONG = row_buffer.TOO_LONG .. "; is a quote not closed?"
local BARE_QUOTE = "a quote within a field that does not begin with one; quote the whole "
  .. "field, and write the quote twice"
local AFTER_QUOTE = "text after a closing quote; within a quoted field a quote is written twice"
local BARE_CR = "a carriage return that ends no line; lines end with LF or CRLF"

local reader = {}
reader.__index = reader

--- Makes a reader.
-- @tparam function feed gives the next piece of the text; nil, and what went wrong if
--   anything did, at its end
-- @treturn table its method `next` gives the rows
function M.reader(feed)
  return setmetatable({ rows = row_buffer.new(feed) }, reader)
end

-- The fields of a row without quotes.
local function split(row)
  local fields, count, from = {}, 0, 1
  while true do
    local comma = find(row, ",", from, true)
    count = count + 1
    if not comma then
      fields[count] = sub(row, from)
      return fields
    end
    fields[count] = sub(row, from, comma - 1)
    from = comma + 1
  end
end

-- Each of the next two takes the place where a field begins, and gives the field and the
-- place behind it; or nil, a place, a fault, and whether nothing behind it can be relied on.

local function quoted_field(t, from)
  local at = from + 1
  while true do
    at = t:seek('"', at, true)
    if not at then return nil, from, UNCLOSED_LONG, true end
    if at > #t.buffer then return nil, from, UNCLOSED, true end
    if t:peek(at + 1) ~= QUOTE then break end
    at = at + 2
  end
  return (gsub(sub(t.buffer, from + 1, at - 1), '""', '"')), at + 1
end

local function plain_field(t, from)
  local at = t:seek('[,"\r\n]', from)
  if not at then return nil, from, row_buffer.TOO_LONG, true end
  if byte(t.buffer, at) == QUOTE then return nil, at, BARE_QUOTE end
  return sub(t.buffer, from, at - 1), at
end

-- The fields of any row, and the place behind it; or as above.
local function fields_of(t)
  local fields, count, at = {}, 0, t.at
  while true do
    local read = t:peek(at) == QUOTE and quoted_field or plain_field
    local field, behind, fault, fatal = read(t, at)
    if not field then return nil, behind, fault, fatal end
    count = count + 1
    fields[count] = field
    local next_byte = t:peek(behind)
    if next_byte == nil then return fields, behind end
    if next_byte == LF then return fields, behind + 1 end
    if next_byte == CR and t:peek(behind + 1) == LF then return fields, behind + 2 end
    if next_byte ~= COMMA then
      return nil, behind, next_byte == CR and BARE_CR or AFTER_QUOTE
    end
    at = behind + 1
  end
end

local function break_off(self, fault)
  self.ended = true
  return nil, nil, self.rows.line, fault
end

-- A row whose first line has a quote in it.
local function quoted_row(self)
  local t = self.rows
  local line = t.line
  local fields, behind, fault, fatal = fields_of(t)
  if fault and not fatal then
    -- The row ends with the line in which the fault is: what stands between quotes is never
    -- taken for rows.
    local stop = t:seek("\n", behind, true)
    fatal, behind = not stop, stop and stop + 1
  end
  if t.broken then return break_off(self, t.broken) end
  if fatal then return break_off(self, fault) end
  local row = t:leave(behind)
  if fault then return false, row, line, fault end
  return fields, row, line
end

--- The next row. Empty lines are passed over.
-- @treturn[1] table its fields, in order
-- @treturn[1] string its text, line end included
-- @treturn[1] number the line in which it begins
-- @treturn[2] boolean false, where it breaks the rules
-- @treturn[2] string its text
-- @treturn[2] number its line
-- @treturn[2] string the fault
-- @treturn[3] nil at the end
-- @treturn[3] nil
-- @treturn[3] ?number the line, where the reader cannot go on
-- @treturn[3] ?string why it cannot
function reader:next()
  local t = self.rows
  while not self.ended do
    local row, line = t:first_line(), t.line
    if not row or find(row, '"', 1, true) then return quoted_row(self) end
    if t.broken then return break_off(self, t.broken) end
    if row == "" then break end
    t:leave(t.at + #row, true)
    local bare = gsub(row, "\r?\n$", "")
    if find(bare, "\r", 1, true) then return false, row, line, BARE_CR end
    if bare ~= "" then return split(bare), row, line end
  end
  self.ended = true
  return nil
end

return M
