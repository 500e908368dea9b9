--- Reads JSON lines: one object a line, in constant memory.
local cjson = require "cjson"
local row_buffer = require "koresms.cli.row_buffer"

local M = {}

local json = cjson.new()
json.decode_invalid_numbers(false)

local reader = {}
reader.__index = reader

--- Makes a reader.
-- @tparam function feed as for koresms.cli.csv
-- @treturn table its method `next` gives the rows
function M.reader(feed)
  return setmetatable({ rows = row_buffer.new(feed) }, reader)
end

-- Numbers that the decoder takes and JSON does not have.
local odd_numbers = { "[^eE]%+", "%.%D", "%D%." }

local ONE_LINE = "; one object a line is expected (jq -c .)"

--- Whether an object has a key twice. Decoders take the last one, or the first.
-- @tparam string row a valid one
-- @tparam string name of letters only
-- @treturn boolean
function M.has_twice(row, name)
  local key = '"' .. name .. '"'
  local first = row:find(key, 1, true)
  if not (first and row:find(key, first + 1, true)) then return false end
  local keys = row:gsub("\\.", ""):gsub('("[^"]*")(%s*:?)', function(text, colon)
    return (colon:find(":", 1, true) and text == key and key or "") .. ","
  end):match("^%s*{(.*)}"):gsub("%b[]", ""):gsub("%b{}", "")
  local count, at = 0, keys:find(key, 1, true)
  while at do
    count, at = count + 1, keys:find(key, at + #key, true)
  end
  return count > 1
end

local function object(row)
  if not row:find("^%s*{") then return nil, "no JSON object" end
  local ok, value = pcall(json.decode, row)
  -- The decoder's own text says where, and repeats nothing of the line.
  if not ok then
    return nil, "no JSON object: " .. tostring(value)
      .. (tostring(value):find("T_END") and ONE_LINE or "")
  end
  local bare = row:gsub("\\.", ""):gsub('"[^"]*"', '""')
  for _, pattern in ipairs(odd_numbers) do
    if bare:find(pattern) then return nil, "no JSON object: an invalid number" end
  end
  return value
end

--- The next row. Lines with nothing but blanks are passed over.
-- @return what the reader of koresms.cli.csv returns, with the object in place of the fields
function reader:next()
  local t = self.rows
  while not self.ended do
    local row, line = t:first_line(), t.line
    local fault = t.broken or not row and row_buffer.TOO_LONG
    if fault then
      self.ended = true
      return nil, nil, line, fault
    end
    if row == "" then break end
    t:leave(t.at + #row, true)
    if row:find("%S") then
      local value, wrong = object(row)
      if value then return value, row, line end
      return false, row, line, wrong
    end
  end
  self.ended = true
  return nil
end

return M
