--- Puts messages and numbers into a store, so many in one statement.
-- @module koresms.store.adding
local e164 = require("koresms.core").e164
local misuse = require "koresms.misuse"
local moment = require "koresms.store.moment"
local utf8 = require "koresms.utf8"

local M = {}

-- Rows of one statement.
local CHUNK = 10000

local message_types = { to = "string", from = "string", id = "string", dedupe = "string",
  expires = "string" }

local texts = { "id", "dedupe" }

local TEXT_MAX = 500

--- What is wrong with an id or the like; nil where it will do.
function M.text_fault(text)
  if #text > TEXT_MAX then
    return ("at most %d bytes expected, got %d"):format(TEXT_MAX, #text)
  end
  if text:find("%z") then return "it has a NUL byte" end
  return utf8.fault(text)
end

-- Rows that go into one statement, by columns.
local function new_list()
  return { count = 0, recipient = {}, sender = {}, ref = {}, dedupe = {}, expires = {} }
end

-- Puts a message into a list; nil, text, code where it will not do.
local function put(list, message)
  local to = message.to
  local ok, text, code = e164(to)
  if not ok then return nil, "to: " .. text, code end
  if message.from then
    ok, text, code = e164(message.from)
    if not ok then return nil, "from: " .. text, code end
  end
  for i = 1, #texts do
    local field = texts[i]
    local fault = message[field] and M.text_fault(message[field])
    if fault then return nil, field .. ": " .. fault, "config" end
  end
  local expires
  if message.expires then
    expires, text = moment.parse(message.expires)
    if not expires then return nil, "expires: " .. text, "config" end
  end
  local count, ref = list.count + 1, message.id
  local dedupe = message.dedupe or ref
  list.count, list.recipient[count] = count, to
  if message.from then list.sender[count] = message.from end
  if ref then list.ref[count] = ref end
  if dedupe then list.dedupe[count] = dedupe end
  if expires then list.expires[count] = expires end
  return true
end

local function next_of(messages)
  if type(messages) == "function" then return messages end
  local index = 0
  return function()
    index = index + 1
    -- A hole in an array is an invalid message, not its end.
    return messages[index], index <= #messages
  end
end

-- Raises where a message is none. What is right costs little: there may be millions.
local function check(message, index)
  local good = type(message) == "table" and message.to ~= nil
  if good then
    for name, value in next, message do
      good = good and type(value) == "string" and message_types[name]
    end
  end
  if good then return end
  local where = ("bad argument #2 to 'add' (message %d)"):format(index)
  misuse.check(where, "field", message, message_types)
  misuse.raise(where .. " (field 'to': string expected, got nil)")
end

--- Adds messages.
-- @tparam table link
-- @tparam number campaign its id
-- @param messages an array or a function
-- @treturn[1] number added
-- @treturn[1] number duplicates
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string code
-- @treturn[2] ?number index of the message that will not do
function M.run(link, campaign, messages)
  local pull, index, added = next_of(messages), 0, 0
  local ended, bad, part, new, text
  repeat
    local list = new_list()
    while list.count < CHUNK and not ended do
      local message, more = pull()
      if message == nil and not more then
        ended = true
      else
        index = index + 1
        check(message, index)
        local good, why, code = put(list, message)
        if not good then ended, bad = true, { why, code, index } end
      end
    end
    if part then
      new, text = link:added(part)
      if not new then return nil, text, "store" end
      added, part = added + new, nil
    end
    if list.count > 0 then
      part, text = link:add(campaign, list)
      if not part then return nil, text, "store" end
    end
  until not part
  if bad then return nil, bad[1], bad[2], bad[3] end
  return added, index - added
end

--- Puts numbers on the list of those that get nothing, or takes them off.
-- @treturn[1] number how many were not there before (or were)
-- @treturn[2] nil
-- @treturn[2] string
function M.suppress(link, numbers, remove)
  local total = 0
  for first = 1, #numbers, CHUNK do
    local part = {}
    for i = first, math.min(#numbers, first + CHUNK - 1) do part[#part + 1] = numbers[i] end
    local rows, text = link:run(remove and "unsuppress" or "suppress",
      '["' .. table.concat(part, '","') .. '"]')
    if not rows then return nil, text end
    total = total + rows.changes
  end
  return total
end

return M
