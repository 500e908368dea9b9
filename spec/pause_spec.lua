local faults = require "spec.support.faults"
local first_alone = require "spec.support.first_alone"

local load_text = loadstring or load

describe("after a pause", function()
  local bench, server

  setup(function()
    bench = faults.start()
    server = bench:listen()
  end)
  teardown(function() bench:stop() end)

  for _, case in ipairs(first_alone.TIMED) do
    it(case[1], function()
      case[2](server)
      local took = assert(load_text("local given = ... " .. case[3])) { host = server.origin }[1]
      assert.truthy(took < case[4], took)
    end)
  end

  for retries, expected in pairs(first_alone.EXPECTED) do
    for _, listens in ipairs { false, true } do
      it(("one message of a stream goes first; retries %d, listens %s"):format(retries,
          tostring(listens)), function()
        first_alone.script(server)
        local play = assert(load_text("local given = ... " .. first_alone.PLAY))
        assert.same(expected, play { host = server.origin, retries = retries,
          listens = listens })
      end)
    end
  end
end)
