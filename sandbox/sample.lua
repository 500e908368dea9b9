--- Sends a message to the sandbox itself, through a socket, as a client would: the page's own
-- test message takes the way of every other one.
-- @module koresms.sandbox.sample

local cjson = require "cjson"

local json = cjson.new()
local M = {}

local FROM = "+19876543210"

-- The answer is in the log; longer than this nobody waits for it.
local PATIENCE = 30000

local address

--- Called once, before nginx makes its workers.
function M.init(given)
  address = {given.own_address, given.plain_port}
end

local function exchange(premature, request)
  if premature then return end
  local socket = ngx.socket.tcp()
  socket:settimeout(PATIENCE)
  if not socket:connect(address[1], address[2]) then return end
  if socket:send(request) then socket:receive("*a") end
  socket:close()
end

--- Sends in the background.
-- @tparam table message to, and from where it is not the usual one
-- @tparam string bot
-- @tparam ?string token
-- @treturn boolean
-- @treturn nil,string
function M.send(message, bot, token)
  if not token then return nil, "this sandbox knows a public key only, and cannot sign" end
  local body = json.encode({fromNo = message.from or FROM, toNo = message.to})
  return ngx.timer.at(0, exchange, table.concat({
    ("POST /api/public/bot/%s/outboundsms HTTP/1.1"):format(ngx.escape_uri(bot)),
    ("Host: %s:%d"):format(address[1], address[2]), "auth: " .. token,
    "Content-Type: application/json", "User-Agent: sandbox page",
    "Content-Length: " .. #body, "Connection: close", "", body}, "\r\n"))
end

return M
