-- A process of the soak: streams on a client, one after the other, until its standard input ends.
--
--     lua sender.lua FILE FIRST SEED ORIGIN TIMEOUT RETRIES PER_MINUTE
require "spec.support.paths"
local core = require "koresms.core"
local koresms = require "koresms"
local stream = require "spec.support.soak.stream"

local unpack = table.unpack or unpack -- luacheck: ignore 143
local path, first, seed, origin, timeout, retries, per_minute = unpack(arg)
first = tonumber(first)
math.randomseed(tonumber(seed))

local out = assert(io.open(path, "w"))
out:setvbuf("line")

-- Streams on one client before another one takes its place.
local STREAMS = 20

local function stopped()
  local file = io.open(path .. ".stop")
  if file then file:close() end
  return file ~= nil
end

while not stopped() do
  local client = assert(koresms.new { host = origin, allow_http = true, bot_id = "st-1",
    client_id = "cs-1", client_secret = "secret", from = "+19876543210", max_age = 5,
    retries = tonumber(retries), per_minute = tonumber(per_minute) or false })
  for _ = 1, STREAMS do
    if stopped() then break end
    first = first + stream.run { client = client, timeout = tonumber(timeout),
      dice = function(n) return math.random(n) end, sleep = core.sleep, clock = core.clock,
      first = first, stopped = stopped, write = function(line) out:write(line, "\n") end }
    local permits = client:stats().permits
    if permits then out:write(("permits %d %.3f\n"):format(permits, core.clock())) end
    -- Not at full speed: each number is remembered to the end.
    core.sleep(0.2)
  end
  client:close()
end
out:write("done\n")
out:close()
-- Idle, and still there to be looked at.
io.read("*a")
