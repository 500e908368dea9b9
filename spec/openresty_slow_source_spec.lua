-- Sources that hold the worker of nginx, loops that are left while a message waits for its permit,
-- and streams where there is no network. The order is asserted; where a time is, its bounds are
-- wide.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local core = require "koresms.core"
local faults = require "spec.support.faults"
local openresty = require "spec.support.openresty"

-- Remembers when each number came.
local PLATFORM = [[
  location /api/ {
    content_by_lua_block {
      ngx.req.read_body()
      local n = ngx.req.get_body_data():match('"toNo":"%+91(%d+)"')
      ngx.shared.seen:set(tonumber(n), ngx.now())
      if tonumber(n) == 999 then ngx.sleep(3) end
      ngx.print('{"message":"ok"}')
    }
  }
  location = /seen {
    content_by_lua_block {
      local seen = {}
      for _, key in ipairs(ngx.shared.seen:get_keys(0)) do
        seen[tostring(key)] = ngx.shared.seen:get(key)
      end
      ngx.print(require("cjson").encode(seen))
      ngx.shared.seen:flush_all()
    }
  }
]]

local INIT = [[
  koresms = require "koresms"
  core = require "koresms.core"
  function new(options)
    for name, value in pairs { host = "$origin", bot_id = "st-1", client_id = "cs-1",
        client_secret = "secret", from = "+19876543210" } do
      options[name] = options[name] or value
    end
    if options.per_minute == nil then options.per_minute = false end
    return assert(koresms.new(options))
  end
  client = new { timeout = 5 }
  hung = new { host = "$hung", timeout = 5 }
  function number(n) return ("+91%010d"):format(n) end
  -- Holds the worker.
  function nap(seconds)
    local ends = core.clock() + seconds
    while core.clock() < ends do end
  end
]]

local LOCATIONS = [[
  location = /given_up {
    content_by_lua_block {
      ngx.thread.spawn(function() hung:send({ to = number(1) }) end)
      for _ = 1, 4 do
        ngx.thread.spawn(function()
          for _ in hung:send_many { { to = number(1) }, { to = number(2) } } do end
        end)
      end
      ngx.sleep(0.2)
      ngx.exit(444)
    }
  }
  location = /log {
    content_by_lua_block { ngx.say("x") }
    log_by_lua_block {
      local told = ngx.shared.told
      local list = {}
      for i = 1, 3 do list[i] = { to = number(i) } end
      local ok, text = pcall(function()
        for result in client:send_many(list) do
          told:set(result.index, result.code)
          nap(0.1)
        end
      end)
      told:set("text", ok and "well" or tostring(text))
    }
  }
]]

describe("inside nginx", function()
  local bench, platform, server

  setup(function()
    bench = faults.start()
    platform = openresty.start { http = "lua_shared_dict seen 1m;", locations = PLATFORM }
    server = openresty.start { init = INIT, origin = platform.url, locations = LOCATIONS,
      hung = bench:listen({ mode = "blackhole" }).origin, http = "lua_shared_dict told 1m;" }
  end)

  before_each(function() platform:get("/seen") end)

  teardown(function()
    local log = server:log() .. platform:log()
    server:stop()
    platform:stop()
    bench:stop()
    assert.equal("", log)
  end)

  local function seen() return require("cjson").decode((platform:get("/seen"))) end

  local SLOW = [[
    local pulled, told, pulls, wrong, c = 0, {}, {}, {}, given.hung and hung or client
    for result in c:send_many(function()
      if pulled == 6 then return nil end
      if pulled > 1 and not told[pulled - 1] then
        wrong[#wrong + 1] = ("%d pulled, %d not told"):format(pulled, pulled - 1)
      end
      nap(0.3)
      ngx.update_time()
      pulled = pulled + 1
      pulls[pulled] = ngx.now()
      return { to = number(pulled) }
    end, { timeout = given.hung and 0.5 }) do
      told[result.index] = result.outcome
    end
    return { wrong = wrong, pulls = pulls, told = told } ]]

  it("what a slow source gave leaves before it is asked again, and what is known is told first",
    function()
      local got = server:run(SLOW)
      assert.same({}, got.wrong)
      local times = seen()
      for i = 1, 6 do assert.equal("accepted", got.told[i]) end
      -- It came before the next one was there.
      for i = 1, 5 do assert.truthy(times[tostring(i)] < got.pulls[i + 1], i) end
    end)

  it("a slow source is asked though nginx broke others off while they connected", function()
    server:get("/given_up")
    local begun = core.clock()
    local got = server:run(SLOW)
    assert.same({}, got.wrong)
    assert.equal(6, #got.told)
    got = server:run(SLOW, { hung = true })
    assert.equal(6, #got.told)
    assert.truthy(core.clock() - begun < 20)
  end)

  for _, slow in ipairs { "source", "loop", "source and loop" } do
    for _, seconds in ipairs { 0.02, 0.1, 0.5 } do
      it(("what is not answered is told in time: %s of %g s"):format(slow, seconds), function()
        local late = server:run([[
          local pulled, late = 0, nil
          for result in client:send_many(function()
            if late then return nil end
            if given.slow:find("source") then nap(given.seconds) end
            pulled = pulled + 1
            return { to = number(pulled == 1 and 999 or pulled + 1000) }
          end, { timeout = 1 }) do
            if given.slow:find("loop") and not late then nap(given.seconds) end
            if result.outcome ~= "accepted" then late = late or result end
          end
          return late ]], { slow = slow, seconds = seconds })
        assert.equal("timeout", late.code)
        assert.equal("unknown", late.outcome)
        -- nginx counts whole milliseconds, from when it last looked at the clock.
        assert.truthy(late.elapsed >= 0.99 and late.elapsed < 2.5, late.elapsed)
      end)
    end
  end

  it("a reply that has arrived is read, though the worker comes late to it", function()
    local step = faults.step
    -- More than is read at once.
    local large = bench:listen { default = { step.read_request(), step.stall { seconds = 0.4 },
      step.respond { body = '{"message":"' .. ("x"):rep(40000) .. '"}' } } }
    local got = server:run([[
      local c = new { host = given.origin, timeout = 1 }
      local sending = ngx.thread.spawn(function() return select(-1, c:send { to = number(1) }) end)
      ngx.sleep(0.1)
      nap(1.3)
      local _, result = ngx.thread.wait(sending)
      return { result.outcome, result.code } ]], { origin = large.origin })
    assert.same({ "accepted" }, got)
  end)

  it("a source is not asked for more than a slow loop takes", function()
    local most = server:run([[
      local pulled, told, most = 0, 0, 0
      for _ in client:send_many(function()
        if pulled == 1000 then return nil end
        pulled = pulled + 1
        most = math.max(most, pulled - told)
        return { to = number(pulled) }
      end, { concurrency = 4 }) do
        told = told + 1
        if told > 40 then break end
        nap(0.06)
      end
      return { most } ]])[1]
    assert.truthy(most <= 3 * 4 + 1, most)
  end)

  it("a loop that is left starts no message that waits for its permit", function()
    for _, wait in ipairs { "permit", "source" } do
      local begun = core.clock()
      server:run([[
        local c, n = new { per_minute = 2 }, 0
        -- So that the third permit comes soon.
        require("koresms.client").session(c).pacer.windows[1].life = 2
        for _ in c:send_many(function()
          if given.wait == "source" and n == 2 then return false, koresms.clock() + 2 end
          n = n + 1
          return { to = number(n) }
        end, { concurrency = 1 }) do
          if n >= 2 then break end
        end
        return {} ]], { wait = wait })
      -- The request does not wait for it either.
      assert.truthy(core.clock() - begun < 1.5, wait)
      server:run("ngx.sleep(2.5) return {}")
      assert.is_nil(seen()["3"])
    end
  end)

  it("a loop whose light thread is killed starts no message that waits for its permit", function()
    local begun = core.clock()
    server:run([[
      local c, n = new { per_minute = 2 }, 0
      require("koresms.client").session(c).pacer.windows[1].life = 2
      local looping = ngx.thread.spawn(function()
        for _ in c:send_many(function()
          n = n + 1
          return { to = number(n) }
        end, { concurrency = 1 }) do end
      end)
      ngx.sleep(0.3)
      ngx.thread.kill(looping)
      return {} ]])
    assert.truthy(core.clock() - begun < 1.8)
    server:run("ngx.sleep(2.5) return {}")
    assert.is_nil(seen()["3"])
  end)

  it("a loop that is long away goes on with the message that waited for its permit", function()
    local got = server:run([[
      local c, n, told = new { per_minute = 2 }, 0, {}
      require("koresms.client").session(c).pacer.windows[1].life = 1
      for result in c:send_many(function()
        n = n + 1
        if n <= 5 then return { to = number(n) } end
      end, { concurrency = 2 }) do
        told[#told + 1] = ("%d %s"):format(result.index, result.outcome)
        ngx.sleep(0.4)
      end
      table.sort(told)
      return told ]])
    assert.same({ "1 accepted", "2 accepted", "3 accepted", "4 accepted", "5 accepted" }, got)
  end)

  it("what waits for its permit while the loop is away is cancelled where the stream is closed",
    function()
      local got = server:run([[
        local c, told = new { per_minute = 2 }, {}
        local list = {}
        for i = 1, 5 do list[i] = { to = number(i) } end
        for result in c:send_many(list, { concurrency = 2 }) do
          told[#told + 1] = ("%d %s"):format(result.index, result.code or result.outcome)
          ngx.sleep(0.3)
          if #told == 2 then c:close() end
        end
        table.sort(told)
        return told ]])
      assert.same({ "1 accepted", "2 accepted", "3 cancelled", "4 cancelled", "5 cancelled" }, got)
    end)

  it("a stream may be slowly gone through where nothing can be sent", function()
    server:get("/log")
    local told = server:run([[
      ngx.sleep(0.5)
      local told = ngx.shared.told
      return { told:get("text"), told:get(1), told:get(2), told:get(3) } ]])
    assert.same({ "well", "context", "context", "context" }, told)
  end)
end)
