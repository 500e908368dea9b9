--- What a person decides about campaigns: pause, resume, cancel, resolve, suppress, quota, schema.
local e164 = require("koresms.core").e164
local mask = require "koresms.mask"
local output = require "koresms.cli.output"

local M = {}

local USAGE = 2

-- Complains where a call failed; else says what was done.
local function told(ok, text, done)
  output.complain(ok and done or text)
  return ok and 0 or USAGE
end

local function name_of(command)
  command:argument("name"):argname("NAME")
    :description("The campaign; the applications' is `outbox`.")
end

M.pause = { summary = "Have a campaign wait." }

function M.pause.define(command)
  command:description(M.pause.summary .. " Workers see it within a second; what is in flight ends.")
  name_of(command)
  command:argument("reason"):argname("REASON"):args("?"):description("What `status` says.")
end

function M.pause.run(store, arguments)
  local ok, text = store:pause(arguments.name, arguments.reason)
  return told(ok, text, ("campaign '%s' is paused"):format(output.plain(arguments.name)))
end

M.resume = { summary = "Have a campaign run: workers take its messages." }

function M.resume.define(command)
  command:description(M.resume.summary)
  name_of(command)
  command:flag("--accept"):description("The database was promoted or restored, and the last marks "
    .. "may be missing: go on all the same.")
end

function M.resume.run(store, arguments)
  local ok, text = store:resume(arguments.name, { accept = arguments.accept or nil })
  return told(ok, text, ("campaign '%s' runs"):format(output.plain(arguments.name)))
end

M.cancel = { summary = "End a campaign: what has not been sent is skipped." }

function M.cancel.define(command)
  command:description(M.cancel.summary .. " It cannot be resumed.")
  name_of(command)
end

function M.cancel.run(store, arguments)
  local count, text = store:cancel(arguments.name)
  return told(count, text, count
    and ("campaign '%s' is cancelled, %d messages were skipped"):format(
      output.plain(arguments.name), count))
end

M.resolve = { summary = "Decide about messages that are unknown, or were rejected." }

function M.resolve.define(command)
  command:description(M.resolve.summary .. [[


Nobody knows whether an unknown message was sent: sending it again may text somebody twice,
and skipping it may leave somebody out. The number of messages is shown first; --yes takes
the number that was shown, and counts no more than that.]])
  name_of(command)
  command:option("--unknown"):argname("resend|skip"):choices { "resend", "skip" }:overwrite(false)
  command:option("--rejected"):argname("retry"):choices { "retry" }:overwrite(false)
  command:option("--code"):argname("CODE"):overwrite(false)
    :description("With --rejected: only those with this code.")
  command:option("--yes"):argname("COUNT"):convert(tonumber):overwrite(false)
    :description("Do not ask: this many, as was shown.")
end

local function is_terminal()
  local ok = os.execute("[ -t 0 ]")
  return ok == true or ok == 0
end

-- Whether a person agrees to a number of messages.
local function agreed(arguments, count, what)
  if arguments.yes then
    if arguments.yes == count then return true end
    output.complain(("%d %s; --yes says %g, so nothing was changed"):format(count, what,
      arguments.yes))
    return false
  end
  if not is_terminal() then
    output.complain(("%d %s; nothing was changed: say --yes %d"):format(count, what, count))
    return false
  end
  io.stderr:write(("koresms: %d %s. Go on? [y/N] "):format(count, what))
  local answer = io.stdin:read("*l")
  return answer ~= nil and answer:lower():find("^y") ~= nil
end

function M.resolve.run(store, arguments)
  if (arguments.unknown == nil) == (arguments.rejected == nil) then
    output.complain("say one of --unknown resend, --unknown skip and --rejected retry")
    return USAGE
  end
  if arguments.code and not arguments.rejected then
    output.complain("--code goes with --rejected")
    return USAGE
  end
  local options = { unknown = arguments.unknown, rejected = arguments.rejected,
    code = arguments.code, count = true }
  local count, shown = store:resolve(arguments.name, options)
  if not count then return told(nil, shown) end
  local what = arguments.unknown
    and ("messages are unknown and would be %s"):format(arguments.unknown == "resend"
      and "sent again, some of them for the second time" or "skipped")
    or "rejected messages would be tried again"
  if count == 0 then
    output.complain("no such messages; nothing was changed")
    return 0
  end
  if not agreed(arguments, count, what) then return USAGE end
  options.count, options.shown = nil, shown
  local changed, text = store:resolve(arguments.name, options)
  return told(changed, text, changed and ("%d messages were changed"):format(changed))
end

M.suppress = { summary = "Keep numbers from getting anything out of this store." }

function M.suppress.define(command)
  command:description(M.suppress.summary .. " The list is looked at when a message is about to be "
    .. "sent. A file has one number a line; the first column counts.")
  command:argument("numbers"):argname("FILE|NUMBER"):args("+")
  command:flag("--remove"):description("Take them off the list.")
end

-- The numbers of a file; nil and a text where one will not do.
local function read_numbers(path, list)
  local file, why = io.open(path, "rb")
  if not file then return nil, why end
  local line_number = 0
  for line in file:lines() do
    line_number = line_number + 1
    local field = line:gsub("^\239\187\191", ""):match('^%s*"?([^",;\t\r]*)')
    local ok, text = e164(field)
    if ok then
      list[#list + 1] = field
    elseif field:find("%d") or line_number > 1 and field ~= "" then
      file:close()
      return nil, ("%s:%d: %s (%s)"):format(path, line_number, text, mask.text(field, 40))
    end
  end
  file:close()
  return true
end

function M.suppress.run(store, arguments)
  local list = {}
  for _, given in ipairs(arguments.numbers) do
    if given:find("^%+?%d+$") then
      local ok, text = e164(given)
      if not ok then return told(nil, ("%s (%s)"):format(text, mask.number(given))) end
      list[#list + 1] = given
    else
      local ok, text = read_numbers(given, list)
      if not ok then return told(nil, text) end
    end
  end
  local count, text = store:suppress(list, { remove = arguments.remove or nil })
  return told(count, text, count and ("%d of %d numbers were %s"):format(count, #list,
    arguments.remove and "taken off the list" or "new on the list"))
end

M.quota = { summary = "Set, or show, how many requests leave this store in a minute and an hour." }

local function limit(text)
  if text == "false" then return false end
  local number = text:find("^%d+$") and tonumber(text)
  if number and number >= 1 and number <= 1e6 then return number end
  return nil, ("'%s' is neither a whole number from 1 to 1000000 nor false"):format(
    mask.text(text, 40))
end

function M.quota.define(command)
  command:description(M.quota.summary .. " All workers and `koresms send --store` share it. "
    .. "Without an option it is shown.")
  command:option("--per-minute"):argname("N|false"):overwrite(false)
  command:option("--per-hour"):argname("N|false"):overwrite(false)
end

local function show_limits(store)
  local limits, text = store:quota()
  if not limits then return told(nil, text) end
  output.print(("per_minute %s, per_hour %s"):format(tostring(limits.per_minute),
    tostring(limits.per_hour)))
  return 0
end

function M.quota.run(store, arguments)
  local wanted, named = {}, false
  for _, name in ipairs { "per_minute", "per_hour" } do
    if arguments[name] then
      local value, text = limit(arguments[name])
      if value == nil then return told(nil, ("--%s: %s"):format((name:gsub("_", "-")), text)) end
      wanted[name], named = value, true
    end
  end
  if not named then return show_limits(store) end
  local before = store:quota()
  local ok, text = store:quota(wanted)
  if not ok then return told(nil, text) end
  local raised = false
  for name, value in pairs(wanted) do
    local was = before and before[name]
    raised = raised or value and was and value > was
  end
  output.complain("the store's limits are set" .. (raised and "; what is more than before can be "
    .. "used once a whole minute (or hour) has passed" or ""))
  return show_limits(store)
end

M.schema = { summary = "Print the SQL that makes a store, for a migration tool.", bare = true }

function M.schema.define(command)
  command:description(M.schema.summary)
  command:option("--dialect"):argname("sqlite|postgres"):choices { "sqlite", "postgres" }
    :default("postgres"):overwrite(false)
end

function M.schema.run(arguments)
  local schema = require("koresms.store.schema_" .. arguments.dialect)
  for version, step in ipairs(schema.steps) do
    output.print(("-- koresms store, version %d, %s"):format(version, arguments.dialect))
    for _, statement in ipairs(step) do output.print(statement .. ";") end
  end
  return 0
end

return M
