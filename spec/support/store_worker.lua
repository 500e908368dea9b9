-- A worker as a process of its own: store_worker.lua LOCATION CAMPAIGN CONCURRENCY LEASE. It prints
-- each result once it is told.

require "spec.support.paths"

local koresms = require "koresms"
local worker = require "koresms.store.worker"

worker.LEASE = tonumber(arg[4]) or worker.LEASE

local store = assert(koresms.store(arg[1]))
io.stdout:setvbuf("line")
for result in store:run { campaigns = { arg[2] }, concurrency = tonumber(arg[3]) } do
  print(result.outcome, result.to, result.code or "")
end
local failure = store:failure()
if failure then
  io.stderr:write(failure, "\n")
  os.exit(3)
end
