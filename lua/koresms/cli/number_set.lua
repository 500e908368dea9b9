--- A set of telephone numbers in little memory: some five bytes for each.
--
-- A number is hashed by its remainder; what is left of it takes five bytes, and those of one
-- bucket stand one after another in a string.
local M = {}

-- A prime, since numbers come in round blocks.
local BUCKETS = 65521

local BYTES = 5

local char, find, floor, sub, tonumber = string.char, string.find, math.floor, string.sub, tonumber

local set = {}
set.__index = set

--- Makes an empty set.
function M.new()
  return setmetatable({ buckets = {} }, set)
end

local function bytes_of(rest)
  local a = rest % 256
  rest = (rest - a) / 256
  local b = rest % 256
  rest = (rest - b) / 256
  local c = rest % 256
  rest = (rest - c) / 256
  -- The one that varies most comes first, for the search.
  return char(a, b, c, rest % 256, floor(rest / 256))
end

local function has(bucket, bytes)
  local at = find(bucket, bytes, 1, true)
  while at and at % BYTES ~= 1 do at = find(bucket, bytes, at + 1, true) end
  return at ~= nil
end

--- Puts a number in.
-- @tparam string number in E.164 form: its 15 digits at most are exact as a Lua number
-- @treturn boolean whether it was not there yet
function set:add(number)
  local value = tonumber(sub(number, 2))
  local key = value % BUCKETS
  local bytes = bytes_of((value - key) / BUCKETS)
  local bucket = self.buckets[key]
  if not bucket then
    self.buckets[key] = bytes
    return true
  end
  if has(bucket, bytes) then return false end
  self.buckets[key] = bucket .. bytes
  return true
end

return M
