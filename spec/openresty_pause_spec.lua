local faults = require "spec.support.faults"
local first_alone = require "spec.support.first_alone"
local openresty = require "spec.support.openresty"

describe("inside nginx, after a pause", function()
  local bench, server

  setup(function()
    bench = faults.start()
    server = openresty.start { http = "lua_shared_dict sms 1m;" }
  end)
  teardown(function()
    server:stop()
    bench:stop()
  end)

  for retries, expected in pairs(first_alone.EXPECTED) do
    for _, dict in ipairs { false, "sms" } do
      it(("one message of a stream goes first; retries %d, %s"):format(retries,
          dict and "all workers together" or "each worker"), function()
        -- nginx keeps the connections to another one.
        local origin = bench:listen()
        first_alone.script(origin)
        assert.same(expected, server:run(first_alone.PLAY, { host = origin.origin,
          retries = retries, shared_dict = dict or nil }))
      end)
    end
  end
end)
