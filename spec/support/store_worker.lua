-- A worker as a process of its own:
--
--     store_worker.lua LOCATION CAMPAIGN CONCURRENCY LEASE [STEP [SIGNAL]]
--
-- It prints each result once it is told. With STEP it sends itself the signal (9) there: before or
-- after a statement, or where an attempt begins or ends; with 0 it says how many places there were.

require "spec.support.paths"

local koresms = require "koresms"
local worker = require "koresms.store.worker"

worker.LEASE = tonumber(arg[4]) or worker.LEASE
local last = tonumber(arg[5])

local steps, client = 0, nil

local function step()
  steps = steps + 1
  if steps ~= last then return end
  io.stdout:flush()
  -- The shell's parent is this process.
  os.execute(("kill -%s $PPID"):format(arg[6] or "9"))
end

-- A connection whose statements are places to die at.
local function mortal(connect)
  return function(...)
    local conn, text, code = connect(...)
    if not conn then return nil, text, code end
    return {
      run = function(_, ...)
        step()
        local rows, why, reason = conn:run(...)
        step()
        return rows, why, reason
      end,
      limit = function(_, seconds) conn:limit(seconds) end,
      close = function() conn:close() end,
    }
  end
end

if last then
  for _, kind in ipairs { "sqlite", "postgres" } do
    local dialect = require("koresms.store." .. kind)
    dialect.connect = mortal(dialect.connect)
  end
  client = assert(koresms.new { per_minute = false, retries = 0,
    on_event = function(event) if event.kind == "attempt" then step() end end })
end

local store = assert(koresms.store(arg[1]))
io.stdout:setvbuf("line")
for result in store:run { campaigns = { arg[2] }, concurrency = tonumber(arg[3]),
  client = client } do
  print(result.outcome, result.to, result.code or "")
end
local failure = store:failure()
if failure then
  io.stderr:write(failure, "\n")
  os.exit(3)
end
store:close()
if last == 0 then print("steps", steps) end
