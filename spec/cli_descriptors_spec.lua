-- The command with standard descriptors that are closed when it starts: results are complete, or
-- nothing is sent and it says so.

local bulk = require "spec.support.bulk"
local command = require "spec.support.command"
local core = require "koresms.core"
local run = require "spec.support.run"
local shell = require "koresms.sandbox.shell"

local paths = require "spec.support.paths"

-- Every set of closed descriptors.
local SETS = {}
for bits = 0, 7 do
  local set = { text = "" }
  for fd = 0, 2 do
    if math.floor(bits / 2 ^ fd) % 2 == 1 then
      set[fd] = true
      set.text = set.text .. fd
    end
  end
  SETS[#SETS + 1] = set
end

local CLOSING = { [0] = " <&-", [1] = " >&-", [2] = " 2>&-" }

local function number(i) return ("+91%010d"):format(i) end

-- An input of so many rows.
local function rows(count)
  local lines = { "to,name\n" }
  for i = 1, count do lines[#lines + 1] = ("%s,\"n, %d\"\n"):format(number(i), i) end
  return table.concat(lines)
end

-- Below and above the size of what is read at once, and of a spool's buffer.
local SIZES = { 3, 4000 }

describe("koresms with closed descriptors:", function()
  local many

  setup(function() many = bulk.start() end)
  teardown(function() many:stop() end)
  before_each(function() many:reset() end)

  -- Runs shell text with some descriptors closed; the others are files. Returns status, standard
  -- output, standard error; `before` is where the text goes, as %s, if it has an input of its own.
  local function closed(set, line, before)
    for _, path in ipairs({ many.out, many.err, many.work .. "/status" }) do os.remove(path) end
    local standard = { [0] = before and "" or " </dev/null", [1] = " >" .. many.out,
      [2] = " 2>" .. many.err }
    for fd = 0, 2 do
      if not (before and fd == 0) then line = line .. (set[fd] and CLOSING[fd] or standard[fd]) end
    end
    shell.run((before or "%s"):format(("{ %s; echo $? >%s/status; }"):format(line, many.work)))
    local function text(path)
      local file = io.open(path)
      if file then file:close() end
      return file and command.read(path) or ""
    end
    return tonumber(text(many.work .. "/status")), text(many.out), text(many.err)
  end

  -- What is right where the input can be read.
  local function check(set, size, status, out, err)
    if set[1] then
      assert.same({ 2, "" }, { status, out })
      if not set[2] then assert.matches("standard output is closed", err, 1, true) end
      assert.equal(0, many.box:get("/_sandbox/state").bench_count)
      return
    end
    assert.equal(0, status, err)
    local results, seen = bulk.decode(out), {}
    for _, result in ipairs(results) do
      assert.equal("accepted", result.outcome)
      seen[result.index] = true
    end
    assert.same({ size, size }, { #results, #seen })
    assert.equal(size, many.box:get("/_sandbox/state").bench_count)
  end

  for _, set in ipairs(SETS) do
    for _, size in ipairs(SIZES) do
      it(("%s, %d rows from a file and through a pipe"):format(set.text, size), function()
        command.write(many.input, rows(size))
        local bench = { KORESMS_BOT_ID = "bench" }
        check(set, size, closed(set, many:line({ many.input, "--json" }, bench)))
        many:reset()
        if not set[0] then
          check(set, size, closed(set, many:line({ "-", "--json" }, bench), "cat " .. many.input
            .. " | %s"))
          many:reset()
          check(set, size, closed(set, many:line({ "-", "--json" }, bench), "%s <" .. many.input))
        end
      end)

      it(("%s, %d rows that are all left over"):format(set.text, size), function()
        command.write(many.input, rows(size))
        local dead = { KORESMS_HOST = "http://127.0.0.1:1", KORESMS_RETRIES = "0" }
        local status, out, err = closed(set, many:line({ many.input, "--json", "--rest",
          many.rest }, dead))
        if set[1] then
          assert.same({ 2, "" }, { status, out })
          return assert.is_nil(core.file_mode(many.rest))
        end
        assert.equal(1, status, err)
        assert.equal(size, #bulk.decode(out))
        assert.equal(size + 1, select(2, command.read(many.rest):gsub("\n", "")))
        assert.equal("to,name\n", command.read(many.rest):match("^[^\n]*\n"))
      end)
    end

    it(("%s, one message, and other commands"):format(set.text), function()
      local prefix = command.prefix(many.koresms:environment { KORESMS_HOST = many.box.plain })
        .. " "
        .. command.interpreter .. " bin/koresms "
      local status, out = closed(set, prefix .. "send --to " .. number(1) .. " --json")
      if set[1] then
        assert.same({ 2, "" }, { status, out })
        assert.equal(0, many:count())
      else
        assert.equal(0, status)
        assert.equal("accepted", bulk.decode(out)[1].outcome)
        assert.equal(1, many:count())
      end
      for _, word in ipairs({ "check", "token", "--version", "help" }) do
        status, out = closed(set, prefix .. word)
        assert.equal(set[1] and 2 or 0, status, word)
        assert.equal(set[1] or false, out == "")
      end
    end)
  end

  it("an input that is closed is told", function()
    local status, out, err = closed({ [0] = true }, many:line({ "-" }))
    assert.same({ 2, "", "koresms: standard input: it is closed\n" }, { status, out, err })
  end)

  it("an output that is open for reading alone counts as closed", function()
    command.write(many.input, rows(1))
    local _, err = shell.run(("{ %s 1</dev/null 2>&3; echo $? >&3; } 3>&1"):format(many:line({
      many.input })))
    assert.matches("^koresms: standard output is closed or cannot be written.*\n2$", err)
    assert.equal(0, many:count())
  end)

  -- Runs the command with Python's help: `setup` makes `given` (what Popen is told), `work` does
  -- what is to be done meanwhile. Both have `read` and `write` of a pipe that does not block.
  local function with_nonblocking(line, setup, work)
    return run.output("python3 -c " .. run.quote(([[
import fcntl, os, subprocess, time
read, write = os.pipe()
for end in (read, write):
    fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_NONBLOCK)
fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
%s
p = subprocess.Popen(["sh", "-c", """exec %s"""], stderr=open("%s", "wb"), **given)
%s
print(p.wait())]]):format(setup, line, many.err, work)))
  end

  it("an input that does not block is waited for", function()
    local line = many:line({ "-" }) .. " >" .. many.out
    local text = with_nonblocking(line, "given = {'stdin': read}", [[
os.close(read)
for i in range(100):
    os.write(write, (("+91%010d" % i) if i else "to").encode() + b"\n")
    time.sleep(0.002)
os.close(write)]])
    assert.equal("0\n", text, command.read(many.err))
    assert.equal(99, many:count())
  end)

  it("an output that does not block is waited for", function()
    command.write(many.input, rows(200))
    local line = many:line({ many.input, "--json" })
    local text = with_nonblocking(line, "given = {'stdout': write}", [[
os.close(write)
data = b""
fcntl.fcntl(read, fcntl.F_SETFL, 0)
while True:
    time.sleep(0.005)
    piece = os.read(read, 2000)
    if not piece:
        break
    data += piece
print(data.count(b"\n"))]])
    assert.equal("200\n0\n", text, command.read(many.err))
    assert.equal(200, many:count())
  end)

  it("a limit of the size of files is told, and ends nothing in the middle", function()
    command.write(many.input, rows(4000))
    local _, out = shell.run(("ulimit -f 0; { cat %s | %s; echo $?; } 2>&1"):format(many.input,
      many:line({ "-" })))
    assert.matches("it cannot be kept in a temporary file: File too large\n2$", out)
    local dead = { KORESMS_HOST = "http://127.0.0.1:1", KORESMS_RETRIES = "0" }
    _, out = shell.run(("ulimit -f 1; { %s | tail -n 1; } 2>&1"):format(
      many:line({ many.input, "--rest", many.rest }, dead)))
    assert.matches("rest cannot be written: File too large; rows are missing in it", out, 1, true)
    assert.matches("4000 rows in .*: accepted 0  rejected 0  not sent 4000  unknown 0", out)
    assert.equal(0, many:count())
  end)

  it("a file for rows must be new, and its owner's alone", function()
    command.write(many.input, rows(2))
    local dead = { KORESMS_HOST = "http://127.0.0.1:1", KORESMS_RETRIES = "0" }
    local arguments = { many.input, "--rest", many.rest }
    -- A link to nowhere would be followed by whoever opens it for writing.
    local target = many.work .. "/target"
    assert.is_true(shell.run(("ln -s %s %s"):format(target, many.rest)))
    local status, out, err = closed({}, many:line(arguments, dead))
    assert.same({ 2, "" }, { status, out })
    assert.matches("rest: it exists; --rest takes the name of a new file", err, 1, true)
    assert.is_nil(core.file_mode(target))
    os.remove(many.rest)
    assert.equal(1, (closed({}, "umask 0; " .. many:line(arguments, dead))))
    assert.equal(6 * 64, core.file_mode(many.rest))
    assert.equal(rows(2), command.read(many.rest))
    status, out, err = closed({}, many:line({ many.input, "--rest", "-" }, dead))
    assert.same({ 2, "" }, { status, out })
    assert.matches("--rest: standard output has the results", err, 1, true)
    status, out, err = closed({}, many:line({ many.input, "--rest", many.work .. "/none/rest" },
      dead))
    assert.same({ 2, "" }, { status, out })
    assert.matches("/none/rest: No such file or directory", err, 1, true)
    assert.equal(0, many:count())
  end)
end)

describe("koresms.core", function()
  it("opens the null device in place of what is closed", function()
    local out = run.directory() .. "/out"
    local script = run.write(out .. ".lua", [[
      local secure = require("koresms.core").secure_descriptors
      local a, b, c = secure()
      local d, e, f = secure()
      local file = assert(io.open(arg[1], "w"))
      for i, one in ipairs { a, b, c, d, e, f } do
        file:write(i > 1 and " " or "", tostring(one))
      end
      print("x")
      io.stderr:write("x")
      file:close()]])
    for _, set in ipairs(SETS) do
      local closing = ""
      for fd = 0, 2 do
        closing = closing .. (set[fd] and CLOSING[fd] or (" %d%s/dev/null"):format(fd, fd == 0
          and "<" or ">"))
      end
      run.output(("%s LUA_CPATH=%s %s %s %s%s"):format(run.preload(), run.quote(paths.cpath),
        command.interpreter, script, out, closing))
      assert.equal(table.concat({ tostring(set[0] or false), tostring(set[1] or false),
        tostring(set[2] or false),
        "false false false" }, " "), command.read(out))
    end
    run.clean()
  end)

  it("makes files that are new, and tells what went wrong", function()
    local path = run.directory() .. "/new"
    local file = assert(core.create_file(path))
    assert.is_true(file:write("a\0b"))
    assert.is_true(file:close())
    assert.equal("Bad file descriptor", (select(2, file:close())))
    assert.equal("Bad file descriptor", (select(2, file:write("x"))))
    assert.equal("a\0b", command.read(path))
    assert.equal(6 * 64, core.file_mode(path))
    local none, text, exists = core.create_file(path)
    assert.same({ nil, "File exists", true }, { none, text, exists })
    none, text, exists = core.create_file("/none/x")
    assert.same({ nil, "No such file or directory", false }, { none, text, exists })
    assert.equal("No such file or directory", (select(2, core.file_mode("/none"))))
    -- What does not fit is told at the end at the latest.
    local full = run.output(("ulimit -f 1; trap '' XFSZ; %s LUA_CPATH=%s %s -e "
      .. "%s"):format(run.preload(),
      run.quote(paths.cpath),
      command.interpreter, run.quote(([[
        local file = assert(require("koresms.core").create_file(%q))
        local text, ok = ("x"):rep(4096), true
        for _ = 1, 100 do ok = ok and file:write(text) end
        print(ok and file:close())]]):format(path .. "2"))))
    assert.equal("nil\n", (full:gsub("^nil\t.*", "nil\n")))
    run.clean()
  end)

  it("names variables without their values", function()
    local out = run.output(("env -i KORESMS_A=1 KORESMS_B= OTHER=3 %s LUA_CPATH=%s "
      .. "PATH=\"$PATH\" %s -e %s"):format(
      run.preload(), run.quote(paths.cpath), command.interpreter,
      run.quote("print(table.concat(require('koresms.core').variable_names('KORESMS_'), ' '))")))
    assert.equal("KORESMS_A KORESMS_B\n", out)
  end)
end)
