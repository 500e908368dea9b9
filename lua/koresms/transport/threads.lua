--- Streams inside nginx: koresms.stream over exchanges that light threads carry.
--
-- The caller's own light thread pulls the messages and hands out the results; each exchange
-- has a light thread to itself. nginx keeps 250 bytes for each that was ever started, until the
-- caller's request ends, so those that are done stay for a while and take the next message.
-- @module koresms.transport.threads
-- luacheck: std ngx_lua

local semaphore = require "ngx.semaphore"
local stream = require "koresms.stream"

local ceil, max, min = math.ceil, math.max, math.min
local running = coroutine.running
local spawn, wait = ngx.thread.spawn, ngx.thread.wait

-- A wait is cut into pieces of so many seconds, to see in between whether the client was closed.
local PIECE = 1

-- Seconds for which a light thread waits for another message: so much later may a request end
-- whose handler has left the loop before its end.
local PARK = 0.1

local M = {}

-- What one stream sees of the transport.
local Lane = {}
Lane.__index = Lane

local function carry(self, job)
  local ok, reply = pcall(self.transport.exchange, self.transport, job)
  -- What broke in the middle of an exchange may have broken after the request had left.
  job.reply = ok and reply or { failure = "connection_lost", starts = 1, text = tostring(reply) }
  job:landed()
  self.news = true
  if self.waiting then
    self.waiting = false
    self.bell:post(1)
  end
end

local function leave(list, one)
  for index, other in ipairs(list) do
    if other == one then return table.remove(list, index) end
  end
end

-- The life of a light thread.
local function work(self, worker)
  repeat
    carry(self, worker.job)
    worker.job = nil
    self.parked[#self.parked + 1] = worker
    worker.bell:wait(PARK)
  until not worker.job
  leave(self.parked, worker)
  self.ended[#self.ended + 1] = running()
end

-- One that has ended stays in memory until its parent has waited for it.
local function reap(self)
  for index, thread in ipairs(self.ended) do
    -- Where another light thread is the parent, it goes with that one.
    pcall(wait, thread)
    self.ended[index] = nil
  end
end

--- Starts an exchange; its reply goes into the job, and the job's method `landed` is called.
-- @tparam table job
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] table the reply, where nothing could be started
function Lane:submit(job)
  local refused = self.transport.refusal()
  if refused then return nil, refused end
  -- The one that was done last: those that are not needed go.
  local worker = table.remove(self.parked)
  if worker then
    worker.job = job
    worker.bell:post(1)
    return true
  end
  reap(self)
  spawn(work, self, { job = job, bell = assert(semaphore.new()) })
  return true
end

--- Waits until an exchange ends, for at most `seconds`.
function Lane:step(seconds)
  if self.news or seconds <= 0 then
    self.news = false
    return
  end
  self.bell = self.bell or assert(semaphore.new())
  self.waiting = true
  -- nginx counts whole milliseconds.
  local woken, text = self.bell:wait(max(ceil(min(seconds, PIECE) * 1000), 1) / 1000)
  self.waiting, self.news = false, false
  if not woken and text ~= "timeout" then error("koresms: cannot wait here: " .. text, 0) end
  reap(self)
end

-- Nothing comes any more: whoever waits for a message need not.
local function dismiss(self)
  for index, worker in ipairs(self.parked) do
    worker.bell:post(1)
    self.parked[index] = nil
  end
end

--- Opens a stream; see koresms.stream.
function M.open(client, transport, ...)
  local lane = setmetatable({
    transport = transport,
    parked = {}, -- workers without a job
    ended = {}, -- light threads that have come to their end
    news = false, -- a reply has come since the last step
    waiting = false, -- the caller waits for the bell
  }, Lane)
  local next_result, state, control, closing = stream.open(client, lane, ...)
  local function iterate()
    local result = next_result()
    if result == nil then dismiss(lane) end
    return result
  end
  return iterate, state, control, closing
end

return M
