--- The client of a command, from environment and file.
local config = require "koresms.config"
local core = require "koresms.core"
local koresms = require "koresms"
local misuse = require "koresms.misuse"
local output = require "koresms.cli.output"

local M = {}

local PREFIX = "KORESMS_"

--- The variables that look like settings and are none.
-- @treturn {table,...} `name`, and `meant` where it is nearly one; without values, which may be
--   secret
function M.strangers()
  local known = { config = true }
  for _, row in ipairs(config.settings) do
    if row.env then known[row.name] = true end
  end
  local names, found = core.variable_names(PREFIX), {}
  table.sort(names)
  for _, name in ipairs(names) do
    local key = name:sub(#PREFIX + 1):lower()
    if name ~= PREFIX .. key:upper() or not known[key] then
      local meant = known[key] and key or misuse.suggest(key, known)
      found[#found + 1] = { name = name, meant = meant and PREFIX .. meant:upper() }
    end
  end
  return found
end

--- What is said of such a variable.
function M.about(stranger)
  return ("%s is no setting and has no effect%s"):format(stranger.name,
    stranger.meant and ("; %s is"):format(stranger.meant) or "")
end

--- Makes a client, or says each thing that keeps it from being made.
-- @tparam ?table options those of `koresms.new`
-- @treturn ?table
function M.open(options)
  for _, stranger in ipairs(M.strangers()) do
    if stranger.meant then output.complain(M.about(stranger)) end
  end
  local client, text = koresms.new(options)
  if client then return client end
  for _, one in ipairs(M.faults(text)) do output.complain(one) end
end

--- What keeps a client from being made, in as many texts as settings are missing.
-- @tparam string text that `koresms.new` gave
-- @treturn {string,...}
function M.faults(text)
  -- Then no file of a secret was read, which may be a pipe and can be read once.
  if not text:find("^[%l_]+ is required") then return { text } end
  local _, _, _, texts = config.load()
  return texts or { text }
end

return M
