-- Inside nginx: an answer that nobody asked for, on a connection that is kept.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local faults = require "spec.support.faults"
local openresty = require "spec.support.openresty"

local step = faults.step

local REFUSED = { status = 412, body = '{"errors":[{"msg":"no","code":412}]}' }

-- `busy` holds the worker, as a long computation or a blocking call would.
local INIT = [[
  koresms = require "koresms"
  local clock = require("koresms.core").clock
  function busy(seconds)
    local finish = clock() + seconds
    while clock() < finish do end
  end
  function client_of(origin)
    return assert(koresms.new { host = origin, bot_id = "st-1", client_id = "cs-1",
      client_secret = "secret", from = "+19876543210", per_minute = false, retries = 0 })
  end
  function send(client, to)
    local accepted, _, _, failed = client:send { to = to }
    local result = accepted or failed
    return result.outcome .. (result.code and "/" .. result.code or "")
  end ]]

describe("an answer that nobody asked for, while a worker of nginx is busy", function()
  local bench, server, mutex, serial = nil, nil, nil, 0

  setup(function()
    bench = faults.start()
    server = openresty.start { init = INIT, ca = bench:certs()["ca.pem"],
      http = "resolver 127.0.0.1:1;" }
    -- nginx then looks at its timers before it deals with what it has seen.
    mutex = openresty.start { init = INIT, ca = bench:certs()["ca.pem"], workers = 2,
      http = "resolver 127.0.0.1:1;", events = "accept_mutex on;" }
  end)
  teardown(function()
    local log = server and mutex and server:log() .. mutex:log()
    if server then server:stop() end
    if mutex then mutex:stop() end
    if bench then bench:stop() end
    assert.equal("", log)
  end)

  local function number()
    serial = serial + 1
    return ("+91%010d"):format(serial)
  end

  -- The first message is answered twice, the second time 50 ms later; the other is refused.
  local function listen(tls, to)
    local well = step.serve { answers = { [to[2]] = step.respond(REFUSED) } }
    local listener = bench:listen { tls = tls and {} or nil, default = { well },
      connections = { { step.read_request(), step.respond(), step.stall { seconds = 0.05 },
        step.send { data = faults.OK_REPLY }, well } } }
    return listener, tls and "https://localhost:" .. listener.port or listener.origin
  end

  -- The handler that sends is the one that is busy.
  local SAME = [[
    local client, said = client_of(given.origin), {}
    said[1] = send(client, given.to[1])
    busy(given.seconds)
    said[2] = send(client, given.to[2])
    client:close()
    return said ]]

  -- Another one is, and the message is sent in the same turn of the event loop.
  local OTHER = [[
    local client, said = client_of(given.origin), {}
    local semaphore = require("ngx.semaphore").new()
    said[1] = send(client, given.to[1])
    local waiting = ngx.thread.spawn(function()
      assert(semaphore:wait(5))
      said[2] = send(client, given.to[2])
    end)
    ngx.sleep(0.01)
    semaphore:post(1)
    busy(given.seconds)
    ngx.thread.wait(waiting)
    client:close()
    return said ]]

  -- The message is one of a stream, whose loop is busy.
  local STREAM = [[
    local client, said = client_of(given.origin), {}
    local messages = { { to = given.to[1] }, { to = given.to[2] } }
    for result in client:send_many(messages, { concurrency = 1 }) do
      said[result.index] = result.outcome .. (result.code and "/" .. result.code or "")
      if result.index == 1 then busy(given.seconds) end
    end
    client:close()
    return said ]]

  for name, code in pairs { ["itself"] = SAME, ["with another request"] = OTHER,
                            ["in the loop of a stream"] = STREAM } do
    for _, tls in ipairs { false, true } do
      it(("is not taken for the next one (%s%s)"):format(name, tls and ", TLS" or ""), function()
        for round = 1, 6 do
          local to = { number(), number() }
          local listener, origin = listen(tls, to)
          local said = (round % 2 == 0 and mutex or server):run(code, { origin = origin, to = to,
            seconds = 0.2 })
          assert.same({ "accepted", "rejected/invalid_request" }, said)
          local seen = listener:stats { settle = 2 }
          assert.same({ 1, 1, 2 }, { seen.to[to[1]], seen.to[to[2]], seen.accepted })
          listener:close()
        end
      end)
    end
  end

  it("costs a good connection nothing", function()
    local listener = bench:listen()
    local said = server:run([[
      local client, said = client_of(given.origin), {}
      for i = 1, 20 do
        busy(0.01)
        said[i] = send(client, given.to)
      end
      client:close()
      return said ]], { origin = listener.origin, to = number() })
    assert.equal(("accepted "):rep(20), table.concat(said, " ") .. " ")
    assert.equal(1, listener:stats({ settle = 2 }).accepted)
    listener:close()
  end)
end)
