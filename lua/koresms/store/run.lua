--- The loop over a store: a stream of messages whose source is a worker's turns.
-- @module koresms.store.run
local client_module = require "koresms.client"
local core = require "koresms.core"
local limits = require "koresms.store.limits"
local misuse = require "koresms.misuse"
local pacer = require "koresms.pacer"
local rota = require "koresms.store.rota"
local states = require "koresms.store.states"
local worker = require "koresms.store.worker"

local M = {}

local clock = core.clock

-- Seconds that a statement of a worker may take: meanwhile nothing of its stream moves.
local LIMIT = 10

-- Seconds for which a turn waits for others to end, unless all have.
local GATHER = 0.002

-- What the source yields where results are to be told before it has anything to send.
local TELL = {}

-- Lua 5.1 cannot yield through pcall: there each result is stored by itself.
local CAN_YIELD = _VERSION ~= "Lua 5.1" or rawget(_G, "jit") ~= nil

local types = { client = "table", campaigns = "table", concurrency = "number", stay = "boolean",
  stop = "function", on_wait = "function", from = "string" }

local WHERE = "bad argument #1 to 'run'"

local function check(options)
  misuse.check(WHERE, "option", options, types)
  local concurrency = options.concurrency
  if concurrency and not (concurrency >= 1 and concurrency <= 1024 and concurrency % 1 == 0) then
    misuse.raise(WHERE .. " (option 'concurrency': a whole number from 1 to 1024 expected)")
  end
  if options.client and not client_module.session(options.client) then
    misuse.raise(WHERE .. " (option 'client': a client expected)")
  end
  for i, name in ipairs(options.campaigns or {}) do
    if type(name) ~= "string" then
      misuse.raise(("%s (option 'campaigns': name %d: string expected, got %s)"):format(WHERE, i,
        type(name)))
    end
  end
end

-- A client that repeats nothing, since the store does.
local function make_client(options, new_client)
  local client = options.client
  if not client then
    local text
    client, text = new_client { per_minute = false, per_hour = false, retries = 0,
      from = options.from }
    if not client then return nil, text end
  end
  return client, client_module.session(client)
end

local Run = {}
Run.__index = Run

local function in_flight(self)
  return self.handed - self.received
end

-- A message for the stream.
local function hand_out(self, row)
  self.handed = self.handed + 1
  self.begun[self.handed] = row
  return { to = row.recipient, from = row.sender, id = row.ref,
    start_before = row.start_before }
end

-- The next row that was marked and may still start.
local function next_ready(self)
  while #self.ready > 0 do
    local row = table.remove(self.ready, 1)
    if clock() < row.start_before then return row end
    self.worker:give_back(row)
    self.worker:was_late()
  end
end

local function give_back_ready(self)
  for _, row in ipairs(self.ready) do self.worker:give_back(row) end
  self.ready = {}
end

-- Writes down the pauses that results asked for. Nothing is taken from those campaigns before.
local function write_pauses(self)
  for id, reason in pairs(self.pauses) do
    if not self.worker:pause_campaign(id, reason) then return false end
    self.pauses[id] = nil
    self.rota:look_again(id)
  end
  return true
end

-- Takes rows of the campaigns whose turn it is. Returns when to ask again, nil where there are
-- rows; or false where all is done.
local function take(self, free)
  local works = self.worker
  -- Each is asked once at most: the stream must go on, however slow the store is.
  for _ = 1, self.rota:count() do
    if not write_pauses(self) then return works.retry_at end
    local campaign = self.rota:next()
    if not campaign then break end
    local rows = works:turn(campaign.id, free)
    if not rows then return works.retry_at end
    if #rows > 0 then
      self.ready = rows
      return nil
    end
    local found = works:look(campaign.id)
    if not found then return works.retry_at end
    self.rota:seen(campaign, found, in_flight(self) > 0)
  end
  if #works.endings > 0 or works.pause then
    if not works:turn(0, 0) then return works.retry_at end
  end
  if self.rota:is_done() and in_flight(self) == 0 and #works.endings == 0 then return false end
  return self.rota:when()
end

-- What the stream asks: a message, nil at the end, or false and when to ask again.
local function source(self, free)
  local works = self.worker
  if self.stopped or works:is_over() then return nil end
  works:upkeep()
  local row = next_ready(self)
  if row then return hand_out(self, row) end
  if not works:ready() then return false, works.retry_at end
  -- Others may be about to end, too: one turn stores them all, and starts as many.
  if in_flight(self) > 0 then
    local now = clock()
    self.gather_until = self.gather_until or now + GATHER
    if now < self.gather_until then return false, self.gather_until, true end
  end
  self.gather_until = nil
  local when = take(self, math.max(1, free or 1))
  if when == nil then
    row = next_ready(self)
    if row then return hand_out(self, row) end
    when = clock()
  end
  if CAN_YIELD and #works.stored > 0 then coroutine.yield(TELL) end
  if when == false then return nil end
  if self.on_wait then self.on_wait(self.rota.waits, when - clock()) end
  -- What is in flight is stored as soon as all of it has ended.
  return false, when, in_flight(self) > 0
end

-- Asked by the stream at least twice a second.
local function stop(self)
  self.worker:upkeep()
  if not self.stopped and self.asks and self.asks() then self.stopped = true end
  return self.stopped or self.worker:is_over() or false
end

-- A result has come.
local function receive(self, result)
  self.received = self.received + 1
  local row = self.begun[result.index]
  self.begun[result.index] = nil
  local works = self.worker
  local run = self.runs[row.campaign]
  if not run then
    run = states.new_run()
    self.runs[row.campaign] = run
  end
  if in_flight(self) == 0 then self.rota:look_again(row.campaign) end
  local step = states.follow(run, result)
  result.campaign = self.rota:name(row.campaign)
  if step.pause then self.pauses[row.campaign] = step.pause end
  if step.account then
    works:pause_account(step.account, states.detail(result))
    give_back_ready(self)
  end
  if step.late then works:was_late() end
  works:finish(row, { state = step.state, wait = step.wait, code = result.code,
    detail = states.detail(result), result = step.state ~= "pending" and result or nil })
end

-- Stores what is known, whatever it takes; or as much of it as can be.
local function flush(self)
  local works = self.worker
  give_back_ready(self)
  local since = clock()
  while (#works.endings > 0 or next(self.pauses) or works.pause) and not works.fatal do
    if (#works.endings == 0 and not works.pause or works:turn(0, 0)) and write_pauses(self) then
      if #works.endings == 0 then return end
    elseif clock() - since > (self.stopped and 10 or worker.PATIENCE) then
      return
    else
      core.sleep(0.2)
    end
  end
end

-- The whole loop, in a coroutine: yields TELL where results have been stored.
local function loop(self)
  -- What the platform says about its limit goes into the store.
  local options = { concurrency = self.concurrency, retries = 0, pacer = pacer.unlimited(),
    timeout = math.min(self.timeout, worker.timeout_max()),
    stop = function() return stop(self) end }
  local function pull(free) return source(self, free) end
  for result in client_module.stream_at(self.client, pull, options) do
    receive(self, result)
    if not CAN_YIELD then self.worker:turn(0, 0) end
    if #self.worker.stored > 0 then coroutine.yield(TELL) end
  end
  flush(self)
end

-- What is left is told to whoever asks for the failure.
local function finish(self)
  if self.closed then return end
  self.closed = true
  local works = self.worker
  works:close()
  works.link:set_limit(self.limit_before)
  if self.owns_client then self.client:close() end
  if self.lock then self.lock:close() end
  if works.problem or works.complaint then self.fail(works.problem or works.complaint) end
  local left = {}
  for i, ending in ipairs(works.endings) do left[i] = ending end
  self.own.unstored = left
  self.own.outcome = self.rota:summary(self.stopped)
end

-- Goes on with the loop; passes on what functions of the caller's yield.
local function go_on(self, ok, what)
  while ok and coroutine.status(self.thread) ~= "dead" and what ~= TELL do
    ok, what = coroutine.resume(self.thread, coroutine.yield(what))
  end
  if not ok then
    finish(self)
    error(what, 0)
  end
end

local function next_result(self)
  while true do
    local result = table.remove(self.worker.stored, 1)
    if result then return result end
    if coroutine.status(self.thread) == "dead" then
      finish(self)
      return nil
    end
    go_on(self, coroutine.resume(self.thread, self))
  end
end

-- A loop that is left: what is in flight is waited for and stored.
local function leave(self)
  if self.closed then return end
  self.stopped = true
  while next_result(self) do end
end

-- A file of SQLite has one worker at a time. The system drops its lock, however it ends.
local function take_lock(conn)
  if conn.location.kind ~= "sqlite" then return true end
  local path = conn.location.where .. "-run"
  local lock, text, code = conn.driver.lock(path)
  if lock then return lock end
  if code == "busy" then
    return nil, ("store %s: another worker runs on this file; a file has one at a time (several "
      .. "machines or workers: PostgreSQL)"):format(conn.location.shown)
  end
  return nil, ("store %s: its lock %s cannot be taken: %s"):format(conn.location.shown, path, text)
end

local function nothing() return nil end

--- Opens the loop.
-- @tparam table store
-- @tparam table options
-- @tparam function open the store's
-- @tparam function failed the store's
-- @treturn function an iterator, and the further values of a generic for; where there is nothing
--   to loop over it ends at once, and the store's failure says why
function M.open(store, options, open, failed)
  check(options)
  local own = store.own()
  own.unstored, own.outcome = nil, nil
  local conn, text, limit_before
  local function refuse(why)
    if limit_before then conn:set_limit(limit_before) end
    failed(store, why)
    return nothing
  end
  conn, text = open(store)
  if not conn then return refuse(text) end
  local settings, fault = limits.of_settings()
  if not settings then return refuse(fault) end
  limit_before = conn.limit
  local limited
  limited, text = conn:set_limit(LIMIT)
  if not limited then return refuse(text) end
  local account
  account, text = conn:run("account")
  if not account then return refuse(text) end
  fault = limits.difference(settings, account[1])
  if fault then return refuse(fault) end
  local list
  list, text = rota.new(conn, options.campaigns, options.stay)
  if not list then return refuse(text) end
  local client, session = make_client(options, own.new_client)
  if not client then return refuse(session) end
  local lock
  lock, text = take_lock(conn)
  if not lock then return refuse(text) end
  local works
  works, text = worker.new(conn, "run", conn.location.kind == "sqlite")
  if not works then
    if lock ~= true then lock:close() end
    return refuse(text)
  end
  local self = setmetatable({
    worker = works, rota = list, client = client,
    limit_before = limit_before, timeout = session.settings.timeout,
    owns_client = not options.client, own = own, lock = lock ~= true and lock or nil,
    concurrency = options.concurrency, asks = options.stop,
    on_wait = options.on_wait, fail = function(why) failed(store, why) end,
    ready = {}, begun = {}, runs = {}, pauses = {}, handed = 0, received = 0,
    thread = coroutine.create(loop),
  }, Run)
  local closer = setmetatable({}, { __close = function() leave(self) end })
  return function() return next_result(self) end, nil, nil, closer
end

return M
