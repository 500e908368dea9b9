-- Prints koresms(1), from the texts of `koresms --help` and of each command's help.
package.path = "./?.lua;" .. package.path
require "spec.support.paths"

local parser, _, commands, order = require("koresms.cli").build(true)

local function escape(text)
  text = text:gsub("\\", "\\e"):gsub("-", "\\-")
  return (text:gsub("\n([.'])", "\n\\&%1"))
end

local function print_lines(...)
  for _, line in ipairs({ ... }) do io.write(line, "\n") end
end

-- A text as it stands: its lines are laid out for a terminal.
local function print_text(text)
  if not text then return end
  print_lines(".nf", (escape("\n" .. text):sub(2)), ".fi")
end

local function help_of(one)
  local text = one:get_help():gsub("^Usage: ", "")
  return (text:gsub("\n\n`koresms %-%-help` lists the exit status and the environment%.$", ""))
end

local version = require("koresms.core")._VERSION
print_lines([[.TH KORESMS 1 "" "koresms ]] .. version .. [[" "User Commands"]],
  ".SH NAME", [[koresms \- send SMS through Kore.ai's Send Outbound SMS API]], ".SH SYNOPSIS")
print_text(parser:get_usage():gsub("^Usage: ", ""))
print_lines(".SH DESCRIPTION")
print_text(help_of(parser):match("\n\n(.*)$"))
for _, name in ipairs(order) do
  local command = commands[name]
  print_lines(".SH " .. escape("KORESMS " .. name:upper()))
  print_text(help_of(command))
  for _, sub in ipairs(command._commands) do
    print_lines(".SS " .. escape(sub:_get_fullname()))
    print_text(help_of(sub))
  end
end
print_lines(".SH SEE ALSO", "curl(1), nginx(8)")
