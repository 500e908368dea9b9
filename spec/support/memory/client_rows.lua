--- What the memory passes call of the client; see rows.lua for the form of a row. Each message's
-- number is used once, and the fault bench counts what arrived of it.

local koresms = require "koresms"

local FROM = "+19876543210"
local STREAM = 20

local server

local serial = 0
local function number()
  serial = serial + 1
  return ("+91%010d"):format(serial)
end

local function new()
  server = server or require("spec.support.faults").start():listen()
  return {
    told = {}, -- number -> outcome, as far as that was told
    client = assert(koresms.new {
      host = server.origin, bot_id = "st-1", client_id = "cs-1", client_secret = "secret",
      from = FROM, per_minute = false, retries = 0, timeout = 5,
    }),
  }
end

local function send(self, to)
  local accepted, _, _, failed = self.client:send { to = to }
  self.told[to] = (accepted or failed).outcome
  return self.told[to]
end

-- What can be true of a message, by what was told of it: how often it arrived.
local RANGE = { accepted = { 1, 1 }, not_sent = { 0, 0 }, unknown = { 0, 1 }, nothing = { 0, 1 } }

-- Whether anything but the truth was told.
local function wrong_counts(self, numbers)
  local arrived = server:stats { settle = 2 }.to
  for _, to in ipairs(numbers) do
    local told = self.told[to] or "nothing"
    local range, count = RANGE[told], arrived[to] or 0
    if not range or count < range[1] or count > range[2] then
      return ("told %s, arrived %d times"):format(told, count)
    end
  end
  return nil
end

-- Memory is there again: the client sends as ever, and everything told before is true.
local function again(self)
  local to = number()
  local ok, outcome = pcall(send, self, to)
  if not ok or outcome ~= "accepted" then return "the next send: " .. tostring(outcome) end
  self.numbers[#self.numbers + 1] = to
  return wrong_counts(self, self.numbers)
end

local function close(self) self.client:close() end

local disturb = {
  send = function(self)
    local to = number()
    local outcome = send(self, to)
    self.numbers[#self.numbers + 1] = to
    assert(self.closed or outcome == "accepted", outcome)
  end,
  close = function(self)
    self.closed = true
    self.client:close()
  end,
}

local rows = {
  { name = "client:send", covers = "client:send", long = true, again = again, once = true,
    close = close, disturb = disturb,
    new = function()
      local self = new()
      self.numbers = { number() }
      return self
    end,
    run = function(self) return send(self, self.numbers[1]) end,
    right = function(self, outcome)
      if outcome ~= "accepted" and not (self.failed or self.closed) then return outcome end
      return wrong_counts(self, self.numbers)
    end },
  { name = "client:send_many", covers = "client:send_many", long = true, again = again,
    once = true, close = close, disturb = disturb,
    new = function()
      local self = new()
      self.numbers, self.messages = {}, {}
      for i = 1, STREAM do
        self.numbers[i] = number()
        self.messages[i] = { to = self.numbers[i] }
      end
      return self
    end,
    run = function(self)
      for result in self.client:send_many(self.messages) do
        self.told[result.to] = result.outcome
      end
    end,
    right = function(self)
      for i = 1, STREAM do
        local outcome = self.told[self.numbers[i]]
        if outcome ~= "accepted" and not (self.failed or self.closed) then
          return tostring(outcome)
        end
      end
      return wrong_counts(self, self.numbers)
    end },
}

return rows
