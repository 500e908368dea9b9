-- lua-http: C coroutines, each with a connection that it keeps. luahttp.lua HOST:PORT PATH N C
local cqueues = require "cqueues"
local client = require "http.client"
local new_headers = require "http.headers".new

local host, port = arg[1]:match("^(.*):(%d+)$")
local path, n, concurrency = arg[2], tonumber(arg[3]), tonumber(arg[4])
local token = ("x"):rep(216)
local sent = 0

local function post(connection, number)
  local body = ('{"fromNo":"+19876543210","toNo":"+91%010d"}'):format(number)
  local headers = new_headers()
  headers:append(":method", "POST")
  headers:append(":scheme", "http")
  headers:append(":authority", arg[1])
  headers:append(":path", path)
  headers:append("auth", token)
  headers:append("content-type", "application/json")
  headers:append("accept", "application/json")
  headers:append("content-length", tostring(#body))
  local stream = assert(connection:new_stream())
  assert(stream:write_headers(headers, false, 10))
  assert(stream:write_body_from_string(body, 10))
  local reply = assert(stream:get_headers(10))
  if reply:get(":status") ~= "200" then error(reply:get(":status")) end
  assert(stream:get_body_as_string(10))
  stream:shutdown()
end

local queue = cqueues.new()
for _ = 1, concurrency do
  queue:wrap(function()
    local connection = assert(client.connect({ host = host, port = tonumber(port), tls = false },
      10))
    while sent < n do
      sent = sent + 1
      post(connection, sent)
    end
    connection:close()
  end)
end
assert(queue:loop())
