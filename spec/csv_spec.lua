-- What reads the input of a bulk send, piece by piece.

local csv = require "koresms.cli.csv"
local jsonl = require "koresms.cli.jsonl"
local number_set = require "koresms.cli.number_set"
local row_buffer = require "koresms.cli.row_buffer"
local utf8_fault = require("koresms.utf8").fault

-- Gives a text in pieces of the sizes that a function tells; then `why`.
local function feed(whole, size, why)
  local at = 1
  return function()
    if at > #whole then return nil, why end
    local piece = whole:sub(at, at + size() - 1)
    at = at + #piece
    return piece
  end
end

local function always(n) return function() return n end end

-- All rows: { line, text, fields or fault }; then what ended them.
local function read(module, whole, size, why)
  local reader, rows = module.reader(feed(whole, size or always(65536), why)), {}
  while true do
    local content, row, line, fault = reader:next()
    if content == nil then return rows, line and { line, fault } end
    rows[#rows + 1] = { line, row, content or fault }
  end
end

local function contents(rows)
  local list = {}
  for i, row in ipairs(rows) do list[i] = row[3] end
  return list
end

describe("CSV", function()
  for name, case in pairs({
    ["plain fields"] = { "a,b\n1,2\n", { { "a", "b" }, { "1", "2" } } },
    ["CRLF"] = { "a,b\r\n1,2\r\n", { { "a", "b" }, { "1", "2" } } },
    ["a last row without an end"] = { "a\n1", { { "a" }, { "1" } } },
    ["a last quoted row without an end"] = { "a\n\"1\"", { { "a" }, { "1" } } },
    ["empty fields"] = { ",\n,,\n", { { "", "" }, { "", "", "" } } },
    ["quoted fields"] = { '"a","b, ""c"""\n', { { "a", 'b, "c"' } } },
    ["an empty quoted field"] = { '"",""\n""\n', { { "", "" }, { "" } } },
    ["line ends in a field"] = { '"a\nb\r\nc\rd",e\r\nf,g\r\n', { { "a\nb\r\nc\rd", "e" },
      { "f", "g" } } },
    ["blanks, which belong to the field"] = { " a , b \n", { { " a ", " b " } } },
    ["empty lines"] = { "a\n\n\r\nb\n\n", { { "a" }, { "b" } } },
    ["nothing"] = { "", {} },
    ["NUL and high bytes"] = { "a\0b,\255\n", { { "a\0b", "\255" } } },
  }) do
    it("takes " .. name, function()
      assert.same(case[2], contents(read(csv, case[1])))
    end)
  end

  it("tells each row's line and text", function()
    local rows = read(csv, 'a\r\n"1\n2"\n\n3\n"4"')
    assert.same({ { 1, "a\r\n", { "a" } }, { 2, '"1\n2"\n', { "1\n2" } }, { 5, "3\n", { "3" } },
      { 6, '"4"', { "4" } } }, rows)
  end)

  for name, case in pairs({
    ["a quote within a field"] = { 'a"b,c\nd\n', "a quote within a field", 'a"b,c\n' },
    ["text behind a closing quote"] = { '"a"b,c\nd\n', "text after a closing quote", '"a"b,c\n' },
    ["the same after lines"] = { '"a\n+9112\nb" ,c\nd\n', "text after a closing quote",
      '"a\n+9112\nb" ,c\n' },
    ["a bare carriage return"] = { "a\rb,c\nd\n", "a carriage return", "a\rb,c\n" },
    ["the same behind a quote"] = { '"a"\rb,c\nd\n', "a carriage return", '"a"\rb,c\n' },
  }) do
    it("calls " .. name .. " a fault of its row, and goes on behind it", function()
      local rows, ended = read(csv, case[1])
      assert.is_nil(ended)
      assert.equal(2, #rows)
      assert.matches(case[2], rows[1][3], 1, true)
      assert.equal(case[3], rows[1][2])
      assert.same({ "d" }, rows[2][3])
    end)
  end

  it("ends where a quote is not closed", function()
    local rows, ended = read(csv, 'a\nb,"c\nd\ne\n')
    assert.equal(1, #rows)
    assert.equal(2, ended[1])
    assert.matches("not closed", ended[2], 1, true)
  end)

  it("ends where a row is too long, in bounded memory", function()
    for _, filler in ipairs({ '"' .. ("x\n"):rep(1000), ("x"):rep(2000) }) do
      local pieces, given = 3000, 0
      local reader = csv.reader(function()
        given = given + 1
        return given == 1 and filler or given <= pieces and filler:gsub('"', "x") or nil
      end)
      local content, _, line, fault = reader:next()
      assert.same({ nil, 1 }, { content, line })
      assert.matches("longer than", fault, 1, true)
      assert.truthy(given * #filler < row_buffer.MOST + 200000)
    end
  end)

  it("gives no row that a failure has cut off", function()
    for _, whole in ipairs({ "a\n12", 'a\n"12"', 'a\n"12' }) do
      local rows, ended = read(csv, whole, nil, "read error")
      assert.same({ { "a" } }, contents(rows))
      assert.equal("read error", ended[2])
    end
  end)

  it("reads the same, whatever the pieces are", function()
    local seed = os.time()
    math.randomseed(seed)
    local parts = { "a", ",", '"', '""', "\n", "\r\n", "\r", "+9112", '"x","y"', '"p\nq"', "" }
    for _ = 1, 300 do
      local list = {}
      for i = 1, math.random(30) do list[i] = parts[math.random(#parts)] end
      local whole = table.concat(list)
      local rows, ended = read(csv, whole)
      local others, other_end = read(csv, whole, function() return math.random(4) end)
      assert.same(rows, others, ("seed %d: %q"):format(seed, whole))
      assert.same(ended, other_end)
      -- No byte is lost, nor in two rows, but for empty lines.
      local all = {}
      for i, row in ipairs(rows) do all[i] = row[2] end
      local read_text = table.concat(all):gsub("[\r\n]", "")
      assert.equal(read_text, whole:gsub("[\r\n]", ""):sub(1, #read_text))
    end
  end)

  it("gives back what was written by the rules", function()
    math.randomseed(os.time())
    local bytes = { "a", '"', ",", "\r", "\n", " ", "\195\164", "+" }
    local written, expected = {}, {}
    for i = 1, 200 do
      local fields, cells = {}, {}
      for j = 1, 3 do
        local field = { "f" }
        for k = 1, math.random(6) do field[k] = bytes[math.random(#bytes)] end
        fields[j] = table.concat(field)
        cells[j] = '"' .. fields[j]:gsub('"', '""') .. '"'
      end
      expected[i], written[i] = fields, table.concat(cells, ",") .. "\r\n"
    end
    assert.same(expected, contents(read(csv, table.concat(written),
      function() return math.random(9) end)))
  end)
end)

describe("JSON lines", function()
  it("gives one object a line", function()
    local rows, ended = read(jsonl, '{"to":"+9112"}\n\n \r\n{"a":[1,{}]}\r\n{"b":null}', always(3))
    assert.is_nil(ended)
    assert.same({ 1, 4, 5 }, { rows[1][1], rows[2][1], rows[3][1] })
    assert.equal("+9112", rows[1][3].to)
  end)

  it("names what is none", function()
    for _, line in ipairs({ "[1]", '"a"', '{"a":1} {}', '{"a":}', '{"a":NaN}', '{"a":01}',
      '{"a":+1}',
      '{"a":1.}', '{"a":"\\"", "b":-.5}', "{", "x" }) do
      local rows = read(jsonl, line .. "\n{}\n")
      assert.matches("no JSON object", rows[1][3], 1, true)
      assert.same({}, rows[2][3])
    end
    for _, line in ipairs({ '{"a":"+1. .5"}', '{"a":1e+3,"b":-1.5E-2}', '{"a\\"":"\\\\"}' }) do
      assert.is_table(read(jsonl, line)[1][3])
    end
  end)

  it("ends where a line is too long, and gives none that a failure has cut off", function()
    local rows, ended = read(jsonl, '{}\n{"a":"' .. ("x"):rep(row_buffer.MOST + 200000)
      .. '"}\n{}\n')
    assert.same({ 1, 2 }, { #rows, ended[1] })
    rows, ended = read(jsonl, "{}\n{}", nil, "read error")
    assert.same({ 1, "read error" }, { #rows, ended[2] })
  end)
end)

describe("the set of numbers", function()
  it("knows what was put in", function()
    local seed = os.time()
    math.randomseed(seed)
    local set, known = number_set.new(), {}
    for i = 1, 20000 do
      local number = "+" .. math.random(9)
      for _ = 1, i % 3 == 0 and 14 or math.random(14) do number = number .. math.random(0, 9) end
      assert.equal(not known[number], set:add(number), ("seed %d"):format(seed))
      known[number] = true
    end
    for number in pairs(known) do assert.is_false(set:add(number)) end
  end)

  it("tells the longest and the closest ones apart", function()
    local set = number_set.new()
    for _, number in ipairs({ "+999999999999999", "+999999999999998", "+99999999999999", "+12",
      "+1000000000065521", "+65533", "+131054" }) do
      if #number <= 16 then assert.is_true(set:add(number)) end
    end
  end)
end)

describe("UTF-8", function()
  it("is told from what is none", function()
    for _, good in ipairs({ "", "abc", "\195\164", "\224\160\128", "\237\159\191", "\238\128\128",
      "\240\144\128\128", "\244\143\191\191", "a\226\130\172b" }) do
      assert.is_nil(utf8_fault(good))
    end
    for bad, at in pairs({ ["a\228b"] = 2, ["\192\128"] = 1, ["\224\128\128"] = 1,
      ["\237\160\128"] = 1, ["\240\128\128\128"] = 1, ["\244\144\128\128"] = 1, ["\195"] = 1,
      ["\195\164\128"] = 3, ["\255"] = 1 }) do
      assert.equal(("byte %d is not UTF-8"):format(at), utf8_fault(bad))
    end
  end)
end)
