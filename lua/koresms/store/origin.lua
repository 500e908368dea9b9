--- Is a database the one that it was? A promoted or restored one may lack the last marks, and
-- what it calls pending may have been sent.
--
-- PostgreSQL says so by its system's number and its timeline, and each turn asks for the latter.
-- Beside a file of SQLite the number of its last worker is kept: a file that does not know that
-- worker is an older copy.
-- @module koresms.store.origin

local M = {}

--- Why all is paused.
M.REASON = "the database was promoted or restored: the last marks may be missing in it, and what "
  .. "it calls pending may have been sent; look at what was sent, then `koresms campaign resume "
  .. "NAME --accept`"

local function beside(link)
  return link.location.where .. "-run"
end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read(40)
  if file then file:close() end
  return text and tonumber(text:match("^%d+"))
end

--- Keeps the number of a worker beside a file of SQLite.
function M.remember(link, worker)
  if link.location.kind ~= "sqlite" then return end
  local file = io.open(beside(link), "r+b") or io.open(beside(link), "wb")
  if not file then return end
  file:write(("%.0f\n"):format(worker))
  file:close()
end

--- Whether the database is the one that it was.
-- @treturn[1] boolean
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string
function M.is_original(link)
  if link.location.kind == "sqlite" then
    local last = read(beside(link))
    if not last then return true end
    local rows, text, code = link:run("has_worker", last)
    if not rows then return nil, text, code end
    return rows[1].there == 1
  end
  local rows, text, code = link:run("origin")
  if not rows then return nil, text, code end
  local row = rows[1]
  return row.known == row.system and row.known_timeline == row.timeline
end

--- Pauses all that runs, with the reason.
function M.pause_all(link)
  local rows, text, code = link:run("pause_all", M.REASON)
  if not rows then return nil, text, code end
  return link:run("event", nil, "restored", M.REASON)
end

--- A person says that it is right as it is.
function M.accept(link)
  if link.location.kind == "sqlite" then
    local file = io.open(beside(link), "wb")
    if file then file:close() end
    return true
  end
  return link:run("accept_origin")
end

return M
