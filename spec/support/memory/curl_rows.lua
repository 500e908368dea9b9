--- What the memory passes call of koresms.curl; see rows.lua for the form of a row. Requests go
-- to the fault bench.

local core = require "koresms.core"
local curl = require "koresms.curl"

local BODY = '{"fromNo":"+19876543210","toNo":"+911234567890"}'
-- Longer than what a request keeps for its next reply.
local LARGE = "{" .. ("x"):rep(20000) .. "}"

local HOLDS = 0.01 -- seconds for which a slow server holds its answer back

local clock, host = core.clock, rawget(_G, "host")

-- The servers: one that is well, one that is slow, one that breaks off. Made at the first use.
local servers
local function origin(name)
  if not servers then
    local faults = require "spec.support.faults"
    local bench, step = faults.start(), faults.step
    servers = {
      well = bench:listen(),
      slow = bench:listen { default = { step.read_request(),
        step.stall { seconds = HOLDS }, step.respond(), step.serve() } },
      large = bench:listen { default = { step.read_request(), step.respond { body = LARGE },
        step.serve() } },
      broken = bench:listen { default = { step.read_request(), step.close() } },
      secure = bench:listen { tls = {} },
      bench = bench,
    }
  end
  return servers[name].origin
end

local function engine(name, changes)
  local url = origin(name or "well")
  local authority = url:match("//(.*)$")
  local options = {
    url = url, reply_max = 1e6, max_idle = 10, max_age = 300,
    head = core.head("/api/public/bot/st-1/outboundsms", authority),
  }
  for key, value in pairs(changes or {}) do options[key] = value end
  return curl.engine(options), options
end

-- Starts a request, and moves it on to its end.
local function start(self, request)
  local now = clock()
  return self.engine:start(request, "token", BODY, now + 5, 5, now + 4)
end

local function finish(self, request)
  local last = clock() + 5
  while not request:finished() do
    assert(clock() < last, "a request does not end")
    self.engine:step(1)
  end
end

local function exchange(self, request)
  if not start(self, request) then finish(self, request) end
  return request:reply()
end

-- The same, whose patience is short once memory has failed: where it stays out, no reply is read.
local function short_exchange(self)
  local request = curl.request()
  if start(self, request) then return request:reply() end
  local begin = clock()
  while clock() - begin < (host.failed() > 0 and 0.2 or 5) do
    if request:finished() then return request:reply() end
    self.engine:step(0.05)
  end
  return nil, "not finished"
end

-- What finalizers do: they send on the same engine, or close it.
local disturb = {
  send = function(self)
    local status = exchange(self, curl.request())
    if status ~= 200 and not self.closed then
      error("a finalizer got no reply: " .. tostring(status))
    end
  end,
  close = function(self)
    self.closed = true
    self.engine:close()
  end,
}

local function nothing() end

local function close(self) self.engine:close() end

-- A file of authorities that nobody has read yet, under one of more names than are kept parsed.
local FILES, files = 12, 0
local function fresh_authorities()
  origin("secure")
  local ca = servers.bench:certs()["ca.pem"]
  local from = assert(io.open(ca))
  files = files + 1
  local path = ("%s.%d"):format(ca, files % FILES)
  os.remove(path)
  local to = assert(io.open(path, "w"))
  to:write(from:read("*a"))
  from:close()
  to:close()
  return path
end

-- A reply; where memory failed or the engine was closed, it may be a failure that says so.
local function replied(self, status, body)
  if self.closed or self.failed and status == nil and type(body) == "string" then return nil end
  if status ~= 200 then return ("no reply: %s %s"):format(tostring(status), tostring(body)) end
  if type(body) ~= "string" or not body:find("{", 1, true) then return "another body" end
end

-- An engine, and a request on it.
local function new(name)
  return function() return { engine = engine(name), request = curl.request() } end
end

-- The same, whose request has been started, or has finished.
local function started(name)
  return function()
    local self = new(name)()
    start(self, self.request)
    return self
  end
end

local function finished(name)
  return function()
    local self = started(name)()
    finish(self, self.request)
    return self
  end
end

-- A request that was started, however that ended, can be moved to its end.
local function end_of(self)
  if not self.request:finished() then finish(self, self.request) end
  local ok, status, body = pcall(self.request.reply, self.request)
  if not ok and self.failed and status == "not enough memory" then return nil end
  return replied(self, status, body)
end

-- After a failure the engine carries another request.
local function fresh(self) return replied(self, exchange(self, curl.request())) end

-- A request whose start raised can be started again.
local function start_again(self, raised)
  if raised then
    start(self, self.request)
    local wrong = end_of(self)
    if wrong then return wrong end
  end
  return fresh(self)
end

-- A request whose step raised is still the engine's.
local function step_again(self, raised)
  if raised then
    self.failed = true
    local wrong = end_of(self)
    self.failed = false
    if wrong then return wrong end
  end
  return fresh(self)
end

local function started_right(self, done)
  if self.closed then return nil end
  if done ~= false then return "it has finished at once" end
  return end_of(self)
end

local rows = {
  { name = "engine", covers = "engine",
    new = function()
      return { options = select(2, engine("well", { proxy = "http://127.0.0.1:1",
        proxy_port = 1, proxy_user = "user", proxy_password = "password",
        ca_file = "ca", client_cert = "cert", client_key = "key" })) }
    end,
    run = function(self) return curl.engine(self.options) end,
    right = function(_, made)
      if type(made) ~= "userdata" or made:connecting() ~= 0 then return "no engine" end
    end },
  { name = "engine that sends", covers = "engine", close = function(self) self.made:close() end,
    new = function() return { options = select(2, engine()), made = engine() } end,
    run = function(self) return curl.engine(self.options) end,
    right = function(self, made)
      self.made:close()
      self.made = made
      return replied(self, exchange({ engine = made }, curl.request()))
    end },
  { name = "request", covers = "request", run = function() return curl.request() end,
    right = function(_, made)
      if type(made) ~= "userdata" or made:finished() then return "no request" end
    end },
  { name = "engine:start", covers = "koresms.engine:start", once = true, quiet = true,
    new = new(), close = close, disturb = disturb,
    run = function(self) return start(self, self.request) end,
    right = started_right, again = start_again },
  { name = "engine:start on a kept connection", covers = "koresms.engine:start", once = true,
    quiet = true, close = close, disturb = disturb,
    new = function()
      local self = finished()()
      self.request:reply()
      return self
    end,
    run = function(self) return start(self, self.request) end,
    right = started_right, again = start_again },
  { name = "engine:step", covers = "koresms.engine:step", new = started("slow"), once = true,
    quiet = true, close = close, disturb = disturb,
    run = function(self) return self.engine:step(0.05) end,
    right = end_of, again = step_again },
  { name = "engine:connecting", covers = "koresms.engine:connecting", new = new(), close = close,
    run = function(self) return self.engine:connecting() end, quiet = true,
    right = function(_, n) if n ~= 0 then return "another number" end end },
  { name = "engine:in_flight", covers = "koresms.engine:in_flight", new = started("slow"),
    close = close, run = function(self) return self.engine:in_flight() end, quiet = true,
    right = function(_, n) if n ~= 1 then return "another number" end end },
  { name = "engine:close", covers = "koresms.engine:close", new = started("slow"), quiet = true,
    close = close, disturb = disturb,
    run = function(self) return self.engine:close() end,
    right = function(self) if not self.request:finished() then return "still in flight" end end },
  { name = "request:finished", covers = "koresms.request:finished", new = finished(),
    run = function(self) return self.request:finished() end, quiet = true, close = close,
    right = function(_, answer) if answer ~= true then return "not finished" end end },
  { name = "request:started", covers = "koresms.request:started", new = finished(),
    run = function(self) return self.request:started() end, quiet = true, close = close,
    right = function(_, answer) if answer ~= true then return "not started" end end },
  { name = "request:reply", covers = "koresms.request:reply", new = finished(), once = true,
    close = close, disturb = disturb,
    run = function(self) return self.request:reply() end, right = replied },
  { name = "request:reply of a large body", covers = "koresms.request:reply", once = true,
    new = finished("large"), close = close,
    disturb = {
      send = disturb.send, close = disturb.close,
      reply = function(self) pcall(self.request.reply, self.request) end,
      start = function(self)
        if pcall(start, self, self.request) then finish(self, self.request) end
      end,
    },
    run = function(self) return self.request:reply() end,
    right = replied, disturbed = nothing, may_raise = "this request has no reply$" },
  { name = "request:reply of a failure", covers = "koresms.request:reply",
    new = finished("broken"), once = true, close = close, disturb = { close = disturb.close },
    run = function(self) return self.request:reply() end,
    right = function(_, status, failure, starts)
      if status ~= nil or failure ~= "connection_lost" or starts ~= 1 then
        return "another failure: " .. tostring(failure)
      end
    end },
  { name = "next_finished", covers = "next_finished", new = finished(), close = close,
    quiet = true,
    run = function(self) return curl.next_finished({ curl.request(), self.request }, 0) end,
    right = function(_, place) if place ~= 2 then return "another place" end end },
  { name = "an exchange", covers = "koresms.engine:start", new = new(), close = close,
    disturb = disturb,
    -- A request that gets stuck goes with the collector.
    run = short_exchange, right = replied,
    again = fresh },
  { name = "an exchange over TLS", covers = "koresms.engine:start", close = close,
    -- Without memory of OpenSSL's libcurl may be left unable to connect.
    kinds = "lm",
    new = function()
      -- All places for parsed files have to be in use before blocks are counted.
      while files < FILES do
        local one = engine("secure", { ca_file = fresh_authorities() })
        exchange({ engine = one }, curl.request())
        one:close()
      end
      return { engine = engine("secure", { ca_file = fresh_authorities() }) }
    end,
    run = short_exchange, right = replied,
    again = fresh },
}

return rows
