-- The man page and the completions say what the command's own help says.
local run = require "spec.support.run"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local parser, _, commands = require("koresms.cli").build(true)

describe("share", function()
  local shells = { bash = "koresms.bash", zsh = "_koresms", fish = "koresms.fish" }

  it("has the man page that `make share` makes", function()
    assert.equal(run.output("lua5.4 tools/man.lua"), read("share/man/koresms.1"))
  end)

  for shell, name in pairs(shells) do
    it("has the completions that the command prints, for " .. shell, function()
      local text = read("share/completions/" .. name)
      assert.equal(parser["get_" .. shell .. "_complete"](parser):gsub("%s+$", "\n"), text)
      for command in pairs(commands) do assert.truthy(text:find(command, 1, true), command) end
      for _, hidden in ipairs { "client-secret", "proxy", "text" } do
        assert.is_nil(text:find("%-l " .. hidden) or text:find("%-%-" .. hidden), hidden)
      end
    end)
  end

  it("completes in bash", function()
    local words = run.output([[bash -c '. share/completions/koresms.bash
      COMP_WORDS=(koresms campaign r) COMP_CWORD=2
      _koresms koresms r campaign
      printf "%s\n" "${COMPREPLY[@]}"']])
    assert.equal("resolve resume run", table.concat((function()
      local list = {}
      for word in words:gmatch("%S+") do list[#list + 1] = word end
      table.sort(list)
      return list
    end)(), " "))
  end)
end)
