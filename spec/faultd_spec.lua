-- The fault bench itself: that it does what its scenarios say, and counts honestly.
-- Looked at from outside, with raw sockets and the curl command.

local cjson = require("cjson").new()
local faults = require "spec.support.faults"

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function run(command)
  local pipe = assert(io.popen(command .. "; echo \"|$?\""))
  local out = pipe:read("*a")
  pipe:close()
  local text, code = out:match("^(.*)|(%d+)%s*$")
  return text, tonumber(code)
end

local function post(tries)
  local text, code = run("python3 -B spec/support/rawpost.py " .. quote(cjson.encode(tries)))
  assert.equal(0, code)
  local out = cjson.decode(text)
  return out.tries, out.request_bytes
end

local INTERPRETER = rawget(_G, "jit") and "luajit" or "lua" .. _VERSION:match("%d.%d")
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

  -- curl -----------------------------------------------------------------------------

  local function curl(url, options)
    local text, code = run(("curl -s --max-time 2 -o /dev/null -w '%%{http_code}' %s "
      .. "-d '{\"toNo\":\"%s\"}' %s"):format(options, NUMBER, url))
    return code, tonumber(text:match("%d+")) or 0
  end

  local function url_of(server)
    return server.origin .. "/api/public/bot/st-1/outboundsms"
  end

  local function tls_options(row)
    local files = bench:certs()
    local options = "--cacert " .. files[row.ca or "ca.pem"]
    if row.client_cert then
      options = options .. " --cert " .. files[row.client_cert] .. " --key "
        .. files[row.client_key]
    end
    if row.stalls then options = options .. " --max-time 0.1" end
    return options
  end

  local function rows_of(group)
    local out = {}
    for _, row in ipairs(faults.list) do
      if row.group == group then out[#out + 1] = row end
    end
    assert(#out > 3)
    return out
  end

  for _, group in ipairs { "tls", "connect" } do
    it("has good and bad ways to connect: " .. group, function()
      for _, row in ipairs(rows_of(group)) do
        for k = 0, row.sweep and 600 or 0, 200 do
          local server = bench:listen_for(row, { k = k })
          local code, status = curl(url_of(server), tls_options(row))
          local stats = server:stats { settle = 2 }
          assert(stats.settled, row.name .. " did not settle")
          assert.equal(row.processed, stats.processed, row.name)
          assert.equal(row.answers and 200 or row.late and status or 0, status, row.name)
          assert.equal(row.answers, code == 0, row.name .. ": curl " .. code)
          if row.answers and group == "tls" then
            assert.equal(1, stats.handshakes, row.name)
          end
          server:close()
        end
      end
    end)
  end

  it("has proxies that agree, refuse and die", function()
    local origin = bench:listen { tls = {} }
    local plain = bench:listen()
    for _, row in ipairs(rows_of("proxy")) do
      for k = 0, row.sweep and 1000 or 0, 250 do
        for _, server in ipairs { origin, plain } do
          server:script()
          local proxy = bench:listen_for(row, { k = k })
          local code, status = curl(url_of(server),
            tls_options(row) .. " --proxytunnel -x " .. proxy.origin)
          assert.is_true(proxy:stats({ settle = 2 }).settled)
          local stats = server:stats { settle = 2 }
          if not row.either then
            assert.equal(row.processed, stats.processed, row.name)
            assert.equal(row.answers and 200 or 0, status, row.name)
            assert.equal(row.answers, code == 0, row.name .. ": curl " .. code)
          end
          assert.is_true(stats.processed <= 1)
          assert.equal(row.name:find("proxy_accept_") and 0 or 1, proxy:stats().connects,
            row.name)
          proxy:close()
        end
      end
    end
    -- In absolute form.
    local proxy = bench:listen_for("proxy_good")
    plain:script()
    assert.equal(0, (curl(url_of(plain), "-x " .. proxy.origin)))
    assert.equal(1, plain:stats({ settle = 1 }).processed)
    assert.equal(1, proxy:stats().proxied)
    assert.equal(0, proxy:stats().processed)
    for _, server in ipairs { proxy, origin, plain } do server:close() end
  end)

  it("speaks enough HTTP/2", function()
    for _, row in ipairs(rows_of("h2")) do
      local server = bench:listen_for(row)
      local options, urls = tls_options(row) .. " --http2", url_of(server)
      if row.kept then urls = urls .. " -o /dev/null " .. urls end
      local text = run(("curl -s --max-time 2 -o /dev/null -w '%%{http_code}/%%{http_version} '"
        .. " %s -d '{\"toNo\":\"%s\"}' %s"):format(options, NUMBER, urls))
      local stats = server:stats { settle = 3, connections = true }
      assert(stats.settled, row.name .. " did not settle")
      local last = text:match("(%d+/%d[%d.]*)%s*$")
      if row.answers and not row.either then
        assert.equal(row.status .. "/2", last, row.name)
      end
      -- curl sends a refused stream again on a new connection; the first one tells.
      local seen = stats.connections[1]
      local first = row.kept and 1 or 0
      assert.equal(row.processed + first, #seen.processed, row.name)
      assert.equal("h2", seen.alpn, row.name)
      assert.equal(1 + first, seen.begun, row.name)
      server:close()
    end
  end)

  -- Names ------------------------------------------------------------------------------

  it("answers names from a table, in a network of its own", function()
    local script = [[
      local faults = require "spec.support.faults"
      local bench = faults.start()
      local server = bench:listen { host = "::1", tls = {} }
      bench:dns { port = 53, names = {
        ["kore.test"] = { A = { "127.0.0.1", "127.0.0.2" }, AAAA = { "::1" } },
        ["six.kore.test"] = { AAAA = { "::1" } },
      } }
      local function expect(host, code)
        local ok = os.execute("curl -s -o /dev/null --max-time 1 --cacert "
          .. bench:certs()["ca.pem"] .. " -d '{}' https://" .. host .. ":" .. server.port
          .. "/api/public/bot/st/outboundsms; test $? = " .. code)
        assert(ok == true or ok == 0, host .. " does not end with " .. code)
      end
      expect("kore.test", 0)            -- the IPv4 addresses are dead
      expect("six.kore.test", 0)
      expect("none.kore.test", 6)
      expect("localhost", 0)
      expect("hosted.kore.test", 0)
      bench:dns { port = 53, mode = "silent" }
      expect("six.kore.test", 28)
      assert(server:stats({ settle = 1 }).processed == 4)
      bench:stop()
    ]]
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    file:write(script)
    file:close()
    local command = faults.in_namespace(
      { hosts = { "::1 hosted.kore.test" }, resolver = "127.0.0.1" },
      INTERPRETER .. " " .. name)
    if not command then
      os.remove(name)
      pending("this machine permits no private network")
      return
    end
    local out, code = run("LUA_PATH='./?.lua;;' " .. command .. " 2>&1")
    os.remove(name)
    assert.equal(0, code, out)
  end)

  -- The end ------------------------------------------------------------------------------

  it("goes with its parent, and leaves nothing behind", function()
    local function gone(directory)
      return select(2, run(("timeout 3 sh -c 'while [ -d %s ]; do sleep 0.02; done'")
        :format(directory))) == 0
    end
    local own = faults.start()
    own:listen { tls = {} }
    own:stop()
    assert.is_true(gone(own.directory))
    assert.has_error(function() own:call { cmd = "ping" } end)
    for _, ending in ipairs { "os.exit(3)", "os.execute('kill -9 $PPID')" } do
      local text = run("LUA_PATH='./?.lua;;' " .. INTERPRETER .. " -e " .. quote(
        "local b = require('spec.support.faults').start() b:listen{} print(b.directory) "
        .. "io.stdout:flush() " .. ending) .. " 2>/dev/null")
      local directory = text:match("^(%S+)")
      assert.is_truthy(directory)
      assert.is_true(gone(directory), ending)
    end
  end)
end)
