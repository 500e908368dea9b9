-- Too few descriptors: no message fails for want of one where a connection can be had, and where
-- none can, that is what is said. Standard descriptors that are closed stay what they are for.

local bulk = require "spec.support.bulk"
local command = require "spec.support.command"
local paths = require "spec.support.paths"
local run = require "spec.support.run"

describe("with few descriptors", function()
  local many

  setup(function() many = bulk.start() end)
  teardown(function() many:stop() end)
  before_each(function()
    many:reset()
    assert(many.box:control("PUT", "/_sandbox/settings", { latency = 0.02 }))
  end)

  local rows = {}
  for i = 1, 120 do rows[i] = ("+91%010d\n"):format(i) end
  local text = "to\n" .. table.concat(rows)

  -- Runs send-many with this limit, 64 at once.
  local function send(limit, host, ...)
    command.write(many.input, text)
    local line = many:line({ many.input, "--concurrency", "64", "--quiet", ... },
      { KORESMS_HOST = host })
    local status = run.output(("prlimit -n%d %s >%s 2>%s </dev/null; echo $?"):format(limit, line,
      many.out, many.err))
    return many:left(status)
  end

  for _, limit in ipairs { 8, 12, 24, 48 } do
    it(("sends all, %d of them, plain"):format(limit), function()
      local status, out, err = send(limit, many.box.plain)
      assert.same({ 0, "" }, { status, out }, err)
      assert.equal(120, many.koresms:processed())
    end)
  end

  -- A name, and a file of certificates.
  for _, limit in ipairs { 12, 24, 48 } do
    it(("sends all, %d of them, TLS"):format(limit), function()
      local status, out, err = send(limit, many.box.url)
      assert.same({ 0, "" }, { status, out }, err)
      assert.equal(120, many.koresms:processed())
    end)
  end

  it("names the limit where no connection can be had", function()
    local status, out = send(6, many.box.url, "--timeout", "0.5")
    assert.equal(1, status)
    assert.matches("not_sent  %S+  connect  no descriptor is left for a connection; raise the "
      .. "limit of open files %(ulimit %-n, LimitNOFILE%)", out)
    assert.equal(0, many.koresms:processed())
  end)

  it("puts the null device where a standard descriptor is closed, in the library, too", function()
    local script = run.write(many.work .. "/closed.lua", [[
      local c = require("koresms").new { host = arg[1], bot_id = "st-1", token = "a.b.c",
        from = "+19876543210", retries = 0, per_minute = false }
      for i = 1, 3 do
        c:send { to = "+911234567890" }
        io.stderr:write("into nothing")
        io.stdout:write("into nothing")
        io.stdout:flush()
      end
      local file = io.open(arg[2], "w")
      file:write(c:stats().rejected)
      file:close()]])
    local result = many.work .. "/result"
    run.output(("LUA_PATH=%s LUA_CPATH=%s %s %s %s %s 0 <&- >&- 2>&-"):format(run.quote(paths.path),
      run.quote(paths.cpath), command.interpreter, script, many.box.plain, result))
    -- The token is none of the platform's: an answer to each, and none to what was written else.
    assert.equal("3", command.read(result))
  end)
end)
