-- Every block of docs/sandbox.md is run, but for those that say why not.

local paths = require "spec.support.paths"

local command = require "spec.support.command"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"

-- What runs a block of a language.
local RUNNERS = { sh = "sh -eu", lua = command.interpreter, python = "python3" }

-- The blocks that are to be run, with the number of the line where each begins.
local function blocks()
  local list, block, reason, number = {}, nil, nil, 0
  for line in io.lines("docs/sandbox.md") do
    number = number + 1
    local language = line:match("^```(.*)$")
    if block and language then
      if RUNNERS[block.language] and not block.reason then list[#list + 1] = block end
      block = nil
    elseif block then
      block[#block + 1] = line
    elseif language then
      block = { language = language, reason = reason, line = number }
      if not RUNNERS[language] and language ~= "text" then error("docs/sandbox.md:" .. number) end
    end
    reason = line:match("^<!%-%- not run: (.-) %-%->$")
  end
  return list
end

describe("docs/sandbox.md", function()
  local box, work

  setup(function()
    box = assert(sandbox.start())
    work = select(2, shell.run("mktemp -d"))
    local here = shell.absolute(".")
    shell.run(("mkdir %s/bin %s/koresms && ln -s %s/lua/koresms/* %s/koresms && ln -s %s/sandbox "
      .. "%s/koresms/sandbox")
      :format(work, work, here, work, here, work))
    command.write(work .. "/bin/koresms", ("#!/bin/sh\nexec %s %s/bin/koresms \"$@\"\n"):format(
      command.interpreter, here))
    shell.run("chmod +x " .. work .. "/bin/koresms")
  end)

  teardown(function()
    box:stop()
    shell.run("rm -rf " .. shell.quote(work))
  end)

  for _, block in ipairs(blocks()) do
    it(("runs the block at line %d"):format(block.line), function()
      assert(box:control("DELETE", "state"))
      local env = { HOME = work, PATH = work .. "/bin:" .. os.getenv("PATH"),
        LUA_PATH = ("%s/?.lua;%s/?/init.lua;;"):format(work, work),
        LUA_CPATH = ("%s/%s/?.so;;"):format(shell.absolute(os.getenv("KSMS_BUILD") or "build"),
          paths.version),
        KORESMS_RETRIES = "0", KORESMS_TIMEOUT = "2" }
      for _, pair in ipairs(box.env) do env[pair[1]] = pair[2] end
      command.write(work .. "/block", table.concat(block, "\n") .. "\n")
      local ok, output = shell.run(("cd %s && %s %s ./block 2>&1 </dev/null"):format(work,
        command.prefix(env),
        RUNNERS[block.language]))
      assert.is_true(ok, output)
      assert.is_nil(output:find("usage:", 1, true), output)
    end)
  end

  it("links to what is there", function()
    local text = command.read("docs/sandbox.md")
    local anchors = {}
    for title in text:gmatch("\n##* ([^\n]+)") do
      anchors["#" .. title:lower():gsub("[^%w %-]", ""):gsub(" ", "-")] = true
    end
    for target in text:gmatch("%]%(([^)]+)%)") do
      if target:sub(1, 1) == "#" then
        assert.is_true(anchors[target], target)
      else
        assert.is_true((shell.run("[ -e docs/" .. target:gsub("#.*", "") .. " ]")), target)
      end
    end
  end)

  it("names each setting, each key of a play and each option of start", function()
    local rules = require "koresms.sandbox.rules"
    local text = command.read("docs/sandbox.md")
    for _, group in ipairs { rules.settings, rules.play, rules.options } do
      for name in pairs(group) do
        -- `lines` is the command's own.
        if name ~= "lines" then assert.matches("`" .. name .. "`", text, 1, true) end
      end
    end
  end)
end)
