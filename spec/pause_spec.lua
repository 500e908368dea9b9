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

  -- One after the other they would take eight times as long.
  it("an answer that takes long does not hold up all others in turn", function()
    first_alone.slow_script(server)
    local play = assert(load_text("local given = ... " .. first_alone.SLOW))
    local took = play { host = server.origin }[1]
    assert.truthy(took < 6, took)
  end)

  it("that is ended by hand, those go on who wait", function()
    first_alone.long_script(server)
    local play = assert(load_text("local given = ... " .. first_alone.RESUME))
    local took = play { host = server.origin }[1]
    assert.truthy(took < 15, took)
  end)

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
