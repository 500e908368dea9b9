--- `koresms send-many`: all messages of a file or of standard input.
--
-- The input is read twice, so that nothing is sent before every row has been looked at.
local bulk = require "koresms.cli.bulk"
local core = require "koresms.core"
local events = require "koresms.cli.events"
local session_of = require("koresms.client").session
local input = require "koresms.cli.input"
local koresms = require "koresms"
local mask = require "koresms.mask"
local opener = require "koresms.cli.client"
local options = require "koresms.cli.options"
local number_set = require "koresms.cli.number_set"
local output = require "koresms.cli.output"
local progress = require "koresms.cli.progress"
local leftover_file = require "koresms.cli.leftover_file"

local M = {}

M.summary = "Send many messages, from CSV or JSON lines."

-- Whether it sends messages.
M.sends = true

-- Until messages are under way.
M.broken_text = "nothing was sent"
M.lost = output.exit_status.unknown

local USAGE = 2

-- Duplicates that are named; the others are only counted.
local NAMED = 5

function M.define(command)
  command:description(M.summary .. [[


The input is CSV (RFC 4180, UTF-8) whose first row names its columns, or JSON lines, one
object a line, with the same names:

   to     the recipient, E.164
   from   the sender, E.164; default: --from, else KORESMS_FROM
   id     your own id of the message; default: a random one

Other columns are not sent. Every row is checked before anything is sent; where some are
bad, all of them are named and nothing is sent. Recipients that occur twice are named too.

With --json each result has, besides what `send` prints, `index` (the place of its row,
from 1), `line` (in which it begins), and `input`: the row as an object, where it has other
columns, else null.

Ctrl-C or SIGTERM starts nothing more and waits for what is in flight; a second one gives
that up, too. --rest then has every row that can be sent later without making a duplicate:
those that were not started, and those whose result is retryable.

Exit status here: 0 all accepted, 1 some rejected or not sent (bad rows that were skipped
included), 2 bad rows, usage or configuration, 4 some unknown, 5 stopped before all rows
were started.]])
  command:argument("file"):argname("FILE"):description("The input; - is standard input.")
  command:option("--from"):argname("NUMBER"):overwrite(false)
    :description("The sender of rows that name none, E.164; default: KORESMS_FROM.")
  command:option("--to-column"):argname("NAME"):overwrite(false)
    :description("The column, or key, that has the recipient; default: to.")
  options.concurrency(command)
  options.timeout(command)
  command:option("--rest"):argname("NEWFILE"):overwrite(false)
    :description("Write rows that can be sent later to this file, as they came.")
  command:option("--unknown"):argname("NEWFILE"):overwrite(false)
    :description("Write rows of which nobody knows whether they were sent to this file.")
  command:flag("--skip-invalid"):description("Send the good rows although some are bad.")
  command:flag("--unique"):description("Send to each recipient once: skip later rows.")
  command:flag("--dry-run"):description("Check everything, sign, show the least time it takes; "
    .. "send nothing.")
  command:flag("--json"):description("Print each result as a JSON object.")
  command:flag("--quiet"):description("Print no results of accepted messages, and no progress.")
  options.verbose(command)
end

-- Counts one row, and says what is wrong with it.
local function survey_row(rows, row, seen, found)
  found.rows = row.index
  if row.fault then
    found.bad = found.bad + 1
    output.complain(rows:complaint(row))
  elseif not seen:add(row.to) then
    found.duplicates = found.duplicates + 1
    if found.duplicates <= NAMED then
      output.complain(rows:complaint(row, "the recipient occurs before"))
    end
  end
end

-- Looks at every row. Returns what was found, or nil where the input cannot be used.
local function survey(rows)
  local seen, found = number_set.new(), { rows = 0, bad = 0, duplicates = 0 }
  local row, why = rows:next()
  while row do
    survey_row(rows, row, seen, found)
    local last = row
    row, why = rows:next()
    if not row and not why and rows:may_be_cut(last) then
      output.complain(rows:complaint(last, "the last row has no line end; was the input cut off?"))
    end
  end
  if why then output.complain(why) end
  return not why and found or nil
end

-- Says what was found. Returns whether anything may be sent.
local function judge(found, arguments)
  if found.duplicates > 0 then
    output.complain(("%d of %d rows repeat a recipient; %s"):format(found.duplicates, found.rows,
      arguments.unique and "they are skipped" or "--unique skips them"))
  end
  if found.bad == 0 then return true end
  output.complain(("%d of %d rows are bad; %s"):format(found.bad, found.rows,
    arguments.skip_invalid and "they are skipped"
      or "nothing was sent (--skip-invalid sends the others)"))
  return arguments.skip_invalid
end

local function limits(settings)
  local parts = {}
  if settings.per_minute then parts[1] = settings.per_minute .. " a minute" end
  if settings.per_hour then parts[#parts + 1] = settings.per_hour .. " an hour" end
  return parts[1] and "at most " .. table.concat(parts, " and ") or "no limit is set"
end

local function dry_run(client, found, as_json)
  local settings = session_of(client).settings
  local url = core.origin(settings.host).origin .. core.path(settings.bot_id)
  local seconds = session_of(client).pacer:least_time(found.messages)
  if as_json then
    output.print(output.json(
      { "dry_run", "url", "rows", "messages", "bad", "duplicates", "seconds" },
      { dry_run = true, url = url, rows = found.rows, messages = found.messages,
        bad = found.bad, duplicates = found.duplicates, seconds = seconds }))
  else
    output.print(("dry run  %d messages of %d rows  POST %s  token signed, nothing sent  "
      .. "takes %s or more (%s)"):format(found.messages, found.rows, url,
      progress.duration(seconds), limits(settings)))
  end
  return found.bad > 0 and 1 or 0
end

-- What is wrong with the options, if anything is.
local function option_fault(arguments)
  if arguments.from then
    local ok, why = koresms.e164(arguments.from)
    if not ok then return ("--from: %s (%s)"):format(why, mask.number(arguments.from)) end
  end
  if arguments.rest and arguments.rest == arguments.unknown then
    return "--rest and --unknown: give two files"
  end
  return arguments.rest and leftover_file.fault("--rest", arguments.rest)
    or arguments.unknown and leftover_file.fault("--unknown", arguments.unknown)
end

-- Everything before the first message. Returns client, rows, what was found; or nil.
local function prepare(arguments)
  local client = opener.open { timeout = arguments.timeout,
    on_event = arguments.verbose and events.listener(bulk.make_way) or nil }
  if not client then return nil end
  local fault = option_fault(arguments)
  if fault then return output.complain(fault) end
  local rows
  rows, fault = input.open(arguments.file, arguments.from,
    (arguments.from or session_of(client).settings.from) ~= nil, arguments.to_column)
  if not rows then return output.complain(fault) end
  local found = survey(rows)
  if rows.remark then output.complain(rows.remark) end
  if not found or not judge(found, arguments) then return nil end
  found.messages = found.rows - found.bad - (arguments.unique and found.duplicates or 0)
  local token
  token, fault = client:token()
  if not token then return output.complain(fault) end
  return client, rows, found
end

function M.run(arguments)
  local client, rows, found = prepare(arguments)
  if not client then return USAGE end
  if arguments.dry_run then
    M.lost = nil
    return dry_run(client, found, arguments.json)
  end
  local kept, fault = {}, nil
  for _, name in ipairs({ "rest", "unknown" }) do
    if arguments[name] and not fault then
      kept[name], fault = leftover_file.create("--" .. name, arguments[name], rows:heading())
    end
  end
  if not fault then
    local _
    _, fault = rows:rewind()
  end
  if fault then
    -- Without rows they go, so that the next run may have their names.
    for _, file in pairs(kept) do file:close() end
    output.complain(fault)
    return USAGE
  end
  M.broken = output.exit_status.unknown
  M.broken_text = "messages that were under way may have been sent; they are not repeated"
  return bulk.run(client, rows, found, kept, arguments)
end

return M
