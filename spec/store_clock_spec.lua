-- Clocks that are wrong, or set while a worker runs: the quota holds, and nobody is taken for dead.

local paths = require "spec.support.paths"

-- It takes its time, and the Lua makes no difference: once is enough.
if paths.version ~= "5.4" and not os.getenv "STORE_EVERY_LUA" then return end

local command = require "spec.support.command"
local core = require "koresms.core"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"
local stores = require "spec.support.stores"

local LIMIT, RESERVE = 12, 1

local _, library = shell.run("ls /usr/lib/*/faketime/libfaketime.so.1 2>/dev/null | head -n 1")
-- A sanitizer comes first among what is preloaded, and this library does not let it.
if library == "" or os.getenv "LD_PRELOAD" then return end

local box
setup(function() box = assert(sandbox.start()) end)
teardown(function()
  box:stop()
  stores.stop()
end)

for _, kind in ipairs(stores.kinds()) do describe("clocks on " .. kind.name, function()
  local store, where, work
  before_each(function()
    assert(box:control("DELETE", "/_sandbox/messages"))
    store, where = kind:store { per_minute = LIMIT, per_hour = false }
    store:add("c", stores.messages(200))
    work = run.directory()
  end)
  after_each(function() store:close() end)

  -- A worker whose clock is that of a file, which may change meanwhile.
  local function start(file)
    local env = { KORESMS_HOST = box.plain, KORESMS_TIMEOUT = "2", KORESMS_TOKEN_TTL = "3600",
      FAKETIME_TIMESTAMP_FILE = file, FAKETIME_NO_CACHE = "1", DONT_FAKE_MONOTONIC = "1" }
    for _, pair in ipairs(box.env) do env[pair[1]] = env[pair[1]] or pair[2] end
    env.KORESMS_CA_FILE = nil
    local prefix = command.prefix(env) .. " LD_PRELOAD=" .. library
    local _, pid = shell.run(("%s %s spec/support/store_worker.lua '%s' c 8 60 >>%s/out "
      .. "2>>%s/err </dev/null & echo $!")
      :format(prefix, command.interpreter, where, work, work))
    return tonumber(pid)
  end
  local function set(file, text) command.write(file, text .. "\n") end
  local function kill(pid) shell.run("kill -9 " .. pid) end
  local function wait_for(count, seconds)
    local ends = core.clock() + seconds
    repeat core.sleep(0.1) until box:get("/_sandbox/state").count >= count or core.clock() > ends
    return box:get("/_sandbox/state").count
  end

  it("that are set while a worker runs, forward and back, give no further permit", function()
    local clock = work .. "/clock"
    set(clock, "+0")
    local pid = start(clock)
    assert.equal(LIMIT - RESERVE, wait_for(LIMIT - RESERVE, 10), command.read(work .. "/err"))
    set(clock, "+3000")
    assert.equal(LIMIT - RESERVE, wait_for(LIMIT, 2))
    set(clock, "-600")
    assert.equal(LIMIT - RESERVE, wait_for(LIMIT, 2))
    kill(pid)
    local status = store:status "c"
    assert.same({ LIMIT - RESERVE, 0, 0 }, { status.accepted, status.unknown, status.sending },
      command.read(work .. "/err"))
  end)

  if kind.name == "PostgreSQL" then
    it("that are an hour apart make no difference: the server's counts", function()
      set(work .. "/early", "+3000")
      set(work .. "/late", "-3000")
      local pids = { start(work .. "/early"), start(work .. "/late") }
      assert.equal(LIMIT - RESERVE, wait_for(LIMIT - RESERVE, 10), command.read(work .. "/err"))
      assert.equal(LIMIT - RESERVE, wait_for(LIMIT, 2))
      for _, pid in ipairs(pids) do kill(pid) end
      local status = store:status "c"
      assert.same({ LIMIT - RESERVE, 0, 0 }, { status.accepted, status.unknown, status.sending },
        command.read(work .. "/err"))
    end)
  end
end) end
