-- Several workers of one nginx: one limit for all of them, reload, and the end under load.
--
-- OPENRESTY=long reloads for a minute, and keeps a limit in real time for more than three.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local cjson = require "cjson"
local core = require "koresms.core"
local openresty = require "spec.support.openresty"
local run = require "spec.support.run"

local long = os.getenv("OPENRESTY") == "long"

-- The largest number of times in any rolling window.
local function most_in_any(times, span)
  table.sort(times)
  local first, most = 1, 0
  for i = 1, #times do
    while times[i] - times[first] >= span do first = first + 1 end
    most = math.max(most, i - first + 1)
  end
  return most
end

describe("workers of one nginx", function()
  local servers = {}

  local function start(options)
    local server = openresty.start(options)
    servers[#servers + 1] = server
    return server
  end

  -- Nothing may stand in the log but what a spec says.
  after_each(function()
    local logs = {}
    for index, server in ipairs(servers) do
      logs[index] = server:log()
      server:stop()
      servers[index] = nil
    end
    assert.equal("", table.concat(logs))
  end)

  -- What they share -----------------------------------------------------------------------------

  -- Each worker takes what it can get, at many times the speed of the clock, and notes when.
  local TAKE = [[
    pacer = require("koresms.nginx.shared_pacer").open { shared_dict = "sms", per_minute = $limit,
      per_hour = $hour, where = { shared_dict = "shared_dict" } }
    local clock = require("koresms.core").clock
    SPEED = 120
    function now() return clock() * SPEED end
    function take_for(seconds)
      local taken, finish = {}, clock() + seconds
      while clock() < finish do
        local at = now()
        if pacer:take(at, false, {}) then
          ngx.sleep(0.001) -- all of them are awake when there are permits again
        else
          taken[#taken + 1] = ("%.6f"):format(at)
        end
      end
      ngx.shared.notes:rpush("taken", table.concat(taken, " "))
    end ]]

  local function takers(values)
    local options = { workers = 4, limit = "false", hour = "false", init = TAKE,
      http = "lua_shared_dict sms 1m; lua_shared_dict notes 8m;",
      initworker = [[ ngx.timer.at(0, function()
        while not ngx.shared.notes:get("go") do ngx.sleep(0.005) end
        take_for($seconds)
      end) ]] }
    for name, value in pairs(values) do options[name] = value end
    return start(options)
  end

  local function taken(server, workers)
    server:run([[ ngx.shared.notes:set("go", true) ]])
    local texts
    for _ = 1, 200 do
      run.output("sleep 0.1")
      texts = server:run([[ return { ngx.shared.notes:llen("taken") } ]])[1]
      if texts >= workers then break end
    end
    assert.equal(workers, texts)
    local times = {}
    for _, text in ipairs(server:run([[
      local texts = {}
      for i = 1, given[1] do texts[i] = ngx.shared.notes:lpop("taken") end
      return texts ]], { workers })) do
      for time in text:gmatch("%S+") do times[#times + 1] = tonumber(time) end
    end
    return times
  end

  it("never take more than the limit together, and use it", function()
    for _, limit in ipairs { 5000, 7, 1 } do
      local times = taken(takers { limit = limit, seconds = 1.95 }, 4)
      assert.truthy(most_in_any(times, 60) <= limit, limit)
      -- Four windows begin within the time.
      assert.truthy(#times >= 0.97 * 4 * limit, ("%d of %d"):format(#times, 4 * limit))
    end
  end)

  it("take from both windows or from none", function()
    local times = taken(takers { limit = 40, hour = 100, seconds = 1.95 }, 4)
    assert.truthy(most_in_any(times, 60) <= 40)
    assert.truthy(#times <= 100 and #times >= 97, #times)
  end)

  local ASK = [[
    local limit, at = given.limit or false, given.at
    local p = require("koresms.nginx.shared_pacer").open { shared_dict = "sms", per_minute = limit,
      where = { shared_dict = "shared_dict" } }
    if given.pause then p:pause(at, given.pause) end
    local taken = 0
    while not p:take(at, given.stream, { index = 1 }) do
      taken = taken + 1
      if taken > 10000 then break end
    end
    return { taken, p:take(at, given.stream, { index = 1 }) } ]]

  it("keep a share for single sends", function()
    local server = start { http = "lua_shared_dict sms 1m;" }
    assert.equal(590, server:run(ASK, { limit = 600, at = 1000, stream = true })[1])
    assert.equal(10, server:run(ASK, { limit = 600, at = 1000 })[1])
  end)

  it("pause together, as long as the longest pause", function()
    local server = start { http = "lua_shared_dict sms 1m;" }
    assert.same({ 0, 1050 }, server:run(ASK, { at = 1000, pause = 50 }))
    assert.same({ 0, 1050 }, server:run(ASK, { at = 1001, pause = 3 }))
    assert.same({ 0, 1050 }, server:run(ASK, { at = 1049 }))
    -- One goes first, and the others where nothing is heard of it.
    assert.same({ 1, 1050.05 }, server:run(ASK, { at = 1050 }))
    assert.same({ 0, 1050.95 }, server:run(ASK, { at = 1050.9 }))
    assert.equal(10001, server:run(ASK, { at = 1051 })[1])
  end)

  -- Pauses, resumes, lets one go first that ends as `passed` says, and asks again.
  local AFTER_PAUSE = [[
    local settings = { shared_dict = "sms", per_minute = 100, where = { shared_dict = "here" } }
    local p = assert(require("koresms.nginx.shared_pacer").open(settings))
    local given, log, job, other = ..., {}, { index = 1 }, { index = 2 }
    local function note(...) log[#log + 1] = { ... } end
    p:pause(2000, 30)
    note(p:paused(2010), p:permits(2010))
    if given.resume then p:resume(2010) end
    local at = given.resume and 2010 or 2030
    note(p:paused(at) or "none", p:permits(at))
    note(p:take(at, false, job) or "taken")
    if p.probe then p:ended(job, given.passed) end
    note(p:take(at, false, other) or "taken", p.probe ~= nil)
    note(p:take(at, false, job) or "taken", p:permits(at))
    return log ]]

  it("let one message go first after a pause, unless it is ended by hand", function()
    assert.same({ { 20, 0 }, { "none", 100 }, { "taken" }, { "taken", false }, { "taken", 97 } },
      start({ http = "lua_shared_dict sms 1m;" }):run(AFTER_PAUSE, { passed = true }))
  end)

  it("let another go first where the first one failed", function()
    assert.same({ { 20, 0 }, { "none", 100 }, { "taken" }, { "taken", true }, { 2030.05, 98 } },
      start({ http = "lua_shared_dict sms 1m;" }):run(AFTER_PAUSE, { passed = false }))
  end)

  it("go on at once where a pause is ended by hand", function()
    assert.same({ { 20, 0 }, { "none", 100 }, { "taken" }, { "taken", false }, { "taken", 97 } },
      start({ http = "lua_shared_dict sms 1m;" }):run(AFTER_PAUSE, { resume = true }))
  end)

  it("go on with the same windows after a reload, also one that changes the limit", function()
    local server = start { http = "lua_shared_dict sms 1m;" }
    assert.equal(60, server:run(ASK, { limit = 60, at = 1000 })[1])
    server:reload()
    assert.same({ 0, 1060.1 }, server:run(ASK, { limit = 60, at = 1050 }))
    assert.equal(40, server:run(ASK, { limit = 100, at = 1050 })[1])
    assert.equal(0, server:run(ASK, { limit = 60, at = 1050 })[1])
    assert.equal(60, server:run(ASK, { limit = 100, at = 1060.2 })[1])
  end)

  it("keep no more records than they need", function()
    local server = start { http = "lua_shared_dict sms 1m;" }
    for minute = 1, 30 do
      assert.equal(100, server:run(ASK, { limit = 100, at = 100 * minute })[1])
    end
    local keys = server:run([[ return { #ngx.shared.sms:get_keys(0) } ]])[1]
    assert.truthy(keys <= 100 + 64 + 3, keys)
  end)

  it("are not kept from sending by what an older, larger limit left behind", function()
    -- As small as the larger limit permits.
    local server = start { http = "lua_shared_dict sms 142k;" }
    local said = server:run([[
      local shared = require "koresms.nginx.shared_pacer"
      local now, got = 0, {}
      for round, limit in ipairs { 800, 60, 800, 60, 800 } do
        local pacer = assert(shared.open { shared_dict = "sms", per_minute = limit,
          where = { shared_dict = "shared_dict" } })
        got[round] = 0
        now = now + 61 -- what the larger limit gave is a window old
        for _ = 1, 1000 do
          now = now + 61 / limit
          if not pacer:take(now, false, {}) then got[round] = got[round] + 1 end
        end
      end
      return got ]])
    assert.same({ 1000, 1000, 1000, 1000, 1000 }, said)
  end)

  it("touch nothing before one of them sends, and write nothing that the clock of the day ends",
    function()
      local server = start { workers = 2, http = "lua_shared_dict sms 1m;", init = [[
        client = assert(require("koresms").new { host = "http://127.0.0.1:1", bot_id = "st-1",
          token = "t.o.k", from = "+19876543210", retries = 0, timeout = 1, per_minute = 10,
          per_hour = 100, shared_dict = "sms" })
        keys_at_init = #ngx.shared.sms:get_keys(0) ]] }
      local LOOK = [[
        local ends = {}
        for _, key in ipairs(ngx.shared.sms:get_keys(0)) do
          ends[#ends + 1] = ngx.shared.sms:ttl(key)
        end
        return { keys_at_init, #ends, math.max(0, (table.unpack or unpack)(ends)) } ]]
      assert.same({ 0, 0, 0 }, server:run(LOOK))
      server:run([[ for _ = 1, 3 do client:send({ to = "+911234567890" }) end
        local pacer = require("koresms.nginx.shared_pacer").open { shared_dict = "sms",
          per_minute = 10, where = {} }
        pacer:pause(require("koresms.core").clock(), 1) ]])
      local seen = server:run(LOOK)
      assert(seen[2] >= 8, seen[2])
      assert.equal(0, seen[3])
    end)

  it("remember their permits while the clock of the day is set forward by hours", function()
    local library = run.output("ls /usr/lib/*/faketime/libfaketimeMT.so.1 2>/dev/null"):match("%S+")
    if not library then return pending("libfaketime is not installed") end
    local offset = os.tmpname()
    run.write(offset, "+0")
    local server = start { workers = 2, http = "lua_shared_dict sms 1m;",
      main = "env FAKETIME_TIMESTAMP_FILE; env FAKETIME_NO_CACHE; "
        .. "env FAKETIME_DONT_FAKE_MONOTONIC;",
      environment = { LD_PRELOAD = library, FAKETIME_TIMESTAMP_FILE = offset,
        FAKETIME_NO_CACHE = "1", FAKETIME_DONT_FAKE_MONOTONIC = "1" } }
    local TAKE_ALL = [[
      local p = require("koresms.nginx.shared_pacer").open { shared_dict = "sms", per_minute = 10,
        where = { shared_dict = "shared_dict" } }
      ngx.update_time()
      local taken, clock = 0, require("koresms.core").clock
      while taken < 100 and not p:take(clock(), false, {}) do taken = taken + 1 end
      return { taken, ngx.time(), clock() } ]]
    local before = server:run(TAKE_ALL)
    assert.equal(10, before[1])
    run.write(offset, "+3h")
    local after = server:run(TAKE_ALL)
    os.remove(offset)
    -- Only the clock of the day went on.
    assert(after[2] - before[2] > 10000 and after[3] - before[3] < 30,
      ("%d s, %d s"):format(after[2] - before[2], after[3] - before[3]))
    assert.equal(0, after[1])
  end)

  it("say once that each of them keeps the limit alone", function()
    local server = openresty.start { workers = 2, init = [[
      client = assert(require("koresms").new { host = "http://127.0.0.1:1", bot_id = "st-1",
        token = "t.o.k", from = "+19876543210", retries = 0 }) ]], initworker = [[
      ngx.timer.at(0, function()
        for _ = 1, 3 do client:send({ to = "+911234567890" }) end
      end) ]] }
    run.output("sleep 0.3")
    local log = server:log()
    server:stop()
    local _, lines = log:gsub("%[warn%][^\n]*koresms: each of 2 workers keeps to the limit by "
      .. "itself"
      .. "[^\n]*shared_dict", "")
    assert.equal(2, lines, log)
  end)

  -- Reload, and the end -----------------------------------------------------------------------

  -- A platform that takes 20 ms, and counts.
  local PLATFORM = [[
    location /api/ {
      content_by_lua_block {
        ngx.req.read_body()
        local n = ngx.req.get_body_data():match('"toNo":"%+91(%d+)"')
        ngx.shared.seen:incr(tonumber(n), 1, 0)
        ngx.sleep(0.02)
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
      }
    } ]]

  -- A handler that sends one message, and leaves another for later. What became of that one
  -- goes to a file.
  local SENDER = [[
    local path = ngx.config.prefix() .. "events"
    koresms = require "koresms"
    client = assert(koresms.new { host = "$origin", bot_id = "st-1", client_id = "cs-1",
      client_secret = "secret", from = "+19876543210", per_minute = false,
      on_event = function(event)
        if event.kind ~= "verdict" or event.id:sub(1, 1) ~= "l" then return end
        local file = io.open(path, "a")
        file:write(event.id:sub(2), " ", event.outcome, "\n")
        file:close()
      end }) ]]
  local HANDLER = [[
    location = /send {
      content_by_lua_block {
        local n = tonumber(ngx.var.arg_n)
        local left = koresms.later({ to = ("+91%010d"):format(5e9 + n), id = "l" .. n },
          { client = client })
        local accepted, _, _, failed = client:send({ to = ("+91%010d"):format(n) })
        local result = accepted or failed
        ngx.say(n, " ", result.outcome, " ", result.attempts, " ", tostring(left))
      }
    } ]]

  local function sending()
    local platform = start { http = "lua_shared_dict seen 64m;", locations = PLATFORM }
    return platform, start { workers = 2, origin = platform.url, init = SENDER,
      locations = HANDLER }
  end

  -- Sends requests, so many at a time and in turn, each on a connection of its own, and does
  -- something in between until they are answered. Returns the answers by number.
  local AT_ONCE = 32
  local LOAD = [[
    { for i in $(seq 0 %d); do
        curl -s --noproxy '*' -H 'Connection: close' \
          "%s/send?n=[$((i * %d + 1))-$((i * %d + %d))]" &
      done >%s 2>/dev/null
      wait
      touch %s
    } & ]]
  local function load(server, each, between)
    local answers, done = os.tmpname(), os.tmpname()
    os.remove(done)
    os.execute(LOAD:format(AT_ONCE - 1, server.url, each, each, each, answers, done))
    local finish = core.clock() + 120
    while run.output("test -e " .. done .. " && echo yes") == "" do
      assert(core.clock() < finish)
      between()
    end
    local list = {}
    for line in io.lines(answers) do
      local number, outcome, attempts, left = line:match("^(%d+) (%S+) (%d) (%S+)$")
      assert(number, line)
      assert.is_nil(list[number])
      list[number] = { outcome = outcome, attempts = tonumber(attempts), left = left == "true" }
    end
    os.remove(answers)
    os.remove(done)
    return list
  end

  -- Every answer, and every event about what was left, agrees with what the platform saw, and
  -- nothing that it saw went untold.
  local function check(platform, server, answers)
    local seen = cjson.decode((platform:get("/seen")))
    local told, count = {}, 0
    for line in io.lines(server.prefix .. "/events") do
      local number, outcome = line:match("^(%d+) (%S+)$")
      assert.is_nil(told[number], number)
      told[number] = outcome
    end
    local function one(name, key, outcome)
      local processed = seen[key] or 0
      seen[key] = nil
      assert.equal(outcome == "accepted" and 1 or processed, processed, name)
      assert.truthy(processed <= 1, name)
      if outcome == "not_sent" then assert.equal(0, processed, name) end
    end
    for number, answer in pairs(answers) do
      count = count + 1
      one(number, number, answer.outcome)
      if answer.left then
        assert.truthy(told[number], "nothing was told of what was left: " .. number)
        one("left " .. number, ("%d"):format(5e9 + number), told[number])
      end
    end
    assert.is_nil(next(seen))
    return count
  end

  it("lose nothing when they are replaced every second under load", function()
    local platform, server = sending()
    local each, reloads = long and 2800 or 350, 0
    local answers = load(server, each, function()
      run.output("sleep 1")
      server:signal("HUP")
      reloads = reloads + 1
    end)
    -- The last ones of the old workers, and what was left to them.
    run.output("sleep 1")
    assert.equal(AT_ONCE * each, check(platform, server, answers))
    assert.truthy(reloads >= 5, reloads)
    for _, answer in pairs(answers) do
      assert.same({ "accepted", true }, { answer.outcome, answer.left })
    end
    if long then print(("\n%d answers, %d reloads"):format(AT_ONCE * each, reloads)) end
  end)

  it("lose nothing when they are told to end under load", function()
    local platform, server = sending()
    local quit = false
    local answers = load(server, 1000, function()
      if quit then return run.output("sleep 0.1") end
      run.output("sleep 2")
      server:signal("QUIT")
      quit = true
    end)
    assert.truthy(server:wait(10))
    local count = check(platform, server, answers)
    assert.truthy(count > 100 and count < 1000 * AT_ONCE, count)
  end)

  if long then
    it("keep a limit of 600 a minute as the platform sees it", function()
      local platform = start { http = "lua_shared_dict seen 16m;", locations = [[
        location /api/ {
          content_by_lua_block {
            ngx.shared.seen:rpush("times", ("%.6f"):format(require("koresms.core").clock()))
            ngx.print('{"message":"ok"}')
          }
        } ]] }
      local sender = start { workers = 4, origin = platform.url, http = "lua_shared_dict sms 1m;",
        init = [[
          client = assert(require("koresms").new { host = "$origin", bot_id = "st-1",
            token = "t.o.k", from = "+19876543210", per_minute = 600, shared_dict = "sms" }) ]],
        initworker = [[
          ngx.timer.at(0, function()
            for _ in client:send_many(function() return { to = "+911234567890" } end) do end
          end) ]] }
      run.output("sleep 190")
      sender:signal("TERM")
      local times = {}
      for _, text in ipairs(platform:run([[
        local texts = {}
        for i = 1, ngx.shared.seen:llen("times") do texts[i] = ngx.shared.seen:lpop("times") end
        return texts ]])) do times[#times + 1] = tonumber(text) end
      local most = most_in_any(times, 60)
      local span = times[#times] - times[1]
      print(("\n%d requests in %.1f s; at most %d in 60 s"):format(#times, span, most))
      assert.truthy(most <= 600, most)
      -- Of the steady state: the windows after the first.
      local later = 0
      for _, time in ipairs(times) do
        if time >= times[1] + 60 and time < times[1] + 180 then later = later + 1 end
      end
      print(("%.1f %% used"):format(later / 1200 * 100))
      assert.truthy(later >= 0.97 * 1200, later)
    end)
  end
end)
