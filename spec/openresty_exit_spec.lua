-- Messages left for later in a worker of nginx that is told to exit: each of them is told to the
-- client's listener or stands in nginx's error log, once, and none is called not sent that was.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local faults = require "spec.support.faults"
local openresty = require "spec.support.openresty"
local run = require "spec.support.run"

local step = faults.step

local INIT = [[
  local path = ngx.config.prefix() .. "events"
  koresms = require "koresms"
  function client_of(settings)
    local o = { host = "$origin", bot_id = "st-1", client_id = "cs-1", client_secret = "secret",
      from = "+19876543210", retries = 2, per_minute = false,
      on_event = function(event)
        if event.kind ~= "verdict" then return end
        local file = io.open(path, "a")
        file:write(event.id, " ", event.outcome, " ", event.code or "", "\n")
        file:close()
      end }
    for name, value in pairs(settings or {}) do o[name] = value or nil end
    return assert(koresms.new(o))
  end
  client = client_of($settings)
  function fill(count)
    for i = 1, count do
      assert(koresms.later({ to = ("+91%010d"):format(i), id = "m" .. i }, { client = client }))
    end
  end ]]

describe("a worker of nginx that is told to exit", function()
  local bench, server

  setup(function() bench = faults.start() end)
  teardown(function() bench:stop() end)
  local function stop()
    if server then server:stop() end
    server = nil
  end
  after_each(stop)

  local function start(origin, settings)
    server = openresty.start { origin = origin, init = INIT, settings = settings or "{}" }
  end

  -- What was told and what was logged of each message: outcome/code by id.
  local function endings()
    local found, logged = {}, 0
    local function note(id, ending)
      assert.is_nil(found[id], id .. " is told twice")
      found[id] = ending
    end
    for line in run.output("cat " .. server.prefix .. "/events 2>/dev/null"):gmatch("[^\n]+") do
      local id, outcome, code = line:match("^(%S+) (%S+) (%S*)$")
      note(id, outcome .. (code ~= "" and "/" .. code or ""))
    end
    -- nginx itself notes sockets that are open when it ends.
    local log = server:log():gsub("[^\n]*open socket #%d+ left in connection %d+\n?", "")
      :gsub("[^\n]*%[alert%] [%d#]+: aborting\n?", "")
    for line in log:gmatch("[^\n]+") do
      local id, number, outcome, code = line:match(
        "%[error%].*koresms%.later: message (%S+) to (%S+): (%S+) %((%S+)%): ")
      assert(id, line)
      assert.truthy(number:find("^%+91%d%d%*+%d%d$"), number)
      note(id, outcome .. "/" .. code)
      logged = logged + 1
    end
    return found, logged
  end

  -- Each of `count` messages has one ending, and the server agrees with it.
  local function check(listener, count)
    local found, logged = endings()
    local seen = listener:stats { settle = 1 }
    local outcomes = {}
    for i = 1, count do
      local ending = found["m" .. i]
      assert(ending, ("nothing is told of message %d of %d"):format(i, count))
      local outcome = ending:match("^[^/]+")
      outcomes[outcome] = (outcomes[outcome] or 0) + 1
      local processed = seen.to[("+91%010d"):format(i)] or 0
      assert(processed <= 1, "sent twice")
      if outcome == "accepted" then assert.equal(1, processed, ending) end
      if outcome == "not_sent" then assert.equal(0, processed, ending) end
    end
    return outcomes, logged
  end

  -- Eight connections on which no answer comes any more, and others that take 0.2 s each.
  local function slow()
    local silent = { step.read_request(), step.stall() }
    return bench:listen { connections = { silent, silent, silent, silent, silent, silent, silent,
      silent }, default = { step["repeat"] { n = 1000, steps = { step.read_request(),
        step.stall { seconds = 0.2 }, step.respond() } } } }
  end

  it("QUIT, and TERM five seconds later, as a service manager does", function()
    local listener = slow()
    start(listener.origin)
    server:run("fill(1000)")
    run.output("sleep 0.3")
    server:signal("QUIT")
    run.output("sleep 5")
    server:signal("TERM")
    assert.truthy(server:wait(5))
    local outcomes, logged = check(listener, 1000)
    assert(outcomes.accepted >= 40 and outcomes.not_sent >= 500, outcomes.accepted)
    -- What was in flight until the end.
    assert.equal(8, outcomes.unknown)
    assert.equal(8, logged)
    listener:close()
  end)

  it("TERM at once", function()
    local listener = slow()
    start(listener.origin)
    server:run("fill(1000)")
    run.output("sleep 0.5")
    server:signal("TERM")
    assert.truthy(server:wait(5))
    local outcomes, logged = check(listener, 1000)
    assert(outcomes.accepted >= 8 and outcomes.unknown >= 16, outcomes.accepted)
    assert.equal(1000, outcomes.accepted + logged)
    listener:close()
  end)

  it("QUIT, where nobody listens", function()
    local listener = bench:listen()
    start(listener.origin, "{ on_event = false, per_minute = 10 }")
    server:run("fill(300)")
    server:signal("QUIT")
    assert.truthy(server:wait(8))
    local found, logged = endings()
    assert.equal(290, logged)
    for _, ending in pairs(found) do assert.equal("not_sent/cancelled", ending) end
    assert.equal(10, listener:stats({ settle = 1 }).processed)
    listener:close()
  end)

  it("as long as the setting says", function()
    for _, row in ipairs { { 0, 0, 2 }, { 1, 1, 3 }, { 3, 3, 5.5 } } do
      local listener = bench:listen { default = { step["repeat"] { n = 1000, steps = {
        step.read_request(), step.stall { seconds = 0.2 }, step.respond() } } } }
      start(listener.origin, ("{ later_flush = %d }"):format(row[1]))
      server:run("fill(1000)")
      server:signal("QUIT")
      local begin = run.output("date +%s.%N")
      assert.truthy(server:wait(10))
      local took = run.output("date +%s.%N") - begin
      assert(took >= row[2] and took <= row[3], ("%d: %.2f s"):format(row[1], took))
      local outcomes = check(listener, 1000)
      assert(outcomes.not_sent >= 600)
      stop()
      listener:close()
    end
  end)

  it("with what a log handler leaves while it exits", function()
    local listener = bench:listen { default = { step["repeat"] { n = 1000, steps = {
      step.read_request(), step.stall { seconds = 0.05 }, step.respond() } } } }
    start(listener.origin, "{ later_flush = 1 }")
    server:run([[
      -- Requests that go on while the worker exits, each of which leaves a message.
      for i = 1, 60 do
        ngx.timer.at(0, function()
          ngx.sleep(i * 0.05)
          local taken, _, code = koresms.later({ to = ("+91%010d"):format(i), id = "m" .. i },
            { client = client })
          if taken then return end
          local file = io.open(ngx.config.prefix() .. "events", "a")
          file:write("m", i, " not_sent ", code, "\n")
          file:close()
        end)
      end ]])
    run.output("sleep 0.5")
    server:signal("QUIT")
    assert.truthy(server:wait(10))
    local outcomes = check(listener, 60)
    assert(outcomes.accepted >= 20 and outcomes.not_sent >= 10, outcomes.accepted)
    listener:close()
  end)
end)
