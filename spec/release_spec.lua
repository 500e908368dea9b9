-- What a release is made of: a source archive that anybody can make again, and rockspecs whose
-- source it is, from which LuaRocks installs into an empty tree.

local rocks = require "spec.support.rocks"

local abi, must, quote, read, run = rocks.abi, rocks.must, rocks.quote, rocks.read, rocks.run

-- A source archive is no repository, and a bare machine has no git.
if not select(2, run("git rev-parse --verify -q HEAD")) then return end

describe("a release", function()
  local work

  setup(function()
    work = must("mktemp -d"):gsub("\n", "")
    -- What is committed, or in a working copy all that is there: a commit of its own.
    must("git clone -q . " .. quote(work .. "/tree")
      .. " && git ls-files -co --exclude-standard | while read -r f; do "
      .. "[ ! -e \"$f\" ] || cp --parents \"$f\" " .. quote(work .. "/tree") .. "; done")
    must("cd " .. quote(work .. "/tree") .. " && git add -A && git -c user.name=x "
      .. "-c user.email=x@x commit -q --allow-empty -m x")
  end)
  teardown(function() run("rm -rf " .. quote(work)) end)

  local function make(tree, targets)
    return "cd " .. quote(tree) .. " && make -s " .. targets
  end

  it("has the same archive wherever and whenever it is made", function()
    local first = must(make(work .. "/tree", "dist"))
    must("git clone -q " .. quote(work .. "/tree") .. " " .. quote(work .. "/other"))
    must("sleep 1.1; touch " .. quote(work .. "/other") .. "/*")
    local second = must("umask 077; export TZ=Asia/Kolkata; " .. make(work .. "/other", "dist"))
    local name = first:match("(%S+%.tar%.gz)\n$")
    assert.matches("^build/koresms%-%d+%.%d+%.%d+%.tar%.gz$", name)
    assert.equal(read(work .. "/tree/" .. name), read(work .. "/other/" .. name))
    assert.equal(first, second)
    local list = must("tar -tzf " .. quote(work .. "/tree/" .. name))
    assert.matches("^koresms%-[%d.]+/", list)
    assert.matches("/src/engine.c\n", list, 1, true)
  end)

  it("is not made of a tree with changes", function()
    must("git clone -q " .. quote(work .. "/tree") .. " " .. quote(work .. "/dirty"))
    must("echo x >>" .. quote(work .. "/dirty/README.md"))
    local text, good = run(make(work .. "/dirty", "dist"))
    assert.is_false(good)
    assert.matches("changes that are not committed: README.md", text, 1, true)
    assert.equal("", must("find " .. quote(work .. "/dirty") .. " -name '*.tar.gz'"))
  end)

  it("installs by LuaRocks, from a server in a folder, into an empty tree", function()
    local _, there = run("command -v luarocks")
    if not there then return pending("luarocks is not installed") end
    local tree, server, empty = work .. "/tree", rocks.server(work), work .. "/empty"
    local text, good = run(make(tree, "rocks"))
    assert.is_false(good)
    assert.matches("make rocks URL=", text, 1, true)
    must(make(tree, "dist rocks URL=file://" .. tree .. "/build"))
    local luarocks = "HOME=" .. quote(work) .. " luarocks --lua-version=" .. abi
    local specs = rocks.lines(must("ls " .. quote(tree) .. "/build/*.rockspec"))
    assert.equal(3, #specs)
    for _, spec in ipairs(specs) do
      must(luarocks .. " lint " .. quote(spec))
      must("cp " .. quote(spec) .. " " .. quote(server))
    end
    must("HOME=" .. quote(work) .. " luarocks-admin --lua-version=" .. abi .. " make-manifest "
      .. quote(server))
    for _, name in ipairs { "koresms", "koresms-sqlite", "koresms-postgres" } do
      must(luarocks .. " --tree=" .. quote(empty) .. " --only-server=" .. quote(server)
        .. " install " .. name)
    end
    rocks.send_from(empty)
    -- The stores, too, each from its own rock.
    for _, name in ipairs { "sqlite", "postgres" } do
      must("test -e " .. quote(empty .. "/lib/lua/" .. abi .. "/koresms/" .. name .. ".so"))
    end
    must("cd " .. quote(empty)
      .. " && KORESMS_STORE=x.db bin/koresms campaign quota --per-minute 5")

    -- A server that lacks what koresms depends on.
    must("rm " .. quote(server) .. "/lua-cjson* && HOME=" .. quote(work) .. " luarocks-admin "
      .. "--lua-version=" .. abi .. " make-manifest " .. quote(server))
    text, good = run(luarocks .. " --tree=" .. quote(work .. "/none") .. " --only-server="
      .. quote(server) .. " install koresms")
    assert.is_false(good)
    assert.matches("lua-cjson", text, 1, true)
  end)
end)
