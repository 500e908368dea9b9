--- Random sequences of faults: a client with random settings sends some messages to servers
-- that play random scenarios, and what it says is compared with what they know. In some, an error
-- breaks sends and steps of streams off at random places.
--
-- Everything follows from the seed of a sequence, but for the order of events in time.

local breaker = require "spec.support.breaker" -- before what makes coroutines

local bed_support = require "spec.support.fault_bed"
local faults = require "spec.support.faults"
local lfs = require "lfs"
local new_dice = require "spec.support.dice"

local step = faults.step

local M = {}

-- What the servers do -----------------------------------------------------------------------

-- Scenarios by the kind of server that can play them.
local plain, proxied, handshakes = {}, {}, {}
for _, row in ipairs(faults.list) do
  local into = row.group == "proxy" and proxied
    or (row.listen and row.listen.tls and row.listen.tls.manual) and handshakes
    or not row.listen and plain
  if into then into[#into + 1] = row end
end

-- Stalls and what is as slow cost a time-out each: one in ten draws of one stays.
local SLOW = { endless_chunk_extension = true, answer_bytewise = true }

-- A stream of messages waits for the end of a pause, however long.
local function pauses(row)
  return (row.group == "throttled" or row.status == 429) and row.retry_after ~= 0
end

local function draw(dice, rows, at_once)
  local row
  repeat
    row = dice:one_of(rows)
  until not (at_once and pauses(row))
    and (not (row.stalls or SLOW[row.name]) or dice:chance(10))
  return row
end

-- Scripts for the first connections, and the names of what they play.
local function scripts(dice, bed, rows, at_once)
  local out, names, stalls = {}, {}, false
  for i = 1, dice:roll(4) do
    local row = draw(dice, rows, at_once)
    local k = row.sweep and dice:roll(row.sweep == "request" and bed:request_bytes()
      or row.sweep) - 1
    out[i] = {}
    for j, one in ipairs(faults.script(row, { k = k })) do out[i][j] = one end
    -- Most answered connections are kept.
    if row.answers and rows == plain and dice:chance(80) then
      out[i][#out[i] + 1] = step.serve()
    end
    names[i] = row.name .. (k and ":" .. k or "")
    stalls = stalls or row.stalls or SLOW[row.name]
  end
  return out, names, stalls
end

-- How a client comes to a server: what counts, and what it connects to.
local function ways(bed)
  local bench = bed.bench
  local own = {
    manual = bench:listen { tls = { manual = true } },
    proxy = bench:listen { proxy = true },
    nobody = bench:listen { mode = "refuse" },
  }
  local tunnel = step.after_reading(step.tunnel())
  local secured = { step.handshake(), step.serve() }
  return {
    { weight = 55, name = "plain", server = bed.servers.plain, rows = plain },
    { weight = 25, name = "tls", server = bed.servers.tls, rows = plain },
    { weight = 10, name = "handshake", server = own.manual, rows = handshakes, default = secured },
    { weight = 4, name = "proxy", server = bed.servers.plain, hop = own.proxy, rows = proxied,
      default = tunnel },
    { weight = 4, name = "proxy, tls", server = bed.servers.tls, hop = own.proxy, rows = proxied,
      default = tunnel },
    { weight = 2, name = "nobody", server = own.nobody },
  }
end

local function choose_way(dice, list)
  local at = dice:roll(100)
  for _, way in ipairs(list) do
    at = at - way.weight
    if at <= 0 then return way end
  end
end

-- One sequence --------------------------------------------------------------------------------

local function settings_of(dice, way)
  local out = {
    retries = dice:roll(4) - 1, max_idle = dice:one_of { 0, 0.05, 1, 30 },
    max_age = dice:one_of { 1, 300 },
    connect_timeout = dice:one_of { 0.05, 5 }, jti = dice:chance(20),
    per_minute = not dice:chance(80) and 60, proxy = way.hop and way.hop.origin or nil,
  }
  return out
end

-- Places at which a send may be broken off: some are behind its end.
local PLACES = 1500

-- Calls a function, broken off at a random place or not. Returns whether it was, and what it gives.
local function call(dice, breaks, f, ...)
  if not (breaks and dice:chance(40)) then return false, f(...) end
  local function look(fired, ok, ...)
    if ok then return false, ... end
    if not fired or (...) ~= breaker.ERROR then error((...), 0) end
    return true
  end
  return look(breaker.run(dice:roll(PLACES), f, ...))
end

-- Sends messages one by one. One that is broken off has no result but what is known of it.
local function send_each(dice, bed, client, timeout, breaks)
  local results, took = {}, {}
  for i = 1, dice:roll(5) do
    local to = bed:number()
    local begin = bed_support.clock()
    local broken, accepted, _, _, failed = call(dice, breaks, client.send, client,
      { to = to, id = to }, { timeout = timeout })
    results[i] = broken and { to = to, id = to, broken = true } or accepted or failed
    took[i] = bed_support.clock() - begin
  end
  return results, took
end

-- Sends them at once. Each step that is broken off may lose the message that it was at.
local function send_many(dice, bed, client, timeout, breaks)
  local results, took, list, losses = {}, {}, {}, 0
  local count = dice:roll(5)
  for i = 1, count do
    local to = bed:number()
    list[i] = { to = to, id = to }
  end
  local iterate = client:send_many(list, { timeout = timeout, concurrency = dice:roll(4) })
  while true do
    local broken, result = call(dice, breaks and losses < 3, iterate)
    if broken then
      losses = losses + 1
    elseif not result then
      break
    else
      assert(list[result.index].to == result.to, "a message has the place of another")
      assert(not results[result.index], "a message has two results")
      results[result.index], took[result.index] = result, result.elapsed
    end
  end
  for i = 1, count do
    if not results[i] then
      losses = losses - 1
      results[i], took[i] = { to = list[i].to, id = list[i].id, broken = true }, 0
    end
  end
  assert(losses >= 0, "a message has no result")
  return results, took
end

local REPEATED = { rate_limited = true, dns = true, connect = true, proxy = true, timeout = true }

-- What the server knows of each number: how often it processed it, and whether one of its
-- answers may be the success that the client saw.
local function look(connections)
  local seen = {}
  for _, connection in ipairs(connections) do
    for place, number in ipairs(connection.processed) do
      local one = seen[number] or { processed = 0, agreed = false }
      local answer = connection.answers[place]
      one.processed = one.processed + 1
      -- Below 0 are bytes that may be anything.
      one.agreed = one.agreed or answer < 0 or answer >= 200 and answer < 300
      seen[number] = one
    end
  end
  return seen
end

local NEVER = { processed = 0, agreed = false }

-- What holds for one message. `throttled` are its attempts that a throttled reply ended.
local function check(result, server, throttled, took, timeout, settings)
  local text = result.outcome .. "/" .. tostring(result.code)
  local function holds(condition, what)
    if not condition then
      error(("%s (%s, attempts %d, processed %d, throttled %d, %.3f s of %.3f)"):format(what, text,
        result.attempts, server.processed, throttled, took, timeout), 0)
    end
  end
  holds(server.processed <= result.attempts, "processed more often than attempted")
  holds(result.outcome ~= "accepted" or server.agreed, "accepted, but not by the server")
  holds(result.outcome ~= "accepted" or server.processed > throttled, "accepted, but not processed")
  holds(result.outcome ~= "not_sent" or server.processed == 0, "not sent, but processed")
  holds((result.outcome == "not_sent") == (result.attempts == 0), "not sent is what had no attempt")
  holds(server.processed <= settings.retries + 1, "too many repeats")
  holds(server.processed <= throttled + 1, "repeated where it may duplicate")
  holds(result.attempts <= settings.retries + 1, "too many attempts")
  holds(result.attempts <= throttled + 1, "attempted again where it may duplicate")
  holds(result.outcome ~= "unknown" or not result.retryable, "unknown, and to be repeated")
  holds(took < timeout + bed_support.LATE, "past its deadline")
end

-- What holds for a message that was broken off while its last of so many attempts was at work:
-- it is nobody's to repeat.
local function check_broken(server, attempts, throttled, settings)
  local function holds(condition, what)
    if not condition then
      error(("%s (broken off, attempts %d, processed %d, throttled %d)"):format(what, attempts,
        server.processed, throttled), 0)
    end
  end
  holds(server.processed <= attempts, "processed more often than attempted")
  holds(server.processed <= throttled + 1, "repeated where it may duplicate")
  holds(server.processed <= settings.retries + 1, "too many repeats")
end

-- A connection on which a message was lost carries no other. An attempt of it that the server
-- refused properly was not lost there.
local function check_connections(connections, lost)
  for _, connection in ipairs(connections) do
    assert(not connection.gap, "a connection was used again after a request was broken off")
    for place, number in ipairs(connection.processed) do
      local refused = connection.answers[place] >= 400
      if lost[number] and not refused and place < #connection.processed then
        error("a connection was used again after it had lost a message", 0)
      end
    end
  end
end

local function descriptors()
  for _ = 1, 2 do collectgarbage() end
  local count = 0
  for _ in lfs.dir("/proc/self/fd") do count = count + 1 end
  return count
end

-- The client is as good as new, once the faults that are left have been played.
local function check_after(bed, client, timeout)
  for try = 1, 10 do
    local result = bed:send(client, { timeout = try < 8 and timeout or bed_support.ENOUGH })
    if result.outcome == "accepted" then return end
    if result.code == "rate_limited" and result.retry_after > 0 then return end
  end
  error("the client does not recover", 0)
end

--- Plays the sequence of a seed.
-- @tparam table bed
-- @tparam number seed
-- @treturn string what was played
-- @treturn ?string what does not hold
-- @treturn number messages sent
function M.play(bed, seed)
  bed.ways = bed.ways or ways(bed)
  local dice = new_dice(seed)
  local way, at_once = choose_way(dice, bed.ways), dice:chance(30)
  local settings, breaks = settings_of(dice, way), dice:chance(30)
  local connections, names, stalls = {}, {}, true
  if way.rows then connections, names, stalls = scripts(dice, bed, way.rows, at_once) end
  local timeout = (stalls and 0.06 or 0.3) * bed_support.patience
  local told = ("%s%s%s: %s; retries %d, max_idle %g"):format(way.name,
    at_once and ", a stream" or "", breaks and ", broken off" or "", table.concat(names, ", "),
    settings.retries, settings.max_idle)
  if way.rows then (way.hop or way.server):script(connections, way.default) end
  if way.hop then way.server:script() end
  local throttled, begun, wrong = {}, {}, nil
  -- The client keeps an error of a listener from the send: what is counted here would be wrong.
  settings.on_event = breaker.spare(function(event)
    if event.kind == "attempt" then begun[event.id] = event.attempt end
    if event.kind ~= "retry" then return end
    -- The client lets no error of a listener through, so it is looked at later.
    if not REPEATED[event.code] then wrong = event.code end
    if event.code == "rate_limited" then
      throttled[event.id] = (throttled[event.id] or 0) + 1
    end
  end)
  local open = breaks and descriptors()
  local client = bed:client(way.server.origin, settings)
  local count = 0
  if breaks then breaker.start() end
  local ok, problem = pcall(function()
    local send_all = at_once and send_many or send_each
    local results, took = send_all(dice, bed, client, timeout, breaks)
    count = #results
    if way.rows then check_after(bed, client, timeout) end
    client:close()
    assert(not wrong, wrong and "repeated after " .. wrong)
    local stats = way.server:stats { settle = 3, connections = true }
    assert(stats.settled, "the server did not come to rest")
    local seen, lost = look(stats.connections), {}
    for i, result in ipairs(results) do
      local server = seen[result.to] or NEVER
      assert(server.processed == (stats.to[result.to] or 0), "the server's counts differ")
      local times = throttled[result.id] or 0
      if result.broken then
        check_broken(server, begun[result.id] or 0, times, settings)
      else
        check(result, server, times, took[i], timeout, settings)
      end
      lost[result.to] = result.outcome == "unknown" and not result.status
    end
    check_connections(stats.connections, lost)
  end)
  client:close()
  if breaks then
    breaker.stop()
    local left = descriptors() - open
    if ok and left ~= 0 then ok, problem = false, left .. " descriptors stay open" end
  end
  return told, not ok and tostring(problem) or nil, count
end

return M
