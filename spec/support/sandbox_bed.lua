-- A sandbox for a spec, and clients that send to it.
local assert = require "luassert"
local koresms = require "koresms"
local sandbox = require "koresms.sandbox"

local M = { FROM = "+19876543210", TO = "+911234567890" }

local Bed = {}
Bed.__index = Bed

-- A client; a setting "none" is left out.
function Bed:new(changes)
  local box = self.box
  local o = { host = box.plain, bot_id = box.bot_id, client_id = box.client_id,
    client_secret = box.client_secret, ca_file = box.ca_file, from = M.FROM,
    per_minute = false }
  for name, value in pairs(changes or {}) do o[name] = value end
  for name, value in pairs(o) do if value == "none" then o[name] = nil end end
  return assert(koresms.new(o))
end

-- What the next requests meet.
function Bed:play(what) assert(self.box:control("POST", "/_sandbox/play", what)) end

-- Messages that were processed, and requests that came.
function Bed:counted() return self.box:get("/_sandbox/state").count end
function Bed:requests() return self.box:get("/_sandbox/state").requests end

-- Forgets all of that.
function Bed:reset()
  self.box:control("DELETE", "/_sandbox/messages")
  self.box:control("DELETE", "/_sandbox/play")
end

function Bed:stop() self.box:stop() end

function M.start() return setmetatable({ box = assert(sandbox.start()) }, Bed) end

-- Some messages, with ids.
function M.number(i) return ("+91%010d"):format(i) end
function M.list(n)
  local messages = {}
  for i = 1, n do messages[i] = { to = M.number(i), id = "m" .. i } end
  return messages
end

-- All results of a stream by index, each index once; and how many they are.
function M.collect(iterator)
  local results, count = {}, 0
  for result in iterator do
    assert.is_nil(results[result.index])
    results[result.index] = result
    count = count + 1
  end
  return results, count
end

-- One send that fails: its result, after a look at the four values.
function M.failing(client, message, options)
  local value, text, code, result = client:send(message or { to = M.TO }, options)
  assert.is_nil(value)
  assert.equal("string", type(text))
  assert.equal(result.code, code)
  assert.equal(result.message, text)
  return result
end

return M
