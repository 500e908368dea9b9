--- Shell commands that must work, and a rocks server in a folder, for the specs of packages.

local assert = require "luassert"

local M = { abi = _VERSION:match("%d+%.%d+") }

local abi = M.abi

function M.quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- Runs a command of the shell; returns its output, and whether it exited with 0. What
-- the surrounding make, Lua and user set must not reach it.
function M.run(command)
  local pipe = assert(io.popen("unset MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES LUA_PATH LUA_CPATH"
    .. " LUA_INIT KSMS_BUILD; { " .. command .. "\n} 2>&1 </dev/null; echo \"status $?\""))
  local output = pipe:read("*a")
  pipe:close()
  local text, status = output:match("^(.*)status (%d+)\n$")
  return text, status == "0", output
end

function M.must(command)
  local text, good, all = M.run(command)
  assert.is_true(good, command .. "\n" .. all)
  return text
end

function M.lines(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

function M.read(file)
  local handle = assert(io.open(file, "rb"))
  local text = handle:read("*a")
  handle:close()
  return text
end

function M.write(file, text)
  local handle = assert(io.open(file, "wb"))
  handle:write(text)
  handle:close()
end

function M.search(name, templates)
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

-- A rocks server for machines without a network: the two rocks on which koresms depends,
-- made from the files that this system has installed.
local rock = [[
package = "%s"
version = "%s-1"
source = { url = "file://%s/files.tar.gz", dir = "files" }
description = { summary = "from the system", license = "MIT" }
build = { type = "builtin", modules = {}, install = { %s = { %s = "%s" } } }
]]

--- Makes the server in a folder.
-- @tparam string work where it and its files go
-- @treturn string its name
function M.server(work)
  local server = work .. "/server"
  local files = work .. "/files"
  M.must("mkdir " .. M.quote(server) .. " " .. M.quote(files))
  M.must("cp -L " .. M.quote(M.search("argparse", package.path)) .. " "
    .. M.quote(files .. "/argparse.lua"))
  M.must("cp -L " .. M.quote(M.search("cjson", package.cpath)) .. " "
    .. M.quote(files .. "/cjson.so"))
  M.must("tar -C " .. M.quote(work) .. " -czf " .. M.quote(work .. "/files.tar.gz") .. " files")
  M.write(server .. "/argparse-0.7.1-1.rockspec",
    rock:format("argparse", "0.7.1", work, "lua", "argparse", "argparse.lua"))
  M.write(server .. "/lua-cjson-2.1.0-1.rockspec",
    rock:format("lua-cjson", "2.1.0", work, "lib", "cjson", "cjson.so"))
  M.must("HOME=" .. M.quote(work) .. " luarocks-admin --lua-version=" .. abi .. " make-manifest "
    .. M.quote(server))
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

--- Sends from a tree of LuaRocks, with every Lua of this ABI that is installed.
-- @tparam string tree
function M.send_from(tree)
  M.write(tree .. "/send.sh", sending)
  local interpreters = {}
  for _, name in ipairs(abi == "5.1" and { "lua5.1", "luajit" } or { "lua" .. abi }) do
    local _, installed = M.run("command -v " .. name)
    if installed then interpreters[#interpreters + 1] = name end
  end
  assert.is_true(#interpreters > 0)
  local output = M.must("cd " .. M.quote(tree) .. " && ABI=" .. abi .. " INTERPRETERS="
    .. M.quote(table.concat(interpreters, " ")) .. " sh ./send.sh")
  local sent = 0
  for _ in output:gmatch("library\taccepted\t1\n") do sent = sent + 1 end
  assert.equal(#interpreters, sent, output)
  assert.matches('"outcome":"accepted"', output, 1, true)
end

return M
