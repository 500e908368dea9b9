-- The program that is interrupted: ORIGIN BOT_ID MODE. It has itself interrupted by the server,
-- and goes on; then it prints what it was told of each message, a line each.
--
-- An interrupt may land on any line here, so that each message is noted before it is handled.

require "spec.support.paths"
local koresms = require "koresms"
local lfs = require "lfs"

local origin, bot_id, mode = arg[1], arg[2], arg[3]

local PREFIX = { ok = "+91200", refused = "+91412", throttled = "+91429", cut = "+91000",
  slow = "+91201", slow_throttled = "+91430", interrupt = "+91777" }

-- Sends that follow where the interrupt has not come yet: two seconds at least.
local MOST = 4000

local stat = assert(io.open("/proc/self/stat"))
local pid = tonumber(stat:read("*a"):match("^%d+"))
stat:close()

local order = {} -- the messages in their order, by number
local told = {} -- number -> result
local raised = {} -- errors that are no interrupt
local interrupts = 0
local repeats = {} -- number -> how often it was to be repeated
local late = false -- an interrupt was taken for an error of the source
local twice = {}

local settings = { host = origin, bot_id = bot_id, client_id = "cs-1", client_secret = "secret",
  from = "+19876543210", per_minute = false, retries = mode == "repeats" and 1 or 0,
  timeout = 20 }
if mode == "repeats" then
  settings.on_event = function(event)
    if event.kind == "retry" then repeats[event.id] = (repeats[event.id] or 0) + 1 end
  end
end

local serial = tonumber(arg[4])

local function message(kind)
  serial = serial + 1
  local to = ("%s%07d"):format(PREFIX[kind], serial)
  order[#order + 1] = to
  return { to = to, id = to }
end

local function caught(text)
  text = tostring(text)
  if text:find("interrupted!", 1, true) then
    interrupts = interrupts + 1
  else
    raised[#raised + 1] = text
  end
end

local client

local function send(kind)
  local one = message(kind)
  local ok, accepted, _, _, failed = pcall(client.send, client, one)
  if ok then told[one.to] = accepted or failed else caught(accepted) end
end

local MIXED = { "slow_throttled", "ok", "refused", "slow", "cut", "refused", "ok" }

local function kind_of(i) return MIXED[(i - 1) % #MIXED + 1] end

local function stream(count, with_sends)
  local list = {}
  for i = 1, count do list[i] = message(with_sends and "ok" or kind_of(i)) end
  local iterator = client:send_many(list, { concurrency = 4 })
  for i = 1, 2 * count + 5 do
    local before = interrupts
    local ok, result = pcall(iterator)
    if ok and not result then return end
    if ok then
      local to = list[result.index].to
      if told[to] then twice[#twice + 1] = to end
      told[to] = result
      if with_sends then send(i % 2 == 0 and "ok" or "refused") end
    else
      caught(result)
      late = late or interrupts > before and result:find("(message", 1, true) ~= nil
    end
  end
  raised[#raised + 1] = "the stream does not end"
end

local modes = {
  sends = function() for i = 1, 12 do send(kind_of(i)) end end,
  repeats = function()
    send("slow_throttled")
    stream(12, true)
  end,
  stream = function() stream(24) end,
}

-- What is left of the program's own lines is gone with the interrupt.
local function protected(f)
  local ok, text = pcall(f)
  if not ok then caught(text) end
end

local function descriptors()
  local count = 0
  for _ in lfs.dir("/proc/self/fd") do count = count + 1 end
  return count
end

local before = descriptors()
client = assert(koresms.new(settings))
protected(function() client:send { to = ("%s%07d"):format(PREFIX.interrupt, pid) } end)
protected(modes[mode])
protected(function()
  for _ = 1, MOST do
    if interrupts > 0 then return end
    send("ok")
  end
end)
for _, kind in ipairs { "refused", "ok", "throttled", "ok" } do send(kind) end
stream(8, true)
stream(8)
client:close()
client = nil
collectgarbage()
collectgarbage()

print(("interrupts %d"):format(interrupts))
if late then print "late" end
print(("descriptors %d"):format(descriptors() - before))
for _, text in ipairs(raised) do print("raised " .. text) end
for _, to in ipairs(twice) do print("twice " .. to) end
for _, to in ipairs(order) do
  local result = told[to]
  if result then
    print(("told %s %s %s %d %s %s"):format(to, result.outcome, result.code or "-",
      result.attempts, result.platform_code or "-", result.to))
  else
    print(("lost %s %d"):format(to, repeats[to] or 0))
  end
end
print "end"
