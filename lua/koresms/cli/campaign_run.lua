--- `koresms campaign run`: a worker.
--
-- SIGINT, SIGTERM and SIGHUP are only counted meanwhile: nothing more is started then, and what is
-- in flight is waited for and stored.
local checked_io = require "koresms.cli.checked_io"
local core = require "koresms.core"
local moment = require "koresms.store.moment"
local options = require "koresms.cli.options"
local output = require "koresms.cli.output"
local terminal = require "koresms.cli.terminal"

local M = {}

M.summary = "Send what is due in campaigns: a worker."

local USAGE, UNKNOWN, STOPPED, SOME_NOT = 2, 4, 5, 1

local fields = { "campaign" }
for _, field in ipairs(output.result_fields) do fields[#fields + 1] = field end

function M.define(command)
  command:description(M.summary .. [[


It ends when its campaigns have nothing left; with --stay it goes on waiting for what comes, the
outbox of applications included. A result is printed once it is stored. On a terminal a line
says how far it is, and what it waits for.

Exit status here, the first that fits: 2 usage or the store, 4 messages are unknown, 5 stopped,
paused, or the store was lost, 1 some rejected or expired, 0 all accepted.]])
  command:argument("names"):argname("NAME"):args("*")
  command:flag("--all"):description("All campaigns that run, the outbox among them.")
  command:flag("--stay"):description("Go on waiting for messages.")
  command:option("--until"):argname("TIME"):overwrite(false)
    :description("Start nothing more at HH:MM (local), or at a time such as 2026-11-30T20:00:00Z.")
  options.concurrency(command)
  command:flag("--json"):description("Print each result as a JSON object.")
end

-- Seconds since 1970 of `--until`.
local function end_of(text)
  local hour, minute = text:match("^(%d%d?):(%d%d)$")
  if not hour then return moment.parse(text) end
  hour, minute = tonumber(hour), tonumber(minute)
  if hour > 23 or minute > 59 then return nil, "expected HH:MM" end
  local now = core.time()
  local day = os.date("*t", math.floor(now))
  day.hour, day.min, day.sec = hour, minute, 0
  local time = os.time(day)
  if time <= now then
    day.day = day.day + 1
    day.hour, day.isdst = hour, nil
    time = os.time(day)
  end
  return time
end

-- Which campaigns; nil and a text where that is not said.
local function names_of(store, arguments)
  if arguments.all then
    if #arguments.names > 0 then return nil, "--all goes without names" end
    return true
  end
  if #arguments.names > 0 then return arguments.names end
  local list, text = store:campaigns()
  if not list then return nil, text end
  local found = {}
  for _, row in ipairs(list) do
    if row.state == "running" then found[#found + 1] = output.plain(row.name) end
  end
  local running = table.concat(found, ", ")
  if found[1] and terminal.is(0) then
    io.stderr:write(("koresms: these campaigns run: %s. Send for all of them? [y/N] "):format(
      running))
    local answer = io.stdin:read("*l")
    if answer and answer:lower():find("^y") then return true end
  end
  return nil, "which campaigns? Name them, or say --all" .. (found[1] and " (these run: " .. running
    .. ")" or " (none runs)")
end

local function explain_pause(name, reason)
  name = output.plain(name)
  output.complain(("campaign '%s' is paused%s; `koresms campaign resume %s` has it run"):format(
    name, reason and ": " .. output.plain(reason) or "", name))
end

-- The exit status, from the state of the campaigns.
local function status_of(store, outcome, failed)
  local unknown, rejected, example = 0, 0, nil
  for _, name in ipairs(outcome and outcome.campaigns or {}) do
    local status = store:status(name)
    if status then
      if status.unknown > 0 then example = example or name end
      unknown = unknown + status.unknown
      rejected = rejected + status.rejected + status.expired
      if status.state == "paused" then explain_pause(name, status.reason) end
    end
  end
  if unknown > 0 then
    output.complain(("unknown messages: %d; see `koresms campaign export %s --state unknown` "
      .. "and `koresms campaign resolve`"):format(unknown, output.plain(example)))
    return UNKNOWN
  end
  if failed or outcome.left then return STOPPED end
  return rejected > 0 and SOME_NOT or 0
end

-- What is known and could not be stored is told here.
local function print_unstored(list)
  for _, ending in ipairs(list or {}) do
    output.print(output.json({ "stored", "id", "attempt", "worker", "state", "code" },
      { stored = false, id = ending.id, attempt = ending.attempt, worker = ending.worker,
        state = ending.state, code = ending.code }))
  end
end

function M.run(store, arguments)
  local names, text = names_of(store, arguments)
  if not names then
    output.complain(text)
    return USAGE
  end
  local last, fault
  if arguments["until"] then
    last, fault = end_of(arguments["until"])
    if not last then
      output.complain("--until: " .. fault)
      return USAGE
    end
  end
  local line, done, told, lost = terminal.line(), 0, false, false
  local function draw(waits)
    line:draw(function()
      return ("%d done%s"):format(done, waits and "  waits: " .. output.plain(waits) or "")
    end)
  end
  local catcher = core.catch_interrupts()
  io.stdout:setvbuf("full")
  local run_options = { stay = arguments.stay or nil, concurrency = arguments.concurrency,
    campaigns = names ~= true and names or nil }
  function run_options.on_wait(why) draw(why) end
  function run_options.stop()
    if core.interrupted() > 0 and not told then
      told = true
      line:clear()
      output.complain("interrupted: nothing more is started, what is in flight is waited for and "
        .. "stored")
    end
    draw()
    return told or lost or last ~= nil and core.time() >= last
  end
  for result in store:run(run_options) do
    done = done + 1
    local shown = arguments.json and output.json(fields, result)
      or ("%s  %s"):format(output.plain(result.campaign or "?"), output.line(result))
    line:clear()
    if not lost and not checked_io.write_now(io.stdout, shown .. "\n") then
      lost = true
      output.complain("standard output cannot be written; nothing more is started. The store has "
        .. "all results")
    end
    draw()
  end
  line:clear()
  local failed = store:failure()
  if failed then output.complain(failed) end
  local own = store.own()
  print_unstored(own.unstored)
  local status = own.outcome and status_of(store, own.outcome, failed) or USAGE
  catcher:close()
  return status
end

return M
