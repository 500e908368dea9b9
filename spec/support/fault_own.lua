--- Endings that need no scenario of the bench, and settings that a fault could touch: each
-- case runs on a bed (see fault_bed.lua) and gives the result of one send.

local bed_support = require "spec.support.fault_bed"
local faults = require "spec.support.faults"

local M = {}

local function case(name, verdict, run, timeout)
  M[#M + 1] = { name = name, verdict = verdict, run = run, timeout = timeout }
end

-- Sends with these settings to a server that plays a scenario, and then to it well again.
local function at(scenario, changes, kept)
  return function(bed)
    local server = bed.servers[changes and changes.over or "plain"]
    local settings = {}
    for name, value in pairs(changes or {}) do
      if name ~= "over" then settings[name] = value end
      if type(value) == "function" and name ~= "token" and name ~= "on_event" then
        settings[name] = value(bed)
      end
    end
    server:script({ scenario and faults.script(scenario) or nil })
    local client = bed:client(server.origin, settings)
    if kept then assert(bed:send(client).outcome == "accepted") end
    local result = bed:send(client)
    server:script()
    local after = bed:send(client)
    assert(after.outcome == "accepted" or after.code == result.code,
      ("then %s/%s"):format(after.outcome, after.code))
    client:close()
    return result
  end
end

-- A temporary file with this text; it goes with the bench's own directory.
local function file(name, text)
  return function(bed)
    local path = bed.bench.directory .. "/" .. name
    local handle = assert(io.open(path, "w"))
    handle:write(type(text) == "function" and text(bed) or text)
    handle:close()
    return path
  end
end

local function rsa_key(bed)
  local path = bed.bench.directory .. "/rsa.pem"
  assert(os.execute("openssl genrsa -out " .. path .. " 2048 2>/dev/null"))
  return path
end

-- Where nothing leaves ----------------------------------------------------------------------

for _, message in ipairs { { to = "911234567890" }, { to = "+1", from = "KORE" } } do
  case("a number that is none: " .. (message.from or message.to), "not_sent/invalid_number",
    function(bed)
      local client = bed:client(bed.servers.plain.origin)
      return (select(4, client:send(message)))
    end)
end

case("a token callback that raises", "not_sent/sign",
  at(nil, { token = function() error("no") end }))

case("a limit of one in a minute", "not_sent/rate_limited",
  at(nil, { per_minute = 1, timeout = 0.2 }, true))
case("a limit of one in an hour", "not_sent/rate_limited",
  at(nil, { per_hour = 1, timeout = 0.2 }, true))

case("a name that does not exist", "not_sent/dns", function(bed)
  local client = bed:client("https://nonexistent.invalid")
  local result = bed:send(client)
  client:close()
  return result
end)

case("a client that is closed", "not_sent/cancelled", function(bed)
  local client = bed:client(bed.servers.plain.origin)
  client:close()
  return bed:send(client)
end)

-- What the client makes of a word that this machine's transport never gives.
local function told(reply)
  return function(bed)
    local config, pacer = require "koresms.config", require "koresms.pacer"
    local client = require("koresms.client").new(
      assert(config.load { host = "https://kore.test", bot_id = "st-1", token = "t",
        from = "+12" }),
      { open = function()
        return { transport = { exchange = function() return reply end }, pacer = pacer.new() }
      end })
    return bed:send(client)
  end
end

case("a phase of nginx without network", "not_sent/context",
  told { failure = "context", starts = 0, text = "API disabled in this phase" })
case("a status that is none", "unknown/bad_response",
  told { status = 600, body = "{}", starts = 1 })

case("no configuration at all", "not_sent/config", function()
  return (select(4, require("koresms").send { to = "+12" }))
end)

-- Deadlines of connecting ---------------------------------------------------------------------

local function slow_to_connect(scenario, over)
  return function(bed)
    local played = bed:play(faults.named[scenario], 0, over,
      { timeout = 3, connect_timeout = bed_support.STALL })
    assert(played.took < 2, "the time to connect was not kept")
    local again = played:again()
    assert(again.outcome == "accepted", again.message)
    played:close()
    return played.result
  end
end

case("connecting that takes too long", "not_sent/connect", slow_to_connect("connect_hangs"), 3)
for _, name in ipairs { "tls_accept_stall", "tls_hello_stall", "tls_flight_k_stall" } do
  case("connecting that takes too long: " .. name, "not_sent/connect", slow_to_connect(name), 3)
end
for _, name in ipairs { "proxy_accept_stall", "proxy_asked_stall" } do
  case("connecting that takes too long: " .. name, "not_sent/proxy",
    slow_to_connect(name, "tls"), 3)
end
case("connecting that takes too long: behind a proxy", "not_sent/connect",
  slow_to_connect("proxy_agreed_stall", "tls"), 3)
case("a proxy that is not there", "not_sent/proxy|not_sent/connect",
  at(nil, { proxy = "http://127.0.0.1:1" }))
case("a proxy whose name does not exist", "not_sent/proxy|not_sent/dns",
  at(nil, { proxy = "http://nonexistent.invalid:3128" }))
case("a CA file that holds no certificate", "not_sent/tls",
  at(nil, { over = "tls", ca_file = file("none.pem", "nothing\n") }))
case("a client certificate that is none", "not_sent/tls",
  at(nil, { over = "tls", client_cert = file("none.pem", "nothing\n") }))

-- Settings, each against a fault after the request has left ------------------------------------

local function lost(name, changes, kept)
  case(name, "unknown/connection_lost", at("processed_close", changes, kept))
end

lost("a secret in a file", { client_secret = "none", client_secret_file = file("secret", "MY\n") })
lost("a key in a file", { client_secret = "none", private_key_file = rsa_key, algorithm = "RS256" })
lost("a longer hash", { algorithm = "HS512", subject = "me", token_ttl = 60, jti = true })
lost("a ready token", { client_secret = "none", client_id = "none", token = "a.b.c" })
lost("a token of a callback", { token = function() return "a.b.c" end })
lost("a listener that raises", { on_event = function() error("no") end })
lost("no kept connections", { max_idle = 0 })
lost("connections that are soon too old", { max_age = 1 })
lost("plain text allowed", { allow_http = true })

return M
