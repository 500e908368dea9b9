-- What a stream does after a pause, as text: it runs in plain Lua and inside nginx. Four messages
-- are throttled; the one that goes first after the pause is throttled once more, and late.
local faults = require "spec.support.faults"

local step = faults.step

local M = {}

--- Has a listener throttle one message, and then answer late: after more than a second.
function M.slow_script(listener)
  listener:script({ { step.read_request(), step.respond { status = 429, body = "",
    headers = { { "Retry-After", "0" }, { "Connection", "close" } } }, step.close() } },
    { step.read_request(), step.stall { seconds = 1.3 }, step.respond(), step.serve() })
end

--- A chunk that sends one message, which is throttled, then eight at once that are answered late;
-- gives how many seconds those took. Its argument: `host`, `shared_dict`.
M.SLOW = [[
  local client = assert(require("koresms").new { host = given.host, bot_id = "st-1",
    client_id = "cs-1", client_secret = "secret", from = "+19876543210", per_minute = 1000,
    shared_dict = given.shared_dict, max_idle = 0 })
  local clock = require("koresms").clock
  client:send({ to = "+911234567890" }, { retries = 0 })
  local began, messages = clock(), {}
  for i = 1, 8 do messages[i] = { to = ("+9112345678%02d"):format(i) } end
  for result in client:send_many(messages, { concurrency = 8 }) do
    assert(result.outcome == "accepted", result.message)
  end
  client:close()
  return { clock() - began } ]]

--- A chunk that waits for the end of a long pause, which is ended by hand after half a second;
-- gives how many seconds that took. Its argument: `host`, `shared_dict`.
M.RESUME = [[
  local client
  client = assert(require("koresms").new { host = given.host, bot_id = "st-1", timeout = 60,
    client_id = "cs-1", client_secret = "secret", from = "+19876543210", per_minute = 1000,
    shared_dict = given.shared_dict })
  local clock = require("koresms").clock
  client:send({ to = "+911234567890" }, { retries = 0 })
  local began = clock()
  for result in client:send_many({ { to = "+911234567890" } }, { stop = function()
    if clock() - began > 0.5 then client:resume() end
    return false
  end }) do assert(result.outcome == "accepted", result.message) end
  client:close()
  return { clock() - began } ]]

--- Has a listener throttle one message for long.
function M.long_script(listener)
  listener:script({ { step.read_request(), step.respond { status = 429, body = "",
    headers = { { "Retry-After", "30" }, { "Connection", "close" } } }, step.close() } })
end

local function throttled_after(seconds)
  return { step.read_request(), step.stall { seconds = seconds }, step.respond { status = 429,
    body = "", headers = { { "Retry-After", "1" }, { "Connection", "close" } } }, step.close() }
end

--- Has a listener of the fault bench play this.
function M.script(listener)
  local soon = throttled_after(0.2)
  listener:script({ soon, soon, soon, soon, throttled_after(0.3) })
end

--- A chunk that sends twelve messages, four in flight, and gives what is told of those that left
-- after the first pause: the first of it, and how often each. Its argument: `host`,
-- `retries`, `listens`, `shared_dict`.
M.PLAY = [[
  local said, messages = {}, {}
  local client = assert(require("koresms").new { host = given.host, bot_id = "st-1",
    client_id = "cs-1", client_secret = "secret", from = "+19876543210", per_minute = 1000,
    shared_dict = given.shared_dict, on_event = given.listens and function() end or nil })
  for i = 1, 12 do messages[i] = { to = ("+9112345678%02d"):format(i) } end
  local options = { concurrency = 4, retries = given.retries, timeout = 20 }
  for result in client:send_many(messages, options) do
    if given.retries > 0 or result.index > 4 then
      local words = result.outcome .. " " .. result.attempts
      said.first = said.first or words
      said[words] = (said[words] or 0) + 1
    end
  end
  client:close()
  return said ]]

--- Cases that must not take long: a name, a script, a chunk, and seconds.
M.TIMED = {
  -- One after the other they would take eight times as long.
  { "an answer that takes long does not hold up all others in turn", M.slow_script, M.SLOW, 6 },
  { "that is ended by hand, those go on who wait", M.long_script, M.RESUME, 15 },
}

--- What comes of it, by `retries`.
M.EXPECTED = {
  [0] = { first = "rejected 1", ["rejected 1"] = 1, ["accepted 1"] = 7 },
  { first = "rejected 2", ["rejected 2"] = 1, ["accepted 2"] = 3, ["accepted 1"] = 8 },
}

return M
