--- Proxies. Each row is a proxy's listener (`bench:listen_for(row)`); the server behind
-- it is another one. It agrees to CONNECT and to requests in absolute form alike.
-- `processed` and `answers` tell of the server behind. Fields of a row: see request.lua;
-- `status` here is the proxy's own, where it gives one.

local step = require("spec.support.faults.step")

local rows = {}
local AGREED = "HTTP/1.1 200 Connection established\r\n\r\n"

local function add(name, steps, more)
  local row = more or {}
  row.name, row.group, row.steps = name, "proxy", steps
  row.processed, row.answers = row.answers and 1 or 0, row.answers or false
  row.listen = { proxy = true, default = step.after_reading(step.tunnel()) }
  rows[#rows + 1] = row
end

add("proxy_good", step.after_reading(step.tunnel()), { answers = true })
add("proxy_slow", step.after_reading(step.stall { seconds = 0.1 }, step.tunnel()),
  { answers = true })

for _, status in ipairs { 400, 403, 404, 407, 500, 502, 503 } do
  add("proxy_refuses_" .. status, step.after_reading(step.respond {
    status = status, body = "<html>refused</html>",
    headers = {
      { "Content-Type", "text/html" },
      status == 407 and { "Proxy-Authenticate", 'Basic realm="proxy"' } or nil,
    },
  }, step.close()), { status = status })
end

for _, name in ipairs { "close", "reset", "stall" } do
  local ending, stalls = step[name](), name == "stall" and true or nil
  add("proxy_accept_" .. name, { ending }, { stalls = stalls })
  add("proxy_asked_" .. name, step.after_reading(ending), { stalls = stalls })
  add("proxy_agreed_" .. name, step.after_reading(step.send { data = AGREED }, ending),
    { stalls = stalls, status = 200 })
  add("proxy_agreed_hello_" .. name,
    step.after_reading(step.send { data = AGREED }, step.wait_readable(), ending),
    { stalls = stalls, status = 200 })
  -- So many bytes of the client are let through; what that means for the message depends
  -- on where they end.
  add("proxy_up_k_" .. name, function(arg)
    return step.after_reading(step.tunnel { up = arg.k }, ending)
  end, { stalls = stalls, either = true, status = 200, sweep = 1200 })
  add("proxy_down_k_" .. name, function(arg)
    return step.after_reading(step.tunnel { down = arg.k }, ending)
  end, { stalls = stalls, either = true, status = 200, sweep = 1200 })
end

add("proxy_garbage", step.after_reading(step.send { data = "garbage\r\n\r\n" },
  step.close()))
add("proxy_endless_header", step.after_reading(step.endless { what = "header" }))
add("proxy_redirects", step.after_reading(step.respond {
  status = 302, body = "", headers = { { "Location", "http://127.0.0.1:1/" } },
}, step.close()), { status = 302 })

return rows
