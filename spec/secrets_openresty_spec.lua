-- Inside nginx, too, secrets, tokens and whole numbers come out nowhere: not in what a send
-- returns, and not in the error log.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local command = require "spec.support.command"
local faults = require "spec.support.faults"
local marks = require "spec.support.secret_marks"
local openresty = require "spec.support.openresty"

local step = faults.step

-- Everything that a send and a stream tell, as text; without the message's own numbers.
local SEND = [[
  local koresms = require "koresms"
  local said, client = {}, nil
  local function say(...)
    for i = 1, select("#", ...) do
      local value = select(i, ...)
      if type(value) == "table" then
        for name, one in pairs(value) do
          if name ~= "to" and name ~= "from" then said[#said + 1] = name .. " " .. tostring(one) end
        end
      else
        said[#said + 1] = tostring(value)
      end
    end
  end
  given.settings.on_event = say
  given.settings.token = given.callback and function() error(given.callback) end
    or given.settings.token
  client = assert(koresms.new(given.settings))
  say(client:send { to = given.to })
  if client:send { to = given.to .. "x" } then say("accepted") end
  local iterator = client:send_many { { to = given.to }, { to = given.to .. "x" } }
  say(tostring(client), tostring(iterator))
  -- A stream waits for the end of a pause.
  if not given.pauses then for result in iterator do say(result) end end
  say(koresms.later({ to = given.to }, { client = client }))
  say(pcall(client.send, client, { to = given.to, text = given.settings.client_secret }))
  ngx.log(ngx.NOTICE, tostring(client))
  ngx.sleep(0.02)
  client:close()
  return said ]]

describe("secrets inside nginx", function()
  local bench, server, certs

  setup(function()
    bench = faults.start()
    certs = bench:certs()
    server = openresty.start { ca = certs["ca.pem"],
      main = "error_log error.log info;" }
  end)
  teardown(function()
    server:stop()
    bench:stop()
  end)

  local function send(origin, where, changes, order)
    order = order or {}
    order.to = marks.to
    order.settings = { host = origin, bot_id = "st-1", client_id = "cs-1",
      client_secret = marks.secret,
      from = marks.from, per_minute = false, retries = 0, timeout = 0.3 }
    for name, value in pairs(changes or {}) do order.settings[name] = value or nil end
    local said = server:run(SEND, order)
    assert(#said > 10, where)
    marks.walk(where, said)
  end

  local NO_SECRET = { client_secret = false }
  local function with_token(token) return { client_secret = false, token = token } end

  it("stay out of what a send tells, and of the log", function()
    local plain, tls = bench:listen(), bench:listen { tls = {} }
    for _, status in ipairs { 200, 302, 400, 401, 429, 500 } do
      local reply = step.respond { status = status, body = marks.echo(), reason = marks.to,
        headers = { { "Location", "https://x.test/" .. marks.token }, { "Retry-After", "0" } } }
      plain:script({}, { step["repeat"] { n = 9, steps = { step.read_request(), reply } } })
      send(plain.origin, "echo " .. status, with_token(marks.token), { pauses = status == 429 })
      send(plain.origin, "echo " .. status)
    end
    for _, name in ipairs { "processed_close", "read_head_reset", "accept_never_read", "http09",
        "header_nul", "garbage_before_status", "answer_too_slow" } do
      plain:script({}, faults.script(name))
      send(plain.origin, name)
    end
    tls:script()
    send(tls.origin, "over TLS")
    for _, name in ipairs { "tls_expired", "tls_wrong_ca", "tls_hello_close", "connect_refused",
        "connect_hangs" } do
      local over = bench:listen_for(name)
      send(over.origin, name)
      over:close()
    end
    send("http://nonexistent.invalid", "a name that does not exist", { allow_http = true })
    send(plain.origin, "a callback that raises", NO_SECRET, { callback = marks.token })
    local proxy = bench:listen_for("proxy_refuses_407")
    send(tls.origin, "a proxy", { proxy = proxy.origin:gsub("//", "//user:" .. marks.password
      .. "@") })
    local log = command.read(server.prefix .. "/error.log")
    assert(log:find("koresms.client (", 1, true), "the log was not written")
    marks.look("the log", log)
  end)
end)
