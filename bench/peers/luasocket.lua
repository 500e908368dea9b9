-- LuaSocket's http.request: a connection a message, as it does it. luasocket.lua URL N
local http = require "socket.http"
local ltn12 = require "ltn12"

local token = ("x"):rep(216)
for i = 1, tonumber(arg[2]) do
  local body = ('{"fromNo":"+19876543210","toNo":"+91%010d"}'):format(i)
  local reply = {}
  local ok, status = http.request {
    url = arg[1], method = "POST", source = ltn12.source.string(body),
    sink = ltn12.sink.table(reply),
    headers = { ["auth"] = token, ["content-type"] = "application/json",
      ["accept"] = "application/json", ["content-length"] = #body },
  }
  if not ok or status ~= 200 then error(tostring(status)) end
end
