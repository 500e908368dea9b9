--- `koresms completion`: what makes a shell complete the command's words.
local output = require "koresms.cli.output"

local M = {}

M.summary = "Print the completions of a shell."

function M.define(command)
  command:description(M.summary .. [[


   koresms completion bash >~/.local/share/bash-completion/completions/koresms
   koresms completion zsh  >_koresms          in a folder of $fpath
   koresms completion fish >~/.config/fish/completions/koresms.fish

`make install` and the packages bring them.]])
  command:argument("shell"):argname("SHELL"):choices { "bash", "zsh", "fish" }
end

function M.run(arguments)
  local parser = require("koresms.cli").build(true)
  local text = parser["get_" .. arguments.shell .. "_complete"](parser)
  output.print((text:gsub("%s+$", "")))
  return 0
end

return M
