--- What the sandbox remembers, in shared memory, the same for every worker of nginx.
-- @module koresms.sandbox.store

local cjson = require "cjson"

local json = cjson.new()
local M = {}

--- How many messages are kept; the count of them goes on.
M.KEPT = 10000

-- Messages and used tokens have memory of their own, so that many of them never push out
-- a counter.
local counters = ngx.shared.koresms_sandbox
local kept = ngx.shared.koresms_sandbox_messages
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

--- The count and the newest messages, as JSON.
function M.messages()
  local count = M.counted("processed")
  local list = {}
  for n = math.max(1, count - M.KEPT + 1), count do
    -- Absent for an instant, between another worker's count and its set.
    list[#list + 1] = kept:get(n % M.KEPT)
  end
  -- Put together by hand: an empty Lua table would be encoded as an object.
  return ('{"count":%d,"messages":[%s]}'):format(count, table.concat(list, ","))
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
  for _, name in ipairs({"processed", "requests", "bench"}) do counters:delete(name) end
  for status in pairs(M.answers()) do counters:delete("answer:" .. status) end
  kept:flush_all()
end

--- Marks a token as used until it expires.
-- @treturn boolean false where it was used before
function M.first_use(jti, seconds)
  return short:add("jti:" .. tostring(jti), true, seconds)
end

--- A permit under a limit per rolling minute. Permits are numbered; the one numbered n can
-- be had once the one `limit` before it is a minute old, and `add` gives each to one worker.
-- @treturn boolean
function M.permit(limit)
  local prefix = "permit:" .. M.counted("limits") .. ":"
  local n = short:get(prefix .. "next") or 1
  while not short:get(prefix .. (n - limit)) do
    if short:add(prefix .. n, true, 60) then
      short:set(prefix .. "next", n + 1)
      return true
    end
    n = n + 1
  end
  return false
end

--- Forgets the permits that were given.
function M.forget_permits()
  M.count("limits")
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
  for _, source in ipairs({counters:get("settings") and M.settings() or {}, changes}) do
    for name, value in pairs(source) do all[name] = value end
  end
  counters:set("settings", json.encode(all))
end

return M
