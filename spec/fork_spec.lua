-- A forked child never uses its parent's connections. luaposix has fork; where it is not
-- there for this Lua, nothing is tested.
local faults = require "spec.support.faults"
local koresms = require "koresms"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"

local ok_unistd, unistd = pcall(require, "posix.unistd")
local ok_wait, wait = pcall(require, "posix.sys.wait")
local _, fcntl = pcall(require, "posix.fcntl")

local FROM, TO = "+19876543210", "+911234567890"

describe("a fork", function()
  if not (ok_unistd and ok_wait) then
    pending("luaposix is not there for this Lua")
    return
  end

  local box, directory

  setup(function()
    box = assert(sandbox.start())
    directory = run.directory()
  end)
  teardown(function()
    box:stop()
    run.clean()
  end)
  before_each(function() box:control("DELETE", "/_sandbox/messages") end)

  local function new(changes)
    local o = { host = box.host, bot_id = box.bot_id, client_id = box.client_id,
      client_secret = box.client_secret, ca_file = box.ca_file, from = FROM, per_minute = false }
    for name, value in pairs(changes or {}) do o[name] = value end
    return assert(koresms.new(o))
  end

  -- Runs a function in a child, which leaves without finalizers or with them; returns the
  -- lines that it gave.
  local function in_child(f, gently)
    local name = directory .. "/child"
    local pid = assert(unistd.fork())
    if pid == 0 then
      local ok, text = pcall(f)
      run.write(name, (ok and "" or "error: ") .. tostring(text))
      if gently then
        collectgarbage()
        collectgarbage()
      end
      unistd._exit(0)
    end
    local _, how, status = wait.wait(pid)
    assert.same({ "exited", 0 }, { how, status })
    local file = assert(io.open(name))
    local text = file:read("*a")
    file:close()
    return text
  end

  it("leaves the connections to the parent", function()
    local c = new()
    assert(c:send({ to = TO }))
    assert.equal("accepted accepted", in_child(function()
      return assert(c:send({ to = TO })).outcome .. " " .. assert(c:send({ to = TO })).outcome
    end))
    assert(c:send({ to = TO }))
    local by = {}
    for _, m in ipairs(box:get("/_sandbox/messages").messages) do
      by[m.connection] = (by[m.connection] or 0) + 1
    end
    local counts = {}
    for _, n in pairs(by) do counts[#counts + 1] = n end
    assert.same({ 2, 2 }, counts)
    c:close()
  end)

  it("closes no descriptor that a daemon has put to another use", function()
    local c = new()
    assert(c:send({ to = TO }))
    local log = directory .. "/log"
    local told = in_child(function()
      for fd = 3, 63 do unistd.close(fd) end
      for _ = 1, 12 do assert(fcntl.open(log, fcntl.O_CREAT + fcntl.O_WRONLY, 6 * 64)) end
      local outcome = assert(c:send({ to = TO })).outcome
      return outcome .. " " .. run.output("ls -l /proc/$PPID/fd | grep -c '/log$'")
    end)
    assert.equal("accepted 12\n", told)
    c:close()
  end)

  it("does not end the parent's TLS session when the child collects or closes", function()
    local c = new()
    assert(c:send({ to = TO }))
    in_child(function() c:close() end, true)
    in_child(function()
      c = nil
      collectgarbage()
    end, true)
    assert(c:send({ to = TO }))
    local seen = box:get("/_sandbox/messages").messages
    assert.equal(seen[1].connection, seen[2].connection)
    c:close()
  end)

  it("makes nothing sendable that the parent may still send", function()
    box:control("POST", "/_sandbox/play", { times = -1, delay = 0.5 })
    local c = new()
    local iterator = c:send_many({ { to = TO }, { to = TO }, { to = TO } }, { concurrency = 2 })
    -- Two are in flight when the process forks.
    local first = iterator()
    assert.equal("accepted", first.outcome)
    local told = in_child(function()
      local lines = {}
      for r in iterator do lines[#lines + 1] = r.outcome .. "/" .. tostring(r.code) end
      return table.concat(lines, " ")
    end)
    assert.truthy(told:find("unknown/connection_lost", 1, true), told)
    assert.is_nil(told:find("not_sent", 1, true), told)
    for r in iterator do assert.equal("accepted", r.outcome) end
    box:control("DELETE", "/_sandbox/play")
    c:close()
  end)

  it("leaves what a stream has not started to the parent", function()
    local count = 40
    local function list()
      local messages = {}
      for i = 1, count do messages[i] = { to = ("+91%010d"):format(i) } end
      return messages
    end
    local function pull()
      local messages, i = list(), 0
      return function()
        i = i + 1
        return messages[i]
      end
    end
    for _, source in ipairs({ list(), pull() }) do
      box:control("DELETE", "/_sandbox/messages")
      -- Some are refused, and will be repeated after a second by one process only.
      box:control("POST", "/_sandbox/play", { times = 15, status = 429,
        headers = { ["Retry-After"] = "1" } })
      local c = new { retries = 3 }
      local iterator = c:send_many(source, { concurrency = 16 })
      local done = 0
      local function take()
        local result = iterator()
        if result then
          assert.equal("accepted", result.outcome)
          done = done + 1
        end
        return result
      end
      take()
      local told = in_child(function()
        local lines = {}
        for r in iterator do lines[#lines + 1] = r.outcome end
        return table.concat(lines, " ")
      end)
      assert.is_nil(told:find("not_sent", 1, true), told)
      repeat until not take()
      assert.equal(count, done)
      assert.equal(count, box:get("/_sandbox/state").count)
      c:close()
    end
  end)

  it("leaves an answer that came in before it to the parent", function()
    local step, bench = faults.step, faults.start()
    local server = bench:listen { connections = {
      { step.read_request(), step.respond(), step.serve() },
      { step.read_request(), step.stall { seconds = 0.2 }, step.respond { status = 429,
        headers = { { "Retry-After", "1" } } }, step.serve() } } }
    local c = new { host = server.origin, timeout = 5 }
    local pulled = 0
    -- The second message is refused while the third is pulled, and nobody has looked yet.
    local iterator = c:send_many(function()
      pulled = pulled + 1
      if pulled == 3 then run.output("sleep 0.5") end
      return pulled <= 6 and { to = ("+91%010d"):format(pulled) } or nil
    end, { concurrency = 2 })
    assert.equal(1, iterator().index)
    in_child(function() for _ in iterator do end end)
    local done = 1
    for result in iterator do
      assert.equal("accepted", result.outcome)
      done = done + 1
    end
    assert.equal(6, done)
    assert.equal(2, server:stats({ settle = 2 }).to["+910000000002"])
    assert.equal(7, server:stats().processed)
    c:close()
    bench:stop()
  end)

  it("gives parent and child different identifiers", function()
    local c = new()
    local seen = {}
    for _ = 1, 5 do seen[assert(c:send({ to = TO })).id] = true end
    local ids = in_child(function()
      local lines = {}
      for i = 1, 40 do lines[i] = require("koresms.core").random_id() end
      return table.concat(lines, " ")
    end)
    for id in ids:gmatch("%x+") do
      assert.is_nil(seen[id])
      seen[id] = true
    end
    for _ = 1, 40 do assert.is_nil(seen[require("koresms.core").random_id()]) end
    c:close()
  end)

  it("does not keep the parent's connection open behind its back", function()
    local bench = faults.start()
    local server = bench:listen()
    local c = assert(koresms.new { host = server.origin, bot_id = "st-1", client_id = "cs-1",
      client_secret = "secret", from = FROM, per_minute = false })
    assert(c:send({ to = TO }))
    assert.equal("accepted", in_child(function() return assert(c:send({ to = TO })).outcome end))
    assert(c:send({ to = TO }))
    assert.equal(2, server:stats { settle = 1 }.accepted)
    c:close()
    bench:stop()
  end)
end)
