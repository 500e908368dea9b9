--- The workers of a stream in plain Lua: coroutines, moved on whenever the caller asks for the next
-- result.
--
-- An error may break off a round at any instruction (a signal, a hook, no memory). What is known
-- of a worker therefore stands in the worker itself, each change being one assignment, and the
-- lists are made again from there when the caller comes back.
-- @module koresms.curl.workers
local clock = require("koresms.core").clock

local create, resume, running = coroutine.create, coroutine.resume, coroutine.running
local status, yield = coroutine.status, coroutine.yield

local M = {}

-- Seconds for which a caller was away, after which a step comes before anything else.
local ABSENCE = 0.01

-- What a worker waits for, which it yields: a reply, some time, or something to do. Any other
-- yield comes from a function of the caller's and is passed on to the caller.
local REPLY, TIME, WORK = {}, {}, {}

-- `replaced` is set where another has taken the place of a worker: of one that was suspended in a
-- function of the caller's, when the caller came back without it. It goes on alone, if ever.
local Worker = {}
Worker.__index = Worker

--- One exchange; see koresms.curl.transport.
function Worker:exchange(job)
  local transport, request = self.pool.transport, self.request
  if self.replaced then return transport:exchange(job) end
  if not transport:start(request, job) then
    self.waits = REPLY
    yield(REPLY)
    self.waits = nil
  end
  return transport:reply(request, self.reply)
end

--- Waits until some time, or until the client is closed.
function Worker:wait(when)
  if self.replaced then return self.pool.transport:wait(when) end
  self.when = when
  self.pool.fell_asleep = true
  self.waits = TIME
  yield(TIME)
  self.waits = nil
end

--- Waits until there may be something to do.
-- @treturn boolean whether there may be
function Worker:idle()
  if self.replaced then return false end
  self.waits = WORK
  yield(WORK)
  self.waits = nil
  return true
end

local Pool = {}
Pool.__index = Pool

-- Puts a worker at a place, which may have had one that an error ended.
local function new_worker(self, place)
  local request = self.transport.new_request()
  local worker = setmetatable({ pool = self, place = place, request = request,
    waits = WORK, replaced = false, reply = {}, job = {} }, Worker)
  worker.thread = create(function()
    worker.waits = nil
    return self.work(self.stream, worker)
  end)
  local old = self.workers[place]
  if old then old.replaced = true end
  self.requests[place] = request
  self.workers[place] = worker
  return worker
end

-- Makes the lists again.
local function repair(self)
  local me = running()
  local idle, sleepers = {}, {}
  for place = #self.workers, 1, -1 do
    local worker = self.workers[place]
    local state = status(worker.thread)
    if state == "normal" or worker.thread == me then
      error("koresms: the next result is asked for by what the stream itself has called", 0)
    end
    -- One that waits for nothing is suspended in a function of the caller's.
    if state == "dead" or not worker.waits then worker = new_worker(self, place) end
    if worker.waits == WORK then
      idle[#idle + 1] = worker
    elseif worker.waits == TIME then
      sleepers[worker] = true
    end
  end
  local puller = self.puller
  if puller and (self.workers[puller.place] ~= puller or puller.waits == WORK) then
    self.puller = nil
  end
  self.idle, self.sleepers = idle, sleepers
end

--- A result is asked for, and the last time was not over.
function Pool:enter_again()
  repair(self)
end

--- How many messages could be started now, by the worker that pulls and by those without work.
function Pool:free()
  return self.stream.concurrency - (#self.workers - #self.idle) + 1
end

--- Gives a worker the turn to pull, where it can be had.
function Pool:may_pull(worker)
  if self.puller or self.pulls <= 0 or not self.stream:may_ask() or worker.replaced then
    return false
  end
  self.pulls = self.pulls - 1
  self.puller = worker
  return true
end

--- Ends a worker's turn to pull.
function Pool:pulled()
  self.puller = nil
end

-- What becomes of a worker that was resumed.
local function settle(self, worker, ok, what, ...)
  if what == REPLY then return end
  if not ok then error(what, 0) end
  if what == TIME then
    self.sleepers[worker] = true
  elseif what == WORK or status(worker.thread) == "dead" then
    if not worker.replaced then self.idle[#self.idle + 1] = worker end
  else
    local function go_on(...)
      return settle(self, worker, resume(worker.thread, ...))
    end
    return go_on(yield(what, ...))
  end
end

local function take_replies(self)
  local requests, next_finished = self.requests, self.transport.next_finished
  local place = next_finished(requests, 0)
  while place do
    local worker = self.workers[place]
    settle(self, worker, resume(worker.thread))
    place = next_finished(requests, place)
  end
end

local function by_place(a, b) return a.place < b.place end

-- Wakes the workers whose time has come. Returns when the next one's comes.
local function wake_sleepers(self)
  if not next(self.sleepers) then return math.huge end
  local now, due, soonest = clock(), {}, math.huge
  for worker in pairs(self.sleepers) do
    if worker.when <= now or self.transport.closed
      or self.stream.left and self.puller == worker then
      due[#due + 1] = worker
    elseif worker.when < soonest then
      soonest = worker.when
    end
  end
  table.sort(due, by_place)
  for _, worker in ipairs(due) do
    -- Not one that was woken while another yielded to the caller.
    if self.sleepers[worker] then
      self.sleepers[worker] = nil
      settle(self, worker, resume(worker.thread))
    end
  end
  return #due > 0 and now or soonest
end

-- Has workers pull that have nothing else to do.
local function start_idle(self)
  local stream = self.stream
  while not self.puller and self.pulls > 0 and stream:may_ask() do
    -- Made anew where the caller came back while a worker yielded to it.
    local idle = self.idle
    local worker = idle[#idle]
    if worker then
      idle[#idle] = nil
    elseif #self.workers < stream.concurrency then
      worker = new_worker(self, #self.workers + 1)
    else
      return
    end
    settle(self, worker, resume(worker.thread))
  end
end

-- Is there anything to wait for? What another of the caller's coroutines has in its hands, and may
-- never go on with, is not.
local function is_waiting(self)
  if next(self.sleepers) then return true end
  for _, worker in ipairs(self.workers) do
    if worker.waits == REPLY then return true end
  end
  return false
end

local function step(self, seconds)
  self.transport:step(seconds)
  self.stepped = clock()
  self.stream.spent = 0
end

--- Moves all workers on until there is a result, for `most` seconds.
-- @tparam number most
-- @treturn boolean whether anything is under way
function Pool:run(most)
  local stream = self.stream
  local until_when = most == math.huge and most or clock() + most
  if stream:has_results() or clock() - self.stepped > ABSENCE then step(self, 0) end
  while true do
    -- So many are pulled until the caller has had the results.
    self.pulls = stream.concurrency
    take_replies(self)
    local wake_at = wake_sleepers(self)
    self.fell_asleep = false
    start_idle(self)
    if stream:has_results() then
      -- What has just been started leaves before the caller goes to work on the results.
      if self.transport.engine:connecting() > 0 then step(self, 0) end
      self.stepped = clock()
      return true
    end
    if stream.ended and #self.idle == #self.workers then return false end
    local now = clock()
    if now >= until_when then return true end
    local held = stream.held
    if held and (held <= now or self.transport.engine:connecting() == 0) then
      stream.held = false
      step(self, 0)
    elseif not held and not is_waiting(self) then
      repair(self)
    else
      if self.fell_asleep then wake_at = now end
      step(self, math.max(0, math.min(wake_at, until_when, held or math.huge) - now))
    end
  end
end

--- Forgets what waits for some time: in a forked child it is the parent's.
function Pool:drop_waiting()
  for worker in pairs(self.sleepers) do
    self.sleepers[worker] = nil
    self.idle[#self.idle + 1] = new_worker(self, worker.place)
  end
  self.puller = nil
  step(self, 0)
end

--- Opens the workers of a stream; none is made yet.
-- @tparam table stream
-- @tparam function work what a worker does, called with the stream and the worker
-- @tparam table transport
-- @treturn table
function M.open(stream, work, transport)
  return setmetatable({
    stream = stream, work = work, transport = transport,
    workers = {}, requests = {}, -- by place
    idle = {}, -- a stack of workers without work
    sleepers = {}, -- set of workers that wait for some time
    fell_asleep = false, -- has a worker begun to wait for some time, since that was last looked at?
    puller = nil, -- the worker that pulls
    pulls = 0, -- that may still be made in this round
    stepped = 0, -- when the last step ended
  }, Pool)
end

return M
