-- Who may use whom: every `require` in lua/, bin/ and sandbox/, and every #include in src/,
-- against the table of layers in docs/design.md. And where bytes of a request leave.

local PAGE = "docs/design.md"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- The table -----------------------------------------------------------------------------

local HEADER = "^| layer | files | may use |"

-- The names between backquotes; "src/head.[ch]" stands for two files.
local function names_of(cell)
  local names = {}
  for name in cell:gmatch("`([^`]+)`") do
    local stem = name:match("^(.*)%.%[ch%]$")
    if stem then
      names[#names + 1] = stem .. ".c"
      names[#names + 1] = stem .. ".h"
    else
      names[#names + 1] = name
    end
  end
  return names
end

-- Rows in their order, the highest layer first: `name`, `files`, `uses`.
local function read_table(text)
  local rows, inside = {}, false
  for line in text:gmatch("([^\n]*)\n") do
    if line:find(HEADER) then
      assert(not inside and #rows == 0, PAGE .. " has two tables of layers")
      inside = true
    elseif inside and line:sub(1, 1) ~= "|" then
      inside = false
    elseif inside and not line:find("^| *%-") then
      local name, files, uses = line:match("^| *(.-) *| *(.-) *| *(.-) *|$")
      assert(name, PAGE .. ": a row of the table of layers has not three cells: " .. line)
      local row = { name = name, files = names_of(files), uses = {} }
      for one in uses:gmatch("[^,]+") do
        one = one:match("^%s*(.-)%s*$")
        if one ~= "-" then row.uses[#row.uses + 1] = one end
      end
      rows[#rows + 1] = row
    end
  end
  assert(#rows > 0, PAGE .. " has no table of layers")
  return rows
end

local rows = read_table(read(PAGE))
local place, by_name, owner = {}, {}, {}
for index, row in ipairs(rows) do
  place[row.name], by_name[row.name] = index, row
  for _, name in ipairs(row.files) do owner[name] = owner[name] or row end
end

-- The layer of a file or of a directory ("lua/koresms/cli/"): the longest name counts.
local function layer_of(path)
  local name = path
  while name do
    if owner[name] then return owner[name] end
    name = name:gsub("/$", ""):match("^(.*/)")
  end
end

-- The files -----------------------------------------------------------------------------

local function list(command)
  local pipe = assert(io.popen(command))
  local paths = {}
  for path in pipe:lines() do paths[#paths + 1] = path end
  pipe:close()
  table.sort(paths)
  return paths
end

local lua_files = list("find lua sandbox bin -type f \\( -name '*.lua' -o -path bin/koresms \\)")
local c_files = list("find src -type f -name '*.[ch]'")

-- The file of a module of ours: a Lua file, the C file that opens it, or for a name that is only
-- begun ("koresms.cli." .. command) the directory.
local function file_of(module)
  if module == "koresms.sandbox" then return "sandbox/init.lua" end
  local base = module:gsub("%.", "/")
  local rest = base:match("^koresms/sandbox/(.*)$")
  if rest then return "sandbox/" .. rest .. (rest == "" and "" or ".lua") end
  if base:sub(-1) == "/" then return "lua/" .. base end
  for _, path in ipairs { "lua/" .. base .. ".lua", "lua/" .. base .. "/init.lua" } do
    local file = io.open(path)
    if file then
      file:close()
      return path
    end
  end
  local opens = "luaopen_" .. base:gsub("/", "_") .. "%("
  for _, path in ipairs(c_files) do
    if read(path):find(opens) then return path end
  end
  for _, path in ipairs(lua_files) do
    if path:sub(1, #base + 4) == "lua/" .. base then return "lua/" .. base:match("^.*/") end
  end
  error("no file is the module " .. module)
end

-- Lua without comments, and without texts that only speak of a require. Others stay; none has
-- "--" in it before a require.
local function lua_code(text)
  text = text:gsub("%-%-%[(=*)%[.-%]%1%]", ""):gsub("%-%-[^\n]*", "")
  return (text:gsub('\\"', ""):gsub('"[^"\n]*require[^"\n]*"', '""'))
end

-- What is required, each with its line. A require is followed by the name of its module, or by
-- an expression in parentheses, which may hold several.
local function requires_of(text)
  local code, found = lua_code(text), {}
  for at in code:gmatch("()%f[%w_.]require%f[^%w_]") do
    local rest = code:sub(at + #"require")
    local said = rest:match("^%s*(%b())") or rest:match("^%s*,?%s*([\"'][^\"'\n]*[\"'])")
    local _, line = code:sub(1, at):gsub("\n", "")
    local named = false
    for module in (said or ""):gmatch("[\"']([%w_.]+)[\"']") do
      named = true
      if module:find("^koresms%f[^%w]") or module:find("^resty%.koresms") then
        found[#found + 1] = { module = module, line = line + 1 }
      end
    end
    if not named then found[#found + 1] = { line = line + 1 } end
  end
  return found
end

-- Arrows: from, to, line.
local function arrows_of(path)
  local arrows = {}
  if path:find("^src/") then
    local line = 0
    for text in (read(path) .. "\n"):gmatch("([^\n]*)\n") do
      line = line + 1
      local header = text:match('^%s*#%s*include%s*"([^"]+)"')
      if header then arrows[#arrows + 1] = { from = path, to = "src/" .. header, line = line } end
    end
    return arrows
  end
  for _, one in ipairs(requires_of(read(path))) do
    assert(one.module, ("%s:%d: which module is required cannot be read"):format(path, one.line))
    arrows[#arrows + 1] = { from = path, to = file_of(one.module), line = one.line }
  end
  return arrows
end

local function each_file(with)
  for _, paths in ipairs { lua_files, c_files } do
    for _, path in ipairs(paths) do with(path) end
  end
end

describe("the layers of docs/design.md", function()
  it("are named once, and use lower ones alone", function()
    local seen = {}
    for index, row in ipairs(rows) do
      assert(by_name[row.name] == row, "two layers are called " .. row.name)
      for _, used in ipairs(row.uses) do
        assert(place[used], ("%s may use %s, which is no layer"):format(row.name, used))
        assert(place[used] > index, ("%s may use %s, which is above it"):format(row.name, used))
      end
      for _, name in ipairs(row.files) do
        assert(not seen[name], name .. " stands in two layers")
        seen[name] = true
      end
    end
  end)

  it("hold every file, and no file that is not there", function()
    local used = {}
    each_file(function(path)
      local row = layer_of(path)
      assert(row, path .. " is in no layer of " .. PAGE)
      used[path] = true
      for directory in path:gmatch("()/") do used[path:sub(1, directory)] = true end
    end)
    for name in pairs(owner) do
      assert(used[name], PAGE .. " names " .. name .. ", which is not there")
    end
  end)

  it("are what every require and include keeps to", function()
    local wrong, count = {}, 0
    each_file(function(path)
      local from = layer_of(path)
      for _, arrow in ipairs(arrows_of(path)) do
        local to = assert(layer_of(arrow.to), arrow.to .. " is in no layer of " .. PAGE)
        local allowed = to == from
        for _, used in ipairs(from.uses) do allowed = allowed or used == to.name end
        count = count + 1
        if not allowed then
          wrong[#wrong + 1] = ("%s:%d: %s must not use %s (%s)"):format(path, arrow.line,
            from.name, to.name, arrow.to)
        end
      end
    end)
    assert(#wrong == 0, "\n" .. table.concat(wrong, "\n"))
    -- The patterns above still find what they look for.
    assert(count > 100, "only " .. count .. " arrows were found")
  end)

  it("have no circle of files within them", function()
    local state = {}
    local function visit(path, way)
      if state[path] == "done" then return end
      assert(state[path] ~= "open", "a circle: " .. way .. " -> " .. path)
      state[path] = "open"
      -- A name that is only begun stands for files of which none may be named here.
      if path:sub(-1) ~= "/" then
        for _, arrow in ipairs(arrows_of(path)) do visit(arrow.to, way .. " -> " .. path) end
      end
      state[path] = "done"
    end
    each_file(function(path) visit(path, "") end)
  end)

  it("keep libcurl, Lua and cosockets where they belong", function()
    local curl, compat = by_name["koresms.curl"], "src/compat.h"
    for _, path in ipairs(c_files) do
      local text = read(path)
      assert(layer_of(path) == curl or not text:find("#%s*include%s*<curl/"),
        path .. " uses libcurl")
      assert(path == compat or not text:find("#%s*include%s*<lua"), path .. " includes Lua itself")
    end
    for _, path in ipairs(lua_files) do
      if path:find("^lua/") and not path:find("^lua/koresms/nginx/") then
        assert(not lua_code(read(path)):find("ngx%.socket%.tcp%s*%("), path .. " opens a cosocket")
      end
    end
  end)
end)

-- One writer ------------------------------------------------------------------------------

-- C without comments and texts.
local function c_code(text)
  text = text:gsub("/%*.-%*/", ""):gsub('\\"', "")
  return (text:gsub('"[^"\n]*"', '""'))
end

-- The calls of a function in some code, each as the name of the function in which it stands. A
-- definition begins in the first column and has its brace in the next one.
local function calls_of(code, name)
  local places = {}
  for at in code:gmatch("()%f[%w_]" .. name .. "%s*%(") do
    local before, inside = code:sub(1, at - 1), nil
    for defined, open in before:gmatch("\n[%a][%w_ *]-([%w_]+)(%b())\n{") do
      inside = open and defined
    end
    -- A declaration or a definition stands in the first column, behind its type.
    local line = before:match("([^\n]*)$")
    if not line:find("^%a") then places[#places + 1] = inside or "?" end
  end
  return places
end

local WRITERS = { "send", "sendto", "sendmsg", "sendmmsg", "sendfile", "write", "writev", "pwrite",
  "splice", "SSL_write", "SSL_write_ex", "BIO_write", "dprintf", "curl_easy_send", "curl_ws_send",
  "curl_easy_perform" }

describe("bytes of a request", function()
  it("leave at one place in C", function()
    local found = {}
    for _, path in ipairs(c_files) do
      local code = c_code(read(path))
      for _, name in ipairs(WRITERS) do
        for _, inside in ipairs(calls_of(code, name)) do
          found[#found + 1] = ("%s: %s in %s"):format(path, name, inside)
        end
      end
      for _, inside in ipairs(calls_of(code, "write_some")) do
        found[#found + 1] = ("%s: write_some in %s"):format(path, inside)
      end
    end
    table.sort(found)
    -- A command that the program starts says by a pipe that it could not be.
    assert.same({ "src/process.c: write in run_command",
      "src/wire.c: curl_easy_send in write_some", "src/wire.c: send in write_some",
      "src/wire.c: write_some in write_request" }, found)
  end)

  it("leave behind the mark that they may have", function()
    local body = c_code(read("src/wire.c")):match("\nstatic void write_request%b()\n(%b{})")
    local marked, written = body:find("starts = 1", 1, true), body:find("write_some", 1, true)
    assert(marked and written and marked < written)
    -- Nothing that is written is written again: what is left begins behind what was sent.
    assert(body:find("out%.bytes %+ r%->sent") and body:find("sent %+= n"))
    -- Nobody takes the mark away but the one that starts a request.
    for _, path in ipairs(c_files) do
      local code = c_code(read(path))
      for at, text in code:gmatch("()(starts = [%w_>%- =]*0)") do
        assert.equal("src/engine.c", path, text)
        assert.equal("engine_start", code:sub(1, at):match(".*\nstatic int ([%w_]+)%b()\n{"))
      end
    end
  end)

  it("leave at one place in Lua", function()
    local sends, calls = {}, {}
    for _, path in ipairs(lua_files) do
      local code = lua_code(read(path))
      if path:find("^lua/koresms/nginx/") or path:find("^lua/koresms/curl/") then
        for line in code:gmatch("[^\n]+") do
          if line:find(":send%s*%(") and not line:find("sender:send") then
            sends[#sends + 1] = path .. ": " .. line:match("sock.*$")
          end
          if line:find("write_request") then
            calls[#calls + 1] = line:match("^%s*(.-)%s*$")
          end
        end
      end
    end
    -- The other one asks a proxy for a tunnel: nothing of a request is in that.
    assert.same({ "lua/koresms/nginx/transport.lua: sock:send(to.proxy.request)",
      "lua/koresms/nginx/transport.lua: sock:send(bytes)" }, sends)
    assert.equal(2, #calls, "write_request is defined, and called once")
    assert(calls[1]:find("^local function write_request"))
    local code = lua_code(read("lua/koresms/nginx/transport.lua"))
    local written = code:match("\nlocal function write_request.-\nend\n")
    assert(written:find("failed(self.peer, 1,", 1, true), "what breaks there may have left")
    -- What comes behind it may have left, too.
    local behind = code:match("\nlocal function read_reply.-\nend\n")
    assert(not behind:find("starts = 0", 1, true) and not behind:find("self.peer, 0", 1, true))
  end)

  it("are started at one place in plain Lua, too", function()
    local starts = 0
    for _, path in ipairs(lua_files) do
      for _ in lua_code(read(path)):gmatch("engine:start%s*%(") do
        assert.equal("lua/koresms/curl/transport.lua", path)
        starts = starts + 1
      end
    end
    assert.equal(1, starts)
  end)
end)
