--- `koresms send`: one message.
local core = require "koresms.core"
local events = require "koresms.cli.events"
local session_of = require("koresms.client").session
local koresms = require "koresms"
local mask = require "koresms.mask"
local opener = require "koresms.cli.client"
local options = require "koresms.cli.options"
local output = require "koresms.cli.output"

local M = {}

M.summary = "Send one message."

-- Whether it sends messages.
M.sends = true

-- Broken off in the middle, or with its result unread, the message may have been sent.
M.broken, M.lost = output.exit_status.unknown, output.exit_status.unknown
M.broken_text = "the message may have been sent; it is not repeated"

--- More about what is wrong with the command line.
function M.explain(text)
  return text == "too many arguments" and text .. "; the recipient is given as --to NUMBER" or text
end

function M.define(command)
  command:description(M.summary
    .. " Its text is that of the experience flow to which the sender is attached.")
  command:option("--to"):argname("NUMBER"):count(1):overwrite(false)
    :description("The recipient, E.164: +911234567890.")
  command:option("--from"):argname("NUMBER"):overwrite(false)
    :description("The sender, E.164; default: KORESMS_FROM.")
  command:option("--id"):argname("ID"):overwrite(false)
    :description("Your own id of the message; default: a random one.")
  options.timeout(command)
  command:option("--store"):argname("STORE"):overwrite(false)
    :description("Share the quota of a store of messages, and keep the result there.")
  command:flag("--json"):description("Print the result as one JSON object.")
  command:flag("--dry-run"):description("Check configuration and numbers, sign, send nothing.")
  options.verbose(command)
end

local function report(result, as_json)
  output.print(as_json and output.json(output.result_fields, result) or output.line(result))
  return output.exit_status[result.outcome]
end

local function not_sent(code, message, from, to)
  return {
    outcome = "not_sent", code = code, message = message, retryable = false,
    attempts = 0, id = core.random_id(), from = from, to = to, elapsed = 0,
  }
end

-- Everything that a send does before the network.
local function dry_run(client, from, to, as_json)
  for _, field in ipairs({ { "to", to }, { "from", from } }) do
    local ok, text, code = koresms.e164(field[2])
    if not ok then
      return report(not_sent(code, field[1] .. ": " .. text, from, to), as_json)
    end
  end
  local token, text, code = client:token()
  if not token then return report(not_sent(code, text, from, to), as_json) end
  local settings = session_of(client).settings
  local url = core.origin(settings.host).origin .. core.path(settings.bot_id)
  if as_json then
    output.print(output.json({ "dry_run", "url", "from", "to" },
      { dry_run = true, url = url, from = from, to = to }))
  else
    output.print(("dry run  %s  from %s  POST %s  token signed, nothing sent"):format(
      mask.number(to), mask.number(from), url))
  end
  return 0
end

-- Sends by the quota of a store. Returns the result, and a text where there is more to say.
local function send_stored(client, message, where)
  local store, text = require("koresms.cli.store_option")(where)
  if not store then return nil, text end
  local result
  result, text = require("koresms.store.single").send(store, client, message,
    session_of(client).settings.timeout)
  store:close()
  return result, text and "the result could not be stored: " .. text
end

function M.run(arguments)
  local client = opener.open { timeout = arguments.timeout,
    on_event = arguments.verbose and events.listener() or nil }
  if not client then return 2 end
  local from = arguments.from or session_of(client).settings.from
  if not from then
    output.complain("no sender: give --from, or set KORESMS_FROM")
    return 2
  end
  if arguments.dry_run then
    M.broken, M.lost, M.broken_text = nil, nil, nil
    return dry_run(client, from, arguments.to, arguments.json)
  end
  local message = { to = arguments.to, from = from, id = arguments.id }
  local result, text, failure, _
  if arguments.store then
    result, text = send_stored(client, message, arguments.store)
    if text then output.complain(text) end
    if not result then return 2 end
  else
    result, _, _, failure = client:send(message)
  end
  client:close()
  -- From here on a pipe that nobody reads must not end the program before it has said so.
  M.catcher = core.catch_interrupts()
  return report(result or failure, arguments.json)
end

return M
