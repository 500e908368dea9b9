-- A real SIGINT, as the stock interpreters make an error of it, that the program catches, and
-- goes on. SEED=n sends it after the same times again, FAULTS=long to 50 processes each.

local broken_off = require "spec.support.broken_off"
local child = require "spec.support.fault_child"
local faults = require "spec.support.faults"
local run = require "spec.support.run"

local step = faults.step

local COUNT = broken_off.long and 50 or 6

-- Seconds within which the interrupt comes, for half of the processes and for the others.
local MODES = {
  { name = "single sends", mode = "sends", within = { 0.012, 0.06 } },
  { name = "a stream", mode = "stream", within = { 0.02, 0.06 } },
  { name = "a throttled send, then a stream with sends in its loop", mode = "repeats",
    within = { 0.012, 0.1 } },
}

describe("an interrupt that is caught", function()
  local ground

  setup(function()
    print(("\ninterrupts: SEED=%d"):format(broken_off.seed))
    ground = broken_off.start()
  end)
  teardown(function() ground:stop() end)

  -- Runs one process; returns what it printed.
  local function play(mode, after, bot_id, serial)
    ground:answer("+91777",
      { { step.respond(), step.interrupt { pid = "{serial}", after = after } } })
    return run.output(("%s LUA_PATH='./?.lua;;' timeout -k 1 20 %s "
      .. "spec/support/interrupt_child.lua "
      .. "%s %s %s %d 2>&1"):format(run.preload(), child.interpreter, ground.server.origin, bot_id,
      mode, serial))
  end

  -- Reads a process's output into a ledger.
  local read = {
    interrupts = function(self, count)
      -- What lands in a listener goes no further.
      if count ~= "1" and not (count == "0" and self.retries > 0) then
        self:problem("%s interrupts reached the program", count)
      end
    end,
    late = function(self) self.late = true end,
    descriptors = function(self, count)
      if count ~= "0" then self:problem("%s descriptors stay open", count) end
    end,
    raised = function(self, text) self:problem("raised %s", text) end,
    twice = function(self, to) self:problem("%s is told twice", to) end,
    told = function(self, text)
      local to, outcome, code, attempts, mark, of = text:match(
        "^(%S+) (%S+) (%S+) (%d+) (%S+) (%S+)$")
      self:told(to, { outcome = outcome, code = code ~= "-" and code or nil, to = of,
        attempts = tonumber(attempts), platform_code = mark })
    end,
    lost = function(self, text)
      local to, repeats = text:match("^(%S+) (%d+)$")
      self.missing[#self.missing + 1] = { to = to, requests = 1 + tonumber(repeats) }
    end,
  }

  local function look(ledger, output)
    ledger.missing = {}
    local ended = false
    for line in output:gmatch("[^\n]+") do
      local word, rest = line:match("^(%S+) ?(.*)$")
      if read[word] then
        read[word](ledger, rest)
      elseif line == "end" then
        ended = true
      else
        ledger:problem("printed %s", line)
      end
    end
    if not ended then ledger:problem("the process did not come to its end") end
    -- One was being handled; a source that is interrupted gives no more.
    if #ledger.missing > 1 and not ledger.late then
      ledger:problem("%d messages are not told", #ledger.missing)
    end
    ledger:lost(ledger.missing, 1)
  end

  for _, row in ipairs(MODES) do
    it("spoils nothing for others: " .. row.name, function()
      local problems = {}
      for i = 1, COUNT do
        ground:guard(90)
        local after = row.within[1 + i % 2] * ground.dice:roll(1000) / 1000
        local ledger = ground:client { retries = row.mode == "repeats" and 1 or 0 }
        ledger.place = ("%s, after %.4f s"):format(row.mode, after)
        look(ledger, play(row.mode, after, ledger.bot_id, i * 10000))
        ledger:verify()
        ledger.client:close()
        for _, problem in ipairs(ledger.problems) do problems[#problems + 1] = problem end
        ground.bench:forget()
      end
      ground:guard(0)
      broken_off.assert_none(problems)
    end)
  end
end)
