--- The way of one message: check, permit, sign, exchange, judge, and perhaps again.
--
-- A job is one message on its way; a session is what a client is made of; a worker is whoever
-- carries the job, and knows how to exchange a request and how to wait.
local core = require "koresms.core"
local http_date = require "koresms.http_date"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"
local results = require "koresms.result"
local verdict = require "koresms.verdict"

local M = {}

-- Full jitter: a random time up to a bound that doubles with each repeat, in seconds. A server
-- that cannot be reached is tried more often: it may only be starting again.
local BACKOFF, BACKOFF_MAX, CONNECT_BACKOFF_MAX = 0.25, 8, 1

-- Seconds that a throttled reply may stop a client at most; and where its date has nothing to be
-- compared with but our own clock.
local PAUSE_MAX, UNCERTAIN_PAUSE_MAX = 3600, 60

--- Whoever waits for a permit asks again so often (seconds): a pause may be ended by hand.
M.LOOK_INTERVAL = 1

local fields = { "to", "from", "id" }
local message_types = { to = "string", from = "string", id = "string", start_before = "number" }

local clock, new_result = core.clock, results.new

local function random()
  local id = core.random_id()
  return id and tonumber(id:sub(1, 8), 16) / 2 ^ 32 or 0.5
end

-- Tells the caller's listener. What it does wrong must not reach a send.
local function tell(session, job, event)
  event.id, event.from, event.to = job.id, mask.number(job.from), mask.number(job.to)
  pcall(session.settings.on_event, event)
end

-- A verdict of our own on a message that did not leave.
local function not_sent(code, text, retry_after)
  local judged = verdict.judge({ failure = code, starts = 0, text = text })
  judged.retry_after = retry_after
  return judged
end

--- What a session counts: results by outcome, and connections.
-- @treturn table
function M.new_tally()
  return { accepted = 0, rejected = 0, not_sent = 0, unknown = 0, opened = 0, reused = 0,
    last_accepted = nil, -- on the clock of koresms.core
    waits = setmetatable({}, { __mode = "k" }), -- set of jobs; one that is broken off leaves it
  }
end

--- Waits for a job's permit, or its next attempt.
-- @tparam table session
-- @tparam table worker
-- @tparam table job
-- @tparam number when
function M.wait(session, worker, job, when)
  local waits = session.tally.waits
  waits[job] = true
  worker:wait(when)
  waits[job] = nil
end

--- Counts a job that an error has broken off. It has no result.
-- @tparam table session
-- @tparam table job
function M.broken_off(session, job)
  if job.told ~= false then return end
  local left = job.attempts > 0 or session.transport.may_have_left(job)
  local outcome, tally = left and "unknown" or "not_sent", session.tally
  tally[outcome] = tally[outcome] + 1
  tally.waits[job] = nil
  job.told = true
end

local CLOSED = "the client or the stream was closed before the message started"

--- What all messages of one send or stream have in common.
-- @tparam table session
-- @tparam table options checked ones; `pacer`: one in place of the client's
-- @treturn table
function M.plan(session, options)
  local settings = session.settings
  return { sign = session.sign, from = settings.from, pacer = options.pacer or session.pacer,
    timeout = options.timeout or settings.timeout,
    connect_timeout = options.connect_timeout or settings.connect_timeout,
    retries = options.retries or settings.retries }
end

--- Whether a value is a message as it stands; see `check` for what is not.
M.is_message = core.is_message

--- Checks that a message is one. Raises on misuse.
-- @tparam string where such as "bad argument #1 to 'send'"
-- @param message
function M.check(where, message)
  if M.is_message(message) then return end
  misuse.check(where, "field", message, message_types)
  -- What a message inherits is not among its own fields.
  for i = 1, #fields do
    local field = fields[i]
    local got = type(message[field])
    if got ~= "string" and (got ~= "nil" or field == "to") then
      misuse.raise(("%s (field '%s': string expected, got %s)"):format(where, field, got))
    end
  end
end

--- Copies a checked message into a job.
-- @tparam table job a table to write into: an empty one, or one that is done
-- @tparam table plan
-- @tparam table message
-- @tparam ?number index
-- @treturn table the job
function M.fill(job, plan, message, index)
  job.plan, job.index = plan, index
  job.to, job.from, job.id = message.to, message.from or plan.from, message.id
  if not job.id then job.id, job.fault = core.random_id() end
  job.start_before = message.start_before
  job.permit = false -- was one taken that no request has used?
  job.tries = 0 -- requests handed to the transport
  job.repeats = 0 -- of them, those that count against `retries`
  job.attempts = 0 -- those of which bytes may have left
  job.told = false -- whether it has its result
  return job
end

--- Starts a job's time.
-- @tparam table job
-- @tparam ?number now
function M.begin(job, now)
  now = now or clock()
  job.started, job.deadline = now, now + job.plan.timeout
end

-- Which of the two numbers is not one, and why.
local function number_fault(job)
  for _, field in ipairs({ "to", "from" }) do
    local ok, text = core.e164(job[field])
    if not ok then return field .. ": " .. text end
  end
end

--- Why a job cannot be sent at all, as a verdict; nil where it can. It has its body then.
-- @tparam table session
-- @tparam table job
-- @treturn ?table
function M.preflight(session, job)
  if session.closed then return not_sent("cancelled", CLOSED) end
  if job.from == nil then
    return not_sent("invalid_number",
      "from: no sender; give message.from, or set from (KORESMS_FROM)")
  end
  if not job.id then
    job.id = ""
    return not_sent("sign", "the message could not be given an id: " .. job.fault)
  end
  job.body = core.body(job.from, job.to)
  if not job.body then return not_sent("invalid_number", number_fault(job)) end
  -- Where nothing can be sent from, nothing may wait for a permit either.
  local refused = session.refusal and session.refusal()
  if refused then return verdict.judge(refused) end
end

-- Waits for a permit; returns a verdict where none comes before the deadline.
local function wait_for_permit(session, worker, job)
  while true do
    local now = clock()
    local when = job.plan.pacer:take(now, false, job)
    if not when then
      job.permit = true
      return nil
    end
    local last = math.min(job.deadline, job.start_before or job.deadline)
    if when >= last then
      return not_sent("rate_limited", ("no permit before the %s: the next one comes in "
        .. "%.1f s (settings per_minute, per_hour, timeout)")
        :format(last < job.deadline and "time to start" or "deadline", when - now), when - now)
    end
    M.wait(session, worker, job, math.min(when, now + M.LOOK_INTERVAL))
    if session.closed then return not_sent("cancelled", CLOSED) end
  end
end

-- Seconds until the throttled platform wants to hear from us again.
local function pause_of(reply)
  local now, text = core.time(), reply.retry_after
  local seconds = text and text:find("^%d+$") and tonumber(text)
  local date = text and not seconds and http_date.parse(text)
  if date then
    -- The server's own clock, where it tells it, makes ours not matter.
    local theirs = reply.date and http_date.parse(reply.date)
    seconds = math.max(0, date - (theirs or now))
    if not theirs then seconds = math.min(seconds, UNCERTAIN_PAUSE_MAX) end
  end
  return math.min(seconds or 60 - now % 60, PAUSE_MAX)
end

--- Gets a job that has its permit ready for a request.
-- @tparam table session
-- @tparam table job
-- @treturn ?table a verdict, where it must not leave
function M.prepare(session, job)
  local token, text = job.plan.sign()
  if not token then return not_sent("sign", text) end
  job.token, job.tries = token, job.tries + 1
  job.connect_timeout = job.plan.connect_timeout
  if session.settings.on_event then
    tell(session, job, { kind = "attempt", attempt = job.tries })
    job.begun = clock()
  end
  return nil
end

--- Judges the reply to a job's request. A throttled one pauses the client.
-- @tparam table session
-- @tparam table job
-- @tparam table reply
-- @treturn table the verdict
-- @treturn ?number seconds of the pause
function M.settle(session, job, reply)
  local pacer, listens = job.plan.pacer, session.settings.on_event
  if listens then
    tell(session, job, { kind = "attempt", attempt = job.tries, elapsed = clock() - job.begun,
      reused = reply.reused })
  end
  local judged = verdict.judge(reply, job.token)
  if pacer.probe then
    pacer:ended(job, reply.status ~= nil and judged.code ~= "rate_limited")
  end
  job.token = nil
  if reply.starts > 0 then
    local tally, kind = session.tally, reply.reused and "reused" or "opened"
    job.attempts, job.permit = job.attempts + 1, false
    tally[kind] = tally[kind] + 1
  end
  if judged.code ~= "rate_limited" then return judged end
  local pause = pause_of(reply)
  pacer:pause(clock(), pause)
  if listens then tell(session, job, { kind = "pause", seconds = pause }) end
  return judged, pause
end

-- One request of a job. Returns its verdict, and the seconds of a pause that began with it.
local function attempt(session, worker, job)
  -- A repeat may have its permit still: where the request before could not be sent.
  local has_one = job.permit and job.tries == 0
  local refused = not has_one and wait_for_permit(session, worker, job)
    or M.prepare(session, job)
  if refused then return refused end
  return M.settle(session, job, worker:exchange(job))
end

-- Seconds to wait before the next attempt; nil where there must be none.
local function delay_of(job, judged, pause)
  local retries = job.plan.retries
  if retries == 0 or job.tries == 0 then return nil end
  local bound_max = CONNECT_BACKOFF_MAX
  if judged.code ~= "connect" then
    if job.repeats >= retries then return nil end
    job.repeats = job.repeats + 1
    bound_max = BACKOFF_MAX
  end
  -- The jitter comes after the pause, so that not all who were throttled return at once.
  local held = pause or judged.retry_after or 0
  local delay = held + random() * math.min(BACKOFF * 2 ^ (job.tries - 1), bound_max)
  if clock() + delay >= math.min(job.deadline, job.start_before or job.deadline) then return nil end
  return delay
end

-- The result that the caller sees.
local function make_result(session, job, judged, pause)
  local outcome, now, tally = judged.outcome, clock(), session.tally
  tally[outcome] = tally[outcome] + 1
  if outcome == "accepted" then tally.last_accepted = now end
  job.told = true
  local result = new_result {
    outcome = outcome, retryable = judged.retryable, status = judged.status,
    attempts = job.attempts, id = job.id, from = job.from, to = job.to, index = job.index,
    elapsed = now - job.started,
  }
  if judged.code then
    result.code, result.message = judged.code, judged.message
    result.retry_after = judged.retry_after or pause
    result.platform_code, result.platform_message = judged.platform_code, judged.platform_message
  end
  if session.settings.on_event then
    tell(session, job, { kind = "verdict", outcome = result.outcome, code = result.code,
      status = result.status, attempts = result.attempts, elapsed = result.elapsed })
  end
  return result
end

M.result = make_result

--- The result of what the caller gave up before it started.
-- @tparam table session
-- @tparam table job
-- @treturn table
function M.cancelled(session, job)
  M.begin(job)
  return make_result(session, job, not_sent("cancelled", CLOSED))
end

-- Which of two verdicts in a row is reported. A message that the platform had in its hands is not
-- `not_sent`, whatever kept it from being repeated; nor do the pacer and the end of the time hide
-- what went wrong before. When to try again is then the later of the two times.
local function final_verdict(job, first, first_pause, judged, pause)
  local ours = judged.code == "rate_limited" or judged.code == "timeout"
  if judged.outcome ~= "not_sent" or job.attempts == 0 and not ours then
    return judged, pause
  end
  local later = judged.retry_after
  if later and (not first_pause or later > first_pause) then first_pause = later end
  return first, first_pause
end

--- Carries a job from the verdict on its first request to its result.
-- @tparam table session
-- @tparam table worker anything with the methods `exchange(job)` and `wait(when)`
-- @tparam table job
-- @tparam table judged
-- @tparam ?number pause seconds
-- @treturn table the result
function M.carry_on(session, worker, job, judged, pause)
  local final, final_pause = judged, pause
  while true do
    local delay = judged.retryable and delay_of(job, judged, pause)
    if not delay then return make_result(session, job, final, final_pause) end
    if session.settings.on_event then
      tell(session, job, { kind = "retry", code = judged.code, seconds = delay })
    end
    M.wait(session, worker, job, clock() + delay)
    if session.closed then
      judged, pause = not_sent("cancelled", CLOSED), nil
      return make_result(session, job, final_verdict(job, final, final_pause, judged, pause))
    end
    judged, pause = attempt(session, worker, job)
    final, final_pause = final_verdict(job, final, final_pause, judged, pause)
  end
end

--- Carries a job to its result.
-- @tparam table session
-- @tparam table worker as in `carry_on`
-- @tparam table job
-- @treturn table the result
function M.carry(session, worker, job)
  return M.carry_on(session, worker, job, attempt(session, worker, job))
end

return M
