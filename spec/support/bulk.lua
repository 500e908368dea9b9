-- Runs `koresms send-many` against a sandbox, with an input that is a text.

require "spec.support.paths"

local cjson = require "cjson"
local command = require "spec.support.command"
local shell = require "koresms.sandbox.shell"

local M = {}

local Bulk = {}
Bulk.__index = Bulk

--- A sandbox, with its plain port, and no pace of our own.
function M.start()
  local koresms = command.start()
  return setmetatable({ koresms = koresms, box = koresms.box, work = koresms.work,
    input = koresms.work .. "/input", out = koresms.work .. "/out", err = koresms.work .. "/err",
    rest = koresms.work .. "/rest" }, Bulk)
end

function Bulk:stop()
  self.koresms:stop()
end

function Bulk:reset()
  self.koresms:reset()
  assert(self.box:control("PUT", "/_sandbox/settings", { latency = 0 }))
  os.remove(self.rest)
end

--- The shell text that runs the command.
function Bulk:line(arguments, changes)
  local env = { KORESMS_HOST = self.box.plain, KORESMS_PER_MINUTE = "false" }
  for name, value in pairs(changes or {}) do env[name] = value end
  local words = { command.prefix(self.koresms:environment(env)), command.interpreter,
    "bin/koresms", "send-many" }
  for _, word in ipairs(arguments) do words[#words + 1] = shell.quote(word) end
  return table.concat(words, " ")
end

--- What a run left: exit status, standard output, standard error.
function Bulk:left(status)
  return tonumber(status), command.read(self.out), command.read(self.err)
end

--- Writes the input and runs the command on it.
-- @tparam string text
-- @tparam ?table arguments further ones
-- @tparam ?table changes of the environment
-- @tparam ?string pipe how standard input comes, with %s for the file; the input is "-" then
function Bulk:run(text, arguments, changes, pipe)
  command.write(self.input, text)
  local all = { pipe and "-" or self.input }
  for _, word in ipairs(arguments or {}) do all[#all + 1] = word end
  local line = ("%s >%s 2>%s"):format(self:line(all, changes), self.out, self.err)
  line = pipe and pipe:format(self.input, line) or line .. " </dev/null"
  local _, status = shell.run(line .. "; echo $?")
  return self:left(status)
end

--- Runs the command with --json; returns exit status, results, standard error.
function Bulk:results(text, arguments, ...)
  local all = { "--json" }
  for _, word in ipairs(arguments or {}) do all[#all + 1] = word end
  local status, out, err = self:run(text, all, ...)
  return status, M.decode(out), err
end

--- The objects of some lines.
function M.decode(out)
  local list = {}
  for line in out:gmatch("[^\n]+") do list[#list + 1] = cjson.decode(line) end
  return list
end

--- Sorts results by the row that they belong to.
function M.sort(results)
  table.sort(results, function(a, b) return a.index < b.index end)
  return results
end

--- How often each number was processed.
function Bulk:processed()
  local counts = {}
  for _, message in ipairs(self.box:get("/_sandbox/messages").messages) do
    counts[message.to] = (counts[message.to] or 0) + 1
  end
  return counts
end

function Bulk:count()
  return self.koresms:processed()
end

return M
