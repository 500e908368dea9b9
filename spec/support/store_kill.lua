-- Workers that are killed at random moments, while refusals, cuts and silence are played, until
-- all messages have an ending; and what must hold at every look.

require "spec.support.paths"

local command = require "spec.support.command"
local core = require "koresms.core"
local koresms = require "koresms"
local shell = require "koresms.sandbox.shell"

local M = {}

-- Numbers of our own, the same on every Lua.
local function generator(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end
end

local function is_alive(pid)
  return (shell.run(("kill -0 %d 2>/dev/null"):format(pid)))
end

-- Starts a worker in the background; returns its process.
local function start(self)
  local env = { KORESMS_HOST = self.box.plain, KORESMS_PER_MINUTE = "false", KORESMS_TIMEOUT = "1" }
  for _, pair in ipairs(self.box.env) do env[pair[1]] = env[pair[1]] or pair[2] end
  env.KORESMS_CA_FILE, env.KORESMS_PER_MINUTE = nil, nil
  local _, pid = shell.run(("%s %s spec/support/store_worker.lua %s c %d %g >>%s 2>>%s "
    .. "</dev/null & echo $!")
    :format(command.prefix(env), command.interpreter, shell.quote(self.where), self.concurrency,
      self.lease, self.work .. "/out", self.work .. "/err"))
  return tonumber(pid)
end

local function kill(pid) shell.run(("kill -9 %d 2>/dev/null"):format(pid)) end

-- The sums are right at every look; returns the status.
local function look(self)
  local status = assert(self.store:status "c")
  local sum = 0
  for _, state in ipairs { "pending", "sending", "accepted", "rejected", "unknown", "skipped",
    "expired" } do
    sum = sum + status[state]
  end
  assert(sum == self.count and status.total == self.count,
    ("seed %d: %d messages, and the states add up to %d"):format(self.seed, self.count, sum))
  return status
end

local plays = {
  function() return { status = 429, retry_after = 1 } end,
  function() return { status = 500, when = "after" } end,
  function() return { close = true, when = "after" } end,
  function() return { close = true } end,
  function() return { status = 400 } end,
}

--- Plays one campaign.
-- @tparam table options `box` (a sandbox), `where`, `work` (a directory), `count` (messages),
--   `kills`, `workers`, `seed`, `lease`, `concurrency`, `longest` (ms between two kills)
-- @treturn table counts at the end: `killed`, `status`, `twice`, `processed`
function M.play(options)
  local self = { lease = 60, concurrency = 16, longest = 300, workers = 1 }
  for name, value in pairs(options) do self[name] = value end
  local random = generator(self.seed)
  self.store = assert(koresms.store(self.where))
  assert(self.store:quota { per_minute = false })
  assert(self.store:create { name = "c" })
  local n = 0
  assert(self.store:add("c", function()
    n = n + 1
    if n <= self.count then return { to = ("+1777%07d"):format(n) } end
  end))
  assert(self.store:resume "c")
  local pids, killed = {}, 0
  local deadline = core.clock() + 60 + self.kills * 2 + self.lease * 2
  local status
  repeat
    for i = 1, self.workers do
      if not pids[i] or not is_alive(pids[i]) then pids[i] = start(self) end
    end
    if killed < self.kills then
      for _ = 1, random(3) do
        assert(self.box:control("POST", "/_sandbox/play", plays[random(#plays)]()))
      end
      core.sleep((30 + random(self.longest)) / 1000)
      kill(pids[random(self.workers)])
      killed = killed + 1
    else
      core.sleep(0.2)
    end
    status = look(self)
    if status.state == "paused" then assert(self.store:resume "c") end
  until status.pending + status.sending == 0 and killed >= self.kills
    or status.pending == 0 and status.sending == 0 or core.clock() > deadline
  for _, pid in pairs(pids) do kill(pid) end
  local twice, processed = 0, {}
  local answer = self.box:get "/_sandbox/messages"
  for _, message in ipairs(answer.messages) do
    if processed[message.to] then twice = twice + 1 end
    processed[message.to] = true
  end
  local accepted_unseen = 0
  for row in assert(self.store:rows("c", "accepted")) do
    if not processed[row.to] then accepted_unseen = accepted_unseen + 1 end
  end
  local lost = 0
  for _, state in ipairs { "pending", "rejected", "skipped", "expired" } do
    for row in assert(self.store:rows("c", state)) do
      if processed[row.to] then lost = lost + 1 end
    end
  end
  self.store:close()
  local out = command.read(self.work .. "/err")
  return { killed = killed, status = status, twice = twice, processed = answer.count,
    accepted_unseen = accepted_unseen, called_otherwise = lost, errors = out }
end

return M
