--- The one place that hides what must not be read, and cleans what comes from elsewhere:
-- telephone numbers, tokens, secrets, and whatever steers a terminal.
local utf8 = require "koresms.utf8"

local M = {}

local HIDDEN = "*****"

-- A shorter token is no secret, and may well be part of an ordinary word.
local LEAST_TOKEN = 8

--- A telephone number for people: `+9112*****90`.
-- How many digits are hidden does not show. Of a number too short to hide anything
-- between its ends, only the beginning stays. What is no digit is not shown.
-- @param number a string; anything else is not shown at all
-- @treturn string
function M.number(number)
  if type(number) ~= "string" or not number:find("^%+%d") then return HIDDEN end
  number = "+" .. number:gsub("%D", "")
  if #number < 10 then return number:sub(1, 2) .. HIDDEN end
  return number:sub(1, 5) .. HIDDEN .. number:sub(-2)
end

-- Characters ------------------------------------------------------------------------------

-- What a character becomes. Blanks of all kinds, and what is invisible or moves the text around
-- it, become blanks; what stands between the digits of a number, and digits of other scripts,
-- become what they are in ASCII, so that a number is seen for what it is.
local plain = {}

local function encode(code)
  local tail, first = "", 0
  for _, row in ipairs({ { 0x80, 0 }, { 0x800, 0xC0 }, { 0x10000, 0xE0 }, { 0x110000, 0xF0 } }) do
    first = row[2]
    if code < row[1] then break end
  end
  local left, count = code, first == 0xC0 and 1 or first == 0xE0 and 2 or 3
  for _ = 1, count do
    tail = string.char(0x80 + left % 64) .. tail
    left = math.floor(left / 64)
  end
  return string.char(first + left) .. tail
end

local function become(text, ...)
  for _, range in ipairs({ ... }) do
    for code = range[1], range[2] or range[1] do plain[encode(code)] = text end
  end
end

become(" ", { 0x80, 0xA0 }, { 0xAD }, { 0x61C }, { 0x1680 }, { 0x180E }, { 0x2000, 0x200F },
  { 0x2028, 0x202F }, { 0x205F, 0x206F }, { 0x20E3 }, { 0x3000 }, { 0xFE00, 0xFE0F }, { 0xFEFF },
  { 0xFFF9, 0xFFFB }, { 0xE0000, 0xE01EF })
become("-", { 0x2010, 0x2015 }, { 0x2027 }, { 0x2043 }, { 0x2212 }, { 0xFE58 },
  { 0xFE63 }, { 0xFF0D })
become(".", { 0xB7 }, { 0x2022 }, { 0x2024 }, { 0x2219 }, { 0x22C5 }, { 0xFF0E })
become("/", { 0x2044 }, { 0x2215 }, { 0xFF0F })
become("+", { 0xFE62 }, { 0xFF0B })
become("(", { 0xFF08 })
become(")", { 0xFF09 })
for digit = 0, 9 do
  -- Arabic, Persian, Devanagari, Bengali, full width.
  for _, zero in ipairs({ 0x660, 0x6F0, 0x966, 0x9E6, 0xFF10 }) do
    become(tostring(digit), { zero + digit })
  end
end

--- A text in which nothing steers a terminal: control characters, and those that are invisible
-- or change the direction of what is written, have become blanks; what is no UTF-8, U+FFFD.
-- @tparam string text
-- @treturn string
function M.printable(text)
  text = utf8.clean(text):gsub("[%z\1-\31\127]+", " ")
  return (text:gsub("[\194-\244][\128-\191]+", function(character)
    return plain[character] == " " and " " or nil
  end))
end

local function units(code)
  if code < 0x10000 then return ("\\u%04x"):format(code) end
  code = code - 0x10000
  return ("\\u%04x\\u%04x"):format(0xD800 + math.floor(code / 0x400), 0xDC00 + code % 0x400)
end

local function escape(character)
  if plain[character] ~= " " then return nil end
  local first = character:byte()
  local code = first >= 0xF0 and first % 8 or first >= 0xE0 and first % 16 or first % 32
  for place = 2, #character do code = code * 64 + character:byte(place) % 64 end
  return units(code)
end

--- JSON, in which characters that steer a terminal stand as escapes: it means the same.
-- @tparam string json UTF-8, without control characters below U+0020 within strings
-- @treturn string
function M.json(json)
  return (json:gsub("\127", "\\u007f"):gsub("[\194-\244][\128-\191]+", escape))
end

-- What HTML, addresses and JSON write for what stands between digits.
local entities = { nbsp = " ", shy = "-", ndash = "-", mdash = "-", minus = "-", hyphen = "-",
  thinsp = " ", ensp = " ", emsp = " ", plus = "+", period = ".", sol = "/", lpar = "(",
  rpar = ")" }

local function entity(base, digits)
  local code = tonumber(digits, base == "" and 10 or 16)
  if not code or code < 32 or code > 0x10FFFF then return " " end
  local text = code < 128 and string.char(code) or encode(code)
  return plain[text] or code < 128 and text or nil
end

local percents = { ["0"] = " ", ["8"] = "(", ["9"] = ")", B = "+", D = "-", E = ".", F = "/" }

local function normalise(text)
  text = utf8.clean(text):gsub("[%z\1-\31\127]+", " ")
  return (text:gsub("[\194-\244][\128-\191]+", plain)
    :gsub("&#([xX]?)(%x+);", entity):gsub("&(%a+);", entities)
    :gsub("%%[Cc]2%%[Aa]0", " "):gsub("%%2(%x)", function(digit) return percents[digit:upper()] end)
    :gsub("\\[tnr/]%f[%d]", " "))
end

-- Numbers ---------------------------------------------------------------------------------

-- An unbroken run longer than an exit code and a number is something else.
local LONGEST = 3 + 15

-- From how many digits on a run of them may be a number: after a '+', with anything between
-- them, and unbroken.
local AFTER_PLUS, BROKEN, UNBROKEN = 7, 10, 7

-- What people write between digits, U+FFFD included; and what stands there alone: most of it only
-- behind a '+', for without it these are times, ports, lists, and addresses of IPv6.
local BETWEEN, ALONE = "^[ ()./_*~\239\191\189-]+()%d", "^,()%d"
local ALONE_AFTER_PLUS = "^[,+:;|&='\"\\#%[%]]()%d"

local function is_ipv4(run)
  local a, b, c, d = run:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)/?%d*$")
  return a ~= nil and math.max(tonumber(a), tonumber(b), tonumber(c), tonumber(d)) <= 255
end

-- Days, with the hour that follows them.
local days = { "^%d%d%d%d([-/.])%d%d%1%d%d %d%d?$", "^%d%d?([-/.])%d%d?%1%d%d%d%d %d%d?$" }

local function is_other(run)
  for _, day in ipairs(days) do
    if run:find(day) then return true end
  end
  return is_ipv4(run)
end

local function hide(digits, plus)
  local hidden = M.number("+" .. digits)
  return plus and hidden or hidden:sub(2)
end

local function hide_piece(piece)
  return #piece >= UNBROKEN and #piece <= LONGEST and hide(piece) or nil
end

-- The place of the next digit, where only tags of HTML stand before it.
local function behind_tags(text, at)
  local behind = text:match("^ *</?[%a!][^<>]*> *()", at)
  while behind and text:byte(behind) == 60 do
    behind = text:match("^</?[%a!][^<>]*> *()", behind)
  end
  return behind and text:find("^%d", behind)
end

-- The place behind the run of digits that begins at a place.
local function run_end(text, at, plus)
  local _, last = text:find("^%d+", at)
  local alone = plus and ALONE_AFTER_PLUS or ALONE
  while true do
    local from = text:match(BETWEEN, last + 1) or text:match(alone, last + 1)
      or behind_tags(text, last + 1)
    if not from then return last end
    local _, behind = text:find("^%d+", from)
    -- What is too long for a number stands for itself.
    if behind - from >= LONGEST then return last end
    last = behind
  end
end

-- A run of digits; what stands before it is "", or a '+' and what follows that.
local function hide_run(before, run)
  local digits = run:gsub("%D", "")
  if before ~= "" and #digits >= AFTER_PLUS then return hide(digits, true) end
  local broken = #digits < #run
  if broken and #digits >= BROKEN and not is_other(run) then return before .. hide(digits) end
  return before .. run:gsub("%d+", hide_piece)
end

-- OpenSSL's number of a fault, which may have eight decimal digits.
local function is_fault(text, at)
  return text:sub(at - 6, at - 1) == "error:" and text:find("^%d%d%d%d%d%d%d%d:", at) ~= nil
end

-- The place behind a time's zone that begins with a '+'; nil where that is none.
local function zone_end(text, at)
  local before = text:sub(math.max(1, at - 16), at - 1)
  if not (before:find("%d:%d%d$") or before:find("%d:%d%d[.,]%d+$") or before:find("UTC$")
    or before:find("GMT$")) then return nil end
  local behind = text:match("^%+%d%d?:?%d%d()%f[%D]", at)
  return behind and not text:find("^[ ().-]+%d", behind) and behind or nil
end

local function hide_numbers(text)
  local parts, from = {}, 1
  while true do
    local at = text:find("[+%d]", from)
    if not at then break end
    local plus = text:byte(at) == 43
    local first = plus and text:match("^%+[ ()./-]*()%d", at) or not plus and at
    parts[#parts + 1] = text:sub(from, at - 1)
    local behind = plus and zone_end(text, at)
    if behind then
      parts[#parts + 1], from = text:sub(at, behind - 1), behind
    elseif first and is_fault(text, first) then
      parts[#parts + 1], from = text:sub(at, at + 7), at + 8
    elseif first then
      local last = run_end(text, first, plus)
      parts[#parts + 1] = hide_run(text:sub(at, first - 1), text:sub(first, last))
      from = last + 1
    else
      parts[#parts + 1], from = "+", at + 1
    end
  end
  return table.concat(parts) .. text:sub(from)
end

-- Texts -----------------------------------------------------------------------------------

-- What the platform says may repeat what it was sent, whole or cut off.
local function shorten(text)
  return hide_numbers((text:gsub("eyJ[%w_-]*%.[%w_.-]+", "[token]")))
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
    local rest = cut(text, bound):gsub("[%w_.+-]+$", ""):gsub("[%d%s()./+-]+$", "")
    text = rest ~= "" and rest or cut(text, bound)
  end
  text = shorten(normalise(text))
  if #text > most then return cut(text, most) .. "..." end
  return whole and text or text .. "..."
end

-- What a library says ---------------------------------------------------------------------

-- From how many bytes on a secret can be cut out of a text. What is shorter may be part of any
-- word, and cutting it out would tell it.
local LEAST_SECRET = 8

M.UNTOLD = "what the library says is not shown, since it holds a secret of fewer than 8 bytes"

-- More than that is not shown, and so not searched.
local LONGEST_TEXT = 8192

-- Notes which bytes of a text belong to a secret: every piece of it that is eight bytes long,
-- or half of it.
local function cover(covered, text, secret)
  local width = math.min(LEAST_SECRET, math.ceil(#secret / 2))
  for at = 1, #secret - width + 1 do
    local piece = secret:sub(at, at + width - 1)
    local from, to = text:find(piece, 1, true)
    while from do
      for place = from, to do covered[place] = true end
      from, to = text:find(piece, from + 1, true)
    end
  end
end

local function cut_out(text, secrets)
  local covered = {}
  for _, secret in ipairs(secrets) do cover(covered, text, secret) end
  if next(covered) == nil then return text end
  local parts, from = {}, 1
  for place = 1, #text do
    if covered[place] then
      if not covered[place - 1] then parts[#parts + 1] = text:sub(from, place - 1) .. "[secret]" end
      from = place + 1
    end
  end
  return table.concat(parts) .. text:sub(from)
end

--- What shows a library's text to people. Nothing that a library says gets out another way:
-- it may quote whatever it was given.
-- @tparam {string,...} secrets values that were given to it, or of which it was given a part
-- @treturn function takes a text and gives one that can be shown
function M.cleaner(secrets)
  local long, short = {}, {}
  for _, secret in ipairs(secrets) do
    if #secret >= LEAST_SECRET then
      long[#long + 1] = secret
    elseif secret ~= "" then
      short[#short + 1] = secret:lower()
    end
  end
  return function(text)
    text = text:sub(1, LONGEST_TEXT)
    for _, secret in ipairs(short) do
      if text:lower():find(secret, 1, true) then return M.UNTOLD end
    end
    return M.text(cut_out(text, long))
  end
end

return M
