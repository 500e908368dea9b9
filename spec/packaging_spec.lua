-- How koresms is built, installed and packed: what stands in the rockspec, what the two
-- C modules export and are linked with, and that `make install` and `luarocks make` each
-- give a tree which works on its own.

local paths = require "spec.support.paths"

local abi = _VERSION:match("%d+%.%d+")
local interpreter = arg and arg[-1] or (paths.version == "jit" and "luajit" or "lua" .. abi)

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- Runs a command of the shell; returns its output, and whether it exited with 0. What
-- the surrounding make, Lua and user set must not reach it.
local function run(command)
  local pipe = assert(io.popen("unset MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES LUA_PATH LUA_CPATH"
    .. " LUA_INIT KSMS_BUILD; { " .. command .. "\n} 2>&1 </dev/null; echo \"status $?\""))
  local output = pipe:read("*a")
  pipe:close()
  local text, status = output:match("^(.*)status (%d+)\n$")
  return text, status == "0", output
end

local function must(command)
  local text, good, all = run(command)
  assert.is_true(good, command .. "\n" .. all)
  return text
end

local function lines(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

local function read(file)
  local handle = assert(io.open(file, "rb"))
  local text = handle:read("*a")
  handle:close()
  return text
end

local function write(file, text)
  local handle = assert(io.open(file, "wb"))
  handle:write(text)
  handle:close()
end

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

local function search(name, templates)
  for template in templates:gmatch("[^;]+") do
    local file = template:gsub("%?", name)
    local handle = io.open(file, "rb")
    if handle then
      handle:close()
      return file
    end
  end
  error(name .. " is not installed")
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
  return search("koresms/" .. name, paths.cpath)
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
    .. " && cp -R src lua sandbox bin tools Makefile *.rockspec *.md LICENSE "
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

    must(make .. "uninstall")
    assert.equal("", must("find " .. quote(root) .. " -type f"))
  end)
end)

-- A rocks server for machines without a network: the two rocks on which koresms depends,
-- made from the files that this system has installed.
local rock = [[
package = "%s"
version = "%s-1"
source = { url = "file://%s/files.tar.gz", dir = "files" }
description = { summary = "from the system", license = "MIT" }
build = { type = "builtin", modules = {}, install = { %s = { %s = "%s" } } }
]]

local function rocks_server()
  local server = work .. "/server"
  local files = work .. "/files"
  must("mkdir " .. quote(server) .. " " .. quote(files))
  must("cp -L " .. quote(search("argparse", package.path)) .. " "
    .. quote(files .. "/argparse.lua"))
  must("cp -L " .. quote(search("cjson", package.cpath)) .. " " .. quote(files .. "/cjson.so"))
  must("tar -C " .. quote(work) .. " -czf " .. quote(work .. "/files.tar.gz") .. " files")
  write(server .. "/argparse-0.7.1-1.rockspec",
    rock:format("argparse", "0.7.1", work, "lua", "argparse", "argparse.lua"))
  write(server .. "/lua-cjson-2.1.0-1.rockspec",
    rock:format("lua-cjson", "2.1.0", work, "lib", "cjson", "cjson.so"))
  must("HOME=" .. quote(work) .. " luarocks-admin --lua-version=" .. abi .. " make-manifest "
    .. quote(server))
  return server
end

-- A shell script that starts the rock's own sandbox, sends one message with each
-- interpreter and with the rock's command, and prints what came out.
local sending = [[
: >env
bin/koresms sandbox >env 2>sandbox.log &
sandbox=$!
trap 'status=$?; kill $sandbox; wait $sandbox; [ $status = 0 ] || cat sandbox.log' EXIT
n=0
until grep -q KORESMS_HOST env; do
  n=$((n + 1)); [ $n -lt 100 ] && kill -0 $sandbox || exit 1
  sleep 0.1
done
. ./env
export LUA_PATH="$PWD/share/lua/$ABI/?.lua;$PWD/share/lua/$ABI/?/init.lua"
export LUA_CPATH="$PWD/lib/lua/$ABI/?.so"
for lua in $INTERPRETERS; do
  $lua -e '
    local result = assert(require "koresms".send { from = "+19876543210", to = "+911234567890" })
    print("library", result.outcome, result.attempts)' || exit 1
done
unset LUA_PATH LUA_CPATH
bin/koresms send --from +19876543210 --to +911234567890 --json || exit 1
]]

describe("luarocks make", function()
  setup(function() work = must("mktemp -d"):gsub("\n", "") end)
  teardown(function() run("rm -rf " .. quote(work)) end)

  it("fills an empty tree, from which every Lua of this ABI sends", function()
    local _, there = run("command -v luarocks")
    if not there then return pending("luarocks is not installed") end

    local copy, server, tree = copy_tree("tree"), rocks_server(), work .. "/rocks"
    local luarocks = "cd " .. quote(copy) .. " && HOME=" .. quote(work)
      .. " luarocks --lua-version=" .. abi
    must(luarocks .. " lint koresms-scm-1.rockspec")
    must(luarocks .. " --tree=" .. quote(tree) .. " --only-server=" .. quote(server)
      .. " make koresms-scm-1.rockspec")

    local lib = tree .. "/lib/lua/" .. abi .. "/koresms/"
    check_modules(lib .. "core.so", lib .. "curl.so")

    write(tree .. "/send.sh", sending)
    local interpreters = {}
    for _, name in ipairs(abi == "5.1" and { "lua5.1", "luajit" } or { "lua" .. abi }) do
      local _, installed = run("command -v " .. name)
      if installed then interpreters[#interpreters + 1] = name end
    end
    assert.is_true(#interpreters > 0)
    local output = must("cd " .. quote(tree) .. " && ABI=" .. abi .. " INTERPRETERS="
      .. quote(table.concat(interpreters, " ")) .. " sh ./send.sh")
    local sent = 0
    for _ in output:gmatch("library\taccepted\t1\n") do sent = sent + 1 end
    assert.equal(#interpreters, sent, output)
    assert.matches('"outcome":"accepted"', output, 1, true)
  end)
end)
