--- The quota of a store: so many permits in a minute and in an hour, whoever uses them.
--
-- A permit that is used is free again after its window and a margin. So many requests at most
-- fall into any window, as long as none leaves later than the margin allows.
-- @module koresms.store.limits
local config = require "koresms.config"
local sources = require "koresms.sources"

local M = {}

M.windows = { { name = "per_minute", short = "minute", span = 60 },
  { name = "per_hour", short = "hour", span = 3600 } }

--- How many permits of a limit are kept for single sends.
-- @tparam ?number limit
-- @treturn number
function M.reserve(limit)
  if not limit or limit < 2 then return 0 end
  return math.max(1, math.floor(limit / 60))
end

--- The limits of the settings, and which of them were given expressly.
-- @tparam ?table options in code
-- @treturn[1] table `per_minute`, `per_hour` (numbers or false), `given` (by name: where)
-- @treturn[2] nil
-- @treturn[2] string
function M.of_settings(options)
  local levels, _, fault = sources.levels(config.settings, options or {})
  if not levels then return nil, fault end
  local found = { given = {} }
  for _, window in ipairs(M.windows) do
    local row = config.settings[window.name]
    found[window.name] = row.default
    for _, level in ipairs(levels) do
      local value = level.values[window.name]
      if value ~= nil then
        local wrong = value ~= false and (type(value) ~= "number" or row.check(value))
        if wrong then
          return nil, ("%s: %s"):format(level.name(row),
            wrong == true and "expected a number or false" or wrong)
        end
        found[window.name], found.given[window.name] = value, level.name(row)
        break
      end
    end
  end
  return found
end

-- Changes one window's permits, inside a transaction.
local function set_window(link, span, limit, fresh)
  local rows, text, code = link:run("permits", span)
  if not rows then return nil, text, code end
  local more = (limit or 0) - rows[1].n
  if more > 0 then
    -- A permit that comes while others are being used must not be used before they are free again.
    return link:run("add_permits", span, fresh and 0 or span + 31, more)
  elseif more < 0 then
    -- Those that are free go first; the others count until their window is over.
    return link:run("drop_permits", span, -more)
  end
  return true
end

--- Sets the limits of a store, inside a transaction.
-- @tparam table link
-- @tparam table limits `per_minute`, `per_hour`: a number, or false; nil: as it is
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string
function M.apply(link, limits)
  local rows, text, code = link:run("account")
  if not rows then return nil, text, code end
  local wanted = { per_minute = rows[1].per_minute, per_hour = rows[1].per_hour }
  rows, text, code = link:run("used_before")
  if not rows then return nil, text, code end
  local fresh = rows[1].used == 0 or rows[1].used == false
  local ok
  for _, window in ipairs(M.windows) do
    local limit = limits[window.name]
    if limit ~= nil then
      wanted[window.name] = limit or nil
      ok, text, code = set_window(link, window.span, limit, fresh)
      if not ok then return nil, text, code end
    end
  end
  ok, text, code = link:run("set_limits", wanted.per_minute, wanted.per_hour)
  if not ok then return nil, text, code end
  ok, text, code = link:run("event", nil, "quota", ("per_minute %s, per_hour %s"):format(
    tostring(wanted.per_minute or false), tostring(wanted.per_hour or false)))
  return ok and true or nil, text, code
end

--- Sets the limits of a store; see `apply`.
function M.set(link, limits)
  return link:transaction(function() return M.apply(link, limits) end)
end

--- What differs between the limits of the settings and those of a store.
-- @tparam table settings of `of_settings`
-- @tparam table account a row with `per_minute` and `per_hour`
-- @treturn ?string nil where nothing does
function M.difference(settings, account)
  for _, window in ipairs(M.windows) do
    local where, wanted = settings.given[window.name], settings[window.name]
    if where and wanted ~= (account[window.name] or false) then
      return ("%s is %s (%s), and the store's limit is %s; a store has one limit for all who use "
        .. "it: change it with `koresms campaign quota --%s %s`, or take the setting away"):format(
        window.name, tostring(wanted), where, tostring(account[window.name] or false),
        (window.name:gsub("_", "-")), tostring(wanted))
    end
  end
end

return M
