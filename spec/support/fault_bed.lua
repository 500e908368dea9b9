--- The ground on which the fault specs stand: a fault bench, clients, numbers that are used
-- once, and a way to play one scenario and look at what became of it.
--
-- FAULTS=long plays every k of every sweep; FAULTS_PART=2/6 plays the second of six parts.

local faults = require "spec.support.faults"
local core = require "koresms.core"
local koresms = require "koresms"

local step = faults.step

local M = {}

M.long = os.getenv("FAULTS") == "long"
M.FROM = "+19876543210"

-- Whether this process plays everything that it does not skip.
M.whole = not os.getenv("FAULTS_PART")

-- What is slow under a sanitizer or valgrind gets more time; what has to take long does not.
M.patience = tonumber(os.getenv("FAULTS_PATIENCE")) or 1

-- Seconds after which a client gives up on a server that stalls, and on any other.
M.STALL, M.ENOUGH = 0.1 * M.patience, 5 * M.patience

-- Seconds that a verdict may come after its deadline.
M.LATE = M.patience

local part, parts = (os.getenv("FAULTS_PART") or "1/1"):match("^(%d+)/(%d+)$")
M.part, M.parts = tonumber(part), tonumber(parts)

--- Whether the case with this number is played in this process.
function M.mine(index)
  return index % M.parts == M.part - 1
end

-- Sends at full speed until the client gives up.
local ENDLESS = { endless_chunk_extension = 3 * M.STALL }

M.clock = core.clock

M.sleep = core.sleep

local Bed = {}
Bed.__index = Bed

--- Starts the bench and the servers that most scenarios share.
function M.start()
  local self = setmetatable({ bench = faults.start(), serial = 0, options = {} }, Bed)
  self.certs = self.bench:certs()
  self.servers = { plain = self.bench:listen(), tls = self.bench:listen { tls = {} } }
  return self
end

function Bed:stop() self.bench:stop() end

--- A number that no other message of this bench has.
function Bed:number()
  self.serial = self.serial + 1
  return ("+91%010d"):format(self.serial)
end

--- A client of an origin; notes which settings were given.
function Bed:client(origin, changes)
  local o = { host = origin, bot_id = "st-1", client_id = "cs-1", client_secret = "secret",
    from = M.FROM, per_minute = false, retries = 0, timeout = M.ENOUGH }
  if origin:find("^https:") then o.ca_file = self.certs["ca.pem"] end
  for name, value in pairs(changes or {}) do o[name] = value end
  for name, value in pairs(o) do
    if value == "none" then o[name] = nil end
    self.options[name] = true
  end
  return assert(koresms.new(o))
end

--- Sends one message. Returns its result, however it ends.
function Bed:send(client, options)
  local to = self:number()
  local accepted, _, _, failed = client:send({ to = to }, options)
  return accepted or failed
end

--- The length of the request that a client sends, for the sweeps over it.
function Bed:request_bytes()
  if not self.bytes then
    local server = self.servers.plain
    server:script()
    local client = self:client(server.origin)
    assert(self:send(client).outcome == "accepted")
    self.bytes = server:stats({ settle = 2, requests = true }).requests[1].bytes
    client:close()
  end
  return self.bytes
end

--- The k of a sweep that are played: all in the long form, else the ends and some between.
-- A row that is no sweep has the one "k" false.
function Bed:ks(row)
  if not row.sweep then return { false } end
  local last = faults.last_k(row, row.sweep == "request" and self:request_bytes())
  local ks, few = {}, row.stalls and 2 or 6
  if M.long then
    for k = 0, last do ks[#ks + 1] = k end
  else
    for i = 0, few do ks[#ks + 1] = math.floor(last * i / few) end
  end
  return ks
end

-- An answered connection goes on as one of a server that is well.
local function script_of(row, arg)
  local steps = faults.script(row, arg)
  if not row.answers or row.leaves or not steps or row.group == "proxy" then
    return steps
  end
  local out = {}
  for i, one in ipairs(steps) do out[i] = one end
  out[#out + 1] = step.serve()
  return out
end

-- The listener that counts, and the one that the client connects to first.
local function listen(self, row, arg, over)
  if row.group == "proxy" then
    local origin = self.servers[over]
    origin:script()
    return origin, self.bench:listen_for(row, arg)
  elseif row.listen then
    local manual = row.listen.tls and row.listen.tls.manual
    local own = self.bench:listen_for(row, arg, {
      default = manual and { step.handshake(), step.serve() } or nil })
    return own, own
  end
  local shared = self.servers[over]
  shared:script({ script_of(row, arg) })
  return shared, shared
end

-- A server that is well in the place of one that never will be.
local function replace(self, row, case)
  local old = case.first_hop
  old:close()
  case.first_hop = self.bench:listen {
    host = row.listen.host, port = old.port, tls = row.group == "tls" and {} or nil }
  case.server = case.first_hop
end

local Case = {}
Case.__index = Case

--- Plays one scenario: the message before it on a kept connection, and the message.
-- @tparam table row of the bench, or one of the same form
-- @param k of a sweep, or false
-- @tparam string over "plain" or "tls", where the row leaves it open
-- @tparam[opt] table changes further settings of the client
-- @treturn table case: `result`, `before`, `to`, `took`, `timeout`, `stats`, and methods
function Bed:play(row, k, over, changes)
  local case = setmetatable({ bed = self, row = row, k = k, over = over }, Case)
  case.server, case.first_hop = listen(self, row, { k = k or nil }, over)
  local proxied = row.group == "proxy"
  local settings = {
    timeout = row.stalls and M.STALL or ENDLESS[row.name] or M.ENOUGH,
    ca_file = row.ca and self.certs[row.ca] or nil,
    client_cert = self.certs[row.client_cert], client_key = self.certs[row.client_key],
    proxy = proxied and case.first_hop.origin or nil,
  }
  for name, value in pairs(changes or {}) do settings[name] = value end
  case.timeout = settings.timeout
  case.client = self:client(case.server.origin, settings)
  if row.kept then case.before = self:send(case.client, { timeout = M.ENOUGH }) end
  local begin = M.clock()
  case.result = self:send(case.client)
  case.took = M.clock() - begin
  case.to = case.result.to
  case.stats = case.server:stats { settle = 2 }
  return case
end

--- The server's count for a message.
function Case:processed(result)
  return self.stats.to[(result or self.result).to] or 0
end

--- The next message on the same client, once the server is one that is well.
-- @treturn table its result
-- @treturn boolean whether it came on a connection on which no request had begun before
function Case:again()
  local row = self.row
  local old = {}
  if row.group == "proxy" then
    self.server:script()
    self.first_hop:script(nil, row.listen.default)
  elseif (row.group == "tls" or row.group == "connect") and not row.answers
      and not (row.listen.tls and row.listen.tls.manual) then
    replace(self.bed, row, self)
  else
    old = self.server:stats({ connections = true }).connections
  end
  M.sleep(0.002) -- the server's FIN, where there is one, has come
  local result = self.bed:send(self.client, { timeout = M.ENOUGH })
  -- A connection whose counts were set to zero since is missing here.
  for n, connection in ipairs(self.server:stats({ connections = true }).connections) do
    if connection.processed[#connection.processed] == result.to then
      return result, not old[n] or old[n].begun == 0
    end
  end
  return result, false
end

function Case:close()
  self.client:close()
  local shared = self.bed.servers
  if self.first_hop ~= shared.plain and self.first_hop ~= shared.tls then
    self.first_hop:close()
  end
end

return M
