--- Many messages over one transport: a loop that moves all of them on whenever the caller
-- asks for the next result.
--
-- A message is pulled, checked, held until the pacer gives its permit, and then walks the
-- steps of a single send.
local core = require "koresms.core"
local delivery = require "koresms.delivery"

local M = {}

local CONCURRENCY = 16

-- Seconds between two times at which a caller's `stop` is asked, at most.
local LOOK = 0.5

-- What a carrier yields: it waits for a reply, or until some time, or it has a result. Any
-- other yield comes from a function of the caller's and is passed on to the caller.
local REPLY, UNTIL, RESULT = {}, {}, {}

local clock = core.clock

-- The transport has filled a job's reply: the stream's loop will go on from there.
local function landed(job)
  local stream = job.stream
  stream.landed_last = stream.landed_last + 1
  stream.landings[stream.landed_last] = job
end

local finish

-- The transport has an answer. True where it is the last word on the job.
local function answered(job, status, body, starts)
  local stream = job.stream
  local judged = not job.carrier and delivery.settle_known(job, status, body, starts)
  if not judged then return false end
  finish(stream, job, delivery.conclude(stream.client, job, judged))
  return true
end

-- A carrier: a coroutine, with the two waits of a transport, for a job that is not settled
-- by its first reply.
local carrier = {}
carrier.__index = carrier

function carrier:exchange(job)
  local ticket, refused = self.stream.transport:submit(job, job)
  if not ticket then return refused end
  job.carrier = self
  return coroutine.yield(REPLY)
end

function carrier:wait(when)
  self.when = when
  return coroutine.yield(UNTIL)
end

local function run(self, judged, pause)
  return RESULT, delivery.carry(self.stream.client, self, self.job, judged, pause)
end

local stream = {}
stream.__index = stream

local function put(self, result)
  self.last = self.last + 1
  self.results[self.last] = result
end

local function get(self)
  local result = self.results[self.first]
  self.results[self.first] = nil
  self.first = self.first + 1
  -- From 1 again, or the queue would wander through the table's hash part.
  if self.first > self.last then self.first, self.last = 1, 0 end
  return result
end

function finish(self, job, result)
  self.live = self.live - 1
  self.spare[#self.spare + 1] = job
  put(self, result)
end

-- What becomes of a carrier after a yield.
local after = {
  [REPLY] = function() end,
  [UNTIL] = function(self, worker) self.sleepers[#self.sleepers + 1] = worker end,
  [RESULT] = function(self, worker, result)
    worker.job.carrier = nil
    finish(self, worker.job, result)
  end,
}

local settle

local function resume(self, worker, ...)
  return settle(self, worker, coroutine.resume(worker.thread, ...))
end

function settle(self, worker, ok, what, ...)
  if not ok then
    self.live = self.live - 1
    error(what, 0)
  end
  local next_step = after[what]
  if next_step then return next_step(self, worker, ...) end
  return resume(self, worker, coroutine.yield(what, ...))
end

-- A job has its first verdict. Most have their last one then.
local function judged(self, job, verdict, pause)
  if not verdict.retryable then
    return finish(self, job, delivery.conclude(self.client, job, verdict, pause))
  end
  local worker = setmetatable({ stream = self, job = job, thread = coroutine.create(run) }, carrier)
  return resume(self, worker, worker, verdict, pause)
end

local function start(self, job)
  -- Its time begins now: until here it waited for others.
  delivery.begin(job)
  self.live = self.live + 1
  local refused = delivery.prepare(self.client, job)
  if refused then return judged(self, job, refused) end
  local ticket, reply = self.transport:submit(job, job)
  if not ticket then return judged(self, job, delivery.settle(self.client, job, reply)) end
end

local function spare_job(self)
  local job = table.remove(self.spare)
  if job then return job end
  job = delivery.blank(self.plan)
  job.stream, job.reply, job.answered, job.landed = self, {}, answered, landed
  return job
end

-- No message is pulled any more; `problem` is raised once all is answered.
local function stop(self, problem)
  self.ended = true
  self.problem = self.problem or problem
end

-- The next message of the source, as a job; nil at its end. Raises what the source raises.
local function next_job(self)
  local message
  if self.pull then message = self.pull() else message = self.messages[self.index + 1] end
  -- A hole in an array is a message that is none, and not its end: nobody is left out in
  -- silence.
  if message == nil and (self.pull or #self.messages <= self.index) then return nil end
  self.index = self.index + 1
  return delivery.job(spare_job(self), "bad argument #1 to 'send_many'", message, self.index)
end

-- The next message that may be sent; nil where there is none (any more), or where so many were
-- refused in a row that the caller has to take their results first.
local function pull(self)
  for _ = 1, self.concurrency do
    if self.ended then return nil end
    local before = self.index
    local ok, job = pcall(next_job, self)
    if not ok then
      -- A message that is none is named by its place.
      return stop(self, { before < self.index and ("%s (message %d)"):format(tostring(job),
        self.index) or job })
    end
    if not job then return stop(self) end
    local refused = delivery.obstacle(self.client, job)
    if not refused then return job end
    delivery.begin(job)
    put(self, delivery.conclude(self.client, job, refused))
  end
end

-- Starts what may start. Returns when to ask for the next permit, nil where there is no need.
local function fill(self)
  while self.live < self.concurrency do
    self.held = self.held or pull(self)
    if not self.held then return nil end
    local when = self.client.pacer:take(clock(), true)
    if when then return when end
    local job = self.held
    self.held = nil
    start(self, job)
  end
end

-- Goes on with the jobs whose reply has come.
local function land(self)
  while self.landed_first <= self.landed_last do
    local job = self.landings[self.landed_first]
    self.landings[self.landed_first] = nil
    self.landed_first = self.landed_first + 1
    if job.carrier then
      resume(self, job.carrier, job.reply)
    else
      judged(self, job, delivery.settle(self.client, job, job.reply))
    end
  end
  self.landed_first, self.landed_last = 1, 0
end

local function by_index(a, b) return a.job.index < b.job.index end

-- Resumes the carriers whose time has come, those that have waited longest first. Returns
-- when the next one's comes.
local function wake(self)
  if #self.sleepers == 0 then return nil end
  local now, due, rest, soonest = clock(), {}, {}, nil
  for _, worker in ipairs(self.sleepers) do
    local list = (worker.when <= now or self.client.closed) and due or rest
    list[#list + 1] = worker
    if list == rest and (not soonest or worker.when < soonest) then soonest = worker.when end
  end
  self.sleepers = rest
  table.sort(due, by_index)
  for _, worker in ipairs(due) do resume(self, worker) end
  return #due > 0 and now or soonest
end

-- What was pulled and not started is told to be so.
local function give_up_held(self)
  local job = self.held
  if not job then return end
  self.held = nil
  delivery.begin(job)
  put(self, delivery.conclude(self.client, job, delivery.cancelled()))
end

-- In a forked child: what has not started, or is to be repeated, is the parent's to send and to
-- tell. What was in flight is told here, too, as what nobody knows.
local function disown(self)
  self:close()
  self.held = nil
  self.live = self.live - #self.sleepers
  self.sleepers = {}
end

local function soonest_of(a, b)
  if a and b then return math.min(a, b) end
  return a or b
end

-- Moves all of them on, once. Returns when to look again, where nothing may happen before.
local function turn(self)
  land(self)
  if self.forks ~= core.forks() then disown(self) end
  local wake_at = wake(self)
  local closed = self.client.closed
  -- The messages of an array are all told to be cancelled; a function may have no end.
  if closed and self.pull or self.ask and self.ask() then self:close() end
  if closed or self.left then give_up_held(self) end
  if self.left then return wake_at end
  local asleep = #self.sleepers
  local permit_at = fill(self)
  -- What could not be started may wait for another attempt: look when.
  if #self.sleepers > asleep then return clock() end
  return soonest_of(wake_at, permit_at)
end

--- The next result; nil at the end.
function stream:next()
  if self.first <= self.last then return get(self) end
  while true do
    local when = turn(self)
    if self.first <= self.last then
      -- What has just been started leaves before the caller goes to work on the results.
      if self.live > 0 then self.transport:step(0) end
      return get(self)
    end
    if self.live == 0 and not self.held then
      local problem = self.problem
      self.problem = nil
      if problem then error(problem[1], 0) end
      return nil
    end
    local most = self.ask and LOOK or math.huge
    self.transport:step(when and math.max(0, math.min(when - clock(), most)) or most)
  end
end

--- Starts nothing more. What is in flight can still be had.
function stream:close()
  self.left = true
  stop(self)
end

local closer = { __close = function(self) self.stream:close() end }

--- Opens a stream.
-- @tparam table client
-- @tparam table transport
-- @tparam function sign
-- @param messages an array, or a function that returns the next message
-- @tparam table options checked ones
-- @treturn function an iterator, and the further values of a generic for
function M.open(client, transport, sign, messages, options)
  local self = setmetatable({
    client = client, transport = transport, plan = delivery.plan(client, sign, options),
    messages = messages, pull = type(messages) == "function" and messages or nil,
    concurrency = options.concurrency or CONCURRENCY, ask = options.stop,
    forks = core.forks(), -- at the time
    index = 0, -- of the message pulled last
    held = nil, -- the job that waits for its permit
    live = 0, -- jobs that have started and have no result
    sleepers = {}, -- carriers that wait for some time
    spare = {}, -- jobs that are done
    landings = {}, landed_first = 1, landed_last = 0, -- queue of jobs with a reply
    results = {}, first = 1, last = 0, -- queue
    ended = false, -- nothing is pulled any more
    left = false, -- the caller wants nothing to start
  }, stream)
  local function iterate() return self:next() end
  return iterate, nil, nil, setmetatable({ stream = self }, closer)
end

return M
