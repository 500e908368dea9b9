--- What the memory passes call of koresms.curl; see rows.lua for the form of a row. Requests go
-- to the fault bench.

local core = require "koresms.core"
local curl = require "koresms.curl"

local BODY = '{"fromNo":"+19876543210","toNo":"+911234567890"}'
local HOLDS = 0.01 -- seconds for which a slow server holds its answer back

local clock = core.clock

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
      broken = bench:listen { default = { step.read_request(), step.close() } },
      bench = bench,
    }
  end
  return servers[name].origin
end

local function engine(name, changes)
  local url = origin(name or "well")
  local authority = url:match("//(.*)$")
  local options = {
    url = url, reply_max = 1e6, max_idle = 10,
    head = core.head("/api/public/bot/st-1/outboundsms", authority),
  }
  for key, value in pairs(changes or {}) do options[key] = value end
  return curl.engine(options), options
end

-- Starts a request, and moves it on to its end.
local function start(self, request)
  return self.engine:start(request, "token", BODY, clock() + 5, 5)
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

-- What finalizers do: they send on the same engine, or close it.
local disturb = {
  send = function(self)
    local status = exchange(self, curl.request())
    if status ~= 200 and not self.closed then error("a finalizer got no reply: " .. tostring(status)) end
  end,
  close = function(self)
    self.closed = true
    self.engine:close()
  end,
}

local function close(self) self.engine:close() end

local function replied(self, status, body)
  if self.closed then return nil end
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
  return replied(self, self.request:reply())
end

local rows = {
  { name = "engine", covers = "engine",
    new = function()
      return { options = select(2, engine("well", { proxy = "http://127.0.0.1:1",
        ca_file = "ca", client_cert = "cert", client_key = "key" })) }
    end,
    run = function(self) return curl.engine(self.options) end,
    right = function(_, made)
      if type(made) ~= "userdata" or made:connecting() ~= 0 then return "no engine" end
    end },
  { name = "request", covers = "request", run = function() return curl.request() end,
    right = function(_, made)
      if type(made) ~= "userdata" or made:finished() then return "no request" end
    end },
  { name = "engine:start", covers = "koresms.engine:start", once = true, quiet = true,
    new = new(), close = close, disturb = disturb,
    run = function(self) return start(self, self.request) end,
    right = function(self, done)
      if self.closed then return nil end
      if done ~= false then return "it has finished at once" end
      return end_of(self)
    end },
  { name = "engine:start on a kept connection", covers = "koresms.engine:start", once = true,
    quiet = true, close = close, disturb = disturb,
    new = function()
      local self = finished()()
      self.request:reply()
      return self
    end,
    run = function(self) return start(self, self.request) end,
    right = function(self, done)
      if self.closed then return nil end
      if done ~= false then return "it has finished at once" end
      return end_of(self)
    end },
  { name = "engine:step", covers = "koresms.engine:step", new = started("slow"), once = true,
    quiet = true, close = close, disturb = disturb,
    run = function(self) return finish(self, self.request) end,
    right = function(self) return replied(self, self.request:reply()) end },
  { name = "engine:connecting", covers = "koresms.engine:connecting", new = new(), close = close,
    run = function(self) return self.engine:connecting() end, quiet = true,
    right = function(_, n) if n ~= 0 then return "another number" end end },
  { name = "engine:close", covers = "koresms.engine:close", new = started("slow"), quiet = true,
    close = close, disturb = disturb,
    run = function(self) return self.engine:close() end,
    right = function(self) if not self.request:finished() then return "still in flight" end end },
  { name = "request:finished", covers = "koresms.request:finished", new = finished(),
    run = function(self) return self.request:finished() end, quiet = true, close = close,
    right = function(_, answer) if answer ~= true then return "not finished" end end },
  { name = "request:reply", covers = "koresms.request:reply", new = finished(), once = true,
    close = close, disturb = disturb,
    run = function(self) return self.request:reply() end, right = replied },
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
    run = function(self) return exchange(self, self.request) end, right = replied },
}

return rows
