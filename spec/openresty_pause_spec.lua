local faults = require "spec.support.faults"
local first_alone = require "spec.support.first_alone"
local openresty = require "spec.support.openresty"

describe("inside nginx, after a pause", function()
  local bench, server

  setup(function()
    bench = faults.start()
    server = openresty.start { http = "lua_shared_dict sms 1m; lua_shared_dict other 1m;" }
  end)
  teardown(function()
    server:stop()
    bench:stop()
  end)

  for _, dict in ipairs { false, "sms" } do
    for _, case in ipairs(first_alone.TIMED) do
      it(("%s, %s"):format(case[1], dict and "all workers together" or "each worker"), function()
        local origin = bench:listen()
        case[2](origin)
        local took = server:run(case[3], { host = origin.origin, shared_dict = dict or nil })[1]
        assert.truthy(took < case[4], took)
      end)
    end
  end

  it("nothing stays in the dictionary of all the pauses that were", function()
    local keys = server:run([[
      local open = require("koresms.nginx.shared_pacer").open
      local p = assert(open { shared_dict = "other", per_minute = 100,
        where = { shared_dict = "here" } })
      local now = 1000000
      for _ = 1, 300 do
        -- The later of two ends counts, and both have a number.
        p:pause(now, 1)
        p:pause(now, 2)
        now = now + 3
        local job = { index = 1 }
        assert(not p:take(now, true, job))
        p:ended(job, true)
        now = now + 1
      end
      return { #ngx.shared.other:get_keys(0) } ]])[1]
    assert.truthy(keys < 400, keys)
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
