--- The ground on which the specs of broken-off calls stand: a server whose answer follows from
-- the recipient's number, clients, and a ledger that compares what a client said of each message
-- with what the server knows of it. Nothing here looks inside a client.
--
-- FAULTS=long plays every place, SEED=n the places of that seed.

local breaker = require "spec.support.breaker"
local faults = require "spec.support.faults"
local koresms = require "koresms"
local lfs = require "lfs"
local new_dice = require "spec.support.dice"

local streams = require "spec.support.broken_off_stream"

local step = faults.step

local M = { breaker = breaker }

M.long = os.getenv("FAULTS") == "long"
M.patience = tonumber(os.getenv("FAULTS_PATIENCE")) or 1
M.seed = tonumber(os.getenv("SEED")) or os.time() % 1000000

-- Kinds of messages: the begin of the number, what the server does at its first request and so
-- on, and what is told of it. `retries`: the repeats that it takes.
local THROTTLED = step.respond { status = 429, headers = { { "Retry-After", "0" } },
  body = '{"errors":[{"msg":"Rate limit reached","code":"T{digits}"}]}' }

M.kinds = {
  ok = { prefix = "+91200", answers = { { step.respond() } },
    outcome = "accepted" },
  refused = { prefix = "+91412", code = "invalid_request", outcome = "rejected", mark = "E",
    answers = { { step.respond { status = 412,
      body = '{"errors":[{"msg":"No such thing","code":"E{digits}"}]}' } } } },
  throttled = { prefix = "+91429", code = "rate_limited", outcome = "rejected", mark = "T",
    answers = { { THROTTLED } } },
  -- Accepted at its second request, for clients that repeat.
  repeated = { prefix = "+91428", answers = { { THROTTLED }, { step.respond() } },
    outcome = "accepted", retries = 1 },
  cut = { prefix = "+91000", answers = { { step.close() } },
    outcome = "unknown", code = "connection_lost" },
  reset = { prefix = "+91001", answers = { { step.reset() } },
    outcome = "unknown", code = "connection_lost" },
  -- Answered after a while, so that much comes in between.
  slow_throttled = { prefix = "+91430", code = "rate_limited", outcome = "rejected", mark = "T",
    answers = { { step.stall { seconds = 0.01 }, THROTTLED } } },
  slow = { prefix = "+91201", answers = { { step.stall { seconds = 0.01 }, step.respond() } },
    outcome = "accepted" },
}

local numbers, by_prefix = {}, {}
for _, kind in pairs(M.kinds) do
  numbers[kind.prefix] = kind.answers
  by_prefix[kind.prefix] = kind
end

--- The kind of a number.
function M.kind_of(number) return by_prefix[number:sub(1, 6)] end

--- Descriptors that this process has open.
function M.descriptors()
  local count = 0
  for _ in lfs.dir("/proc/self/fd") do count = count + 1 end
  return count
end

--- Kilobytes that Lua needs.
function M.memory()
  breaker.forget()
  for _ = 1, 3 do collectgarbage() end
  return collectgarbage("count")
end

-- The ground ------------------------------------------------------------------------------

local Ground = {}
Ground.__index = Ground

--- Starts the server.
function M.start()
  local self = setmetatable({ bench = faults.start(), serial = 0, bots = 0,
    dice = new_dice(M.seed) }, Ground)
  self.server = self.bench:listen { default = { step.serve { numbers = numbers } }, limit = 600 }
  breaker.start()
  return self
end

function Ground:stop()
  breaker.stop()
  self.bench:stop()
end

--- Has new connections answer numbers of one more prefix.
-- @tparam string prefix six characters
-- @tparam table answers a list of scripts, see `number_script` in faultd/steps.py
function Ground:answer(prefix, answers)
  numbers[prefix] = answers
  self.server:script(nil, { step.serve { numbers = numbers } })
end

--- What follows has so many seconds; then the process is interrupted.
function Ground:guard(seconds)
  self.bench:call { cmd = "guard", seconds = seconds * M.patience }
end

--- A number of a kind, by name, that no other message has.
function Ground:number(kind)
  self.serial = self.serial + 1
  return ("%s%07d"):format(M.kinds[kind].prefix, self.serial)
end

-- Messages of one client ------------------------------------------------------------------

local Ledger = {}
Ledger.__index = Ledger

--- A client with its own counts at the server, and the ledger of its messages.
-- @tparam[opt] table changes settings
-- @treturn table with `client`, and the methods below
function Ground:client(changes)
  self.bots = self.bots + 1
  local o = { host = self.server.origin, bot_id = "st-" .. self.bots, client_id = "cs-1",
    client_secret = "secret", from = "+19876543210", per_minute = 100000, retries = 0,
    timeout = 5 * M.patience }
  for name, value in pairs(changes or {}) do o[name] = value end
  local self_ = setmetatable({ ground = self, bot_id = o.bot_id, retries = o.retries,
    entries = {}, problems = {}, events = {} }, Ledger)
  if o.on_event == true then
    self_.listens = true
    o.on_event = function(event)
      if event.kind == "retry" then self_.events[event.id] = (self_.events[event.id] or 0) + 1 end
    end
  end
  self_.client = assert(koresms.new(o))
  return self_
end

--- Notes what does not hold, with the place that is being played.
function Ledger:problem(text, ...)
  self.problems[#self.problems + 1] = ("%s: %s"):format(tostring(self.place), text:format(...))
end

--- Notes a result.
-- @tparam string to the message's number
-- @tparam table result
-- @tparam[opt] table also further endings that are right, as {outcome, code} with the most
--   that the server may have processed
function Ledger:told(to, result, also)
  self.entries[#self.entries + 1] = { place = self.place, to = to, result = result, also = also }
end

--- Notes messages that are not told, since something was broken off.
-- @tparam table list messages, whose ids the listener knows, or with the `requests` that each may
--   have made
-- @tparam number most so many of them may have reached the server
function Ledger:lost(list, most)
  local entry = { place = self.place, lost = list, most = most, requests = {} }
  for i, message in ipairs(list) do
    -- What was to be repeated by then may have been.
    entry.requests[i] = message.requests or 1 + (self.listens and self.events[message.id] or 0)
  end
  if #list > 0 then self.entries[#self.entries + 1] = entry end
end

--- Opens a stream; see support/broken_off_stream.lua.
function Ledger:stream(options) return streams.open(self, options) end

-- What does not hold for a message, or nil.
local function fault(self, entry, processed)
  local kind, result = M.kind_of(entry.to), entry.result
  local seen = ("told %s/%s, %d attempts, processed %d times"):format(result.outcome,
    tostring(result.code), result.attempts, processed)
  if result.to ~= entry.to then return seen .. ", as that of another message" end
  local more = entry.also and entry.also[result.outcome .. "/" .. tostring(result.code)]
  if more then return processed > more and seen end
  local attempts = 1 + (kind.retries or kind.code == "rate_limited" and self.retries or 0)
  if processed ~= attempts or result.attempts ~= attempts then return seen end
  if result.outcome ~= kind.outcome or result.code ~= kind.code then return seen end
  if kind.mark and result.platform_code ~= kind.mark .. entry.to:sub(-6) then
    return ("%s, with the answer to another message: %s"):format(seen,
      tostring(result.platform_code))
  end
end

-- The same for those that are not told.
local function fault_of_lost(entry, to)
  local begun = 0
  for i, message in ipairs(entry.lost) do
    local processed = to[message.to] or 0
    begun = begun + math.min(processed, 1)
    if processed > entry.requests[i] then
      return ("%s: broken off, and processed %d times"):format(message.to, processed)
    end
  end
  return begun > entry.most and ("%d messages are processed and not told"):format(begun)
end

--- Compares all that was noted with what the server knows.
-- @treturn boolean whether all is right
function Ledger:verify()
  local stats = self.ground.bench:stats { settle = 5, scenario = self.bot_id }
  if not stats.settled then self:problem("the server does not come to rest") end
  for _, entry in ipairs(self.entries) do
    local text
    if entry.lost then
      text = fault_of_lost(entry, stats.to)
    else
      text = fault(self, entry, stats.to[entry.to] or 0)
      text = text and entry.to .. ": " .. text
    end
    if text then
      self.place = entry.place
      self:problem("%s", text)
    end
  end
  self.entries, self.events = {}, {}
  return #self.problems == 0
end

--- Sends a message in the ordinary way and notes what it gives.
function Ledger:send(kind, also)
  local to = self.ground:number(kind)
  local ok, accepted, _, _, failed = pcall(self.client.send, self.client, { to = to })
  if not ok then return self:problem("a later send raised: %s", tostring(accepted)) end
  self:told(to, accepted or failed, also)
end

-- What is sent after a send of this kind was broken off: its answer would be wrong for the next.
local NEXT = {
  ok = { "refused", "ok", "throttled" },
  refused = { "ok", "refused", "cut" },
  throttled = { "ok", "refused", "ok" },
  repeated = { "ok", "refused", "ok" },
  cut = { "ok", "refused", "ok" },
  reset = { "refused", "ok", "ok" },
}

--- Sends a message, broken off at its n-th place, and some more in the ordinary way.
-- @tparam string kind
-- @tparam number n
-- @tparam[opt] table also what may be told, too, where the error did not come out
function Ledger:break_off(kind, n, also)
  local client, to = self.client, self.ground:number(kind)
  local fired, ok, accepted, _, _, failed = breaker.run(n, client.send, client,
    { to = to, id = to })
  if ok then
    -- Where the error was kept from the send, all is as if there had been none.
    self:told(to, accepted or failed, fired and also)
  elseif fired then
    if accepted ~= breaker.ERROR then self:problem("raised %s", tostring(accepted)) end
    self:lost({ { to = to, id = to } }, 1)
  else
    self:problem("raised %s", tostring(accepted))
  end
  for _, next_kind in ipairs(NEXT[kind]) do self:send(next_kind) end
end

-- Sweeps ----------------------------------------------------------------------------------

-- Places to be played in one batch, after which the server is asked.
local BATCH = 16

-- So many problems are enough.
local MANY = 12

-- A sweep of the short form takes a second.
local SLOW = 20

-- The numbers of the places that are played: all, or some evenly spread and some at random.
local function places_of(dice, most, few)
  local chosen, out = {}, {}
  local function choose(n)
    if n <= most and not chosen[n] then
      chosen[n] = true
      out[#out + 1] = n
    end
  end
  if M.long then
    for n = 1, most do choose(n) end
  else
    for i = 0, few - 1 do choose(1 + math.floor((most - 1) * i / math.max(few - 1, 1))) end
    for _ = 1, math.floor(few / 2) do choose(dice:roll(most)) end
  end
  table.sort(out)
  return out
end

--- Plays a case at each place, or at some.
-- @tparam table case `name`; `settings` of the client; `few`: places of the short form;
--   `play(ledger, n)`: breaks something off at its n-th place and looks at what follows;
--   `fresh`: each place has a client of its own
-- @treturn table problems
function Ground:sweep(case)
  local problems, descriptors = {}, M.descriptors()
  local ledger
  local function renew()
    if ledger then pcall(ledger.client.close, ledger.client) end
    ledger = self:client(case.settings)
  end
  local function play(n)
    ledger.place = ("%s, place %s"):format(case.name, n == breaker.NEVER and "none" or n)
    case.play(ledger, n)
  end
  local function verify()
    if ledger:verify() then return true end
    for _, problem in ipairs(ledger.problems) do problems[#problems + 1] = problem end
    ledger.problems = {}
  end
  self:guard(30)
  renew()
  -- First calls make what stays; and the places are counted in the last one.
  for _ = 1, 3 do
    play(breaker.NEVER)
    if case.fresh then renew() end
  end
  local most = breaker.passed()
  if not verify() then renew() end
  local ns = places_of(self.dice, most, case.few)
  local before, played = M.memory(), 0
  local began = os.time()
  for i, n in ipairs(ns) do
    if not M.long and os.time() - began > SLOW * M.patience then
      problems[#problems + 1] = case.name .. ": takes too long"
      break
    end
    self:guard(30)
    play(n)
    played = played + 1
    local stuck = ledger.stuck
    if (i % BATCH == 0 or i == #ns or case.fresh or stuck) and not verify() or case.fresh then
      renew()
      if not case.fresh then before, played = M.memory(), 0 end
    end
    if #problems > MANY or stuck then break end
  end
  -- A reply that nobody takes needs some hundred bytes; Lua's table of strings grows by doubling.
  local grown = M.memory() - before
  if grown > 40 + 0.05 * played then
    problems[#problems + 1] = ("%s: %d places left %.0f KB behind"):format(case.name, played, grown)
  end
  ledger.client:close()
  ledger = nil
  M.memory()
  local left = M.descriptors() - descriptors
  if left ~= 0 then
    problems[#problems + 1] = ("%s: %d descriptors stay open"):format(case.name, left)
  end
  self:guard(0)
  self.bench:forget()
  return problems, #ns, most
end

--- Raises the problems of a sweep, the first ones in words.
function M.assert_none(problems)
  if #problems == 0 then return end
  error(("%d problems (SEED=%d):\n%s"):format(#problems, M.seed,
    table.concat(problems, "\n", 1, math.min(#problems, MANY))), 0)
end

return M
