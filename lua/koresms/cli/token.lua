--- `koresms token`: a token for curl, alone on standard output.
local core = require "koresms.core"
local opener = require "koresms.cli.client"
local output = require "koresms.cli.output"

local session_of = require("koresms.client").session

local M = {}

M.summary = "Print a signed token, for the auth header of another client."

function M.define(command)
  command:description(M.summary .. [[


   curl -H "auth: $(koresms token)" ...

The token is a credential until it expires (KORESMS_TOKEN_TTL).

With --curl a command is printed that sends a message with it, and does not hold it. Put the two
numbers into it before you run it.]])
  command:flag("--curl"):description("Print a curl command that sends one message.")
end

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- A command that takes the token by standard input: what stands on a command line can be read by
-- every user of the machine.
local function curl_command(settings)
  local parts = {
    [[koresms token | sed 's/^/auth: /' | curl -sS -H @- -H 'Content-Type: application/json']],
    [[-d '{"fromNo": "SENDER", "toNo": "RECIPIENT"}']],
  }
  if settings.ca_file then parts[#parts + 1] = "--cacert " .. quote(settings.ca_file) end
  parts[#parts + 1] = quote(core.origin(settings.host).origin .. core.path(settings.bot_id))
  return table.concat(parts, " \\\n  ")
end

function M.run(arguments)
  local client = opener.open()
  if not client then return 2 end
  if arguments.curl then
    output.print(curl_command(session_of(client).settings))
    client:close()
    return 0
  end
  local token, reason = client:token()
  client:close()
  if not token then
    output.complain(reason)
    return 2
  end
  output.print(token)
  return 0
end

return M
