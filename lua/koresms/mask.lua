--- The one place that hides what must not be read: telephone numbers and tokens.
local M = {}

-- A shorter token is no secret, and may well be part of an ordinary word.
local LEAST_TOKEN = 8

--- A telephone number for people: `+9112*****90`.
-- How many digits are hidden does not show. Of a number too short to hide anything
-- between its ends, only the beginning stays.
-- @param number a string; anything else is not shown at all
-- @treturn string
function M.number(number)
  if type(number) ~= "string" or not number:find("^%+%d") then return "*****" end
  if #number < 10 then return number:sub(1, 2) .. "*****" end
  return number:sub(1, 5) .. "*****" .. number:sub(-2)
end

-- An unbroken run longer than an exit code and a number is something else.
local LONGEST = 3 + 15

-- Hides what has so many digits, if it can be a telephone number.
local function hide(least)
  return function(found)
    local digits = found:gsub("%D", "")
    if #digits < least then return nil end
    if found:sub(1, 1) == "+" then return M.number("+" .. digits) end
    if #found > LONGEST and #found == #digits then return nil end
    if found:find("^%d%d%d%d%-%d%d%-%d%d %d%d$") then return nil end -- a day and its hour
    return M.number("+" .. digits):sub(2)
  end
end

-- The forms of a number, and from how many digits on. Others than ours come with what people
-- put between digits.
local forms = {
  { "%+%d[%d ().-]*%d", hide(7) },
  { "%d%d%d%d%d%d%d+", hide(7) },
  { "%d[%d -]*%d", hide(10) },
}

-- What the platform says may repeat what it was sent.
local function shorten(text)
  text = text:gsub("eyJ[%w_-]*%.[%w_-]+%.[%w_-]+", "[token]")
  for _, form in ipairs(forms) do text = text:gsub(form[1], form[2]) end
  return text
end

-- Cuts where a character begins, so that UTF-8 stays UTF-8.
local function cut(text, most)
  while most > 0 and text:byte(most + 1) >= 0x80 and text:byte(most + 1) < 0xC0 do
    most = most - 1
  end
  return text:sub(1, most)
end

--- Foreign text, without tokens, telephone numbers, control characters, or end.
-- @tparam string text
-- @tparam ?number most bytes to keep, 300 by default
-- @tparam ?string token that was sent; it need not look like one, but have eight bytes
-- @treturn string
function M.text(text, most, token)
  most = most or 300
  if token and #token >= LEAST_TOKEN then text = text:gsub(token:gsub("%p", "%%%0"), "[token]") end
  local bound = most + 4096
  -- The patterns take longer than a text is long: what is not shown is not searched. What
  -- may be half a token or a number goes with it.
  local whole = #text <= bound
  if not whole then
    local rest = cut(text, bound):gsub("[%w_.+-]+$", "")
    text = rest ~= "" and rest or cut(text, bound)
  end
  text = shorten(text):gsub("%c+", " ")
  if #text > most then return cut(text, most) .. "..." end
  return whole and text or text .. "..."
end

return M
