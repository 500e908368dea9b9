--- The workers of a stream inside nginx: light threads.
--
-- nginx keeps 250 bytes for each light thread that was ever started, until the caller's request
-- ends, so those without work stay for a while. They start nothing unless the caller's own light
-- thread waits for a result: a loop that is left starts nothing more.
-- @module koresms.nginx.workers
-- luacheck: std ngx_lua

local semaphore = require "ngx.semaphore"
local clock = require("koresms.core").clock

local ceil, max, min = math.ceil, math.max, math.min
local running, status = coroutine.running, coroutine.status
local spawn, wait = ngx.thread.spawn, ngx.thread.wait

-- A wait is cut into pieces of so many seconds, to see in between whether the client was closed.
local WAIT_MAX = 1

-- Seconds for which a light thread waits for work: so much later may a request end whose handler
-- has left the loop before its end.
local IDLE_MAX = 0.1

-- So often (seconds) the worker that pulls looks whether the caller still waits.
local AWAY_MAX = 0.1

-- How long a sleep (seconds) has to be for nginx's event loop to turn.
local TURN = 0.001

-- Seconds between two looks whether what a slow source gave has left.
local SLOW_INTERVAL = 0.005

local M = {}

-- Waits for a semaphore; nginx counts whole milliseconds. Returns whether it was posted.
local function wait_for(posted, seconds)
  local ok, text = posted:wait(max(ceil(seconds * 1000), 1) / 1000)
  if not ok and text ~= "timeout" then error("koresms: cannot wait here: " .. text, 0) end
  return ok
end

-- Does the caller wait for a result? Its light thread may have been killed meanwhile.
local function is_attended(pool)
  local by = pool.attended
  if type(by) ~= "thread" then return by end
  local state = status(by)
  return state ~= "dead" and state ~= "zombie"
end

local Worker = {}
Worker.__index = Worker

--- One exchange; see koresms.nginx.transport.
function Worker:exchange(job)
  return self.pool.transport:exchange(job)
end

--- Waits until some time, or until the client is closed. The worker that pulls does not go on
-- waiting where the caller leaves the stream, or is away for a while.
function Worker:wait(when)
  local pool = self.pool
  local pulls = pool.puller == self
  local left = when - clock()
  while left > 0 and not pool.transport.closed and not (pulls and pool.stream.left) do
    local woken = wait_for(self.woken, min(left, pulls and AWAY_MAX or WAIT_MAX))
    if pulls and not woken and not is_attended(pool) then return end
    left = when - clock()
  end
end

local function remove(list, one)
  for place, other in ipairs(list) do
    if other == one then return table.remove(list, place) end
  end
end

-- Lets the caller's light thread look.
local function signal(pool)
  if pool.waiting then
    pool.waiting = false
    pool.wakeup:post(1)
  end
end

--- Waits until there may be something to do.
-- @treturn boolean whether there may be
function Worker:idle()
  local pool = self.pool
  if not self.thread then return false end -- the caller's own light thread
  pool.idle[#pool.idle + 1] = self
  signal(pool)
  if wait_for(self.woken, IDLE_MAX) then return true end
  -- Who wakes a worker has taken it from the list.
  return not remove(pool.idle, self)
end

local Pool = {}
Pool.__index = Pool

--- Is the caller away? It may have left the loop.
-- @tparam table worker
function Pool.is_away(worker)
  return not is_attended(worker.pool)
end

--- How many messages could be started now, by the worker that pulls and by those without work.
function Pool:free()
  return max(self.stream.concurrency - (self.count - #self.idle) + 1, 1)
end

--- Gives a worker the turn to pull, where it can be had.
function Pool:may_pull(worker)
  if self.stream:has_results() then signal(self) end
  if self.puller or not is_attended(self) or self.pulls <= 0 or not self.stream:may_ask() then
    return false
  end
  self.pulls = self.pulls - 1
  self.puller = worker
  return true
end

-- Wakes the worker that was done last, so that those which are not needed go.
local function wake_idle(self)
  local worker = table.remove(self.idle)
  if worker then worker.woken:post(1) end
  return worker
end

--- Ends a worker's turn to pull; carries the message that it has, if any, to its result.
function Pool:pulled(worker, job)
  self.puller = nil
  if is_attended(self) and not wake_idle(self) then signal(self) end
  if job then self.stream:carry(worker, job) end
end

-- The life of a light thread.
local function live(self, worker)
  worker.thread = running()
  self.living[worker] = true
  local ok, text = pcall(self.work, self.stream, worker)
  self.living[worker] = nil
  self.count = self.count - 1
  if self.puller == worker then self.puller = nil end
  if not ok then self.broken = self.broken or { text } end
  self.ended[#self.ended + 1] = worker.thread
  signal(self)
end

-- Has what was pulled not left yet? Asked of the stream's own workers: other exchanges of the
-- client may be many, and one that nginx broke off never ends.
local function is_connecting(self)
  for worker in pairs(self.living) do
    if worker.job.connecting then return true end
  end
  return false
end

-- One that has ended stays in memory until its parent has waited for it.
local function reap(self)
  for place, thread in ipairs(self.ended) do
    -- Where another light thread is the parent, it goes with that one.
    pcall(wait, thread)
    self.ended[place] = nil
  end
end

local function new_worker(self)
  return setmetatable({ pool = self, woken = assert(semaphore.new()), job = {} }, Worker)
end

-- What a slow source gave has left. What has come meanwhile is read before it is asked again: nginx
-- looks at its sockets before it ends a sleep, but not before it wakes who waits for a semaphore.
local function release(stream, here)
  if not here then ngx.sleep(TURN) end
  stream.held = false
end

-- Has workers pull that have nothing else to do.
local function start_idle(self)
  local stream = self.stream
  while not self.puller and self.pulls > 0 and stream:may_ask() do
    if #self.idle > 0 then return wake_idle(self) end
    if self.count >= stream.concurrency then return end
    reap(self)
    self.count = self.count + 1
    spawn(live, self, new_worker(self))
  end
end

-- What is moved on without light threads: where there is no network, every message is refused.
local function run_here(self)
  self.work(self.stream, setmetatable({ pool = self, woken = self.wakeup, job = {} }, Worker))
end

--- Lets all workers go on until there is a result, for `most` seconds.
-- @tparam number most
-- @treturn boolean whether anything is under way
function Pool:run(most)
  local stream = self.stream
  local until_when = clock() + most
  local here = stream.session.refusal()
  self.attended = here and true or running()
  -- Of nothing, an nginx without OpenResty's patches would log a warning each time.
  if stream:has_results() and not here then ngx.sleep(TURN) end
  if self.puller and stream.left then self.puller.woken:post(1) end
  while true do
    self.pulls = stream.concurrency
    local held = stream.held
    if held and (held <= clock() or not is_connecting(self)) then release(stream, here) end
    if here then run_here(self) else start_idle(self) end
    local broken = self.broken
    self.broken = nil
    if broken then error(broken[1], 0) end
    local under_way = self.count > #self.idle
    if stream:has_results() or not (under_way or not stream.ended) or clock() >= until_when then
      break
    end
    self.waiting = true
    wait_for(self.wakeup, min(until_when - clock(), stream.held and SLOW_INTERVAL or WAIT_MAX))
    self.waiting = false
    stream.spent = 0
    reap(self)
    if self.transport.closed then break end
  end
  self.attended = false
  self.stepped = clock()
  local under_way = self.count > #self.idle
  if stream.ended then while wake_idle(self) do end end
  return under_way or not stream.ended or stream:has_results()
end

--- A result is asked for, and the last time was not over: nothing is to be done here.
function Pool.enter_again() end

--- In a forked child: nginx forks no worker that has requests.
function Pool.drop_waiting() end

--- Opens the workers of a stream; none is made yet.
-- @tparam table stream
-- @tparam function work what a worker does, called with the stream and the worker
-- @tparam table transport
-- @treturn table
function M.open(stream, work, transport)
  return setmetatable({
    stream = stream, work = work, transport = transport,
    count = 0, -- light threads that have not ended
    living = {}, -- the set of their workers
    idle = {}, -- a stack of workers without work
    ended = {}, -- light threads that have come to their end
    puller = nil, -- the worker that pulls
    pulls = 0, -- that may still be made in this round
    attended = false, -- the light thread that waits for a result
    wakeup = assert(semaphore.new()), -- something happened that the caller waits for
    waiting = false, -- does it?
    stepped = 0, -- when the caller last waited
  }, Pool)
end

return M
