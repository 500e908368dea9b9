-- Connections that libcurl closes by itself, while a request is under way on them: it looks for
-- dead ones whenever it makes another connection, once a second at most. Their descriptors must
-- not come to stand for the new one.

local bed_support = require "spec.support.fault_bed"
local faults = require "spec.support.faults"
local run = require "spec.support.run"

local step = faults.step

describe("a connection that libcurl closes by itself", function()
  local bed

  setup(function() bed = bed_support.start() end)
  teardown(function() bed:stop() end)

  for _, way in ipairs { "plain", "tls" } do
    it("gives its request no answer of another, " .. way, function()
      local server = bed.servers[way]
      server:script({ { step.read_request(), step.respond(), step.read_request(),
        step.stall { seconds = 0.2 }, step.close() } }, { step.serve() })
      local client = bed:client(server.origin)
      assert.equal("accepted", bed:send(client).outcome)
      local list, asked = { { to = bed:number() }, { to = bed:number() } }, 0
      local told = {}
      for result in client:send_many(function()
        asked = asked + 1
        -- Meanwhile the server closes the connection of the first message, and nobody looks.
        if asked == 2 then run.output("sleep 1.3") end
        return list[asked]
      end, { concurrency = 2 }) do
        told[result.index] = result
      end
      client:close()
      assert.same({ "unknown", "connection_lost", 1 },
        { told[1].outcome, told[1].code, told[1].attempts })
      assert.same({ "accepted", 1 }, { told[2].outcome, told[2].attempts })
      local stats = server:stats { settle = 3 }
      assert.same({ 1, 1 }, { stats.to[list[1].to], stats.to[list[2].to] })
    end)
  end
end)
