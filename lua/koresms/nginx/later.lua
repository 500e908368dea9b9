--- Messages from phases of nginx that have no network: each worker has a queue for each client,
-- which a timer of the worker's empties.
-- luacheck: std ngx_lua

local client = require "koresms.client"
local clock = require("koresms.core").clock
local delivery = require "koresms.delivery"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"

local M = {}

--- How many messages of one client may wait in one worker.
M.MOST = 1000

--- For how many seconds a worker that was told to exit goes on starting messages.
M.FLUSH = 5

-- How often it is seen to whether the worker exits.
local TICK = 0.25

-- Seconds after which a timer that has not begun never will: nginx drops one that comes due while
-- lua_max_running_timers of them are at work, and tells its error log alone.
M.LATE = 5

local types = { timeout = "number", connect_timeout = "number", retries = "number",
  client = "table" }

-- By client.
local queues = setmetatable({}, { __mode = "k" })

local function queue_of(sender)
  local queue = queues[sender]
  if not queue then
    queue = { items = {}, first = 1, last = 0,
      running = false, -- a timer is at work
      asked = nil, -- when a timer was asked for that has not begun
      flushed = false } -- the worker exits, and has had its time
    queues[sender] = queue
  end
  return queue
end

local function head(queue)
  return queue.items[queue.first]
end

local function pop(queue)
  local item = head(queue)
  queue.items[queue.first] = nil
  queue.first = queue.first + 1
  return item
end

-- Whoever listens has been told. Else what went wrong must not be lost.
local function report(session, result)
  if result.outcome == "accepted" or session.settings.on_event then return end
  ngx.log(ngx.ERR, "koresms.later: message ", mask.text(result.id, 80), " to ", mask.number(result.to), ": ",
    result.outcome, " (", result.code, "): ", result.message)
end

-- Sends the messages at the head of the queue that have the same options.
local function send_some(sender, queue)
  local options = head(queue).options
  local function source()
    local item = head(queue)
    if not item or item.options ~= options then return nil end
    local job = pop(queue).job
    return { to = job.to, from = job.from, id = job.id }
  end
  local session = client.session(sender)
  for result in sender:send_many(source, { timeout = options.timeout,
      connect_timeout = options.connect_timeout, retries = options.retries,
      stop = function() return queue.flushed end }) do
    report(session, result)
  end
end

local function drain(sender, queue)
  while head(queue) and not queue.flushed do send_some(sender, queue) end
  local session = client.session(sender)
  while head(queue) do report(session, delivery.cancelled(session, pop(queue).job)) end
end

-- Ends the sending some time after the worker was told to exit.
local function watch(queue)
  while not ngx.worker.exiting() do ngx.sleep(TICK) end
  ngx.sleep(M.FLUSH)
  queue.flushed = true
end

-- The timer's handler. In a worker that exits it is called, too.
local function run(_, sender, queue)
  if queue.running then return end
  queue.running, queue.asked, queue.flushed = true, nil, false
  local watcher = ngx.thread.spawn(watch, queue)
  local ok, text = pcall(drain, sender, queue)
  ngx.thread.kill(watcher)
  queue.running = false
  if not ok then ngx.log(ngx.ERR, "koresms.later: ", text) end
end

-- Options of the same values are the same table, so that they can be told apart.
local options_by_text = setmetatable({}, { __mode = "v" })

local function interned(given)
  local text = ("%s %s %s"):format(given.timeout, given.connect_timeout, given.retries)
  local options = options_by_text[text]
  if not options then
    options = { timeout = given.timeout, connect_timeout = given.connect_timeout,
      retries = given.retries }
    options_by_text[text] = options
  end
  return options
end

local ADVICE = "koresms.later needs nginx, and there a phase with timers: any but init and "
  .. "exit_worker"

local function put(sender, job, options)
  local queue = queue_of(sender)
  if queue.last - queue.first + 1 >= M.MOST then
    return nil, ("%d messages wait already, which is the most for one worker"):format(M.MOST),
      "rate_limited"
  end
  if queue.first > queue.last then queue.first, queue.last = 1, 0 end
  local now = clock()
  if not queue.running and not (queue.asked and now < queue.asked + M.LATE) then
    local started, text = ngx.timer.at(0, run, sender, queue)
    if not started then return nil, "no timer can be had: " .. text, "context" end
    queue.asked = now
  end
  queue.last = queue.last + 1
  queue.items[queue.last] = { job = job, options = options }
  return true
end

--- Checks a message and puts it into the queue.
-- @tparam function default gives the default client, or nil, a text and a code
-- @tparam table message
-- @tparam ?table options
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "invalid_number", "rate_limited" (the queue is full), "cancelled" (the
--   client is closed), "context" or "config"
function M.put(default, message, options)
  local checked = client.check_options("bad argument #2 to 'later'", options, types)
  local sender = checked.client
  if sender and not client.session(sender) then
    misuse.raise("bad argument #2 to 'later' (option 'client': one that koresms.new made expected)")
  end
  delivery.check("bad argument #1 to 'later'", message)
  local ngx = rawget(_G, "ngx")
  if not (ngx and ngx.timer and ngx.get_phase) then return nil, ADVICE, "context" end
  local timers, phase = require("koresms.nginx.phase").has_timers()
  if not timers then return nil, ("%s; this is %s"):format(ADVICE, phase), "context" end
  if not sender then
    local text, code
    sender, text, code = default()
    if not sender then return nil, text, code end
  end
  local session = client.session(sender)
  local job = delivery.fill({}, delivery.plan(session, checked), message)
  local refused = delivery.preflight(session, job)
  if refused and refused.code ~= "context" then return nil, refused.message, refused.code end
  delivery.begin(job)
  return put(sender, job, interned(checked))
end

return M
