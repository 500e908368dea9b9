--- What the methods of a store have in common.
-- @module koresms.store.base
local limits = require "koresms.store.limits"
local misuse = require "koresms.misuse"
local output = require "koresms.store.text"

local M = {}

--- What getmetatable gives for a store.
M.NAME = "koresms.store"

--- Raises where a method was called without its store.
-- @param self
-- @tparam string method its name
function M.check_self(self, method)
  if getmetatable(self) ~= M.NAME then
    misuse.raise(("calling '%s' without a store (write store:%s)"):format(method, method))
  end
end

--- Raises where an argument is no string.
-- @tparam string method
-- @tparam number place of the argument
-- @param value
-- @tparam string what it is called
function M.check_string(method, place, value, what)
  if type(value) ~= "string" then
    misuse.raise(("bad argument #%d to '%s' (%s: string expected, got %s)"):format(place, method,
      what, type(value)))
  end
end

--- Keeps why the store failed, and returns it as this API does.
function M.failed(self, text)
  self.own().problem = text
  return nil, text, "store"
end

--- The open link. `create` makes a missing store, with the limits of this program's settings.
function M.open(self, create)
  local conn, begin = self.own().link, nil
  if create then
    local wanted, fault = limits.of_settings()
    if not wanted then return nil, fault, "config" end
    begin = function(link) return limits.apply(link, wanted) end
  end
  local ok, text, code = conn:open(begin)
  if not ok then return nil, text, code end
  return conn
end

--- The link and a campaign's row. An unknown campaign is "config".
function M.open_campaign(self, method, name, create)
  M.check_self(self, method)
  M.check_string(method, 1, name, "the campaign's name")
  local conn, text = M.open(self, create)
  if not conn then return M.failed(self, text) end
  local rows
  rows, text = conn:run("campaign", name)
  if not rows then return M.failed(self, text) end
  if rows[1] then return conn, rows[1] end
  return nil, ("no campaign is called %s in store %s"):format(output.name(name),
    conn.location.shown), "config"
end

--- Runs one of the statements that write in pieces until there is nothing left. Returns how many
-- rows were written.
function M.in_pieces(self, conn, statement, ...)
  local total = 0
  while true do
    local rows, text = conn:run(statement, ...)
    if not rows then return M.failed(self, text) end
    total = total + rows.changes
    if rows.changes == 0 then return total end
  end
end

return M
