--- Where settings come from: options, environment, file. Reads and types them; what a
--- value may be is for koresms.config to say.
local cjson = require "cjson"
local misuse = require "koresms.misuse"

local M = {}

local FILE_MAX = 1024 * 1024

--- More about why a file cannot be opened.
-- @tparam string path
-- @tparam string why the system's text
-- @treturn string
function M.explain(path, why)
  return path:sub(1, 1) == "~"
    and why .. " (only a shell knows what ~ is; write the whole path)" or why
end

--- Reads a whole file of at most 1 MiB.
-- @tparam string path
-- @treturn[1] string
-- @treturn[2] nil
-- @treturn[2] string the path and why it cannot be read
function M.read(path)
  local file, why = io.open(path, "rb")
  if not file then return nil, M.explain(path, why) end
  local text, reason = file:read(FILE_MAX + 1)
  file:close()
  if reason then return nil, ("%s: %s"):format(path, reason) end
  text = text or ""
  if #text > FILE_MAX then return nil, path .. ": is larger than 1 MiB" end
  return text
end

-- Text -> value, for variables. Returns nil and what was expected.
local booleans = {
  ["true"] = true, ["1"] = true, yes = true, on = true,
  ["false"] = false, ["0"] = false, no = false, off = false,
}

local function to_number(text)
  -- Not tonumber alone: it takes "0x10", "1e3" and "inf" on some Luas.
  if not text:find("^%s*[+-]?%d*%.?%d+%s*$") then return nil end
  -- Lua 5.1 reads numbers with the locale's decimal point.
  return tonumber(text) or tonumber((text:gsub("%.", (("%.1f"):format(0.5):sub(2, -2)))))
end

-- Blanks around a word do not matter, nor a line end that came with it from a file.
local function to_boolean(text)
  return booleans[text:lower():match("^%s*(.-)%s*$")]
end

local readers = {
  string = function(text) return text end,
  token = function(text) return text end,
  number = function(text) return to_number(text), "expected a number such as 10 or 2.5" end,
  boolean = function(text) return to_boolean(text), "expected true or false" end,
  limit = function(text)
    local value = to_number(text)
    if value == nil and to_boolean(text) == false then value = false end
    return value, "expected a number, or false for no limit"
  end,
}

local function environment(rows, empty)
  local values = {}
  for _, row in ipairs(rows) do
    local text = row.env and os.getenv(row.env)
    if text == "" then
      empty[row.name] = true
    elseif text then
      local value, expected = readers[row.type](text)
      if value == nil then return nil, ("%s: %s"):format(row.env, expected) end
      values[row.name] = value
    end
  end
  return values
end

local function line_of(text, byte)
  local _, count = text:sub(1, byte):gsub("\n", "")
  return count + 1
end

local function parse_json(text)
  local json = cjson.new()
  json.decode_invalid_numbers(false)
  local ok, value = pcall(json.decode, text)
  if ok then return value end
  -- The rest of cjson's message may quote the file, secrets included.
  local byte = tostring(value):match("at character (%d+)")
  return nil, byte and ("is not JSON: line %d, byte %d"):format(
    line_of(text, tonumber(byte) - 1), tonumber(byte)) or "is not JSON"
end

-- Text only (compiled code can crash the interpreter), in an empty environment.
local function load_text(text, chunk)
  if _VERSION == "Lua 5.1" then
    local run, why = loadstring(text, chunk) -- luacheck: ignore 113
    if run then setfenv(run, {}) end -- luacheck: ignore 113
    return run, why
  end
  return load(text, chunk, "t", {})
end

-- Far more than any table of settings takes.
local STEPS_MAX = 1e7

-- Runs a chunk for a bounded number of steps, without the methods that strings have.
local function run_bounded(run)
  local function stop() error("too long", 0) end
  local jit = rawget(_G, "jit")
  -- What is compiled is not counted.
  if jit then jit.off(run, true) end
  local strings = debug.getmetatable("")
  local methods = strings.__index
  local hook, mask, count = debug.gethook()
  strings.__index = nil
  debug.sethook(stop, "", STEPS_MAX)
  local ok, value = pcall(run)
  strings.__index = methods
  if type(hook) == "function" then debug.sethook(hook, mask, count) else debug.sethook() end
  -- Ctrl-C under the interpreter comes as an error, and is not the file's.
  if not ok and tostring(value):find("interrupted!", 1, true) then error(value, 0) end
  return ok, value
end

local function parse_lua(text)
  if text:sub(1, 1) == "\27" then
    return nil, "is compiled Lua; only source text is taken"
  end
  -- Messages are cut down to their line: they may quote the file, secrets included.
  local run, why = load_text(text, "=file")
  if not run then
    return nil, ("is not Lua: syntax error at line %s"):format(why:match("^file:(%d+):") or "?")
  end
  local ok, value = run_bounded(run)
  if ok then return value end
  if value == "too long" then return nil, "runs too long; it has to return a table of settings" end
  return nil, ("failed at line %s; it runs in an empty environment, without functions")
    :format(tostring(value):match("^file:(%d+):") or "?")
end

local parsers = { json = parse_json, lua = parse_lua }

local json_types = { string = "a string", number = "a number", boolean = "true or false" }

-- What each type takes from a file.
local function fits(row, value)
  local got = type(value)
  if row.type == "limit" then return got == "number" or value == false, "a number or false" end
  local wanted = row.type == "token" and "string" or row.type
  return got == wanted, json_types[wanted]
end

local function check_shape(value, rows)
  if type(value) ~= "table" then
    local got = (value == nil or value == cjson.null) and "nothing" or "a " .. type(value)
    return "expected an object of settings, got " .. got
  end
  local known = {}
  for _, row in ipairs(rows) do known[row.name] = row.env and row end
  for key, given in pairs(value) do
    if type(key) ~= "string" then return "expected an object of settings, got an array" end
    local row = known[key]
    if not row then
      return rows[key] and ("setting '%s' can be given in code only"):format(key)
        or misuse.unknown("setting", key, known)
    end
    local ok, expected = fits(row, given)
    if not ok then
      return ("%s: expected %s, got %s"):format(key, expected,
        given == cjson.null and "null" or type(given))
    end
  end
end

-- What editors and shells write before a text, or in place of one.
local beginnings = {
  ["\239\187\191"] = "begins with a byte order mark; save it as UTF-8 without one",
  ["\255\254"] = "is UTF-16; save it as UTF-8", ["\254\255"] = "is UTF-16; save it as UTF-8",
}

local function read_file(path, rows)
  local parse = parsers[(path:match("%.(%w+)$") or ""):lower()]
  if not parse then return nil, path .. ": expected a name that ends in .json or .lua" end
  local text, fault = M.read(path)
  if not text then return nil, fault end
  fault = beginnings[text:sub(1, 3)] or beginnings[text:sub(1, 2)]
  if fault then return nil, path .. ": " .. fault end
  local value
  value, fault = parse(text)
  fault = fault or check_shape(value, rows)
  if fault then return nil, path .. ": " .. fault end
  return value
end

--- The sources, from the one that counts most.
-- @tparam table rows of koresms.config
-- @tparam table options checked options
-- @treturn[1] {table,...} each with `values` by name, `label`, and `name(row)`, which says
--   how a setting is called there
-- @treturn[1] table set of the names whose variable is set, but empty
-- @treturn[2] nil
-- @treturn[2] nil
-- @treturn[2] string what is wrong and where
function M.levels(rows, options)
  local empty, given = {}, {}
  for key, value in pairs(options) do given[key] = value end
  local variables, fault = environment(rows, empty)
  if not variables then return nil, nil, fault end
  local levels = {
    { values = given, label = "options",
      name = function(row) return ("option '%s'"):format(row.name) end },
    { values = variables, label = "environment", name = function(row) return row.env end },
  }
  local path = os.getenv("KORESMS_CONFIG")
  if path and path ~= "" then
    local values
    values, fault = read_file(path, rows)
    if not values then return nil, nil, "KORESMS_CONFIG: " .. fault end
    levels[3] = {
      values = values, label = path,
      name = function(row) return ("%s: setting '%s'"):format(path, row.name) end,
    }
  end
  return levels, empty
end

return M
