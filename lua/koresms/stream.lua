--- Many messages, of which up to `concurrency` are in flight. A worker takes the next message,
-- waits for its permit and carries it to its result. What the workers are and how they are moved on
-- is for the host's `open_workers`: light threads in nginx, each with a message of its own; in
-- plain Lua one coroutine that pulls for all, and others where a message is sent again.
--
-- One worker at a time pulls from the source and waits for a permit, so that the source is read
-- ahead by one message. Nothing is pulled unless the caller waits for a result.
-- @module koresms.stream
local core = require "koresms.core"
local delivery = require "koresms.delivery"
local misuse = require "koresms.misuse"

local M = {}

local CONCURRENCY = 16

-- Seconds between two times at which a caller's `stop` is asked, at most.
local STOP_INTERVAL = 0.5

-- A source that takes longer than this (seconds) between two steps is slow: what it gave leaves
-- before it is asked again, and results are told in between.
local SLOW = 0.01

-- A connection that takes longer (seconds) does not keep a slow source from being asked: where the
-- server cannot be reached, there is always one.
local HOLD_MAX = 1

-- A source that names a time in the past is asked again after so many seconds.
local ASK_INTERVAL = 0.001

-- Without a step for so many seconds, one is made before a result that is known already is told:
-- the others must not be late because of a loop that takes its time.
local STEP_INTERVAL = 0.05

local WHERE = "bad argument #1 to 'send_many'"

local clock = core.clock

-- A queue of results. What an error breaks off between two assignments leaves it whole.
local function new_queue()
  return { first = 1, last = 0 }
end

local function dequeue(queue)
  local first, last = queue.first, queue.last
  while queue[first] == nil and first < last do first = first + 1 end
  local result = queue[first]
  queue[first] = nil
  -- From 1 again, or the queue would wander through the table's hash part.
  queue.first = first < last and first + 1 or 1
  if first == last then queue.last = 0 end
  return result
end

local Stream = {}
Stream.__index = Stream

-- Puts a result where the caller finds it. Those that took the longest come first: the others may
-- be many, and the caller's loop slow.
local function put(self, job, result)
  local late = result.elapsed >= job.plan.timeout or result.code == "timeout"
  local queue = late and self.late or self.results
  local last = queue.last + 1
  queue[last] = result
  queue.last = last
end

-- Nothing is pulled any more; `problem` is raised once all is answered: what a source raised as it
-- is, misuse at the caller's line.
local function stop(self, problem, is_misuse)
  if problem ~= nil then self.problem = self.problem or { problem, is_misuse } end
  self.ended = true
end

local NO_TIME = "a source that returns false gives the time to be asked again as its second "
  .. "value: number expected, got "

-- Both sources return whether all went well; a message with its place, or nil or false; and what
-- stands behind that: two values. A hole in an array is a message that is not one, and not its end:
-- nobody is left out in silence.

local function array_source(messages)
  local index = 0
  return function()
    index = index + 1
    local message = messages[index]
    return true, message, index, message == nil and index <= #messages
  end
end

-- What a function raises ends the stream.
local function function_source(pull, workers)
  local index = 0
  return function()
    local ok, message, when, early = pcall(pull, workers:free())
    if ok and message then index = index + 1 end
    return ok, message, index, when, early
  end
end

-- Looks at what does not seem to be a message. Stops the stream, and names its place, where it is
-- none: returns whether.
local function stop_at_bad_message(self, message, index)
  local good, text = pcall(delivery.check, WHERE, message)
  if not good then stop(self, ("%s (message %d)"):format(text, index), true) end
  return not good
end

-- The source has nothing yet: waits until it wants to be asked again. A store's may want that
-- before, once all that it gave has come back.
local function wait_for_source(self, worker, when, early)
  if type(when) ~= "number" or when ~= when then
    return stop(self, ("%s (%s%s)"):format(WHERE, NO_TIME, type(when)), true)
  end
  self.ask_at = math.max(when, clock() + ASK_INTERVAL)
  self.early = early == true
  worker:wait(self.ask_at)
end

-- Asks the source, once it wants to be asked. Returns a job that may be sent, and the time; nil
-- where there is none now, or where it has its result already.
local function ask(self, worker)
  local session, before = self.session, clock()
  -- The last wait was cut short, because the caller was away.
  if self.ask_at > before then
    worker:wait(self.ask_at)
    before = clock()
    if self.ask_at > before then return nil end
  end
  self.early = false
  local ok, message, index, more, early = self.source()
  local now = clock()
  local spent = self.spent + now - before
  self.spent, self.slow = spent, spent > SLOW
  if self.slow then self.held = now + HOLD_MAX end
  if not ok then return stop(self, message) end
  if message == nil and not more then return stop(self) end
  if message == false then return wait_for_source(self, worker, more, early) end
  if not delivery.is_message(message) and stop_at_bad_message(self, message, index) then
    return nil
  end
  local job = delivery.fill(worker.job, self.plan, message, index)
  local refused = delivery.preflight(session, job)
  if not refused then return job, now end
  delivery.begin(job, now)
  put(self, job, delivery.result(session, job, refused))
end

-- Waits until a permit is had. Returns when that was; nil where the stream or the client is closed
-- meanwhile, false where the caller is away.
local function wait_for_permit(self, worker, job, now)
  local session, is_away = self.session, self.is_away
  while true do
    if self.left or session.closed then return nil end
    if is_away and is_away(worker) then return false end
    local when = self.plan.pacer:take(now, true, job)
    if not when then return now end
    delivery.wait(session, worker, job, math.min(when, now + delivery.LOOK_INTERVAL))
    now = clock()
  end
end

-- A worker has the turn to pull. Returns a job that is to be carried; nil where there is none now,
-- or where it has its result already.
local function pull(self, worker)
  -- Closed by the source itself, or while that was waited for: nobody may come by to look.
  if self.session.closed and self.endless then return self:close() end
  local job, now = self.waiting, nil
  if job then
    self.waiting, worker.job = nil, job
  else
    job, now = ask(self, worker)
    if not job then return nil end
  end
  now = wait_for_permit(self, worker, job, now or clock())
  if now then
    job.permit = true
    -- Its time begins now: until here it waited for others.
    delivery.begin(job, now)
    return job
  end
  if now == false then
    -- The caller may have left the loop: it goes on when the next result is asked for.
    self.waiting, worker.job = job, {}
  else
    put(self, job, delivery.cancelled(self.session, job))
  end
end

-- What a worker does, until the stream has ended.
local function work(self, worker)
  local workers = self.workers
  while not self.ended do
    if workers:may_pull(worker) then
      workers:pulled(worker, pull(self, worker))
    elseif not worker:idle() then
      return
    end
  end
end

local function take_result(self)
  if self.late.last > 0 then return dequeue(self.late) end
  if self.results.last > 0 then return dequeue(self.results) end
end

-- In a forked child: what has not started, or is to be repeated, is the parent's to send and to
-- report. What was in flight is reported here, too, as `unknown`.
local function detach_after_fork(self)
  self.forks = core.forks()
  self:close()
  self.workers:drop_waiting()
end

-- Looks at what may end the stream early.
local function check_stop(self)
  if self.forks ~= core.forks() then detach_after_fork(self) end
  -- Each message of an array gets the result `cancelled`; a function may have no end.
  if self.session.closed and self.endless or self.should_stop and self.should_stop() then
    self:close()
  end
end

local function advance(self)
  local workers = self.workers
  if clock() - workers.stepped < STEP_INTERVAL then
    local result = take_result(self)
    if result then return result end
  end
  check_stop(self)
  while true do
    local busy = workers:run(self.should_stop and STOP_INTERVAL or math.huge)
    local result = take_result(self)
    if result then return result end
    if not busy then
      local problem = self.problem
      self.problem = nil
      if not problem then return nil end
      if problem[2] then misuse.raise(problem[1]) end
      error(problem[1], 0)
    end
    check_stop(self)
  end
end

-- The next result; nil at the end.
local function next_result(self)
  -- Still set where an error broke off the last call, or where that is not over.
  if self.inside then self.workers:enter_again() end
  self.inside = true
  local result = advance(self)
  self.inside = false
  return result
end

--- Starts nothing more. What is in flight can still be had.
function Stream:close()
  self.left = true
  stop(self)
  local job = self.waiting
  if job then
    self.waiting = nil
    put(self, job, delivery.cancelled(self.session, job))
  end
end

--- Gets a message ready for its first request.
-- @tparam table job
-- @treturn boolean whether it may leave; it has its result otherwise
function Stream:prepare(job)
  local refused = delivery.prepare(self.session, job)
  if refused then put(self, job, delivery.result(self.session, job, refused)) end
  return not refused
end

--- Judges a reply. The message has its result, unless it may be sent again.
-- @tparam table job
-- @tparam table reply
-- @treturn ?table the verdict, where it may
-- @treturn ?number seconds of a pause
function Stream:settle(job, reply)
  local session = self.session
  local judged, pause = delivery.settle(session, job, reply)
  if judged.retryable then return judged, pause end
  put(self, job, delivery.result(session, job, judged, pause))
end

--- Carries a message from a verdict to its result.
-- @tparam table worker
-- @tparam table job
-- @tparam table judged
-- @tparam ?number pause
function Stream:carry_on(worker, job, judged, pause)
  put(self, job, delivery.carry_on(self.session, worker, job, judged, pause))
end

--- Carries a message from its begin to its result.
-- @tparam table worker
-- @tparam table job
function Stream:carry(worker, job)
  put(self, job, delivery.carry(self.session, worker, job))
end

--- An error has broken a message off.
-- @tparam table job
function Stream:broken_off(job)
  delivery.broken_off(self.session, job)
end

--- May the source be asked? A slow one not while there is something to leave, or to tell; and none
-- while more results wait for the caller than there are workers, whose loop may be slow.
function Stream:may_ask()
  if self.ended or self.held then return false end
  local results = self.results
  if self.slow then return results.last == 0 and self.late.last == 0 end
  return results.last - results.first < self.concurrency
end

--- Has a result been put that nobody took yet?
function Stream:has_results()
  return self.late.last > 0 or self.results.last > 0
end

local closer = { __close = function(self) self.stream:close() end }

--- Opens a stream.
-- @tparam table session
-- @param source an array of messages, or a function (see `client:send_many`)
-- @tparam table options checked ones
-- @treturn function an iterator, and the further values of a generic for
function M.open(session, source, options)
  local self = setmetatable({
    session = session, plan = delivery.plan(session, options),
    concurrency = options.concurrency or CONCURRENCY,
    should_stop = options.stop,
    endless = type(source) == "function", -- it may be
    listens = session.settings.on_event ~= nil,
    spent = 0, -- seconds that the source took since the last step
    slow = false, -- did it take its time, when it was last asked?
    ask_at = 0, -- when it wants to be asked
    early = false, -- or before that, when nothing is in flight and all results have been taken
    held = false, -- its last message has to leave before it is asked again, or this time to come
    forks = core.forks(), -- at the time
    results = new_queue(), late = new_queue(),
    is_away = nil, -- where the host knows it: whether the caller is away, a function of the worker
    inside = false, -- is a result being asked for?
    waiting = nil, -- a job that waited for its permit when the caller went away
    ended = false, -- nothing is pulled any more
    left = false, -- the caller wants nothing to start
  }, Stream)
  self.workers = session.open_workers(self, work, session.transport)
  self.is_away = self.workers.is_away
  self.source = self.endless and function_source(source, self.workers) or array_source(source)
  local function iterate() return next_result(self) end
  return iterate, nil, nil, setmetatable({ stream = self }, closer)
end

return M
