-- Sends N messages with koresms, and checks that all were accepted.
--   client.lua singles|bulk|memory N CONCURRENCY [SETTING=VALUE...]
local koresms = require "koresms"

local mode, n, concurrency = arg[1], tonumber(arg[2]), tonumber(arg[3])

local settings = { retries = 0, per_minute = false,
  client_id = "cs-00000000-0000-5000-8000-000000000002",
  bot_id = "st-00000000-0000-5000-8000-000000000001" }
for i = 4, #arg do
  local name, value = arg[i]:match("^([%w_]+)=(.*)$")
  if value == "true" then value = true end
  settings[name] = value
end
if not settings.private_key_file then settings.client_secret = ("0123456789abcdef"):rep(3) end

local client = assert(koresms.new(settings))

-- Recipients differ, as they do in life.
local sent = 0
local function pull()
  if sent == n then return nil end
  sent = sent + 1
  return { from = "+19876543210", to = ("+91%010d"):format(sent) }
end

local function check(result)
  if result.outcome ~= "accepted" then error(result.outcome .. ": " .. tostring(result.message)) end
end

-- A field of this process's status, in KiB.
local function memory(field)
  for line in io.lines("/proc/self/status") do
    local kib = line:match("^" .. field .. ":%s*(%d+)")
    if kib then return kib end
  end
end

local run = {}

function run.singles()
  for message in pull do
    local result, text = client:send(message)
    if not result then error(text) end
  end
end

function run.bulk()
  local answers = 0
  for result in client:send_many(pull, { concurrency = concurrency }) do
    check(result)
    answers = answers + 1
  end
  if answers ~= n then error(("%d results of %d"):format(answers, n)) end
end

-- Prints the memory in use after 10,000, 100,000, 1,000,000 ... results, and at the end.
function run.memory()
  local answers, mark = 0, 10000
  for result in client:send_many(pull, { concurrency = concurrency }) do
    check(result)
    answers = answers + 1
    if answers == mark then
      print(answers, memory("VmRSS"))
      mark = mark * 10
    end
  end
  print("peak", memory("VmHWM"))
end

run[mode]()
client:close()
