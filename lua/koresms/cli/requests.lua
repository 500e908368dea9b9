--- The line on the terminal for each request that the sandbox answers.
local cjson = require "cjson"
local mask = require "koresms.mask"
local output = require "koresms.cli.output"

local M = {}

local json = cjson.new()

local COLOURS = { accepted = "\27[32m", rejected = "\27[33m", unknown = "\27[31m" }

-- Plain Lua cannot ask whether standard error is a terminal; the shell can.
local function colours()
  local asked = os.getenv("NO_COLOR")
  if asked and asked ~= "" or os.getenv("TERM") == "dumb" then return false end
  local status = os.execute("test -t 2")
  return status == true or status == 0
end

-- Numbers with a meaning belong to nobody, and the meaning stands in their digits.
local function number(to)
  return to:find("^%+1500555%d%d%d%d$") and to or mask.number(to)
end

local function given(value)
  return value ~= nil and value ~= cjson.null
end

--- One line for people about one request.
-- @tparam table record what the sandbox wrote about it
-- @tparam boolean coloured
-- @treturn string
function M.line(record, coloured)
  local answer = given(record.close) and "closed" or given(record.silent) and "silent"
    or ("%d"):format(record.status)
  local outcome = ("%-8s"):format(record.outcome)
  if coloured then outcome = (COLOURS[record.outcome] or "") .. outcome .. "\27[0m" end
  local parts = { os.date("%H:%M:%S", math.floor(record.at)), outcome, ("%-6s"):format(answer) }
  parts[#parts + 1] = given(record.to) and number(record.to)
    or output.plain(record.method .. " " .. mask.text(record.path, 80))
  parts[#parts + 1] = ("%.0f ms"):format(record.seconds * 1000)
  if given(record.played) then parts[#parts + 1] = "(" .. output.plain(record.played) .. ")" end
  if given(record.problem) then parts[#parts + 1] = output.plain(mask.text(record.problem)) end
  return table.concat(parts, "  ")
end

local READ_SIZE = 65536

local Reader = {}
Reader.__index = Reader

--- Reads what a sandbox writes about its requests.
-- @tparam string prefix the sandbox's directory
function M.reader(prefix)
  return setmetatable({ prefix = prefix, at = 1, rest = "", coloured = colours() }, Reader)
end

function Reader:path(at)
  return self.prefix .. "/requests." .. at
end

-- The next piece of the file, or nil.
function Reader:read()
  self.file = self.file or io.open(self:path(self.at), "rb")
  return self.file and self.file:read(READ_SIZE)
end

-- Goes on to the next file where there is one; what was read is removed.
function Reader:advance()
  local following = self.file and io.open(self:path(self.at + 1), "rb")
  if not following then return false end
  local piece = self:read()
  if piece then
    following:close()
    return piece
  end
  self.file:close()
  os.remove(self:path(self.at))
  self.file, self.at, self.rest = following, self.at + 1, ""
  return self:read()
end

--- Writes a line to standard error for each request since the last call.
function Reader:show()
  local piece = self:read() or self:advance()
  while piece do
    local text = self.rest .. piece
    self.rest = text:match("[^\n]*$")
    for line in text:gmatch("([^\n]*)\n") do
      io.stderr:write(M.line(json.decode(line), self.coloured), "\n")
    end
    piece = self:read() or self:advance()
  end
end

return M
