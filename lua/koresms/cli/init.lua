--- The command `koresms`: options, help, and the way into each subcommand.
--
-- A subcommand is a module koresms.cli.<name> with `summary`, `define(command)` for its
-- options, and `run(arguments)`, which returns the exit status. Optional: `lost`, the status
-- where it succeeded and its output could not be written; `broken` and `broken_text`, the
-- status and a warning where it broke off; `explain(text)`, which says more about what is wrong
-- with the command line.
local argparse = require "argparse"
local config = require "koresms.config"
local descriptors = require "koresms.cli.descriptors"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"
local output = require "koresms.cli.output"
local version = require "koresms.cli.version"

local M = {}

local subcommands = { "send", "send-many", "campaign", "token", "check", "sandbox",
  "completion" }

local USAGE = 2

local exit_text = [[
Exit status:
   0   all accepted
   1   some rejected or not sent; `check`: a step failed
   2   usage or configuration
   4   some unknown: a request may have left and no usable answer came back.
       It is not repeated; sending again may send the message twice
   5   stopped before all were started

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

-- Ends the command. What was typed may hold anything, and is repeated by some texts.
local function fail(parser, text)
  io.stderr:write(parser:get_usage(), "\n\nkoresms: ", mask.text(text, 1000), "\n")
  os.exit(USAGE)
end

-- The same where nothing was asked for.
local function list_commands(parser, modules)
  local lines = { parser:get_usage(), "\nCommands:" }
  for _, name in ipairs(subcommands) do
    lines[#lines + 1] = ("   %-12s %s"):format(name, modules[name].summary)
  end
  lines[#lines + 1] = "\n`koresms help COMMAND` tells more; so does `koresms --help`."
  io.stderr:write(table.concat(lines, "\n"), "\n\nkoresms: a command is required\n")
  return USAGE
end

-- Each secret setting has an option that only says where the secret belongs: the reflex
-- to type it must not end in a bare "unknown option" (nor in a secret in the history of a
-- shell a second time).
local function refuse_secrets(parser)
  for _, row in ipairs(config.settings) do
    if row.secret and not row.apart then
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

-- The text of a message is what other tools ask for first.
local function refuse_texts(command)
  for _, name in ipairs(misuse.texts) do
    command:option("--" .. name):args("?"):hidden(true):action(function()
      fail(command, ("--%s is no option: %s"):format(name, misuse.NO_TEXT))
    end)
  end
end

local function define_help(parser)
  parser:command("help"):summary("Show the help of a command."):argument("topic")
    :argname("COMMAND"):args("*")
    :description("The command; without one, all of them are listed.")
end

-- Prints the help of a command, or of all.
local function show_help(parser, commands, topic)
  local first = topic[1]
  if first and not commands[first] then
    fail(parser, ("there is no command '%s'"):format(first))
  end
  local words = {}
  for i, word in ipairs(topic) do words[i] = word end
  words[#words + 1] = "--help"
  parser:parse(words) -- prints, and ends the program
end

-- A setting that was taken for an option.
local function name_setting(text)
  local name = text:match("^unknown option '%-%-([%w-]+)'")
  local row = name and config.settings[(name:gsub("-", "_"))]
  return row and row.env and ("%s; it is a setting: %s"):format(text, row.env) or text
end

--- The parser of the command line, the modules of the subcommands and their own parsers by name,
-- and the names in order.
-- @tparam ?boolean bare leave out the hidden options, which only tell what is wrong
function M.build(bare)
  local parser = argparse("koresms",
    "Send SMS through Kore.ai's Send Outbound SMS API. No message is ever sent a second\n"
    .. "time by itself: an outcome is accepted, rejected, not_sent or unknown.",
    exit_text .. "\n\n" .. environment_text())
  parser:command_target("command")
  parser:help_description_margin(31)
  -- argparse calls the parser's own for every command, too.
  local explanations = {}
  parser.error = function(self, text)
    fail(self, explanations[self] and explanations[self](text) or name_setting(text))
  end
  parser:flag("--version"):description("Print the version and exit; with --verbose also those "
    .. "of Lua and the libraries."):action(function()
    print(version.text(false))
    os.exit(0)
  end)
  if not bare then refuse_secrets(parser) end
  local modules, commands = {}, {}
  for _, name in ipairs(subcommands) do
    local module = require("koresms.cli." .. name:gsub("-", "_"))
    local command = parser:command(name):summary(module.summary):epilog(
      "`koresms --help` lists the exit status and the environment.")
    explanations[command] = module.explain
    module.define(command)
    if module.sends and not bare then refuse_texts(command) end
    modules[name], commands[name] = module, command
  end
  define_help(parser)
  return parser, modules, commands, subcommands
end

-- Ctrl-C reaches Lua as an error raised by the interpreter.
local function describe(problem)
  problem = tostring(problem)
  if problem:find("interrupted!", 1, true) then return problem, true end
  return debug.traceback(problem, 2), false
end

-- Runs a subcommand. Returns its exit status, also where it broke off.
local function run(module, parsed)
  local interrupted
  local ok, status = xpcall(function() return module.run(parsed) end, function(problem)
    problem, interrupted = describe(problem)
    return problem
  end)
  if ok then return status end
  output.complain_lines("koresms: " .. (interrupted and "interrupted" or status))
  if module.broken_text then output.complain(module.broken_text) end
  return module.broken or interrupted and 130 or 1
end

--- Runs the command.
-- @tparam {string,...} arguments
-- @treturn number the exit status
function M.main(arguments)
  local fault = descriptors.secure()
  if fault then
    output.complain(fault)
    return USAGE
  end
  local parser, modules, commands = M.build()
  if #arguments == 0 then return list_commands(parser, modules) end
  -- A flag that goes with another one, and needs no command.
  local first, second = arguments[1], arguments[2]
  if #arguments == 2 and (first == "--version" and second == "--verbose"
    or first == "--verbose" and second == "--version") then
    print(version.text(true))
    return 0
  end
  local parsed = parser:parse(arguments)
  if parsed.command == "help" then return show_help(parser, commands, parsed.topic) end
  local module = modules[parsed.command]
  local status = run(module, parsed)
  local written, why = io.stdout:flush()
  if not written then
    output.complain("standard output cannot be written: " .. tostring(why))
    if status == 0 then status = module.lost or 1 end
  end
  return status
end

return M
