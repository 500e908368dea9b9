-- The authorities that connections trust: each client its own, parsed once for all of them.
local beds = require "spec.support.sandbox_bed"
local run = require "spec.support.run"

local TO, failing = beds.TO, beds.failing

-- The authorities of this system, or as many.
local function many()
  local file = assert(io.open("/etc/ssl/certs/ca-certificates.crt"))
  local text = file:read("*a")
  file:close()
  return text
end

local function resident()
  collectgarbage()
  for line in io.lines("/proc/self/status") do
    local size = line:match("^VmRSS:%s*(%d+)")
    if size then return tonumber(size) end
  end
end

describe("the authorities of a connection", function()
  local bed, own, directory

  setup(function()
    bed = beds.start()
    local file = assert(io.open(bed.box.ca_file))
    own = file:read("*a")
    file:close()
    directory = run.directory()
  end)
  teardown(function()
    bed:stop()
    run.clean()
  end)

  local function write(name, text)
    local path = directory .. "/" .. name
    local file = assert(io.open(path .. ".new", "w"))
    assert(file:write(text))
    assert(file:close())
    assert(os.rename(path .. ".new", path))
    return path
  end

  -- A client that keeps no connection.
  local function new(ca_file)
    return bed:new { host = bed.box.host, ca_file = ca_file, max_idle = 0 }
  end

  it("are parsed once for all clients and all connections", function()
    local path, clients = write("many.pem", many() .. own), {}
    local function add()
      local client = bed:new { host = bed.box.host, ca_file = path }
      assert(client:send { to = TO })
      clients[#clients + 1] = client
    end
    add()
    local before = resident()
    for _ = 1, 20 do add() end
    -- Parsed they are more than half a megabyte, each time.
    assert.truthy(resident() - before < 20 * 200, resident() - before)
    before = resident()
    local results, count = beds.collect(clients[1]:send_many(beds.list(32), { concurrency = 32 }))
    assert.equal(32, count)
    for _, result in ipairs(results) do assert.equal("accepted", result.outcome) end
    assert.truthy(resident() - before < 32 * 200, resident() - before)
    for _, client in ipairs(clients) do client:close() end
  end)

  it("are read again where their file has changed", function()
    local path = write("changing.pem", many())
    local client = new(path)
    assert.equal("tls", failing(client).code)
    write("changing.pem", many() .. own)
    assert(client:send { to = TO })
    write("changing.pem", "none\n")
    local after = new(path)
    local result = failing(after)
    assert.equal("tls", result.code)
    assert.truthy(result.message:find("setting ca_file", 1, true), result.message)
    write("changing.pem", own)
    assert(after:send { to = TO })
    -- In place, as long as before, within the same second.
    local file = assert(io.open(path, "w"))
    assert(file:write(("#"):rep(#own)))
    assert(file:close())
    local last = new(path)
    assert.equal("tls", failing(last).code)
    for _, each in ipairs { client, after, last } do each:close() end
  end)

  it("are those of its client, however many there are", function()
    local trusting, system = {}, new("none")
    for i = 1, 10 do trusting[i] = new(write(i .. ".pem", own)) end
    local other = new(write("other.pem", many()))
    for _ = 1, 3 do
      for _, client in ipairs(trusting) do
        assert(client:send { to = TO })
        assert.equal("tls", failing(system).code)
        assert.equal("tls", failing(other).code)
      end
    end
    for _, client in ipairs(trusting) do client:close() end
    system:close()
    other:close()
  end)

  it("of a client that is closed stay what they are for the others", function()
    local path = write("shared.pem", own)
    local one, two = new(path), bed:new { host = bed.box.host, ca_file = path }
    assert(one:send { to = TO })
    assert(two:send { to = TO })
    one:close()
    assert(two:send { to = TO })
    two:close()
  end)
end)
