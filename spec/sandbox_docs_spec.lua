-- docs/sandbox.md names all that can be set. For its blocks and links see spec/docs_spec.lua.

require "spec.support.paths"

local command = require "spec.support.command"

describe("docs/sandbox.md", function()
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
