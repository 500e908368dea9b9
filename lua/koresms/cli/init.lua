--- The command `koresms`: options, help, and the way into each subcommand.
--
-- A subcommand is a module koresms.cli.<name> with `summary`, `define(command)` for its
-- options, and `run(arguments)`, which returns the exit status. Optional: `lost`, the status
-- where it succeeded and its output could not be written; `broken` and `broken_text`, the
-- status and a warning where it broke off.
local argparse = require "argparse"
local config = require "koresms.config"
local output = require "koresms.cli.output"

local M = {}

local subcommands = { "send", "send-many", "token", "check", "sandbox" }

local USAGE = 2

local exit_text = [[
Exit status:
   0   all accepted
   1   some rejected or not sent; `check`: a step failed
   2   usage or configuration
   4   some unknown: a request may have left and no usable answer came back.
       It is not repeated; sending again may send the message twice
   5   paused

Results go to standard output, everything else to standard error.]]

-- The environment as the settings table knows it.
local function environment_text()
  local lines = { "Environment:" }
  local function add(name, text) lines[#lines + 1] = ("   %-28s %s"):format(name, text) end
  for _, row in ipairs(config.settings) do
    local default = row.default ~= nil and " (" .. tostring(row.default) .. ")" or ""
    if row.env then add(row.env, row.help .. (row.required and " (required)" or default)) end
  end
  add("KORESMS_CONFIG", "a file of settings, .json or .lua; the environment comes before it")
  lines[#lines + 1] = "\nSecrets come from the environment or from files, "
    .. "never from the command line."
  return table.concat(lines, "\n")
end

local function fail(parser, text)
  io.stderr:write(parser:get_usage(), "\n\nkoresms: ", text, "\n")
  os.exit(USAGE)
end

-- Each secret setting has an option that only says where the secret belongs: the reflex
-- to type it must not end in a bare "unknown option" (nor in a secret in the history of a
-- shell a second time).
local function refuse_secrets(parser)
  for _, row in ipairs(config.settings) do
    if row.secret then
      local name = "--" .. row.name:gsub("_", "-")
      parser:option(name):args("?"):hidden(true):action(function()
        local file = config.settings[row.name .. "_file"]
        fail(parser, name .. " is no option: secrets are not taken from the command line, "
          .. "which every user of the machine can read. Set " .. row.env
          .. (file and " or " .. file.env or "")
          .. ", or " .. row.name .. " in the file that KORESMS_CONFIG names")
      end)
    end
  end
end

--- The parser of the command line, and the modules of the subcommands by name.
function M.build()
  local parser = argparse("koresms",
    "Send SMS through Kore.ai's Send Outbound SMS API. No message is ever sent a second\n"
    .. "time by itself: an outcome is accepted, rejected, not_sent or unknown.",
    exit_text .. "\n\n" .. environment_text())
  parser:command_target("command")
  parser:help_description_margin(31)
  parser.error = fail
  parser:flag("--version"):description("Print the version and exit."):action(function()
    print("koresms " .. require("koresms")._VERSION)
    os.exit(0)
  end)
  refuse_secrets(parser)
  local modules = {}
  for _, name in ipairs(subcommands) do
    local module = require("koresms.cli." .. name:gsub("-", "_"))
    local command = parser:command(name):summary(module.summary):epilog(
      "`koresms --help` lists the exit status and the environment.")
    command.error = fail
    module.define(command)
    modules[name] = module
  end
  return parser, modules
end

-- Ctrl-C reaches Lua as an error raised by the interpreter.
local function describe(problem)
  problem = tostring(problem)
  if problem:find("interrupted!", 1, true) then return problem, true end
  return debug.traceback(problem, 2), false
end

--- Runs the command.
-- @tparam {string,...} arguments
-- @treturn number the exit status
function M.main(arguments)
  local parser, modules = M.build()
  local parsed = parser:parse(arguments)
  local module = modules[parsed.command]
  local interrupted
  local ok, status = xpcall(function() return module.run(parsed) end, function(problem)
    problem, interrupted = describe(problem)
    return problem
  end)
  if not ok then
    output.complain(interrupted and "interrupted" or status)
    if module.broken_text then output.complain(module.broken_text) end
    status = module.broken or interrupted and 130 or 1
  end
  local written, why = io.stdout:flush()
  if not written then
    output.complain("standard output cannot be written: " .. tostring(why))
    if status == 0 then status = module.lost or 1 end
  end
  return status
end

return M
