-- The command `koresms send-many`, run as a process, against the sandbox.

local bulk = require "spec.support.bulk"
local cjson = require "cjson"
local command = require "spec.support.command"
local shell = require "koresms.sandbox.shell"

local FROM, A, B, C = "+19876543210", "+911234567890", "+911234567891", "+911234567892"

describe("koresms send-many", function()
  local many

  setup(function() many = bulk.start() end)
  teardown(function() many:stop() end)
  before_each(function() many:reset() end)

  local function numbers(results)
    local list = {}
    for i, result in ipairs(bulk.sort(results)) do
      assert.equal("accepted", result.outcome)
      list[i] = result.to
    end
    return list
  end

  describe("reads", function()
    for name, text in pairs({
      ["CSV"] = "to\n" .. A .. "\n" .. B .. "\n",
      ["CSV with CRLF and a byte order mark"] = "\239\187\191to,name\r\n" .. A .. ",x\r\n" .. B
        .. ",\r\n",
      ["CSV without a last line end"] = "to\n" .. A .. "\n" .. B,
      ["columns in any order, quoted"] = '"from","na""me","to"\n,"a, ""b""\n",' .. A .. "\n" .. FROM
        .. ",\"\",\"" .. B .. "\"\n",
      ["empty lines"] = "to\n\n" .. A .. "\n\n" .. B .. "\n\n",
      ["JSON lines"] = '{"to":"' .. A .. '"}\n{"n":1.5,"to":"' .. B .. '","from":null}\n',
      ["JSON lines with blanks and a byte order mark"] = "\239\187\191 \n\n{\"to\": \"" .. A
        .. "\"}\r\n\r\n\t{\"to\":\"" .. B .. "\"}",
    }) do
      it(name .. ", from a file, a pipe and a redirection", function()
        for _, pipe in ipairs({ false, "cat %s | %s", "<%s %s" }) do
          local status, results, err = many:results(text, {}, {}, pipe or nil)
          assert.equal(0, status, err)
          assert.same({ A, B }, numbers(results))
        end
        assert.same({ [A] = 3, [B] = 3 }, many:processed())
      end)
    end

    it("a header without rows", function()
      local status, out, err = many:run("to\n")
      assert.same({ 0, "" }, { status, out })
      assert.matches("0 rows", err, 1, true)
    end)
  end)

  it("prints result objects with the row that they belong to", function()
    local text = "name,to,id,from\n\"As\nha\"," .. A .. ",order-1,\n/," .. B .. ",,+12025550123\n"
    local status, results, err = many:results(text)
    assert.equal(0, status)
    assert.matches("^koresms: 2 rows in 0:00 %(.-%): accepted 2  rejected 0  not sent 0  "
      .. "unknown 0\n$", err)
    bulk.sort(results)
    assert.same({ 1, 2, "order-1", FROM, { name = "As\nha", to = A, id = "order-1", from = "" } },
      { results[1].index, results[1].line, results[1].id, results[1].from, results[1].input })
    assert.same({ 2, 4, "+12025550123", "/" },
      { results[2].index, results[2].line, results[2].from, results[2].input.name })
    assert.matches("^%x+$", results[2].id)
    local order = {}
    for name in command.read(many.out):match("[^\n]+"):gmatch('[{,]"([%l_]+)":') do
      order[#order + 1] = name
    end
    assert.equal("outcome code message retryable retry_after status platform_code platform_message "
      .. "attempts id from to elapsed index line input", table.concat(order, " ", 1, 16))
  end)

  it("gives JSON rows back as they came, and null where a row has nothing more", function()
    local row = '{"to":"' .. A
      .. '","big":12345678901234567890,"deep":[{"to":"x"}],"o\\"k":"\\u00e4"}'
    local status = many:results(row .. '\n{"to":"' .. B .. '","id":"x"}\n',
      { "--concurrency", "1" })
    assert.equal(0, status)
    local lines = command.lines(command.read(many.out))
    assert.equal(',"input":' .. row .. "}", lines[1]:sub(-#row - 10))
    assert.matches('"id":"x".*,"input":null}$', lines[2])
  end)

  it("prints a line for people, without whole numbers", function()
    local status, out = many:run("to,id\n" .. A .. ",a\n")
    assert.equal(0, status)
    assert.matches("^line 2  accepted  %+9112%*%*%*%*%*90  id a  %d+%.%d%d s\n$", out)
  end)

  it("takes the sender from the row, else --from, else the setting", function()
    local text = "to,from\n" .. A .. ",+12025550100\n" .. B .. ",\n"
    for arguments, expected in pairs({ [{}] = FROM,
      [{ "--from", "+12025550101" }] = "+12025550101" }) do
      local status, results = many:results(text, arguments)
      assert.equal(0, status)
      bulk.sort(results)
      assert.same({ "+12025550100", expected }, { results[1].from, results[2].from })
    end
    local without = { KORESMS_FROM = false }
    local status, _, err = many:run(text, {}, without)
    assert.equal(2, status)
    assert.matches("input:3: from: no sender", err, 1, true)
    status, _, err = many:run("to\n" .. A .. "\n", {}, without)
    assert.equal(2, status)
    assert.matches("column 'from' or --from, or set KORESMS_FROM", err, 1, true)
    assert.equal(0, (many:run("to\n" .. A .. "\n", { "--from", FROM }, without)))
  end)

  describe("refuses", function()
    for text, input in pairs({
      ["it is empty"] = "",
      ["it is empty; a"] = " \r\n\n",
      ["column 'toNo' is not understood (did you mean 'to'?)"] = "toNo,fromNo\n" .. A .. ",\n",
      ["column 'To' is not understood (did you mean 'to'?)"] = "To\n" .. A .. "\n",
      ["column ' to' is not understood (did you mean 'to'?)"] = "id, to\nx," .. A .. "\n",
      ["column 'fromNo' is not understood (did you mean 'from'?)"] = "to,fromNo\n" .. A .. "," .. B
        .. "\n",
      ["the header has no column 'to'"] = "a,b\n",
      ["fields are separated by commas"] = "to;from\n",
      ["must name the columns"] = A .. "," .. B .. "\n",
      ["two columns are called 'to'"] = "to,to\n",
      ["column 2 has no name"] = "to,\n",
      ["is opened here and not closed"] = "to,n\n" .. A .. ",\"x\n" .. B .. ",y\n",
      ["one object a line is expected"] = "[{\"to\":\"" .. A .. "\"}]",
      ["UTF-16"] = "\255\254t\0o\0",
      ["NUL bytes, as in UTF-16"] = "t\0o\0\n\0+\0",
      ["a spreadsheet"] = "PK\3\4\20\0\6\0",
      ["compressed"] = "\31\139\8\0\0",
      ["PDF"] = "%PDF-1.7\n",
      ["HTML"] = "<!DOCTYPE html>\n<html>",
      ["a first line that is for spreadsheets"] = "sep=,\nto,name\n" .. A .. ",x\n",
      ["a carriage return that ends no line"] = "to,name\r" .. A .. ",x\r",
      ["it has 'Telefon', 'Vorname'"] = "Telefon,Vorname\n" .. A .. ",x\n",
    }) do
      it(("%q: %s"):format(input:sub(1, 20), text), function()
        for _, arguments in ipairs({ {}, { "--skip-invalid" } }) do
          local status, out, err = many:run(input, arguments)
          assert.same({ 2, "" }, { status, out })
          assert.matches(text, err, 1, true)
          assert.not_matches(A, err, 1, true)
        end
        assert.equal(0, many:count())
      end)
    end

    it("a file that is not there or none", function()
      for _, path in ipairs({ "/nonexistent/file", "/" }) do
        local ok, out = shell.run(many:line({ path }) .. " 2>&1; [ $? = 2 ]")
        assert.is_true(ok)
        assert.matches(path, out, 1, true)
      end
    end)

    for name, arguments in pairs({
      ["no file"] = {}, ["two files"] = { "a", "b" },
      ["no concurrency"] = { "-", "--concurrency", "0" },
      ["too much of it"] = { "-", "--concurrency", "1025" },
      ["a sender that is none"] = { "-", "--from", "x" },
    }) do
      it(name, function()
        assert.is_true(shell.run(many:line(arguments) .. " </dev/null >/dev/null 2>&1; [ $? = 2 ]"))
      end)
    end
  end)

  it("names every bad row at once, and sends nothing", function()
    local text = table.concat({ "to,from,name", A .. ",,x", "0911234567890,,x",
      A:sub(1, 7) .. " 890,,x", A,
      A .. ",KORE,x", A .. ',,"x"y', A .. ",,x\"y", A .. ",,\228", ",,", "\"a\nb\",,", "" }, "\n")
    local status, out, err = many:run(text)
    assert.same({ 2, "" }, { status, out })
    for _, line in ipairs({ "3: to: not an E.164 number: at byte 1",
      "4: to: not an E.164 number: at byte 8",
      "5: 1 fields, and the header has 3", "6: from: not an E.164 number",
      "7: text after a closing quote",
      "8: a quote within a field", "9: byte 16 is not UTF-8",
      "10: to: not an E.164 number: the text is empty",
      "11: to: not an E.164 number" }) do
      assert.matches("input:" .. line, err, 1, true)
    end
    assert.matches("9 of 10 rows are bad; nothing was sent", err, 1, true)
    assert.not_matches("1234567", err, 1, true)
    assert.equal(0, many:count())
  end)

  it("names every bad line of JSON", function()
    local status, out, err = many:run(table.concat({ '{"to":' .. A .. "}", '{"toNo":"' .. A .. '"}',
      "x",
      '{"to":"' .. A .. '","fromNo":"' .. B .. '"}', '{"to":"' .. A .. '","id":7}',
      '{"from":"' .. A .. '"}',
      "[]" }, "\n"))
    assert.same({ 2, "" }, { status, out })
    for _, line in ipairs({ "1: no JSON object",
      "2: key 'toNo' is not understood (did you mean 'to'?)",
      "3: no JSON object", "4: key 'fromNo' is not understood (did you mean 'from'?)",
      "5: id: a string expected, got number", "6: no key 'to'", "7: no JSON object" }) do
      assert.matches("input:" .. line, err, 1, true)
    end
    assert.equal(0, many:count())
  end)

  it("takes no object that has a key twice", function()
    local status, results, err = many:results(table.concat({
      '{"to":"' .. A .. '","to":"' .. B .. '"}',
      '{"to":"' .. A .. '", "id":"a" , "id" :"b"}', '{"to":"' .. A .. '","x":{"to":"' .. B
        .. '"},"y":[{"to":1}]}',
      '{"to":"' .. B .. '","x":"\\"to\\":","y":"to"}', '{"x":"{","to":"' .. C .. '","z":"}"}' },
      "\n"),
      { "--skip-invalid" })
    assert.equal(1, status)
    assert.same({ A, B, C }, numbers(results))
    assert.matches("input:1: key 'to' occurs twice", err, 1, true)
    assert.matches("input:2: key 'id' occurs twice", err, 1, true)
    assert.matches("2 of 5 rows are bad", err, 1, true)
  end)

  it("warns where a pipe ends within a line, for a number may be cut", function()
    for text, wanted in pairs({ ["to\n" .. A] = "input:2: the last row has no line end",
      ["to\n" .. A .. "\n"] = false,
      ['{"to":"' .. A .. '"}'] = "1: the last row has no line end" }) do
      for pipe, warned in pairs({ ["cat %s | %s"] = true, ["<%s %s"] = false }) do
        local status, _, err = many:run(text, {}, {}, pipe)
        assert.equal(0, status)
        assert.equal(wanted and warned or false, err:find("no line end; was the input cut", 1,
          true) ~= nil)
        if wanted and warned then assert.matches(wanted, err, 1, true) end
      end
    end
  end)

  it("says how an object on several lines is to be written", function()
    local status, out, err = many:run('{\n "to": "' .. A .. '"\n}\n')
    assert.same({ 2, "" }, { status, out })
    assert.matches("input:1: no JSON object: .*; one object a line is expected %(jq %-c %.%)", err)
  end)

  it("warns of a column that was probably meant to be the id", function()
    local status, results, err = many:results("to,ID\n" .. A .. ",7\n")
    assert.same({ 0, "7" }, { status, results[1].input.ID })
    assert.matches("column 'ID' is not understood (did you mean 'id'?)", err, 1, true)
  end)

  it("never takes for rows what stands between quotes", function()
    local status, results = many:results("to,n\n" .. A .. ",\"x\n" .. B .. ",y\n\"z\n" .. C
      .. ",z\n",
      { "--skip-invalid" })
    assert.equal(1, status)
    assert.same({ C }, numbers(results))
  end)

  it("finds 50 bad rows among 100,000, and sends the others where it may", function()
    local lines, bad, left, all = { "to,name" }, {}, 50, 100000
    math.randomseed(os.time())
    while left > 0 do
      local line = math.random(2, all + 1)
      if not bad[line] then bad[line], left = true, left - 1 end
    end
    for i = 2, all + 1 do
      lines[i] = ("%s%010d,\"n, %d\""):format(bad[i] and "91" or "+91", i, i)
    end
    local text = table.concat(lines, "\n")
    local bench = { KORESMS_BOT_ID = "bench" }
    local status, out, err = many:run(text, {}, bench)
    assert.same({ 2, "" }, { status, out })
    local named = {}
    for line in err:gmatch("input:(%d+): to: ") do named[tonumber(line)] = true end
    assert.same(bad, named)
    assert.equal(0, many.box:get("/_sandbox/state").bench_count)
    status, out, err = many:run(text, { "--skip-invalid" }, bench)
    assert.equal(1, status)
    assert.equal(99950, select(2, out:gsub("\n", "")))
    assert.matches("100000 rows in .*: accepted 99950  rejected 0  not sent 50  unknown 0; "
      .. "bad rows %(not sent%): 50\n$", err)
    assert.equal(99950, many.box:get("/_sandbox/state").bench_count)
  end)

  it("reports a recipient that occurs twice, and skips it with --unique", function()
    local lines = { "to,from" }
    for i = 1, 20 do lines[#lines + 1] = ("+91%010d,"):format(i % 10 + 1) end
    lines[12] = "+910000000002,x"
    local text = table.concat(lines, "\n")
    local status, out, err = many:run(text, { "--skip-invalid" })
    assert.equal(1, status)
    assert.equal(19, #command.lines(out))
    assert.matches("input:13: the recipient occurs before (+9100*****03)", err, 1, true)
    assert.equal(5, select(2, err:gsub("occurs before", "")))
    assert.matches("9 of 20 rows repeat a recipient; --unique skips them", err, 1, true)
    many:reset()
    status, out, err = many:run(text, { "--skip-invalid", "--unique" })
    assert.equal(1, status)
    assert.equal(10, #command.lines(out))
    assert.matches("bad rows (not sent): 1; duplicates skipped: 9", err, 1, true)
    for _, count in pairs(many:processed()) do assert.equal(1, count) end
    -- A bad row is no first occurrence.
    status, out = many:run("to,from\n" .. A .. ",x\n" .. A .. ",\n",
      { "--skip-invalid", "--unique" })
    assert.same({ 1, 1 }, { status, #command.lines(out) })
  end)

  it("sends nothing with --dry-run, and says how long it would take", function()
    local lines = { "to" }
    for i = 1, 200 do lines[#lines + 1] = ("+91%010d"):format(i) end
    local text = table.concat(lines, "\n")
    local status, out, err = many:run(text, { "--dry-run" }, { KORESMS_PER_MINUTE = "60" })
    assert.same({ 0, "" }, { status, err })
    assert.matches("dry run  200 messages of 200 rows", out, 1, true)
    assert.matches("takes 3:00 or more (at most 60 a minute)", out, 1, true)
    status, out = many:run(text .. "\nx\n+910000000001", { "--dry-run", "--json", "--skip-invalid",
      "--unique" })
    assert.equal(1, status)
    local object = cjson.decode(out)
    assert.same({ true, 202, 200, 1, 1, 0 }, { object.dry_run, object.rows, object.messages,
      object.bad,
      object.duplicates, object.seconds })
    assert.equal(0, many:count())
  end)

  it("exits with 1 where some are rejected, 4 where some are unknown", function()
    local text = "to\n" .. A .. "\n" .. B .. "\n" .. C .. "\n"
    many.koresms:play({ status = 412 })
    local status, results, err = many:results(text)
    assert.same({ 1, 3 }, { status, #results })
    assert.matches("accepted 2  rejected 1  not sent 0  unknown 0", err, 1, true)
    many.koresms:play({ status = 412 })
    many.koresms:play({ status = 503 })
    status, results, err = many:results(text)
    assert.same({ 4, 3 }, { status, #results })
    assert.matches("accepted 1  rejected 1  not sent 0  unknown 1", err, 1, true)
    status, results, err = many:results(text, {}, { KORESMS_HOST = false })
    assert.same({ 2, 0 }, { status, #results })
    assert.matches("KORESMS_HOST", err, 1, true)
  end)

  it("draws a line only on a terminal, and lets it not stand between results", function()
    assert(many.box:control("PUT", "/_sandbox/settings", { latency = 0.3 }))
    local text = "to\n" .. A .. "\n" .. B .. "\n"
    local _, _, err = many:run(text, { "--concurrency", "1" })
    assert.not_matches("\r", err, 1, true)
    if not shell.run("command -v script") then return pending("no script command") end
    local _, out = shell.run(("script -qec %s /dev/null </dev/null"):format(
      shell.quote(many:line({ many.input, "--concurrency", "1" }))))
    assert.matches("\r%[[#-]+%]  1/2  [%d.]+/%a+  accepted 1  rejected 0  not sent 0  unknown 0  "
      .. "ETA 0:0%d", out)
    assert.matches("\r *\rline 3  accepted", out)
    assert.matches("[\r\n]koresms: 2 rows", out)
  end)
end)
