--- `koresms campaign import`: the rows of a file become the messages of a campaign.
--
-- The input is read twice, so that nothing is stored before every row has been looked at.
local adding = require "koresms.store.adding"
local cjson = require "cjson"
local config = require "koresms.config"
local e164 = require("koresms.core").e164
local input = require "koresms.cli.input"
local mask = require "koresms.mask"
local moment = require "koresms.store.moment"
local output = require "koresms.cli.output"
local sources = require "koresms.sources"

local M = {}

M.summary = "Put the rows of a file into a campaign."

local USAGE = 2

function M.define(command)
  command:description(M.summary .. [[


The file is as for `send-many` (CSV or JSON lines; to, from, id), with two more columns:

   dedupe   who is texted once: rows with the same one are kept once; default: id, else to
   expires  when the message is not sent any more, such as 2026-11-30T12:00:00Z

Every row is checked before anything is stored. Importing again goes on where it was: what is
there already is counted and left as it is. No worker takes a campaign before its import has
ended.]])
  command:argument("file"):argname("FILE"):description("The input; - is standard input.")
  command:option("--name"):argname("NAME"):count(1):overwrite(false):description("Of the campaign.")
  command:option("--from"):argname("NUMBER"):overwrite(false)
    :description("The sender of rows that name none, E.164; default: KORESMS_FROM.")
  command:option("--to-column"):argname("NAME"):overwrite(false)
    :description("The column, or key, that has the recipient; default: to.")
  command:option("--expires"):argname("TIME"):overwrite(false)
    :description("When what has not been sent is not sent any more (RFC 3339 with a zone).")
  command:flag("--start"):description("Have it run once it is imported; else it is paused.")
end

local function complain(text)
  output.complain(text)
  return USAGE
end

-- A setting, without the ones that only sending needs.
local function setting(name)
  local levels = sources.levels(config.settings, {})
  for _, level in ipairs(levels or {}) do
    if level.values[name] ~= nil then return level.values[name] end
  end
end

local function filled(value)
  if value ~= "" and value ~= cjson.null then return value end
end

-- The two columns that only a store has.
local function more_of(rows, row)
  local places = rows.places
  if places then
    local fields = row.fields
    return places.dedupe and filled(fields[places.dedupe]),
      places.expires and filled(fields[places.expires])
  end
  if not row.extra then return nil end
  local ok, object = pcall(cjson.decode, row.text)
  if not ok then return nil end
  return filled(object.dedupe), filled(object.expires)
end

local function text_fault(name, value)
  if value == nil then return nil end
  local fault = type(value) ~= "string" and "a string expected" or adding.text_fault(value)
  return fault and name .. ": " .. fault
end

-- A row's fault, if it has one; else what else its message has: dedupe, expires.
local function check(rows, row)
  if row.fault then return row.fault end
  local dedupe, expires = more_of(rows, row)
  local fault = text_fault("id", row.id) or text_fault("dedupe", dedupe)
  if fault then return fault end
  if expires ~= nil then
    local ok, why = nil, "a string expected"
    if type(expires) == "string" then ok, why = moment.parse(expires) end
    if not ok then return "expires: " .. why end
  end
  return nil, dedupe, expires
end

-- Looks at every row. Returns how many there are; nil where one is bad.
local function survey(rows)
  local count, bad = 0, 0
  while true do
    local row, why = rows:next()
    if not row then
      if why then return nil, output.complain(why) end
      break
    end
    count = row.index
    local fault = check(rows, row)
    if fault then
      bad = bad + 1
      output.complain(rows:complaint(row, fault))
    end
  end
  if bad == 0 then return count end
  output.complain(("%d of %d rows are bad; nothing was imported"):format(bad, count))
end

-- Makes the campaign, unless it is there already.
local function prepare(store, arguments, from)
  local ok, text = store:create { name = arguments.name, from = from, expires = arguments.expires,
    importing = true }
  if ok then return true end
  local status = store:status(arguments.name)
  if not status then return nil, text end
  if status.state == "cancelled" then
    return nil, "this campaign is cancelled; take another name"
  end
  if arguments.expires then
    output.complain("the campaign is there already, and keeps when it expires")
  end
  return true, status.state
end

local function stream(rows)
  return function()
    local row, why = rows:next()
    if not row then
      if why then error(why, 0) end
      return nil
    end
    local fault, dedupe, expires = check(rows, row)
    if fault then
      error(rows:complaint(row, fault .. "; this row has changed since it was checked"), 0)
    end
    return { to = row.to, from = row.from, id = row.id, dedupe = dedupe, expires = expires }
  end
end

function M.run(store, arguments)
  local from = arguments.from or setting("from")
  if from then
    local ok, why = e164(from)
    if not ok then return complain(("--from: %s (%s)"):format(why, mask.number(from))) end
  end
  local rows, fault = input.open(arguments.file, arguments.from, from ~= nil,
    arguments.to_column)
  if not rows then return complain(fault) end
  local count = survey(rows)
  if rows.remark then output.complain(rows.remark) end
  if not count then return USAGE end
  local ok, before = prepare(store, arguments, from)
  if not ok then return complain(before) end
  ok, fault = rows:rewind()
  if not ok then return complain(fault) end
  local fine, added, duplicates = pcall(store.add, store, arguments.name, stream(rows))
  if not fine then return complain(tostring(added)) end
  if not added then return complain(duplicates) end
  local text
  if arguments.start then
    ok, text = store:resume(arguments.name, { imported = true })
  elseif before == nil or before == "importing" then
    ok, text = store:finish_import(arguments.name)
  end
  if not ok then return complain(text) end
  output.complain(("%d rows: %d new in campaign '%s', %d were there or repeat others%s"):format(
    count, added, output.plain(arguments.name), duplicates, arguments.start and "; it runs"
      or (before == nil or before == "importing" or before == "paused")
        and "; it is paused (koresms campaign resume)" or ""))
  return 0
end

return M
