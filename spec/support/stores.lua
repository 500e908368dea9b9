-- A store of each kind that this machine can have, for specs that must hold for all of them.

require "spec.support.paths"

local koresms = require "koresms"
local postgres = require "spec.support.postgres"
local run = require "spec.support.run"

local M = {}

local clusters = {}

-- Each gives the location of a store that is not there yet.
local kinds = {
  {
    name = "SQLite", module = "koresms.sqlite",
    location = function() return run.directory() .. "/store.db" end,
  },
  {
    name = "PostgreSQL", module = "koresms.postgres",
    start = function()
      local cluster, text = postgres.start()
      clusters[#clusters + 1] = cluster
      return cluster, text
    end,
    location = function(kind) return (kind.cluster:database()) end,
  },
}

--- The kinds that this machine can have; called while specs are described.
-- @treturn table array of `name`, `location()` (a fresh one), and `store()` (a store with a
--   campaign "c" that runs, without limits; its location)
function M.kinds()
  local found = {}
  for _, kind in ipairs(kinds) do
    local there = pcall(require, kind.module)
    if there and kind.start and not kind.cluster then kind.cluster = kind.start() end
    if there and (not kind.start or kind.cluster) then found[#found + 1] = kind end
  end
  return found
end

for _, kind in ipairs(kinds) do
  function kind.store(self, limits)
    local where = self:location()
    local store = assert(koresms.store(where))
    assert(store:quota(limits or { per_minute = false, per_hour = false }))
    assert(store:create { name = "c", from = "+19876543210" })
    assert(store:resume "c")
    self.last = where
    return store, where
  end
end

--- Ends what was started.
function M.stop()
  for _, cluster in ipairs(clusters) do cluster:stop() end
  clusters = {}
  for _, kind in ipairs(kinds) do kind.cluster = nil end
  run.clean()
end

--- The n-th number of a series.
function M.number(n)
  return ("+1555%07d"):format(n)
end

--- So many messages.
function M.messages(count, first)
  local list = {}
  for i = 1, count do list[i] = { to = M.number((first or 0) + i) } end
  return list
end

return M
