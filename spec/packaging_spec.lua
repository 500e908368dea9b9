-- How koresms is built, installed and packed: what stands in the rockspec, what the two
-- C modules export and are linked with, and that `make install` and `luarocks make` each
-- give a tree which works on its own.

local paths = require "spec.support.paths"
local rocks = require "spec.support.rocks"

local abi, lines, must, quote = rocks.abi, rocks.lines, rocks.must, rocks.quote
local read, run, write = rocks.read, rocks.run, rocks.write
local interpreter = arg and arg[-1] or (paths.version == "jit" and "luajit" or "lua" .. abi)

local function rockspec()
  local text, env = read("koresms-scm-1.rockspec"), {}
  local chunk
  if setfenv then
    chunk = assert(loadstring(text, "=rockspec"))
    setfenv(chunk, env)
  else
    chunk = assert(load(text, "=rockspec", "t", env))
  end
  chunk()
  return env
end

-- Every Lua file of the tree under the name of its module.
local function lua_files()
  local files = {}
  for _, file in ipairs(lines(must("find lua sandbox -type f -name '*.lua'"))) do
    local name = file:gsub("%.lua$", ""):gsub("/init$", ""):gsub("^lua/", ""):gsub("^sandbox",
      "koresms/sandbox")
    files[name:gsub("/", ".")] = file
  end
  return files
end

describe("the rockspec", function()
  it("names every Lua file, and none that is not there", function()
    local named, files, missing, wrong = rockspec().build.modules, lua_files(), {}, {}
    for name, file in pairs(files) do
      if named[name] ~= file then missing[#missing + 1] = ("[%q] = %q,"):format(name, file) end
    end
    for name, module in pairs(named) do
      if type(module) == "string" and not files[name] then wrong[#wrong + 1] = name end
    end
    assert.same({ missing = {}, wrong = {} }, { missing = missing, wrong = wrong })
  end)

  it("builds each C module from the files that the Makefile names", function()
    local makefile = read("Makefile")
    for name, variable in pairs { ["koresms.core"] = "CORE", ["koresms.curl"] = "CURL" } do
      local files = {}
      for stem in makefile:match("\n" .. variable .. " := ([^\n]+)"):gmatch("%S+") do
        files[#files + 1] = "src/" .. stem .. ".c"
      end
      assert.same(files, rockspec().build.modules[name].sources)
    end
  end)

  it("installs every other file of the sandbox too", function()
    local others, named = lines(must("find sandbox -type f ! -name '*.lua' | LC_ALL=C sort")), {}
    for key, file in pairs(rockspec().build.install.lua) do
      assert.matches("^koresms%.sandbox%.[%w_]+$", key)
      named[#named + 1] = file
    end
    table.sort(named)
    assert.same(others, named)
  end)

  it("asks for Lua 5.1 or any later one, and for no header by a fixed path", function()
    local spec = rockspec()
    assert.equal("lua >= 5.1", spec.dependencies[1])
    assert.is_nil(spec.external_dependencies)
    assert.equal("MIT", spec.description.license)
  end)
end)

describe("the version", function()
  it("is the same in C, in Lua and in the change log", function()
    local version = require("koresms.core")._VERSION
    assert.matches("^%d+%.%d+%.%d+$", version)
    assert.equal(version, require("koresms")._VERSION)
    assert.equal(version, read("CHANGELOG.md"):match("\n## %[?(%d+%.%d+%.%d+)"))
    assert.equal(version, read("src/koresms.h"):match('VERSION%s+"([^"]+)"'))
  end)
end)

describe("the README", function()
  local readme = read("README.md")

  it("names every setting", function()
    for _, row in ipairs(require("koresms.config").settings) do
      assert.matches("`" .. row.name .. "`", readme, 1, true)
      if row.env then assert.matches("`" .. row.env .. "`", readme, 1, true) end
    end
  end)

  it("names every code", function()
    local verdict = require "koresms.verdict"
    local codes = {}
    for code in pairs(verdict.not_sent) do codes[code] = true end
    for code in pairs(verdict.unknown) do codes[code] = true end
    for _, row in ipairs(verdict.replies) do codes[row.code or "accepted"] = true end
    for code in pairs(codes) do
      assert.matches("`" .. code .. "`", readme, 1, true)
    end
  end)
end)

local function shared_object(name)
  return rocks.search("koresms/" .. name, paths.cpath)
end

local function symbols(file)
  local names = {}
  for _, line in ipairs(lines(must("nm -D --defined-only " .. quote(file)))) do
    names[#names + 1] = line:match("(%S+)$")
  end
  return names
end

local function needed(file)
  return must("readelf -d " .. quote(file) .. " | grep NEEDED")
end

-- Both ways to build must give the same two things.
local function check_modules(core, curl)
  assert.same({ "luaopen_koresms_core" }, symbols(core))
  assert.same({ "luaopen_koresms_curl" }, symbols(curl))
  assert.matches("libcrypto", needed(core), 1, true)
  assert.not_matches("libcurl", needed(core), 1, true)
  assert.matches("libcurl", needed(curl), 1, true)
  assert.not_matches("libcrypto", needed(curl), 1, true)
  assert.not_matches("liblua", needed(core) .. needed(curl), 1, true)
end

describe("the C modules", function()
  it("export one symbol each, and are linked with no more than they need", function()
    check_modules(shared_object("core"), shared_object("curl"))
  end)
end)

-- A copy of what a source archive holds, so that nothing is built in the tree itself.
local work

local function copy_tree(name)
  local copy = work .. "/" .. name
  must("mkdir " .. quote(copy)
    .. " && cp -R src lua sandbox bin tools share Makefile *.rockspec *.md LICENSE "
    .. quote(copy))
  return copy
end

-- Prints where koresms and its C modules came from, and one verdict that needs no server.
local probe = [[
local koresms = require "koresms"
local where = debug.getinfo(koresms.new, "S").source:sub(2)
local _, text, code = koresms.e164("0911")
assert(type(text) == "string")
assert(require "koresms.curl")
print(koresms._VERSION, code, where)
]]

describe("make install", function()
  setup(function() work = must("mktemp -d"):gsub("\n", "") end)
  teardown(function() run("rm -rf " .. quote(work)) end)

  it("gives a tree that works on its own, under DESTDIR", function()
    local copy, root = copy_tree("tree"), work .. "/root"
    local version = "LUA_VERSION=" .. paths.version
    local make = "cd " .. quote(copy) .. " && make " .. version .. " PREFIX=/opt DESTDIR="
      .. quote(root) .. " "
    must(make .. "install")

    local share, lib = root .. "/opt/share/lua/" .. abi, root .. "/opt/lib/lua/" .. abi
    check_modules(lib .. "/koresms/core.so", lib .. "/koresms/curl.so")
    for name, file in pairs(lua_files()) do
      local installed = share .. "/" .. name:gsub("%.", "/")
      if file:match("/init%.lua$") then installed = installed .. "/init" end
      assert.equal(read(file), read(installed .. ".lua"))
    end

    write(work .. "/probe.lua", probe)
    local env = "cd / && LUA_PATH=" .. quote(share .. "/?.lua;" .. share .. "/?/init.lua;;")
      .. " LUA_CPATH=" .. quote(lib .. "/?.so;;") .. " "
    local output = must(env .. interpreter .. " " .. quote(work .. "/probe.lua"))
    local installed, code, where = output:match("^(%S+)\t(%S+)\t([^\n]+)")
    assert.equal(require("koresms")._VERSION, installed)
    assert.equal("invalid_number", code)
    assert.matches(root, where, 1, true)

    local command = root .. "/opt/bin/koresms"
    local first = read(command):match("^#!([^\n]+)")
    assert.matches(paths.version == "jit" and "luajit$" or "lua" .. abi:gsub("%.", "%%.") .. "$",
      first)
    assert.matches("send", must(env .. quote(command) .. " --help"), 1, true)

    for _, name in ipairs { "man/man1/koresms.1", "bash-completion/completions/koresms",
        "zsh/site-functions/_koresms", "fish/vendor_completions.d/koresms.fish" } do
      assert.truthy(#read(root .. "/opt/share/" .. name) > 100, name)
    end

    must(make .. "uninstall")
    assert.equal("", must("find " .. quote(root) .. " -type f"))
  end)

  it("says what is where, and how Lua finds it", function()
    local copy, prefix = copy_tree("told"), work .. "/prefix"
    local make = ("cd %s && make -s LUA_VERSION=%s PREFIX=%s "):format(quote(copy), paths.version,
      quote(prefix))
    local output = must(make .. "install")
    local share = prefix .. "/share/lua/" .. abi
    for _, text in ipairs { prefix .. "/bin/koresms (", share .. "/koresms\n", "(core.so curl.so",
      "LUA_PATH='" .. share .. "/?.lua;" } do
      assert.matches(text, output, 1, true)
    end
    local set = output:match("export (LUA_PATH=[^\n]*)")
    must(("cd / && %s %s %s"):format(set, interpreter, quote(work .. "/probe.lua")))
    assert.is_nil(output:find("missing", 1, true), output)
    local _, problem = pcall(must, make .. "LUA=lua9.9 install")
    assert.matches("LUA=lua9.9: there is no such interpreter", tostring(problem), 1, true)
  end)

  it("for another Lua keeps the command's interpreter, and renews the rest of it", function()
    local copy, root = copy_tree("second"), work .. "/second-root"
    local command = root .. "/opt/bin/koresms"
    must("mkdir -p " .. quote(root .. "/opt/bin") .. " && printf '#!/opt/my/lua\\nold\\n' >"
      .. quote(command))
    must("cd " .. quote(copy) .. " && make LUA_VERSION=" .. paths.version .. " PREFIX=/opt DESTDIR="
      .. quote(root) .. " install")
    assert.equal("#!/opt/my/lua", read(command):match("^[^\n]*"))
    assert.equal(read("bin/koresms"):match("\n(.*)$"), read(command):match("\n(.*)$"))
  end)
end)

describe("make", function()
  setup(function() work = must("mktemp -d"):gsub("\n", "") end)
  teardown(function() run("rm -rf " .. quote(work)) end)

  -- Runs make where a part cannot be found; returns the lines that do not come from make itself.
  local function told(flags)
    local copy = copy_tree(flags:gsub("%W", ""))
    local list = {}
    for _, line in ipairs(lines((run("cd " .. quote(copy) .. " && make -s " .. flags)))) do
      if not line:find("^make") then list[#list + 1] = line end
    end
    return list
  end

  it("takes the name luajit, and refuses a Lua that it does not know", function()
    local output = run("make -n LUA_VERSION=luajit BUILD=" .. quote(work) .. " all 2>&1")
    assert.matches(work .. "/jit/koresms/core.so", output, 1, true)
    output = run("make -n LUA_VERSION=6 clean 2>&1")
    assert.matches("LUA_VERSION=6: one of 5.1 5.2 5.3 5.4 jit is expected", output, 1, true)
  end)

  it("names what is missing, in one line each", function()
    local version = "LUA_VERSION=" .. paths.version
    -- What the compiler is not told of is missing as if it were not there.
    local all = told(version .. " LUA_INCLUDE_DIR=/none")
    assert.equal(1, #all, table.concat(all, "\n"))
    assert.matches("^koresms: the header of Lua .* is missing; install lib.-%-dev %(Debian", all[1])
    all = told(version .. " CC=nocc")
    assert.equal(1, #all, table.concat(all, "\n"))
    assert.matches("^koresms: the C compiler 'nocc' is missing; install gcc", all[1])
    all = told(version .. " CPPFLAGS='-nostdinc -isystem /none'")
    assert.truthy(#all >= 3 and #all <= 4, table.concat(all, "\n"))
    assert.matches("libcurl4%-openssl%-dev %(Debian.*libcurl%-devel %(Fedora.*curl%-dev %(Alpine",
      table.concat(all, "\n"))
  end)
end)

describe("luarocks make", function()
  setup(function() work = must("mktemp -d"):gsub("\n", "") end)
  teardown(function() run("rm -rf " .. quote(work)) end)

  it("fills an empty tree, from which every Lua of this ABI sends", function()
    local _, there = run("command -v luarocks")
    if not there then return pending("luarocks is not installed") end

    local copy, server, tree = copy_tree("tree"), rocks.server(work), work .. "/rocks"
    local luarocks = "cd " .. quote(copy) .. " && HOME=" .. quote(work)
      .. " luarocks --lua-version=" .. abi
    must(luarocks .. " lint koresms-scm-1.rockspec")
    must(luarocks .. " --tree=" .. quote(tree) .. " --only-server=" .. quote(server)
      .. " make koresms-scm-1.rockspec")

    local lib = tree .. "/lib/lua/" .. abi .. "/koresms/"
    check_modules(lib .. "core.so", lib .. "curl.so")

    rocks.send_from(tree)
  end)
end)
