-- The fault bench itself: that it does what its scenarios say, and counts honestly.
-- Looked at from outside, with raw sockets.

-- The bench is one server, whichever Lua asks: once is enough.
if require("spec.support.paths").version == "jit" then return end

local faults = require "spec.support.faults"
local post = require("spec.support.rawpost").post

local REQUEST_BYTES = select(2, post { { port = 1 } })
local NUMBER, OTHER = "+911", "+912"

describe("the fault bench", function()
  local bench

  setup(function() bench = faults.start() end)
  teardown(function() bench:stop() end)

  local function numbers_of(row)
    return row.kept and { OTHER, NUMBER } or { NUMBER }
  end

  -- Runs scenarios at once, each on its own listener: the tries and the counts.
  local function play_all(cases, tls)
    local tries, servers = {}, {}
    local ca = tls and bench:certs()["ca.pem"]
    for i, case in ipairs(cases) do
      servers[i] = bench:listen {
        connections = { faults.script(case.row, case.arg) }, tls = tls,
      }
      tries[i] = {
        port = servers[i].port, to = numbers_of(case.row), ca = ca,
        timeout = case.row.stalls and 0.05 or 0.3,
      }
    end
    local results = post(tries)
    for i, result in ipairs(results) do
      result.stats = servers[i]:stats { settle = 2, connections = true }
      servers[i]:close()
    end
    return results
  end

  describe("as a server", function()
    it("answers an ordinary bot id with the documented success, and counts", function()
      local server = bench:listen()
      local tries = post {
        { port = server.port, to = { "+1", "+2", "+2" }, timeout = 0.1 },
        { port = server.port, to = { "+3" }, timeout = 0.1 },
      }
      assert.equal(3, #tries[1].replies)
      assert.equal(200, tries[1].replies[3].status)
      assert.equal(#faults.OK_REPLY, tries[1].replies[1].bytes)
      local stats = server:stats { settle = 1, connections = true, requests = true }
      assert.is_true(stats.settled)
      assert.equal(2, stats.accepted)
      assert.equal(4, stats.begun)
      assert.equal(4, stats.processed)
      assert.same({ ["+1"] = 1, ["+2"] = 2, ["+3"] = 1 }, stats.to)
      assert.same({ "+1", "+2", "+2" }, stats.connections[1].processed)
      assert.same({ 200, 200, 200 }, stats.connections[1].answers)
      assert.same({ "+3" }, stats.connections[2].processed)
      assert.equal("POST", stats.requests[1].method)
      server:script()
      assert.equal(0, server:stats().processed)
      server:close()
    end)

    it("plays the scenario that a bot id carries, request by request", function()
      local server = bench:listen()
      local bot = faults.bot_id {
        requests = { faults.request_script("throttled_seconds") },
        default = faults.request_script("processed_reset"),
      }
      local tries = post {
        { port = server.port, bot = bot, timeout = 0.05 },
        { port = server.port, bot = bot },
      }
      assert.equal(429, tries[1].replies[1].status)
      assert.equal("reset", tries[2]["end"])
      local stats = bench:stats { scenario = bot }
      assert.equal(2, stats.processed)
      assert.same({ [NUMBER] = 2 }, stats.to)
      assert.equal(0, bench:stats({ scenario = faults.bot_id {} }).processed)
      assert.is_true(bench:stats().twice[NUMBER] >= 2)
      server:close()
    end)

    it("counts a message whose client left at once", function()
      local server = bench:listen()
      local tries = {}
      for i = 1, 200 do tries[i] = { port = server.port, leave = true } end
      post(tries)
      local stats = server:stats { settle = 5 }
      assert.is_true(stats.settled)
      assert.equal(200, stats.processed)
      server:close()
    end)

    it("ends a connection that outlives its limit", function()
      local server = bench:listen { limit = 0.1, default = faults.script("accept_never_read") }
      local tries = post { { port = server.port, timeout = 3 } }
      assert.not_equal("timeout", tries[1]["end"])
      assert.equal("limit", server:stats({ settle = 1, connections = true })
        .connections[1].ended)
      server:close()
    end)

    it("says what it did not understand", function()
      assert.error_matches(function() bench:call { cmd = "cow" } end, "cow")
      assert.error_matches(function()
        bench:listen { connections = { { { ["do"] = "cow" } } } }
      end, "no such step")
      assert.error_matches(function() bench:listen { mode = "cow" } end, "mode is")
      assert.error_matches(function() bench:listen { host = "0.0.0.0" } end, "loopback")
      assert.error_matches(function() bench:listen { tls = { cert = "cow" } } end,
        "no certificate")
      assert.error_matches(function() faults.script("cow") end, "no scenario is called cow")
      local server = bench:listen()
      post { { port = server.port, bot = faults.bot_id { default = { { ["do"] = "cow" } } } } }
      assert.error_matches(function() server:stats { settle = 1 } end, "no such step")
      server:close()
    end)
  end)

  describe("every scenario", function()
    local GROUPS = {
      early = true, processed = true, kept = true, framing = true, redirect = true,
      throttled = true, body = true, envelope = true, status = true,
    }

    local cases = {}
    for _, row in ipairs(faults.list) do
      if GROUPS[row.group] and not row.sweep then
        cases[#cases + 1] = { row = row }
      end
    end

    local function as_told(chosen, tls)
      for i, result in ipairs(play_all(chosen, tls)) do
        local row = chosen[i].row
        local stats, last = result.stats, result.replies[#result.replies]
        assert(stats.settled, row.name .. " did not settle")
        if row.either then
          assert(stats.processed <= (row.kept and 2 or 1), row.name)
        else
          assert.equal(row.processed, stats.to[NUMBER] or 0, row.name)
          assert.equal(row.kept and 1 or 0, stats.to[OTHER] or 0, row.name)
        end
        if row.answers and not row.either then
          assert.equal(row.status, last and last.status, row.name)
        end
        if row.stalls and not row.either then
          assert.equal("timeout", result["end"], row.name)
        end
      end
    end

    it("of HTTP/1.1 processes and answers as its row says", function()
      assert.is_true(#cases > 250)
      as_told(cases)
    end)

    it("does so over TLS as well", function()
      local chosen = {}
      for _, case in ipairs(cases) do
        local group = case.row.group
        if (group == "early" or group == "processed" or group == "kept")
          and not case.row.name:find("^accept_") then
          chosen[#chosen + 1] = case
        end
      end
      as_told(chosen, {})
      local swept = {}
      for k = 0, #faults.OK_REPLY - 1, 10 do
        swept[#swept + 1] = { row = faults.named.answer_k_close, arg = { k = k } }
        swept[#swept + 1] = { row = faults.named.next_read_k_reset, arg = { k = k } }
      end
      for i, result in ipairs(play_all(swept, {})) do
        local last = result.replies[#result.replies]
        assert.equal(1, result.stats.processed)
        assert.equal(swept[i].row.kept and 0 or swept[i].arg.k, last.bytes)
        assert.equal("TLSv1.3", result.stats.connections[1].tls)
      end
    end)

    -- A sweep's scenarios at each k, or at every n-th one.
    local function sweep(name, check, n)
      local swept = {}
      for k = 0, faults.last_k(name, REQUEST_BYTES), n or 1 do
        swept[#swept + 1] = { row = faults.named[name], arg = { k = k } }
      end
      for i, result in ipairs(play_all(swept)) do
        assert(result.stats.settled, name .. " did not settle")
        check(swept[i].arg.k, result, result.stats)
      end
    end

    for _, ending in ipairs { "close", "reset", "stall" } do
      local step = ending == "stall" and 29 or 1
      local left = ({ close = "eof", reset = "reset", stall = "timeout" })[ending]

      it("reads k bytes and processes nothing: " .. ending, function()
        sweep("read_k_" .. ending, function(k, result, stats)
          assert.equal(0, stats.processed)
          assert.equal(k > 0 and 1 or 0, stats.begun)
          assert.equal(left, result["end"])
          assert.equal(0, result.replies[1].bytes)
        end, step)
      end)

      it("sends k bytes of its answer: " .. ending, function()
        for _, name in ipairs { "answer_k_", "chunked_k_", "close_delimited_k_" } do
          sweep(name .. ending, function(k, result, stats)
            assert.equal(1, stats.processed)
            assert.equal(left, result["end"])
            -- A reset may overtake what was sent before it.
            assert.is_true(result.replies[1].bytes == k
              or left == "reset" and result.replies[1].bytes < k)
          end, step)
        end
      end)

      it("fails at the second request of a connection: " .. ending, function()
        sweep("next_read_k_" .. ending, function(k, result, stats)
          assert.equal(1, stats.processed)
          assert.equal(k > 0 and 2 or 1, stats.begun)
          assert.equal(left, result["end"])
          assert.equal(200, result.replies[1].status)
        end, step)
        sweep("next_answer_k_" .. ending, function(k, result, stats)
          assert.equal(2, stats.processed)
          assert.equal(left, result["end"])
          assert.is_true(result.replies[2].bytes == k
            or left == "reset" and result.replies[2].bytes < k)
        end, step)
      end)
    end
  end)
end)
