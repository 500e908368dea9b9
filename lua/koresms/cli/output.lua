--- What the command prints: one JSON object a line, or one line for people.
local cjson = require "cjson"
local mask = require "koresms.mask"
local results = require "koresms.result"
local utf8 = require "koresms.utf8"

local terminal = require "koresms.cli.terminal"

local M = {}

local json = cjson.new()

--- The fields of a result in the order in which they are written. Each line has all of them.
M.result_fields = {
  "outcome", "code", "message", "retryable", "retry_after", "status", "platform_code",
  "platform_message", "attempts", "id", "from", "to", "elapsed",
}

--- Exit status of an outcome, from best to worst: of several, the highest counts.
M.exit_status = { accepted = 0, rejected = 1, not_sent = 1, unknown = 4 }

-- On Lua 5.3 and later lua-cjson may tell 4002 from 4002.0, and it rounds long numbers:
-- the Lua version must not change what a reader sees.
local function number(value)
  if value ~= value or value == math.huge or value == -math.huge then return "null" end
  if value == math.floor(value) and math.abs(value) <= 2 ^ 53 then
    return ("%.0f"):format(value)
  end
  return ("%.14g"):format(value)
end

local function unescape(character)
  return character == "/" and "/" or nil
end

--- A value as JSON: valid UTF-8, and nothing in it steers a terminal.
-- @param value nil, a boolean, a number or a string
-- @treturn string
function M.encode(value)
  if value == nil or value == cjson.null then return "null" end
  if type(value) == "number" then return number(value) end
  -- JSON is UTF-8, and lua-cjson takes any bytes, from the platform too.
  if type(value) == "string" then value = utf8.clean(value) end
  -- A slash needs no escape, and addresses are easier to read without.
  return mask.json((json.encode(value):gsub("\\(.)", unescape)))
end

--- One JSON object with the named fields of a record in the given order; null where there
-- is none.
-- @tparam {string,...} fields
-- @tparam table record
-- @treturn string without the newline
function M.json(fields, record)
  local parts = {}
  for i, field in ipairs(fields) do
    parts[i] = json.encode(field) .. ":" .. M.encode(record[field])
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- A text on one line: what came from elsewhere must not steer a terminal.
function M.plain(text)
  return mask.printable(tostring(text))
end

local colours = { accepted = "green", rejected = "yellow", not_sent = "yellow", unknown = "red" }

--- One line for people about one result.
-- @tparam table result
-- @treturn string
function M.line(result)
  local outcome = result.outcome
  return terminal.colour(1, colours[outcome], outcome) .. results.line(result):sub(#outcome + 1)
end

--- Writes one line to standard output.
function M.print(text)
  io.stdout:write(text, "\n")
end

--- Writes one line for people to standard error.
function M.complain(text)
  io.stderr:write("koresms: ", M.plain(text), "\n")
end

--- Writes a text of several lines for people to standard error.
function M.complain_lines(text)
  for line in (text .. "\n"):gmatch("(.-)\n") do io.stderr:write(M.plain(line), "\n") end
end

return M
