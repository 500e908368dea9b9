--- Rows of CSV (RFC 4180).
local M = {}

local function field(value)
  if value == nil then return "" end
  local text = type(value) == "number" and ("%.14g"):format(value) or tostring(value)
  if text:find('[",\r\n]') then return '"' .. text:gsub('"', '""') .. '"' end
  return text
end

--- One row, without its end.
-- @tparam {string,...} fields
-- @tparam table record
-- @treturn string
function M.line(fields, record)
  local parts = {}
  for i, name in ipairs(fields) do parts[i] = field(record[name]) end
  return table.concat(parts, ",")
end

return M
