--- `koresms token`: a token for curl, alone on standard output.
local opener = require "koresms.cli.client"
local output = require "koresms.cli.output"

local M = {}

M.summary = "Print a signed token, for the auth header of another client."

function M.define(command)
  command:description(M.summary .. [[


   curl -H "auth: $(koresms token)" ...

The token is a credential until it expires (KORESMS_TOKEN_TTL).]])
end

function M.run()
  local client = opener.open()
  if not client then return 2 end
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
