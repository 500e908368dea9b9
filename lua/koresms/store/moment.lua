--- Moments as people write them: RFC 3339 with a zone.
-- @module koresms.store.moment

local M = {}

local days_in = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

-- Days from 1 January 1970 to the first day of a year of the Gregorian calendar.
local function days_before(year)
  local y = year - 1
  return 365 * (year - 1970) + math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400) - 477
end

local function is_leap(year)
  return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
end

local EXPECTED = "expected a time with its zone, such as 2026-11-30T12:00:00Z or "
  .. "2026-11-30T12:00:00+05:30"

-- The zone's seconds east of Greenwich; nil where it is none.
local function offset_of(zone)
  if zone == "Z" or zone == "z" then return 0 end
  local sign, hours, minutes = zone:match("^([+-])(%d%d):(%d%d)$")
  if not sign or tonumber(hours) > 23 or tonumber(minutes) > 59 then return nil end
  return (sign == "+" and 1 or -1) * (tonumber(hours) * 3600 + tonumber(minutes) * 60)
end

--- Reads a moment.
-- @tparam string text
-- @treturn[1] number seconds since 1970
-- @treturn[2] nil
-- @treturn[2] string
function M.parse(text)
  local year, month, day, hour, minute, second, zone =
    text:match("^(%d%d%d%d)-(%d%d)-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(.*)$")
  if not year then return nil, EXPECTED end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  zone = zone:gsub("^%.%d+", "")
  local offset = offset_of(zone)
  if not offset then
    return nil, zone == "" and "it names no zone; " .. EXPECTED or EXPECTED
  end
  local last = days_in[month] and days_in[month] + (month == 2 and is_leap(year) and 1 or 0)
  if not last or day < 1 or day > last or hour > 23 or minute > 59 or second > 60 then
    return nil, "there is no such day or hour; " .. EXPECTED
  end
  local days = days_before(year) + day - 1
  for i = 1, month - 1 do days = days + days_in[i] end
  if month > 2 and is_leap(year) then days = days + 1 end
  return days * 86400 + hour * 3600 + minute * 60 + second - offset
end

return M
