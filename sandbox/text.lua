--- Bytes that came from outside, as text that JSON can hold.
-- @module koresms.sandbox.text

local M = {}

-- Well-formed sequences of UTF-8 by their first byte: the pattern of the whole.
local CONTINUED = "[\128-\191]"
local FORMS = {
  "^[\194-\223]" .. CONTINUED,
  "^\224[\160-\191]" .. CONTINUED,
  "^[\225-\236\238\239]" .. CONTINUED .. CONTINUED,
  "^\237[\128-\159]" .. CONTINUED,
  "^\240[\144-\191]" .. CONTINUED .. CONTINUED,
  "^[\241-\243]" .. CONTINUED .. CONTINUED .. CONTINUED,
  "^\244[\128-\143]" .. CONTINUED .. CONTINUED,
}

local function character(text, at)
  for _, form in ipairs(FORMS) do
    local found = text:match(form, at)
    if found then return found end
  end
end

--- The text with U+FFFD in place of every byte that is not UTF-8.
function M.utf8(text)
  if not text:find("[\128-\255]") then return text end
  return (text:gsub("[\128-\255]+", function(run)
    local parts, at = {}, 1
    while at <= #run do
      local found = character(run, at)
      parts[#parts + 1] = found or "\239\191\189"
      at = at + (found and #found or 1)
    end
    return table.concat(parts)
  end))
end

--- The beginning of a text, as UTF-8.
-- @tparam string text
-- @tparam number most bytes
-- @treturn string
-- @treturn boolean whether something was cut off
function M.beginning(text, most)
  if #text <= most then return M.utf8(text), false end
  return M.utf8(text:sub(1, most):gsub("[\194-\244][\128-\191]*$", "")), true
end

return M
