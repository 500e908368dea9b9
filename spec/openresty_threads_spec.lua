-- Light threads: one client for many at once, and streams that they carry.
--
-- OPENRESTY=long sends a million messages for the memory's sake.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local core = require "koresms.core"
local openresty = require "spec.support.openresty"

local long = os.getenv("OPENRESTY") == "long"

-- A platform that answers by the number that it is sent, n: with n in its refusal, with success,
-- too late, or with something that breaks HTTP on a connection which it keeps open.
local PLATFORM = [[
  location /api/ {
    content_by_lua_block {
      ngx.req.read_body()
      local n = tonumber(ngx.req.get_body_data():match('"toNo":"%+91(%d+)"'))
      local seen = ngx.shared.seen
      seen:incr(n, 1, 0)
      if n >= 5e9 then return ngx.print('{"message":"ok"}') end
      ngx.sleep((n % 7 + 1) * 0.002)
      if n % 5 < 3 then
        ngx.status = 400
        ngx.print(('{"errors":[{"msg":"no","code":%d}]}'):format(n))
      elseif n % 250 == 3 then
        ngx.sleep(1.5)
        ngx.print('{"message":"late"}')
      elseif n % 50 == 4 then
        local sock = ngx.req.socket(true)
        sock:send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}")
        sock:settimeout(2000)
        if sock:receiveany(1) then seen:incr("reused", 1, 0) end
      else
        ngx.print('{"message":"ok"}')
      end
    }
  }
  location = /seen {
    content_by_lua_block {
      local wrong, count = {}, 0
      for _, key in ipairs(ngx.shared.seen:get_keys(0)) do
        count = count + 1
        if ngx.shared.seen:get(key) ~= 1 then wrong[#wrong + 1] = key end
      end
      ngx.print(require("cjson").encode { count = count, wrong = #wrong,
        reused = ngx.shared.seen:get("reused") or 0 })
      ngx.shared.seen:flush_all()
    }
  }
]]

local CLIENT = [[
  koresms = require "koresms"
  function new(options)
    options = options or {}
    for name, value in pairs { host = "$origin", bot_id = "st-1", client_id = "cs-1",
        client_secret = "secret", from = "+19876543210" } do
      options[name] = options[name] or value
    end
    if options.per_minute == nil then options.per_minute = false end
    return assert(koresms.new(options))
  end
  client = new { timeout = 5 }
  function number(n) return ("+91%010d"):format(n) end
  -- What is wrong with a result for number n; nil where it is right.
  function fault_of(n, result)
    local want = n % 5 < 3 and "invalid_request" or n % 250 == 3 and "timeout"
      or n % 50 == 4 and "bad_response" or nil
    if result.to ~= number(n) then return ("%d: for %s"):format(n, result.to) end
    if result.attempts ~= 1 then return ("%d: %d attempts"):format(n, result.attempts) end
    if result.code ~= want then
      return ("%d: %s, not %s: %s"):format(n, result.code, want, result.message)
    end
    if n % 5 < 3 and result.platform_code ~= n then
      return ("%d: the answer to %s"):format(n, result.platform_code)
    end
  end
]]

describe("light threads", function()
  local platform, server

  setup(function()
    platform = openresty.start { http = "lua_shared_dict seen 16m;", locations = PLATFORM }
    server = openresty.start { init = CLIENT, origin = platform.url }
  end)

  before_each(function() platform:get("/seen") end)

  teardown(function()
    local log = server:log() .. platform:log()
    server:stop()
    platform:stop()
    assert.equal("", log)
  end)

  local function seen() return require("cjson").decode((platform:get("/seen"))) end

  -- Runs a chunk that returns a list of what is wrong.
  local function nothing_wrong(code, given)
    assert.same({}, server:run(code, given))
  end

  it("share a client without mixing anything up", function()
    nothing_wrong([[
      local wrong, last = {}, 0
      local function sender()
        while last < 10000 do
          last = last + 1
          local n = last
          local accepted, _, _, failed = client:send({ to = number(n) }, { timeout = 1 })
          wrong[#wrong + 1] = fault_of(n, accepted or failed)
        end
      end
      local threads = {}
      for i = 1, 100 do threads[i] = ngx.thread.spawn(sender) end
      for _, thread in ipairs(threads) do assert(ngx.thread.wait(thread)) end
      return wrong ]])
    assert.same({ count = 10000, wrong = 0, reused = 0 }, seen())
  end)

  it("carry a stream whose results belong to its messages", function()
    nothing_wrong([[
      local wrong, n, known = {}, 0, {}
      local function pull()
        if n % 100 == 0 then ngx.sleep(0.001) end
        n = n + 1
        if n <= 3000 then return { to = number(n), id = "m" .. n } end
      end
      for result in client:send_many(pull, { concurrency = 50, timeout = 1 }) do
        local index = result.index
        wrong[#wrong + 1] = fault_of(index, result)
        if known[index] then wrong[#wrong + 1] = index .. " twice" end
        if result.id ~= "m" .. index then wrong[#wrong + 1] = index .. ": " .. result.id end
        known[index] = true
      end
      if #known ~= 3000 then wrong[#wrong + 1] = #known .. " known" end
      return wrong ]])
    assert.same({ count = 3000, wrong = 0, reused = 0 }, seen())
  end)

  it("are as many as the concurrency, whatever the source", function()
    nothing_wrong([[
      local wrong = {}
      for _, concurrency in ipairs { 1, 3, 16 } do
        local begun, most, done = 0, 0, 0
        local c = new { on_event = function(event)
          if event.kind == "attempt" and not event.elapsed then begun = begun + 1 end
          most = math.max(most, begun - done)
          if event.kind == "verdict" then done = done + 1 end
        end }
        local messages = {}
        for i = 1, 60 do messages[i] = { to = number(6e9 + i) } end
        for _ in c:send_many(messages, { concurrency = concurrency }) do end
        if most ~= concurrency or done ~= 60 then
          wrong[#wrong + 1] = ("%d: %d at once, %d done"):format(concurrency, most, done)
        end
      end
      return wrong ]])
  end)

  it("tell what was refused, and hide nothing behind it", function()
    nothing_wrong([[
      local outcomes = {}
      local list = { { to = "x" }, { to = number(6e9) }, { to = "+1", from = "y" } }
      for r in client:send_many(list) do outcomes[r.index] = r.code or r.outcome end
      local said = table.concat(outcomes, " ")
      return { said ~= "invalid_number accepted invalid_number" and said or nil } ]])
  end)

  it("answer what is in flight before an error of the source is raised", function()
    nothing_wrong([[
      local problem, n, results = { "a table" }, 0, 0
      local ok, raised = pcall(function()
        for _ in client:send_many(function()
          n = n + 1
          if n == 6 then error(problem) end
          return { to = number(6e9 + n) }
        end) do
          results = results + 1
        end
      end)
      return { (ok or raised ~= problem or results ~= 5) and
        ("%s %s %d"):format(tostring(ok), tostring(raised), results) or nil } ]])
    assert.equal(5, seen().count)
  end)

  it("start nothing once the loop was left, and do not hold up the request", function()
    local begin = core.clock()
    nothing_wrong([[
      local n = 0
      for _ in client:send_many(function()
        n = n + 1
        return { to = number(6e9 + n) }
      end, { concurrency = 4 }) do
        break
      end
      return {} ]])
    assert.truthy(core.clock() - begin < 1)
    local count = seen().count
    assert.truthy(count >= 1 and count <= 9, count)
  end)

  it("cancel what had not started when the stream or the client is closed", function()
    nothing_wrong([[
      local wrong = {}
      local c = new { per_minute = 60 }
      local messages = {}
      for i = 1, 100 do messages[i] = { to = number(6e9 + i) } end
      ngx.thread.spawn(function() ngx.sleep(0.3) c:close() end)
      local counts = {}
      for r in c:send_many(messages) do
        counts[r.code or r.outcome] = (counts[r.code or r.outcome] or 0) + 1
      end
      if counts.accepted ~= 59 or counts.cancelled ~= 41 then
        wrong[1] = require("cjson").encode(counts)
      end
      -- The same for one message that waits alone.
      c = new { per_minute = 1 }
      assert(c:send({ to = number(6e9) }))
      ngx.thread.spawn(function() ngx.sleep(0.3) c:close() end)
      require("koresms.client").session(c).pacer:pause(require("koresms.core").clock(), 3)
      local begin = ngx.now()
      local _, _, code = c:send({ to = number(6e9 + 1) }, { timeout = 300 })
      if code ~= "cancelled" or ngx.now() - begin > 2 then wrong[#wrong + 1] = code end
      return wrong ]])
  end)

  it("wait for a permit without the message's time running", function()
    nothing_wrong([[
      local c = new { timeout = 0.3 }
      require("koresms.client").session(c).pacer:pause(require("koresms.core").clock(), 1)
      local outcomes = {}
      for r in c:send_many({ { to = number(6e9) }, { to = number(6e9 + 1) } }) do
        outcomes[#outcomes + 1] = r.outcome
      end
      local said = table.concat(outcomes, " ")
      return { said ~= "accepted accepted" and said or nil } ]])
  end)

  it("repeat what is safe to repeat", function()
    nothing_wrong([[
      local wrong = {}
      local c = new { host = "http://127.0.0.1:1", retries = 1, timeout = 1 }
      local messages = {}
      for i = 1, 20 do messages[i] = { to = number(i) } end
      local retries = 0
      require("koresms.client").session(c).settings.on_event = function(event)
        if event.kind == "retry" then retries = retries + 1 end
      end
      for r in c:send_many(messages, { concurrency = 20 }) do
        if r.code ~= "connect" or r.attempts ~= 0 then wrong[#wrong + 1] = r.code end
      end
      -- A connection that is refused is tried again until the deadline.
      if retries < 40 then wrong[#wrong + 1] = retries .. " retries" end
      return wrong ]])
  end)

  it("nest, and take turns with single sends", function()
    nothing_wrong([[
      local outer, inner = 0, 0
      local function list(n)
        local messages = {}
        for i = 1, n do messages[i] = { to = number(6e9 + i) } end
        return messages
      end
      for _ in client:send_many(list(6), { concurrency = 3 }) do
        outer = outer + 1
        for _ in client:send_many(list(3), { concurrency = 2 }) do inner = inner + 1 end
        assert(client:send({ to = number(6e9) }))
      end
      return { (outer ~= 6 or inner ~= 18) and outer .. " " .. inner or nil } ]])
  end)

  it("are used again, so that a stream in one request does not grow with its length", function()
    nothing_wrong([[
      local function rss()
        local file = io.open("/proc/self/statm")
        local pages = tonumber(file:read("*a"):match("^%d+ (%d+)"))
        file:close()
        return pages * 4
      end
      local n, before, after = 0, nil, nil
      for result in client:send_many(function()
        n = n + 1
        if n <= 40000 then return { to = number(6e9 + n) } end
      end, { concurrency = 64 }) do
        if result.index == 5000 then collectgarbage() before = rss() end
        if result.index == 39000 then collectgarbage() after = rss() end
      end
      -- A thread for each message would be 8 MB.
      return { after - before > 3000 and after - before or nil } ]])
  end)

  it("leave no memory behind", function()
    local rounds, each = 4, long and 250000 or 6000
    local before
    for round = 1, rounds do
      local half = each / 2
      local sent = server:run([[
        local n, done = 0, 0
        local function sender()
          while n < given.half do
            n = n + 1
            if client:send({ to = number(6e9 + n) }) then done = done + 1 end
          end
        end
        local threads = {}
        for i = 1, 100 do threads[i] = ngx.thread.spawn(sender) end
        for _, thread in ipairs(threads) do assert(ngx.thread.wait(thread)) end
        local k = 0
        for r in client:send_many(function()
          k = k + 1
          if k <= given.half then return { to = number(6e9 + k) } end
        end, { concurrency = 100 }) do
          if r.outcome == "accepted" then done = done + 1 end
        end
        collectgarbage()
        collectgarbage()
        return { done } ]], { half = half })
      assert.equal(each, sent[1])
      local rss = server:rss()
      -- The first round fills pools and caches.
      if long then print(("\n%d sent: %d kB"):format(round * each, rss)) end
      before = before or rss
      assert.truthy(rss - before < 5 * 1024, ("%d kB after round 1, %d after %d"):format(before,
        rss, round))
    end
  end)
end)
