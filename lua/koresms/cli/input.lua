--- The recipients of a bulk send: CSV or JSON lines, from a file or standard input.
--
-- A row has `index` (its place among the rows, from 1), `line`, `text` (as it came, line end
-- included), `to`, `from`, `id`, or a `fault` that keeps it from being sent.
local cjson = require "cjson"
local csv = require "koresms.cli.csv"
local e164 = require("koresms.core").e164
local jsonl = require "koresms.cli.jsonl"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"
local output = require "koresms.cli.output"
local spool = require "koresms.cli.spool"
local utf8_fault = require("koresms.utf8").fault

local M = {}

--- The columns that are understood, in the order in which they are documented.
M.columns = { "to", "from", "id" }

local known = { to = true, from = true, id = true }

-- Columns that are named where none of them will do.
local NAMED = 10

local BOM = "\239\187\191"

local function located(self, text, line)
  return ("%s:%s %s"):format(self.name, line and line .. ":" or "", text)
end

-- Is this name understood? The column of the recipients may have another one.
local function is_known(self, name)
  return name == self.to or name ~= "to" and known[name] or false
end

-- A column's name for people.
local function show(name)
  return "'" .. mask.text(tostring(name), 40) .. "'"
end

-- The known name that an unknown one was probably meant to be, looked up once for each.
local function guesser()
  local guesses, count = {}, 0
  return function(name)
    local meant = guesses[name]
    if meant == nil then
      meant = misuse.suggest(name, known) or false
      count = count + 1
      -- JSON lines may have any number of names.
      if count <= 1000 then guesses[name] = meant end
    end
    return meant
  end
end

-- The first of some names that was probably meant to be this one.
local function near(wanted, names, meant)
  for _, name in ipairs(names) do
    if not known[name] and meant(name) == wanted then return name end
  end
end

local function not_meant(name, wanted)
  return ("column %s is not understood (did you mean '%s'?)%s"):format(show(name), wanted,
    wanted == "to" and "; --to-column takes another name" or "")
end

-- CSV -------------------------------------------------------------------------------------

local csv_format = { reader = csv.reader }

-- Some names for people.
local function list(names)
  local shown = {}
  for i = 1, math.min(#names, NAMED) do shown[i] = show(names[i]) end
  if #names > NAMED then shown[#shown + 1] = ("and %d more"):format(#names - NAMED) end
  return table.concat(shown, ", ")
end

-- What a first row without a column `to` was meant to be.
local function header_fault(names, meant)
  local other = near("to", names, meant)
  if other then return not_meant(other, "to") end
  local first = names[1]
  if #names == 1 and first:find("[;\t|]") then
    return "fields are separated by commas, and the header has none"
  end
  if e164((first:gsub("[ ()-]", ""))) or first:find("^%+?%d+$") then
    return "the first row must name the columns (to, from, id), and it holds a number"
  end
  return "the header has no column 'to'; it has " .. list(names)
end

-- A column, or a key, that looks like the text of each message.
local function text_remark(self, what, name, line)
  if not misuse.is_text(name) then return nil end
  return located(self, ("%s %s is not sent; %s"):format(what, show(name), misuse.NO_TEXT), line)
end

-- Reads the header. Returns nil and a text where it will not do.
function csv_format.open(self)
  local names, text, line, fault = self.reader:next()
  if not names then return nil, fault or "no header row", line end
  fault = utf8_fault(text)
  if fault then return nil, ("the header: %s; save the file as UTF-8"):format(fault), line end
  local columns = {}
  for i, name in ipairs(names) do
    if name == "" then return nil, ("column %d has no name"):format(i), line end
    if columns[name] then return nil, "two columns are called " .. show(name), line end
    columns[name] = i
  end
  if not columns[self.to] then
    if self.to == "to" then return nil, header_fault(names, self.meant), line end
    return nil, ("the header has no column %s (--to-column); it has %s"):format(show(self.to),
      list(names)), line
  end
  local other = not columns.from and not self.sender and near("from", names, self.meant)
  if other then
    return nil, not_meant(other, "from") .. "; rename it, or say --from NUMBER", line
  end
  if not columns.from and not self.fallback then
    return nil, "no sender: give a column 'from' or --from, or set KORESMS_FROM", line
  end
  other = not columns.id and near("id", names, self.meant)
  self.remark = other and located(self, not_meant(other, "id"), line)
  self.extra = false
  for _, name in ipairs(names) do
    self.remark = self.remark or text_remark(self, "column", name, line)
    self.extra = self.extra or not is_known(self, name)
  end
  columns.to = columns[self.to]
  self.header, self.names, self.places = text, names, columns
  return true
end

function csv_format.fill(self, row, fields)
  if #fields ~= #self.names then
    return ("%d fields, and the header has %d"):format(#fields, #self.names)
  end
  for _, name in ipairs(M.columns) do
    local value = fields[self.places[name]]
    if value ~= "" or name == "to" then row[name] = value end
  end
  row.fields = fields
end

function csv_format.json(self, row)
  if not self.extra then return nil end
  local parts = {}
  for i, name in ipairs(self.names) do
    parts[i] = output.encode(name) .. ":" .. output.encode(row.fields[i])
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- JSON lines ------------------------------------------------------------------------------

local json_format = { reader = jsonl.reader }

function json_format.open()
  return true
end

function json_format.fill(self, row, object)
  for _, name in ipairs(M.columns) do
    local key = name == "to" and self.to or name
    local value = object[key]
    if value ~= nil and value ~= cjson.null then
      if type(value) ~= "string" then
        return ("%s: a string expected, got %s"):format(key, type(value))
      end
      if jsonl.has_twice(row.text, key) then return ("key '%s' occurs twice"):format(key) end
      row[name] = value
    end
  end
  for name in pairs(object) do
    if not is_known(self, name) then
      row.extra = true
      self.remark = self.remark or text_remark(self, "key", name, row.line)
      local meant = self.meant(name)
      if meant == "to" and self.to == "to" and not row.to
        or meant == "from" and not row.from and not self.sender then
        return ("key %s is not understood (did you mean '%s'?)"):format(show(name), meant)
      end
    end
  end
  if not row.to then return ("no key '%s'"):format(self.to) end
end

-- As it came: numbers that do not fit into a Lua number stay what they are.
function json_format.json(_, row)
  return row.extra and mask.json((row.text:gsub("[%z\1-\31]", " "):match("^%s*(.-)%s*$"))) or nil
end

-- All inputs ------------------------------------------------------------------------------

local input = {}
input.__index = input

local formats = {
  { begins = "^PK\3\4", fault = "a spreadsheet or another archive; save it as CSV" },
  { begins = "^\208\207\17\224", fault = "an old spreadsheet; save it as CSV" },
  { begins = "^\31\139", fault = "compressed; pipe it through gunzip" },
  { begins = "^%%PDF", fault = "PDF; CSV or JSON lines are expected" },
  { begins = "^%s*<[!?%a]", fault = "HTML or XML; CSV or JSON lines are expected" },
  { begins = "^%s*sep=", fault = "a first line that is for spreadsheets (sep=); take it out" },
  { begins = "^%s*{", format = json_format },
  { begins = "^%s*%[", fault = "a JSON array; one object a line is expected (jq -c '.[]')" },
  { begins = "^\255\254", fault = "UTF-16; UTF-8 is expected" },
  { begins = "^\254\255", fault = "UTF-16; UTF-8 is expected" },
  { begins = "^[^\n]*%z", fault = "NUL bytes, as in UTF-16; UTF-8 is expected" },
  { begins = "", format = csv_format },
}

-- Finds out what the input is, from its first piece, and makes a reader for it.
local function begin(self)
  local first, why = self.source:read()
  if why then return nil, why end
  while first and not first:find("%S") do
    -- Blanks before a JSON object, or a file of nothing else.
    local piece, reason = self.source:read()
    if reason then return nil, reason end
    if not piece then break end
    first = first .. piece
  end
  if not first or not first:find("%S") then
    return nil, "it is empty; a header row (to, from, id) or JSON lines are expected"
  end
  self.bom = first:sub(1, 3) == BOM and BOM or ""
  first = first:sub(#self.bom + 1)
  for _, row in ipairs(formats) do
    if first:find(row.begins) then
      if row.fault then return nil, row.fault, 1 end
      self.format = row.format
      break
    end
  end
  self.reader = self.format.reader(function()
    local piece = first
    first = nil
    if piece then return piece end
    return self.source:read()
  end)
  self.index, self.header = 0, ""
  return self.format.open(self)
end

--- Opens an input.
-- @tparam string path "-" for standard input
-- @tparam ?string sender where a row names none
-- @tparam boolean fallback whether there is a sender for such rows
-- @tparam ?string to the column, or key, of the recipients; default: to
-- @treturn[1] table; its `remark` is a text for people, where there is one once all rows were read
-- @treturn[2] nil
-- @treturn[2] string
function M.open(path, sender, fallback, to)
  local opened, why = spool.open(path)
  local name = path == "-" and "standard input" or path
  if not opened then
    -- The system's text begins with the path.
    return nil, path ~= "-" and why:sub(1, #path) == path and why or name .. ": " .. why
  end
  local self = setmetatable({ source = opened, name = name, meant = guesser(), sender = sender,
    fallback = fallback, to = to or "to" }, input)
  local ok, fault, line = begin(self)
  if not ok then return nil, located(self, fault, line) end
  return self
end

--- Goes back to the first row.
function input:rewind()
  local ok, why = self.source:rewind()
  if ok then
    ok, why = begin(self)
  end
  if not ok then return nil, located(self, why) end
  return true
end

-- What keeps a row that could be read from being sent.
local function row_fault(self, row)
  local ok, why = e164(row.to)
  if not ok then return "to: " .. why end
  if row.from then
    ok, why = e164(row.from)
    if not ok then return "from: " .. why end
  elseif not self.fallback then
    return "from: no sender; give one here or --from, or set KORESMS_FROM"
  end
  return utf8_fault(row.text)
end

--- The next row.
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] ?string why the input cannot be read further, where that is not its end
function input:next()
  local content, text, line, fault = self.reader:next()
  if content == nil then
    return nil, fault and located(self, fault, line)
  end
  self.index = self.index + 1
  local row = { index = self.index, line = line, text = text }
  row.fault = fault or self.format.fill(self, row, content) or row_fault(self, row)
  return row
end

--- A text about a row; by default what is wrong with it.
function input:complaint(row, text)
  return located(self, ("%s%s"):format(text or row.fault,
    row.to and " (" .. mask.number(row.to) .. ")" or ""), row.line)
end

--- All of a row as a JSON object, where it has more than the columns that are understood.
-- @treturn ?string
function input:json(row)
  return self.format.json(self, row)
end

--- Whether the last row came through a pipe and has no line end: then it may have been cut off,
-- and a number that is cut may be another one's.
-- @tparam table row the last one
function input:may_be_cut(row)
  return self.source:is_kept() and not row.text:find("\n$")
end

--- What stands before the first row.
function input:heading()
  return self.bom .. self.header
end

return M
