--- Messages from phases of nginx that have no network: each worker process has a queue for each
-- client, which is emptied by a timer in that process.
-- luacheck: std ngx_lua

local client = require "koresms.client"
local clock = require("koresms.core").clock
local delivery = require "koresms.delivery"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"

local M = {}

--- How many messages of one client may wait in one worker.
M.MOST = 1000

-- Seconds after which a timer that has not begun never will: nginx drops one that comes due while
-- lua_max_running_timers of them are at work, and tells its error log alone.
M.LATE = 5

local types = { timeout = "number", connect_timeout = "number", retries = "number",
  client = "table" }

-- By client, so that a client's queue goes with it. One that has messages is kept by `active`.
local queues = setmetatable({}, { __mode = "k" })
local active = {} -- queue -> its client

-- When this worker was first seen to exit, on the clock of koresms.core.
local exiting_since

local function queue_of(sender)
  local queue = queues[sender]
  if not queue then
    queue = { items = {}, first = 1, last = 0,
      started = {}, -- jobs that were handed to a stream and have no result, by their index in it
      running = false, -- a timer is at work
      asked = nil } -- when a timer was asked for that has not begun
    queues[sender] = queue
    client.session(sender).queued = M.queued
  end
  return queue
end

--- How many messages of a client wait in this worker.
-- @tparam table sender
-- @treturn number
function M.queued(sender)
  local queue = queues[sender]
  return queue and queue.last - queue.first + 1 or 0
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

local LINE = "koresms.later: message %s to %s: %s (%s): %s"

local function line_of(message, outcome, code, text)
  return LINE:format(mask.text(message.id, 80), mask.number(message.to), outcome, code, text)
end

-- Whoever listens has been told. Else what went wrong must not be lost.
local function report(session, result)
  if result.outcome == "accepted" or session.settings.on_event then return end
  ngx.log(ngx.ERR, line_of(result, result.outcome, result.code, result.message))
end

-- Whether the worker exits, and has had its time to send what is left.
local function is_over(sender)
  if not ngx.worker.exiting() then return false end
  exiting_since = exiting_since or clock()
  return clock() - exiting_since >= client.session(sender).settings.later_flush
end

-- Tells what was not started that it will not be. A listener may leave further messages.
local function cancel_rest(sender, queue)
  local session = client.session(sender)
  for _ = queue.first, queue.last do
    if not head(queue) then return end
    report(session, delivery.cancelled(session, pop(queue).job))
  end
end

-- Sends the messages at the head of the queue that have the same options.
local function send_some(sender, queue)
  local options, index = head(queue).options, 0
  local function pull()
    local item = head(queue)
    if not item or item.options ~= options then return nil end
    local job = pop(queue).job
    index = index + 1
    queue.started[index] = job
    return { to = job.to, from = job.from, id = job.id }
  end
  local function stop()
    if not is_over(sender) then return false end
    -- What is in flight may take longer than the worker has.
    cancel_rest(sender, queue)
    return true
  end
  local stream_options = { stop = stop,
    timeout = options.timeout, connect_timeout = options.connect_timeout,
    retries = options.retries }
  for result in sender:send_many(pull, stream_options) do
    queue.started[result.index] = nil
    report(client.session(sender), result)
  end
end

-- What was handed to a stream that an error broke off: whether it was sent is not known.
local function report_started(queue)
  for index, job in pairs(queue.started) do
    queue.started[index] = nil
    ngx.log(ngx.ERR, line_of(job, "unknown", "connection_lost",
      "an error ended the sending; the message may have been processed"))
  end
end

local function drain(sender, queue)
  while head(queue) and not is_over(sender) do
    local first = queue.first
    local ok, text = pcall(send_some, sender, queue)
    if not ok then
      ngx.log(ngx.ERR, "koresms.later: ", text)
      report_started(queue)
      -- A stream that took nothing would take nothing the next time.
      if queue.first == first then break end
    end
  end
  cancel_rest(sender, queue)
end

-- The timer's handler. In a worker that exits it is called, too.
local function run(_, sender, queue)
  if queue.running then return end
  queue.running, queue.asked = true, nil
  local ok, text = pcall(drain, sender, queue)
  queue.running = false
  if not ok then ngx.log(ngx.ERR, "koresms.later: ", text) end
  if not head(queue) and next(queue.started) == nil then active[queue] = nil end
end

-- Writes to nginx's error log where there is no request any more, and ngx.log has no right to
-- look for one.
local function log_at_exit(line)
  local ffi = require "ffi"
  if pcall(function() return ffi.C.ngx_http_lua_ffi_raw_log end) then
    ffi.C.ngx_http_lua_ffi_raw_log(nil, ngx.ERR, line, #line)
  else
    io.stderr:write(line, "\n") -- which is nginx's error log, too
  end
end

-- A worker that is told to end at once (TERM) runs no timer and no light thread any more. What is
-- left is told as its Lua state is closed, and only to the log: nothing of the program's runs.
local function report_left()
  for queue in pairs(active) do
    for _, job in pairs(queue.started) do
      log_at_exit(line_of(job, "unknown", "connection_lost",
        "the worker ended before a reply came; the message may have been processed"))
    end
    while head(queue) do
      log_at_exit(line_of(pop(queue).job, "not_sent", "cancelled",
        "the worker ended before the message was sent"))
    end
  end
end

local guard

-- Makes the object whose finalizer runs when the worker's Lua state is closed.
local function watch_exit()
  if guard then return end
  require "ngx.errlog" -- declares what log_at_exit calls
  guard = newproxy(true)
  getmetatable(guard).__gc = report_left
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
  if is_over(sender) then return nil, "the worker exits", "cancelled" end
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
  watch_exit()
  active[queue] = sender
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
--   client is closed, or the worker exits and its time to flush is over), "context" or "config"
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
