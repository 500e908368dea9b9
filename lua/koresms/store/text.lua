--- Texts of a store: names of campaigns, reasons, states.
-- @module koresms.store.text
local mask = require "koresms.mask"
local utf8 = require "koresms.utf8"

local M = {}

--- The states of a message.
M.states = { pending = true, sending = true, accepted = true, rejected = true, unknown = true,
  skipped = true, expired = true }

local NAME_MAX = 200

--- What is wrong with a campaign's name; nil where it will do.
function M.name_fault(name)
  if name == "" then return "a campaign's name is empty" end
  if #name > NAME_MAX then
    return ("a campaign's name has at most %d bytes, and this one has %d"):format(NAME_MAX, #name)
  end
  if name:find("%c") or name:find("\194[\128-\159]") then
    return "a campaign's name has a control character"
  end
  local fault = utf8.fault(name)
  return fault and "a campaign's name is UTF-8: " .. fault or nil
end

--- A campaign's name in a text for people.
function M.name(name)
  return "'" .. utf8.clean(name:sub(1, NAME_MAX)):gsub("%c", "?") .. "'"
end

--- A reason that a person gave, as it is stored.
function M.reason(text)
  return utf8.clean(mask.text(utf8.clean(text), 300))
end

return M
