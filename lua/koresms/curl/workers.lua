--- The workers of a stream in plain Lua, moved on whenever the caller asks for the next result.
--
-- Coroutines, as few as can be: one pulls and starts the first request of each message at a free
-- place, and each message that is carried on after that has its own. A first reply that is the last
-- needs none, which is a tenth of the CPU of a message: Lua's collector looks through the stacks of
-- all coroutines again and again.
--
-- An error may break off a round at any instruction (a signal, a hook, no memory). What is known
-- of a worker or a place therefore stands in itself, each change being one assignment, and the
-- lists are made again from there when the caller comes back.
-- @module koresms.curl.workers
local clock = require("koresms.core").clock

local create, resume, running = coroutine.create, coroutine.resume, coroutine.running
local status, yield = coroutine.status, coroutine.yield

local M = {}

-- Seconds for which a caller was away, after which a step comes before anything else.
local STALL = 0.01

-- What is waited for: a reply, some time, or something to do. A worker yields it; any other yield
-- comes from a function of the caller's and is passed on to the caller.
local REPLY, TIME, WORK = {}, {}, {}

-- `replaced` is set where another has taken the place of a worker: of one that was suspended in a
-- function of the caller's, when the caller came back without it. It goes on alone, if ever.
local Worker = {}
Worker.__index = Worker

--- One exchange; see koresms.curl.transport.
function Worker:exchange(job)
  local transport = self.pool.transport
  if self.replaced then return transport:exchange(job) end
  local place = self.place
  if not transport:start(place.request, job) then
    self.waits = REPLY
    yield(REPLY)
    self.waits = nil
  end
  return transport:reply(place.request, place.reply)
end

--- Waits until some time, or until the client is closed.
function Worker:wait(when)
  if self.replaced then return self.pool.transport:wait(when) end
  self.when = when
  self.pool.hurry = true
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

-- What comes of the first reply to a message.
local function answered(stream, worker, job, reply)
  local judged, pause = stream:settle(job, reply)
  if judged then return stream:carry_on(worker, job, judged, pause) end
end

local Pool = {}
Pool.__index = Pool

-- A worker: the one that pulls, or one that carries on the message of a place.
local function new_worker(self, place, work)
  local worker = setmetatable({ pool = self, place = place, index = place and place.index or 0,
    waits = not place and WORK or nil, replaced = false, job = not place and {} or nil }, Worker)
  worker.thread = create(function(...)
    worker.waits = nil
    return work(self.stream, worker, ...)
  end)
  return worker
end

-- Makes a place at an index, which may have had one that an error ended.
local function new_place(self, index)
  local old = self.places[index]
  local place = { index = index, request = self.transport.new_request(), reply = {}, job = {},
    waits = WORK, worker = nil, replaced = false }
  if old then
    local worker = old.worker
    old.replaced = true
    if worker then worker.replaced = true end
    -- One that is suspended in a function of the caller's may still come to its result.
    if not worker or status(worker.thread) == "dead" then
      old.job.request = old.request
      self.stream:broken_off(old.job)
    end
  end
  self.requests[index] = place.request
  self.places[index] = place
  return place
end

-- A place has nothing to do any more.
local function free_place(self, place)
  place.worker = nil
  place.waits = WORK
  if not place.replaced then self.idle[#self.idle + 1] = place end
end

-- Whether a worker waits for what the pool will give it: not where an error has ended it, or where
-- it is suspended in a function of the caller's.
local function is_waiting_worker(worker)
  local state = status(worker.thread)
  if state == "normal" or worker.thread == running() then
    error("koresms: the next result is asked for by what the stream itself has called", 0)
  end
  return state ~= "dead" and worker.waits ~= nil
end

-- Makes the lists again.
local function repair(self)
  local idle, sleepers, puller = {}, {}, self.puller
  if puller then
    if not is_waiting_worker(puller) then
      puller.replaced = true
      if status(puller.thread) == "dead" then self.stream:broken_off(puller.job) end
      self.puller = nil
    elseif puller.waits == TIME then
      sleepers[puller] = true
    end
  end
  for index = #self.places, 1, -1 do
    local place = self.places[index]
    local worker = place.worker
    if worker and not is_waiting_worker(worker) or not (worker or place.waits) then
      place, worker = new_place(self, index), nil
    end
    if worker and worker.waits == TIME then
      sleepers[worker] = true
    elseif place.waits == WORK then
      idle[#idle + 1] = place
    end
  end
  self.idle, self.sleepers = idle, sleepers
end

--- A result is asked for, and the last time was not over.
function Pool:enter_again()
  repair(self)
end

--- How many messages could be started now.
function Pool:free()
  return self.stream.concurrency - #self.places + #self.idle
end

--- Gives a worker the turn to pull, where it can be had and there is a place for the message.
function Pool:may_pull(worker)
  if self.pulls <= 0 or not self.stream:may_ask() or worker.replaced then return false end
  local idle = self.idle
  if not idle[1] then
    local count = #self.places
    if count >= self.stream.concurrency then return false end
    idle[1] = new_place(self, count + 1)
  end
  self.pulls = self.pulls - 1
  return true
end

--- Ends a worker's turn to pull; starts the first request of the message that it has, if any, at a
-- free place.
function Pool:pulled(worker, job)
  if not job then return end
  local stream, transport = self.stream, self.transport
  if not stream:prepare(job) then return end
  if worker.replaced then return answered(stream, worker, job, transport:exchange(job)) end
  local idle = self.idle
  local place = idle[#idle]
  place.waits = nil
  idle[#idle] = nil
  worker.job, place.job = place.job, job
  if transport:start(place.request, job) then self.hurry = true end
  place.waits = REPLY
end

-- What becomes of a worker that was resumed.
local function settle(self, worker, ok, what, ...)
  if not ok then error(what, 0) end
  if what == TIME then
    self.sleepers[worker] = true
  elseif status(worker.thread) == "dead" then
    if worker.replaced then return end
    if worker.place then free_place(self, worker.place) else self.puller = nil end
  elseif what ~= REPLY and what ~= WORK then
    local function go_on(...)
      return settle(self, worker, resume(worker.thread, ...))
    end
    return go_on(yield(what, ...))
  end
end

-- Has a worker carry a message on.
local function hand_over(self, place, work, ...)
  local worker = new_worker(self, place, work)
  place.worker = worker
  return settle(self, worker, resume(worker.thread, place.job, ...))
end

-- Takes the first reply to a message. Where it is to be sent again, or the caller listens, who may
-- yield, a worker goes on with it.
local function finish(self, place)
  local stream, job = self.stream, place.job
  place.waits = nil
  local reply = self.transport:reply(place.request, place.reply)
  if stream.listens then return hand_over(self, place, answered, reply) end
  local judged, pause = stream:settle(job, reply)
  if judged then return hand_over(self, place, stream.carry_on, judged, pause) end
  return free_place(self, place)
end

local function take_replies(self)
  local requests, next_finished = self.requests, self.transport.next_finished
  local index = next_finished(requests, 0)
  while index do
    local place = self.places[index]
    local worker = place.worker
    if worker then
      settle(self, worker, resume(worker.thread))
    else
      finish(self, place)
    end
    index = next_finished(requests, index)
  end
end

local function by_index(a, b) return a.index < b.index end

-- Wakes the workers whose time has come. Returns when the next one's comes.
local function wake_sleepers(self)
  if not next(self.sleepers) then return math.huge end
  local now, due, soonest, stream = clock(), {}, math.huge, self.stream
  if stream.early and self.puller and #self.idle == #self.places
    and not stream:has_results() then
    stream.early, stream.ask_at, self.puller.when = false, 0, 0
  end
  for worker in pairs(self.sleepers) do
    if worker.when <= now or self.transport.closed
      or stream.left and self.puller == worker then
      due[#due + 1] = worker
    elseif worker.when < soonest then
      soonest = worker.when
    end
  end
  table.sort(due, by_index)
  for _, worker in ipairs(due) do
    -- Not one that was woken while another yielded to the caller.
    if self.sleepers[worker] then
      self.sleepers[worker] = nil
      settle(self, worker, resume(worker.thread))
    end
  end
  return #due > 0 and now or soonest
end

-- Has the source asked while there are places.
local function pull(self)
  local stream = self.stream
  while self.pulls > 0 and stream:may_ask() and self:free() > 0 do
    local puller = self.puller
    if not puller then
      puller = new_worker(self, nil, self.work)
      self.puller = puller
    elseif puller.waits ~= WORK then
      return
    end
    settle(self, puller, resume(puller.thread))
  end
end

-- Has every message its result, and nobody pulls?
local function is_over(self)
  local puller = self.puller
  return self.stream.ended and not (puller and puller.waits ~= WORK)
    and #self.idle == #self.places
end

-- Is there anything to wait for? What another of the caller's coroutines has in its hands, and may
-- never go on with, is not.
local function is_waiting(self)
  if next(self.sleepers) then return true end
  for _, place in ipairs(self.places) do
    local worker = place.worker
    if (worker or place).waits == REPLY then return true end
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
  if stream:has_results() or clock() - self.stepped > STALL then step(self, 0) end
  while true do
    -- So many are pulled until the caller has had the results.
    self.pulls = stream.concurrency
    take_replies(self)
    local wake_at = wake_sleepers(self)
    self.hurry = false
    pull(self)
    if stream:has_results() then
      -- What has just been started leaves before the caller goes to work on the results.
      if self.transport.engine:connecting() > 0 then step(self, 0) end
      self.stepped = clock()
      return true
    end
    if is_over(self) then return false end
    local now = clock()
    if now >= until_when then return true end
    local held = stream.held
    if held and (held <= now or self.transport.engine:connecting() == 0) then
      stream.held = false
      step(self, 0)
    elseif not held and not is_waiting(self) then
      repair(self)
    else
      if self.hurry then wake_at = now end
      step(self, math.max(0, math.min(wake_at, until_when, held or math.huge) - now))
    end
  end
end

--- Forgets what waits for some time: in a forked child it is the parent's.
function Pool:drop_waiting()
  for worker in pairs(self.sleepers) do
    worker.replaced = true
    if worker.place then new_place(self, worker.index) else self.puller = nil end
  end
  repair(self)
  step(self, 0)
end

--- Opens the workers of a stream; none is made yet.
-- @tparam table stream
-- @tparam function work what the worker that pulls does, called with the stream and the worker
-- @tparam table transport
-- @treturn table
function M.open(stream, work, transport)
  return setmetatable({
    stream = stream, work = work, transport = transport,
    places = {}, requests = {}, -- by index
    idle = {}, -- a stack of places without a message
    puller = nil, -- the worker that pulls
    sleepers = {}, -- set of workers that wait for some time
    hurry = false, -- has something come up in this round that must not wait for the network?
    pulls = 0, -- that may still be made in this round
    stepped = 0, -- when the last step ended
  }, Pool)
end

return M
