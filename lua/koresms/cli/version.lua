--- `koresms --version`: with --verbose also of what it stands on.
local M = {}

-- libpq gives 150004 for 15.4, and 90603 for 9.6.3.
local function libpq(number)
  local first, rest = math.floor(number / 10000), number % 10000
  if first >= 10 then return ("%d.%d"):format(first, rest) end
  return ("%d.%d.%d"):format(first, math.floor(rest / 100), rest % 100)
end

local rows = {
  { "Lua", function() return rawget(_G, "jit") and jit.version or _VERSION end },
  { "libcurl", function() return require("koresms.curl")._LIBCURL:match("^%S+ ?%S*") end },
  { "OpenSSL", function() return require("koresms.core")._OPENSSL:match("^%S+ ?%S*") end },
  { "SQLite", function() return require("koresms.sqlite").version end },
  { "libpq", function() return libpq(require("koresms.postgres").version) end },
}

--- The text.
-- @tparam boolean verbose
-- @treturn string
function M.text(verbose)
  local lines = { "koresms " .. require("koresms")._VERSION }
  for _, row in ipairs(verbose and rows or {}) do
    local ok, text = pcall(row[2])
    lines[#lines + 1] = ("%-8s %s"):format(row[1], ok and text or "not installed")
  end
  return table.concat(lines, "\n")
end

return M
