--- The functions of the C modules, one row or more for each, as the memory passes call them.
--
-- A row has
--
--  * `name`, and `covers`: the function's name in its module, or "class:method"
--  * `new`: makes what a call needs; its table is the argument of all the others
--  * `run`: the call, whose results count
--  * `right`: is given these results; says what is wrong with them, nil where nothing is. In
--    its table `failed` says whether memory failed.
--  * `soft`: a failure of a library is told as nil and a text, so that may be one of its memory
--  * `refused`: in the place of `right` after such a failure, where it is there to stay
--  * `once`: a second call gives something else, so that there is one only where the first raised
--  * `again`: in the place of that second call; is given whether the first raised, and says what
--    is wrong
--  * `disturb`: by name, what finalizers do that run while the call allocates; without it they
--    do nothing
--  * `disturbed`: in the place of `right` where they do; by default it is the same
--  * `may_raise`: a pattern of what it may raise there
--  * `quiet`: the call allocates nothing, so that no finalizer runs
--  * `long`: the call collects and allocates thousands of times, of which some are played
--  * `close`: gives back what `new` made
--
-- A function without a row fails memory_spec.lua.

local paths = require "spec.support.paths"

local M = {}

M.modules = { "koresms.core", "koresms.curl" }

-- These have classes and functions in C; the client is built upon them.
M.parts = { "koresms.core", "koresms.curl", "koresms.client" }

local FILES = { ["koresms.core"] = "core_rows", ["koresms.curl"] = "curl_rows",
  ["koresms.client"] = "client_rows", ["koresms.sqlite"] = "sqlite_rows",
  ["koresms.postgres"] = "postgres_rows" }

local function file_of(module)
  return ("%s/%s/%s.so"):format(os.getenv("KSMS_BUILD") or "build", paths.version,
    (module:gsub("%.", "/")))
end

-- The modules of databases are built where their libraries are installed.
for _, module in ipairs { "koresms.sqlite", "koresms.postgres" } do
  local found = io.open(file_of(module))
  if found then
    found:close()
    table.insert(M.modules, module)
    table.insert(M.parts, module)
  end
end

-- What the classes of the modules are called in the registry.
local function is_class(name, value)
  return type(name) == "string" and name:find("^koresms%.") and type(value) == "table"
end

-- Opens a module whose classes nobody has made yet.
local function open_row(module)
  local open = "luaopen_" .. module:gsub("%.", "_")
  local file = file_of(module)
  local before
  local function contents(made)
    local names = {}
    for name in pairs(made) do names[#names + 1] = tostring(name) end
    for class, meta in pairs(debug.getregistry()) do
      if is_class(class, meta) then
        for name in pairs(meta) do names[#names + 1] = class .. " " .. tostring(name) end
      end
    end
    table.sort(names)
    return table.concat(names, "\n")
  end
  return {
    name = open, covers = open,
    new = function()
      local loader, registry, saved = assert(package.loadlib(file, open)), debug.getregistry(), {}
      for class, meta in pairs(registry) do
        if is_class(class, meta) then saved[class] = meta end
      end
      -- What is garbage is of a class that will not be known for a while.
      collectgarbage()
      collectgarbage()
      for class in pairs(saved) do registry[class] = nil end
      if not before then
        before = contents(loader())
        for class in pairs(saved) do registry[class] = nil end
      end
      return { loader = loader, saved = saved }
    end,
    run = function(self) return self.loader() end,
    close = function(self)
      for class, meta in pairs(self.saved) do debug.getregistry()[class] = meta end
    end,
    right = function(_, made)
      if type(made) ~= "table" then return "no module" end
      if contents(made) ~= before then return "another module, or its classes lack something" end
    end,
  }
end

--- The rows of a module.
-- @tparam string module
-- @treturn table
function M.of(module)
  local rows = require("spec.support.memory." .. FILES[module])
  if module ~= "koresms.client" and rows[1].covers ~= "luaopen_" .. module:gsub("%.", "_") then
    table.insert(rows, 1, open_row(module))
  end
  return rows
end

--- The names of a module's rows.
-- @tparam string module
-- @treturn table
function M.names(module)
  local names = {}
  for i, row in ipairs(M.of(module)) do names[i] = row.name end
  return names
end

local function is_closer(name) return name == "__gc" or name == "__close" end

-- The methods of every class whose name begins like this.
local function add_methods(list)
  for class, meta in pairs(debug.getregistry()) do
    if is_class(class, meta) then
      for name in pairs(meta.__index) do list[class .. ":" .. name] = true end
      for name, value in pairs(meta) do
        if type(value) == "function" and not is_closer(name) then
          list[class .. "." .. name] = true
        end
      end
    end
  end
end

--- What has no row, of all functions of the C modules and all methods of their classes.
-- @treturn table names
function M.missing()
  local wanted, names = {}, {}
  for _, module in ipairs(M.modules) do
    for name, value in pairs(require(module)) do
      if type(value) == "function" then wanted[module .. "." .. name] = true end
    end
  end
  add_methods(wanted)
  for _, module in ipairs(M.modules) do
    for _, row in ipairs(M.of(module)) do
      wanted[row.covers] = nil
      wanted[module .. "." .. row.covers] = nil
    end
  end
  for name in pairs(wanted) do names[#names + 1] = name end
  table.sort(names)
  return names
end

return M
