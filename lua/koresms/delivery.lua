--- The way of one message: check, permit, sign, exchange, judge, and perhaps again.
--
-- A job is one message on its way. Single sends and streams walk the same steps; what waits
-- is handed in.
local core = require "koresms.core"
local http_date = require "koresms.http_date"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"
local verdict = require "koresms.verdict"

local M = {}

-- Full jitter: a random time up to a bound that doubles with each repeat.
local BACKOFF, BACKOFF_MOST = 0.25, 8

local PAUSE_MOST = 3600

local fields = { "to", "from", "id" }
local message_types = { to = "string", from = "string", id = "string" }

local clock = core.clock

local function random()
  return tonumber(core.random_id():sub(1, 8), 16) / 2 ^ 32
end

-- Tells the caller's listener, where there is one. What it does wrong must not reach a send.
local function tell(self, job, event)
  event.id, event.from, event.to = job.id, mask.number(job.from), mask.number(job.to)
  pcall(self.settings.on_event, event)
end

-- A verdict of our own, in the shape of koresms.verdict's.
local function own(code, text, retry_after)
  local judged = verdict.judge({ failure = code, starts = 0, text = text })
  judged.retry_after = retry_after
  return judged
end

--- The verdict on what the caller gave up before it started.
function M.cancelled()
  return own("cancelled", "the client or the stream was closed before the message started")
end

--- What all messages of one send or stream have in common.
-- @tparam table self the client
-- @tparam function sign returns a token, or nil and a text
-- @tparam table options checked ones
-- @treturn table
function M.plan(self, sign, options)
  local settings = self.settings
  return { sign = sign, from = settings.from, time = options.timeout or settings.timeout,
    connect_timeout = options.connect_timeout or settings.connect_timeout,
    retries = options.retries or settings.retries }
end

--- Checks that a message is one. Raises on misuse.
function M.check(where, message)
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

--- A table for a job. Its fields are here so that it need not grow.
-- @tparam table plan
-- @treturn table
function M.blank(plan)
  return { plan = plan, id = "", to = "", from = "", body = "", token = "", tries = 0, attempts = 0,
    started = 0, deadline = 0, timeout = 0, connect_timeout = 0 }
end

--- Checks a message and copies it into a job. Raises on misuse.
-- @tparam table job a blank one, or one that is done
-- @tparam string where such as "bad argument #1 to 'send'"
-- @tparam table message
-- @tparam ?number index
-- @treturn table the job
function M.job(job, where, message, index)
  M.check(where, message)
  job.id, job.index = message.id or core.random_id(), index
  job.to, job.from = message.to, message.from or job.plan.from
  job.tries = 0 -- requests handed to the transport
  job.attempts = 0 -- those of which bytes may have left
  return job
end

--- Starts a job's time.
function M.begin(job)
  local now = clock()
  job.started, job.deadline = now, now + job.plan.time
end

-- Which of the two numbers will not do, and why.
local function number_fault(job)
  for _, field in ipairs({ "to", "from" }) do
    local ok, text = core.e164(job[field])
    if not ok then return field .. ": " .. text end
  end
end

--- Why a job cannot be sent at all, as a verdict; nil where it can. It has its body then.
function M.obstacle(self, job)
  if self.closed then return M.cancelled() end
  if job.from == nil then
    return own("invalid_number", "from: no sender; give message.from, or set from (KORESMS_FROM)")
  end
  job.body = core.body(job.from, job.to)
  if not job.body then return own("invalid_number", number_fault(job)) end
  -- Where nothing can be sent from, nothing may wait for a permit either.
  local refusal = self.own().refusal
  local refused = refusal and refusal()
  if refused then return verdict.judge(refused) end
end

-- Waits for a permit; returns a verdict where none comes before the deadline.
local function permit(self, transport, job)
  while true do
    local now = clock()
    local when = self.pacer:take(now)
    if not when then return nil end
    if when >= job.deadline then
      return own("rate_limited", ("no permit before the deadline: the next one comes in %.1f s "
        .. "(settings per_minute, per_hour, timeout)"):format(when - now), when - now)
    end
    transport:wait(when)
    if self.closed then return M.cancelled() end
  end
end

--- Makes a job ready for its next request, which has its permit: signs it, and gives it the
-- time that is left. Returns a verdict where that cannot be.
function M.prepare(self, job)
  local token, text = job.plan.sign()
  if not token then return own("sign", text) end
  job.token, job.tries = token, job.tries + 1
  if self.settings.on_event then tell(self, job, { kind = "attempt", attempt = job.tries }) end
  job.connect_timeout = job.plan.connect_timeout
  job.timeout = job.deadline - clock()
  if job.timeout <= 0 then
    return own("timeout", "the deadline passed before the request was sent")
  end
end

-- Seconds until the throttled platform wants to hear from us again.
local function pause_of(reply)
  local now, wait = core.time(), nil
  local text = reply.retry_after
  if text then
    wait = text:find("^%d+$") and tonumber(text)
    local date = not wait and http_date.parse(text)
    if date then
      -- The server's own clock, where it tells it, makes ours not matter.
      wait = math.max(0, date - (reply.date and http_date.parse(reply.date) or now))
    end
  end
  return math.min(wait or 60 - now % 60, PAUSE_MOST)
end

--- Judges what came back. A throttled reply pauses the client.
-- @treturn table the verdict
-- @treturn ?number seconds of the pause
function M.settle(self, job, reply)
  local judged = verdict.judge(reply, job.token)
  job.attempts, job.token = job.attempts + reply.starts, nil
  if judged.code ~= "rate_limited" then return judged end
  local pause = pause_of(reply)
  self.pacer:pause(clock(), pause)
  if self.settings.on_event then tell(self, job, { kind = "pause", seconds = pause }) end
  return judged, pause
end

--- The same for a reply whose like was judged before and that is the last one, without a table
-- for it. Returns nil where it is not so.
function M.settle_known(job, status, body, starts)
  local judged = verdict.known(status, body)
  if not judged or judged.retryable then return nil end
  job.attempts, job.token = job.attempts + starts, nil
  return judged
end

-- Seconds to wait before the next attempt; nil where there must be none.
local function delay_of(job, judged, pause)
  if not judged.retryable or job.tries > job.plan.retries or job.tries == 0 then return nil end
  -- The jitter comes after the pause, so that not all who were throttled return at once.
  local held = pause or judged.retry_after or 0
  local bound = math.min(BACKOFF * 2 ^ (job.tries - 1), BACKOFF_MOST)
  local delay = held + random() * bound
  if clock() + delay >= job.deadline then return nil end
  return delay
end

--- The result that the caller sees.
function M.conclude(self, job, judged, pause)
  local result = {
    outcome = judged.outcome, retryable = judged.retryable, status = judged.status,
    attempts = job.attempts, id = job.id, from = job.from, to = job.to, index = job.index,
    elapsed = clock() - job.started,
  }
  if judged.code then
    result.code, result.message = judged.code, judged.message
    result.retry_after = judged.retry_after or pause
    result.platform_code, result.platform_message = judged.platform_code, judged.platform_message
  end
  if self.settings.on_event then
    tell(self, job, { kind = "verdict", outcome = result.outcome, code = result.code,
      status = result.status, attempts = result.attempts, elapsed = result.elapsed })
  end
  return result
end

local function attempt(self, transport, job)
  local refused = permit(self, transport, job) or M.prepare(self, job)
  if refused then return refused end
  return M.settle(self, job, transport:exchange(job))
end

-- What is told of two verdicts in a row. A message that the platform had in its hands is not
-- `not_sent`, whatever kept it from being repeated; nor does the pacer hide what went wrong
-- before. When to try again is then the later of the two times.
local function outweigh(job, told, told_pause, judged, pause)
  if judged.outcome ~= "not_sent" or job.attempts == 0 and judged.code ~= "rate_limited" then
    return judged, pause
  end
  local later = judged.retry_after
  if later and (not told_pause or later > told_pause) then told_pause = later end
  return told, told_pause
end

--- Carries a job to its result.
-- @tparam table self the client
-- @tparam table transport anything that has its `exchange` and `wait`
-- @tparam table job
-- @tparam ?table judged the verdict on a first attempt that was made already
-- @tparam ?number pause what `settle` gave with it
-- @treturn table the result
function M.carry(self, transport, job, judged, pause)
  if not judged then judged, pause = attempt(self, transport, job) end
  local told, told_pause = judged, pause
  while true do
    local delay = delay_of(job, judged, pause)
    if not delay then return M.conclude(self, job, told, told_pause) end
    if self.settings.on_event then
      tell(self, job, { kind = "retry", code = judged.code, seconds = delay })
    end
    transport:wait(clock() + delay)
    if self.closed then
      return M.conclude(self, job, outweigh(job, told, told_pause, M.cancelled()))
    end
    judged, pause = attempt(self, transport, job)
    told, told_pause = outweigh(job, told, told_pause, judged, pause)
  end
end

return M
