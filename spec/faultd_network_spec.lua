-- The fault bench where names, TLS and proxies come in, and how it ends. Looked at
-- from outside, with the curl command.

-- The bench is one server, whichever Lua asks: once is enough.
if require("spec.support.paths").version == "jit" then return end

local faults = require "spec.support.faults"
local raw = require "spec.support.rawpost"

local run, quote = raw.run, raw.quote
local INTERPRETER = "lua" .. _VERSION:match("%d.%d")
local NUMBER = "+911"

describe("the fault bench", function()
  local bench

  setup(function() bench = faults.start() end)
  teardown(function() bench:stop() end)

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
