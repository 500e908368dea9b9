--- What the sandbox remembers, in shared memory, the same for every worker of nginx.
-- @module koresms.sandbox.store

local cjson = require "cjson"

local json = cjson.new()
local M = {}

--- How many messages are kept; the count of them goes on.
M.KEPT = 10000

-- How many exchanges are kept.
local LOGGED = 1000

-- Messages and used tokens have memory of their own, so that many of them never push out
-- a counter.
local counters = ngx.shared.koresms_sandbox
local kept = ngx.shared.koresms_sandbox_messages
local logged = ngx.shared.koresms_sandbox_log
local short = ngx.shared.koresms_sandbox_short

--- Adds one to a counter.
-- @treturn number its new value
function M.count(name)
  return assert(counters:incr(name, 1, 0))
end

--- A counter's value.
function M.counted(name)
  return counters:get(name) or 0
end

--- Keeps a processed message; the oldest gives way.
-- @tparam table message gets its number, `n`
function M.record(message)
  message.n = M.count("processed")
  kept:set(message.n % M.KEPT, json.encode(message))
end

-- The entries of a ring that are newer than number `after`, oldest first, as JSON; those to
-- one number where `to` is given.
local function newer(ring, size, count, after, to)
  local list = {}
  for n = math.max(1, count - size + 1, after + 1), count do
    -- Absent for an instant, between another worker's count and its set.
    local text = ring:get(n % size)
    if text and (not to or json.decode(text).to == to) then list[#list + 1] = text end
  end
  return list
end

-- Put together by hand: an empty Lua table would be encoded as an object.
local function array(list)
  return "[" .. table.concat(list, ",") .. "]"
end

--- The count and the newest messages, as JSON.
-- @tparam ?number after only those with a higher number
-- @tparam ?string to only those to this number
-- @treturn string
-- @treturn number how many it lists
-- @treturn number the count
function M.messages(after, to)
  local count = M.counted("processed")
  local list = newer(kept, M.KEPT, count, after or 0, to)
  return ('{"count":%d,"messages":%s}'):format(count, array(list)), #list, count
end

--- Keeps an exchange; the oldest gives way.
-- @tparam table exchange gets its number, `n`
function M.log(exchange)
  exchange.n = M.count("logged")
  logged:set(exchange.n % LOGGED, json.encode(exchange))
end

--- The count and the newest exchanges, as JSON, and which run of the log they belong to: a
-- reset begins another.
-- @tparam ?number after only those with a higher number
-- @tparam ?string to only those to this number
-- @treturn string
-- @treturn number how many it lists
-- @treturn number the count
function M.exchanges(after, to)
  local count = M.counted("logged")
  local list = newer(logged, LOGGED, count, after or 0, to)
  return ('{"run":%s,"count":%d,"messages":%s}'):format(json.encode(M.run()), count,
    array(list)), #list, count
end

--- Names the run of the log.
function M.run()
  return ("%s.%d"):format(counters:get("begun"), M.counted("resets"))
end

--- How many requests got each status.
-- @treturn table
function M.answers()
  local answers = {}
  for _, key in ipairs(counters:get_keys(0)) do
    local status = key:match("^answer:(.+)$")
    if status then answers[status] = counters:get(key) end
  end
  return answers
end

--- Forgets messages and sets every counter to nothing.
function M.reset()
  M.count("resets")
  for _, name in ipairs({"processed", "requests", "bench", "logged"}) do counters:delete(name) end
  for status in pairs(M.answers()) do counters:delete("answer:" .. status) end
  kept:flush_all()
  logged:flush_all()
end

--- Marks a token as used until it expires.
-- @treturn boolean false where it was used before
function M.first_use(jti, seconds)
  return short:add("jti:" .. tostring(jti), true, seconds)
end

local function second(age)
  return "second:" .. math.floor(ngx.now()) - age
end

--- Counts a request that passed the limit.
function M.count_second()
  short:incr(second(0), 1, 0, 62)
end

--- How many requests passed the limit, or would have, in the last minute.
function M.last_minute()
  local sum = 0
  for age = 0, 59 do sum = sum + (short:get(second(age)) or 0) end
  return sum
end

--- A permit under a limit per rolling minute. Permits are numbered; the one numbered n can
-- be had once the one `limit` before it is a minute old, and `add` gives each to one worker.
-- @tparam ?number limit none where it is false
-- @treturn boolean
function M.permit(limit)
  if not limit then
    M.count_second()
    return true
  end
  local prefix = "permit:" .. M.counted("limits") .. ":"
  local n = short:get(prefix .. "next") or 1
  while not short:get(prefix .. (n - limit)) do
    if short:add(prefix .. n, true, 60) then
      short:set(prefix .. "next", n + 1)
      M.count_second()
      return true
    end
    n = n + 1
  end
  return false
end

--- Forgets the permits that were given.
function M.forget_permits()
  M.count("limits")
  for age = 0, 59 do short:delete(second(age)) end
end

local cached_text, cached

--- The settings in force.
function M.settings()
  local text = counters:get("settings")
  if text ~= cached_text then cached_text, cached = text, json.decode(text) end
  return cached
end

--- Changes some settings.
function M.set_settings(changes)
  local all = {}
  for _, source in ipairs({M.settings(), changes}) do
    for name, value in pairs(source) do all[name] = value end
  end
  counters:set("settings", json.encode(all))
end

--- Puts the settings back to what they were at the start.
function M.reset_settings()
  counters:set("settings", counters:get("first settings"))
end

--- Called once, with the first settings.
function M.begin(settings)
  counters:set("begun", ("%.3f"):format(ngx.now()))
  counters:set("first settings", json.encode(settings))
  M.reset_settings()
end

return M
