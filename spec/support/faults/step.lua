--- Constructors of the steps that `faultd/steps.py` performs. Each takes a table of the
-- step's fields, or nothing: `step.respond{ status = 503 }`, `step.close()`.

local M = {}

local NAMES = {
  "serve", "read_request", "read_bytes", "read_all_but", "wait_readable", "respond",
  "send", "stall", "close", "reset", "half_close", "endless", "repeat", "handshake",
  "read_client_hello", "handshake_part", "tunnel", "interrupt",
}

for _, name in ipairs(NAMES) do
  M[name] = function(fields)
    local step = { ["do"] = name }
    for key, value in pairs(fields or {}) do step[key] = value end
    return step
  end
end

--- The documented success, and the whole reply that `respond()` makes of it.
M.OK_BODY = '{"message":"Triggered the configured Experience flow to deliver message '
  .. 'via SMS channel"}'
M.OK_REPLY = "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
  .. "Content-Length: " .. #M.OK_BODY .. "\r\n\r\n" .. M.OK_BODY

local function frame(header, body)
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" .. header .. "\r\n\r\n"
    .. body
end

--- The same success in chunks, and ended by the connection.
M.CHUNKED_REPLY = frame("Transfer-Encoding: chunked",
  ("14\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n"):format(
    M.OK_BODY:sub(1, 20), #M.OK_BODY - 20, M.OK_BODY:sub(21)))
M.CLOSE_REPLY = frame("Connection: close", M.OK_BODY)

--- A script that reads one request and then does the steps given.
function M.after_reading(...)
  return { M.read_request(), ... }
end

--- A script that answers one request properly, reads another, and does the steps given.
function M.after_second(...)
  return { M.read_request(), M.respond(), M.read_request(), ... }
end

return M
