-- `koresms send-many` that is stopped before its end: nothing is lost, nothing is sent twice.

local bulk = require "spec.support.bulk"
local command = require "spec.support.command"
local core = require "koresms.core"
local csv = require "koresms.cli.csv"
local shell = require "koresms.sandbox.shell"

local function number(i) return ("+91%010d"):format(i) end

-- Rows with line ends and quotes in them.
local function rows(count)
  local lines = { "to,id,name\r\n" }
  for i = 1, count do
    lines[#lines + 1] = ("%s,m%d,\"a\n\"\"b, %d\"\r\n"):format(number(i), i, i)
  end
  return table.concat(lines)
end

local function exists(path)
  local file = io.open(path)
  return file ~= nil and file:close() ~= nil
end

describe("koresms.core", function()
  local function raise(signal)
    io.popen("kill -" .. signal .. " $PPID"):close()
  end

  it("counts the signals that ask for an end, once they are caught", function()
    local catcher = core.catch_interrupts() -- luacheck: ignore
    assert.equal(0, core.interrupted())
    assert.has_error(core.catch_interrupts, "interrupts are caught already")
    raise("INT")
    assert.equal(1, core.interrupted())
    raise("TERM")
    assert.equal(2, core.interrupted())
    catcher:close()
    catcher:close()
    catcher = core.catch_interrupts()
    assert.equal(0, core.interrupted())
    raise("HUP")
    assert.equal(1, core.interrupted())
    raise("PIPE")
    -- What is collected puts everything back, too.
    assert.is_userdata(catcher)
    catcher = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    core.catch_interrupts():close()
  end)

  it("lets the third signal through, and what was ignored stay so", function()
    local function line(times, signal)
      return ("%s %s -e %s"):format(command.prefix({ LUA_PATH = "lua/?.lua;;" }),
        command.interpreter,
        shell.quote(([[
          local core = require "koresms.core"
          local catcher = core.catch_interrupts()
          for _ = 1, %d do io.popen("kill -%s $PPID"):close() end
          print(core.interrupted())]]):format(times, signal)))
    end
    local _, out = shell.run(line(2, "TERM"))
    assert.equal("2", out)
    _, out = shell.run("{ " .. line(3, "TERM") .. "; echo status $?; } 2>/dev/null")
    assert.equal("status 143", out)
    _, out = shell.run("trap '' HUP; " .. line(3, "HUP"))
    assert.equal("0", out)
  end)
end)

describe("koresms send-many, stopped,", function()
  local many

  setup(function() many = bulk.start() end)
  teardown(function() many:stop() end)
  before_each(function() many:reset() end)

  -- Runs the command on the input, and shell text beside it that knows its process as $pid.
  local function beside(arguments, changes, text)
    local all = { "--json", "--rest", many.rest, many.input }
    for _, word in ipairs(arguments) do all[#all + 1] = word end
    os.remove(many.out)
    local _, status = shell.run(("%s >%s 2>%s </dev/null & pid=$!\n%s\nwait $pid; echo $?"):format(
      many:line(all, changes), many.out, many.err, text))
    local out, err
    status, out, err = many:left(status)
    return status, bulk.decode(out), err
  end

  -- The ids of the rows that were kept, each as it was in the input.
  local function kept()
    if not exists(many.rest) then return {} end
    local text = command.read(many.rest)
    local reader, ids = csv.reader(function()
      local piece = text
      text = nil
      return piece
    end), {}
    assert.same({ "to", "id", "name" }, (reader:next()))
    for fields, row in function() return reader:next() end do
      local i = tonumber(fields[2]:sub(2))
      assert.equal(("%s,m%d,\"a\n\"\"b, %d\"\r\n"):format(number(i), i, i), row)
      ids[#ids + 1] = fields[2]
    end
    return ids
  end

  -- Results and rest are the input, each row in one of them; nothing was sent twice, and
  -- nothing that the results do not tell.
  local function check(results, count, err)
    local seen, outcome, rest = {}, {}, kept()
    for _, result in ipairs(results) do
      assert.is_nil(seen[result.id], result.id)
      seen[result.id], outcome[result.to] = true, result.outcome
    end
    for _, id in ipairs(rest) do
      assert.is_nil(seen[id], id)
      seen[id] = true
    end
    for i = 1, count do assert.is_true(seen["m" .. i], err) end
    assert.equal(count, #results + #rest)
    local processed = many:processed()
    for to, times in pairs(processed) do
      assert.equal(1, times)
      assert.truthy(outcome[to] == "accepted" or outcome[to] == "unknown", to)
    end
    for to, what in pairs(outcome) do
      if what == "accepted" then assert.equal(1, processed[to]) end
    end
    return #rest
  end

  it("by SIGINT at any moment, has each row in the results or in the rest", function()
    local seed, count = os.time(), 5000
    math.randomseed(seed)
    command.write(many.input, rows(count))
    local rounds = tonumber(os.getenv("KSMS_ROUNDS")) or 5
    for round = 1, rounds do
      many:reset()
      local signal = round % 3 == 0 and "TERM" or "INT"
      -- Not before the first result, from when on signals are caught for certain.
      local status, results, err = beside({ "--concurrency", tostring(math.random(32)) }, {},
        ("while [ ! -s %s ]; do sleep 0.01; done; sleep %.3f; kill -%s $pid 2>/dev/null"):format(
          many.out,
          math.random() * 0.3, signal))
      local left = check(results, count, ("seed %d, round %d: %s"):format(seed, round, err))
      -- Once all is told, and the file of the rest is gone, a signal ends it like any program.
      local late = left == 0 and status == (signal == "TERM" and 143 or 130)
      assert.equal(left > 0 and 5 or 0, late and 0 or status, err)
      if left > 0 then
        assert.matches("interrupted", err, 1, true)
        assert.matches("not started: " .. left .. "; rows in " .. many.rest .. ": " .. left, err, 1,
          true)
      end
    end
  end)

  it("waits for what is in flight, and can go on with the rest", function()
    assert(many.box:control("PUT", "/_sandbox/settings", { latency = 0.5 }))
    command.write(many.input, rows(20))
    local status, results, err = beside({ "--concurrency", "4" }, {},
      ("until [ -s %s ]; do sleep 0.05; done; kill -INT $pid"):format(many.out))
    assert.equal(5, status, err)
    assert.truthy(check(results, 20) >= 4)
    assert(many.box:control("PUT", "/_sandbox/settings", { latency = 0 }))
    local text = command.read(many.rest)
    os.remove(many.rest)
    local others
    status, others = many:results(text, { "--rest", many.rest })
    assert.same({ 0, 20 }, { status, #results + #others })
    assert.is_false(exists(many.rest))
    for i = 1, 20 do assert.equal(1, many:processed()[number(i)]) end
  end)

  it("does not wait for a permit", function()
    command.write(many.input, rows(10))
    local start = core.clock()
    local status, results, err = beside({}, { KORESMS_PER_MINUTE = "3" },
      ("until [ $(cat %s 2>/dev/null | wc -l) = 3 ]; do sleep 0.05; done; sleep 0.2; "
        .. "kill -INT $pid"):format(many.out))
    assert.equal(5, status, err)
    assert.truthy(core.clock() - start < 10)
    assert.same({ 3, 7 }, { #results, check(results, 10) })
  end)

  it("twice, gives up what is in flight, and says that its end is unknown", function()
    assert(many.box:control("PUT", "/_sandbox/settings", { latency = 3 }))
    command.write(many.input, rows(20))
    local status, results, err = beside({ "--concurrency", "4" }, {},
      ("until [ -f %s ]; do sleep 0.05; done; sleep 0.7; kill -INT $pid; sleep 0.2; kill -INT $pid")
        :format(many.rest))
    assert.equal(4, status, err)
    assert.equal(4, #results)
    for _, result in ipairs(results) do assert.equal("unknown", result.outcome) end
    assert.equal(16, check(results, 20))
  end)

  it("by an output that nobody reads, tells what is in flight and keeps the rest", function()
    command.write(many.input, rows(500))
    shell.run(("{ %s 2>%s; echo $? >%s; } | head -n 1"):format(
      many:line({ "--json", "--rest", many.rest, many.input }), many.err, many.out))
    local status, _, err = many:left(command.read(many.out))
    assert.equal(4, status)
    assert.matches("standard output cannot be written", err, 1, true)
    assert.matches('\n{"outcome":"accepted"', err, 1, true)
    -- What the pipe took in its last moment is known to nobody; but it was sent, and is not kept.
    local processed, rest = many:processed(), kept()
    for _, id in ipairs(rest) do assert.is_nil(processed[number(tonumber(id:sub(2)))]) end
    assert.equal(500, many:count() + #rest)
  end)

  it("keeps rows that failed in a way that cannot make a duplicate", function()
    command.write(many.input, rows(3))
    local status, results = beside({}, { KORESMS_HOST = "http://127.0.0.1:1",
      KORESMS_RETRIES = "0" }, ":")
    assert.same({ 1, 3 }, { status, #results })
    for _, result in ipairs(results) do
      assert.same({ "not_sent", true }, { result.outcome, result.retryable })
    end
    assert.equal(3, #kept())
  end)

  it("keeps JSON lines as JSON lines, but no bad rows and no second ones", function()
    local text = '\239\187\191{"to":"+9101","n":1}\nbad\n{"to":"+9102"}\n'
      .. '{"to":"+9101","n":2}\n\n {"to":"+9103"}'
    local status = many:run(text, { "--rest", many.rest, "--skip-invalid", "--unique" },
      { KORESMS_HOST = "http://127.0.0.1:1", KORESMS_RETRIES = "0" })
    assert.equal(1, status)
    local lines = command.lines(command.read(many.rest):gsub("^\239\187\191", ""))
    table.sort(lines)
    assert.same({ ' {"to":"+9103"}', '{"to":"+9101","n":1}', '{"to":"+9102"}' }, lines)
  end)

  it("takes no file for the rest that exists or cannot be made", function()
    for _, path in ipairs({ many.input, many.work, "/nonexistent/rest" }) do
      local status, out, err = many:run("to\n+9101\n", { "--rest", path })
      assert.same({ 2, "" }, { status, out })
      assert.matches(path, err, 1, true)
    end
    assert.equal("to\n+9101\n", command.read(many.input))
    assert.equal(0, many:count())
  end)
end)
