--- HTTP dates (RFC 9110, 5.6.7) in their three forms.
local M = {}

local months = {
  Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6,
  Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11, Dec = 12,
}

-- Day of the year before each month of a year that begins in March, so that the leap day
-- comes last.
local function days_since_1970(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

local function seconds(day, month, year, hour, minute, second)
  day, month, year = tonumber(day), months[month], tonumber(year)
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  if not month or day < 1 or day > 31 or hour > 23 or minute > 59 or second > 60 then
    return nil
  end
  return days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
end

-- A year of two digits is the nearest one that is not more than 50 years ahead.
local function full_year(year)
  year = tonumber(year)
  return year + (year < 76 and 2000 or 1900)
end

local forms = {
  { "^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$", seconds },
  { "^%a+day, (%d%d)%-(%a%a%a)%-(%d%d) (%d%d):(%d%d):(%d%d) GMT$",
    function(d, m, y, ...) return seconds(d, m, full_year(y), ...) end },
  { "^%a%a%a (%a%a%a) ([ %d]%d) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$",
    function(m, d, hh, mm, ss, y) return seconds(d, m, y, hh, mm, ss) end },
}

--- Reads an HTTP date.
-- @tparam string text
-- @treturn ?number seconds since 1970; nil where this is no HTTP date
function M.parse(text)
  for _, form in ipairs(forms) do
    local a, b, c, d, e, f = text:match(form[1])
    if a then return form[2](a, b, c, d, e, f) end
  end
  return nil
end

return M
