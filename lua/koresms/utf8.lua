--- Whether a text is UTF-8, on any Lua.
local M = {}

-- RFC 3629, section 4.
local sequences = {
  "^[\194-\223][\128-\191]",
  "^\224[\160-\191][\128-\191]",
  "^[\225-\236\238\239][\128-\191][\128-\191]",
  "^\237[\128-\159][\128-\191]",
  "^\240[\144-\191][\128-\191][\128-\191]",
  "^[\241-\243][\128-\191][\128-\191][\128-\191]",
  "^\244[\128-\143][\128-\191][\128-\191]",
}

local function behind(text, at)
  for _, sequence in ipairs(sequences) do
    local _, last = text:find(sequence, at)
    if last then return last + 1 end
  end
end

--- What is wrong with a text.
-- @tparam string text
-- @treturn ?string nil where it is UTF-8
function M.fault(text)
  local at = text:find("[\128-\255]")
  while at do
    local next_at = behind(text, at)
    if not next_at then return ("byte %d is not UTF-8"):format(at) end
    at = text:find("[\128-\255]", next_at)
  end
end

--- A text in which each byte that is no part of UTF-8 has become U+FFFD.
-- @tparam string text
-- @treturn string
function M.clean(text)
  local parts, from = {}, 1
  local at = text:find("[\128-\255]")
  while at do
    local next_at = behind(text, at)
    if not next_at then
      parts[#parts + 1] = text:sub(from, at - 1) .. "\239\191\189"
      next_at = at + 1
      from = next_at
    end
    at = text:find("[\128-\255]", next_at)
  end
  return from == 1 and text or table.concat(parts) .. text:sub(from)
end

return M
