-- examples/busted, run as its reader runs it.

local paths = require "spec.support.paths"
local shell = require "koresms.sandbox.shell"

describe("examples/busted", function()
  it("tests an application with the sandbox", function()
    local interpreter = paths.version == "jit" and "luajit" or "lua" .. paths.version
    local here = shell.absolute(".")
    -- Installed, koresms.sandbox is a module like any other; in the tree it stands elsewhere.
    local _, root = shell.run("mktemp -d")
    finally(function() shell.run("rm -rf " .. shell.quote(root)) end)
    shell.run(("mkdir %s/koresms && ln -s %s/lua/koresms/* %s/koresms && ln -s %s/sandbox "
      .. "%s/koresms/sandbox"):format(
      root, here, root, here, root))
    local build = shell.absolute(os.getenv("KSMS_BUILD") or "build")
    local ok, output = shell.run(("cd examples/busted && LUA_PATH=%s LUA_CPATH=%s %s \"$(command "
      .. "-v busted)\" "
      .. "--output=plainTerminal 2>&1"):format(
      shell.quote(("./?.lua;%s/?.lua;%s/?/init.lua;;"):format(root, root)),
      shell.quote(("%s/%s/?.so;;"):format(build, paths.version)), interpreter))
    assert.is_true(ok, output)
    assert.matches("^[^\n]*8 successes / 0 failures / 0 errors",
      output:match("%d+ successes[^\n]*"), nil, output)
  end)
end)
