--- What happens to the servers of a soak. Two stand under one name: the name server tells which.
local core = require "koresms.core"
local faults = require "spec.support.faults"
local shell = require "koresms.sandbox.shell"

local M = {}

M.NAME, M.PORT = "sms.test", 8080

-- Seconds that a name may be kept by whoever asked.
local ADDRESSES = { "127.0.0.2", "127.0.0.3" }

-- What can be played on connections of plain HTTP, without a pause of minutes.
local rows = {}
for _, row in ipairs(faults.list) do
  if not row.listen and row.group ~= "proxy" and row.group ~= "throttled" and row.status ~= 429
      and row.name ~= "endless_chunk_extension" and row.name ~= "answer_bytewise" then
    rows[#rows + 1] = row
  end
end

local Servers = {}
Servers.__index = Servers

local function listen(self, index)
  self.listeners[index] = self.bench:listen { host = ADDRESSES[index], port = M.PORT,
    limit = 60 }
end

local function announce(self)
  self.bench:dns { port = self.dns, names = { [M.NAME] = { A = { ADDRESSES[self.active] } } } }
end

--- Starts the servers and their name server, which listens where the system asks.
function M.start(dice)
  local self = setmetatable({ bench = faults.start(), listeners = {}, active = 1, dice = dice },
    Servers)
  listen(self, 1)
  listen(self, 2)
  self.dns = 53
  announce(self)
  return self
end

--- Connections that break, answer wrongly, or not at all.
function Servers:faults()
  local scripts = {}
  for i = 1, 12 do
    local row
    repeat row = rows[self.dice(#rows)] until not row.stalls or self.dice(10) == 1
    local k = row.sweep and self.dice(row.sweep == "request" and 300 or row.sweep) - 1
    scripts[i] = faults.script(row, { k = k })
  end
  self.listeners[self.active]:script(scripts)
  core.sleep(1.5)
  self.listeners[self.active]:script()
end

--- A server that ends, and is there again after two seconds.
function Servers:restart()
  self.listeners[self.active]:close()
  core.sleep(2)
  listen(self, self.active)
end

--- A server that stands still, as one in a debugger or on a machine without memory.
function Servers:stop()
  local name = shell.quote("[f]aultd " .. self.bench.directory)
  shell.run("pkill -STOP -f " .. name)
  core.sleep(1.5)
  shell.run("pkill -CONT -f " .. name)
end

--- The name leads elsewhere, and nobody listens where it led before.
function Servers:failover()
  local old = self.active
  self.active = 3 - old
  announce(self)
  self.listeners[old]:close()
  core.sleep(3)
  listen(self, old)
end

--- Nobody listens, for so many seconds.
function Servers:outage(seconds)
  self.listeners[self.active]:close()
  core.sleep(seconds)
  listen(self, self.active)
end

return M
