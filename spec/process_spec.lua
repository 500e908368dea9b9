-- One command that runs on behalf of this program.

require "spec.support.paths"

local command = require "spec.support.command"
local core = require "koresms.core"
local shell = require "koresms.sandbox.shell"

describe("core.supervise", function()
  it("checks what it is given, and is there once at a time", function()
    assert.has_error(function() core.supervise({}, {}) end)
    assert.has_error(function() core.supervise({ 1 }, {}) end)
    assert.has_error(function() core.supervise({ "true" }) end)
    local supervisor = assert(core.supervise({ "true" }, {}))
    assert.has_error(function() core.supervise() end)
    local status
    for _ = 1, 100 do status = status or supervisor:wait(0.1) end
    assert.equal(0, status)
    assert.equal(0, supervisor:wait(0))
    supervisor:signal "TERM"
    supervisor:close()
    supervisor:close()
    assert.has_error(function() supervisor:wait(0) end, "this supervisor was closed")
  end)

  it("changes the environment", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    local supervisor = assert(core.supervise({ "sh", "-c", 'echo "$A-$B-${HOME-none}" >' .. path },
      { A = "1", B = "x=y z", HOME = false }))
    while not supervisor:wait(0.1) do end -- luacheck: ignore 542
    supervisor:close()
    assert.equal("1-x=y z-none\n", command.read(path))
  end)

  it("says why a command does not run", function()
    local nothing, _, what = core.supervise({ "/no/such/command" }, {})
    assert.same({ nil, "missing" }, { nothing, what })
    nothing, _, what = core.supervise({ "/" }, {})
    assert.same({ nil, "failed" }, { nothing, what })
    assert(core.supervise()):close()
  end)

  -- A command that writes its number to a file; returns that, and the supervisor.
  local function sleeper(path)
    local supervisor = assert(core.supervise({ "sh", "-c", "echo $$ >" .. path
      .. "; exec sleep 60" }, {}))
    local pid
    for _ = 1, 100 do
      pid = command.read(path):match("^(%d+)\n")
      if pid then return pid, supervisor end
      assert.is_nil(supervisor:wait(0.1))
    end
    error("the command did not start")
  end

  local function wait_until_gone(pid)
    local _, text = shell.run(("n=0; while kill -0 %s 2>/dev/null && ! ps -o stat= -p %s | grep "
      .. "-q Z && "
      .. "[ $n -lt 50 ]; do n=$((n + 1)); sleep 0.1; done; [ $n -lt 50 ] && echo gone"):format(pid,
      pid))
    return text
  end

  for _, row in ipairs {
    { "closed", function(supervisor) supervisor:close() end },
    { "collected", function() end },
  } do
    it("ends the command when it is " .. row[1], function()
      local path = os.tmpname()
      finally(function() os.remove(path) end)
      local pid
      do
        local number, supervisor = sleeper(path)
        pid = number
        row[2](supervisor)
      end
      collectgarbage()
      collectgarbage()
      assert.equal("gone", wait_until_gone(pid))
      assert(core.supervise()):close()
    end)
  end

  it("sends a signal, and tells what ended the command", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    for name, status in pairs { TERM = 143, KILL = 137 } do
      command.write(path, "")
      local _, supervisor = sleeper(path)
      supervisor:signal(name)
      local ended
      for _ = 1, 100 do ended = ended or supervisor:wait(0.1) end
      assert.equal(status, ended)
      supervisor:close()
    end
  end)

  it("tells the signals that ask this program to end, and is left alone by others", function()
    local _, pid = shell.run("echo $PPID")
    local supervisor = assert(core.supervise())
    for name, number in pairs { TERM = 15, INT = 2, HUP = 1 } do
      os.execute("kill -" .. name .. " " .. pid)
      local _, told = supervisor:wait(5)
      assert.equal(number, told)
      assert.is_nil((select(2, supervisor:wait(0))))
    end
    supervisor:close()
  end)
end)
