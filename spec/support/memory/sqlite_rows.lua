--- What the memory passes call of koresms.sqlite; see rows.lua for the form of a row. SQLite's own
-- memory fails, too: it then says so, and the connection goes on.

local sqlite = require "koresms.sqlite"

local host = rawget(_G, "host")

local TEXT = ("a text of some length "):rep(300)
local SELECT = "SELECT ?1 AS text, ?2 AS whole, ?3 AS half, ?4 AS yes, ?5 AS none UNION ALL "
  .. "SELECT 'b', 9007199254740993, 0.5, 0, NULL"

local function refused(text, code)
  return function(_, made, why, got)
    if made ~= nil or why ~= text or got ~= code then
      return ("%s, %s, %s"):format(tostring(made), tostring(why), tostring(got))
    end
  end
end

-- A file that nobody else has.
local function new_path()
  local path = os.tmpname()
  os.remove(path)
  return path
end

local function new()
  local db = assert(sqlite.connect(":memory:", { limit = 5 }))
  assert(db:run("CREATE TABLE t (a)"))
  return { db = db }
end

-- The same in a file.
local function new_in_file()
  local path = new_path()
  local db = assert(sqlite.connect(path, { create = true, limit = 5 }))
  assert(db:run("CREATE TABLE t (a)"))
  return { db = db, path = path }
end

local function close(self)
  self.db:close()
  if self.path then os.remove(self.path) end
end

-- What SQLite says where its memory failed: SQLITE_NOMEM, SQLITE_IOERR_NOMEM.
local NO_MEMORY = { ["7"] = true, ["3082"] = true }

-- Runs a statement; a failure that is not one of memory is none that these passes make.
local function run(self, ...)
  local rows, why, code = self.db:run(...)
  if not rows and host.failed() > 0 and not NO_MEMORY[code] then error("another code", 0) end
  return rows, why, code
end

local function select_all(self) return run(self, SELECT, TEXT, 7, 0.25, true, nil) end

local function selected(self, rows, why)
  if self.closed and rows == nil and why == "the connection is closed" then return nil end
  if type(rows) ~= "table" or #rows ~= 2 then return "other rows: " .. tostring(why) end
  local one, two = rows[1], rows[2]
  if one.text ~= TEXT or one.whole ~= 7 or one.half ~= 0.25 or one.yes ~= 1 or one.none ~= nil
      or two.text ~= "b" or two.whole ~= "9007199254740993" or two.half ~= 0.5 or two.yes ~= 0
      or two.none ~= nil or rows.changes ~= 0 then
    return "another value"
  end
end

-- How many rows there are.
local function count(self) return self.db:run("SELECT count(*) AS n FROM t")[1].n end

-- What finalizers do: they run statements on the same connection, or close it.
local disturb = {
  run = function(self)
    local wrong = selected(self, select_all(self))
    if wrong then error(wrong, 0) end
  end,
  close = function(self)
    self.closed = true
    self.db:close()
  end,
}

-- Whether a statement that writes was told as what it was.
local function written_again(self, raised)
  local before = count(self)
  if before > 1 or not raised and before ~= (self.told and 1 or 0) then
    return ("told %s, %d rows"):format(tostring(self.told), before)
  end
  local rows = self.db:run("INSERT INTO t VALUES (?1)", TEXT)
  if not rows or rows.changes ~= 1 or count(self) ~= before + 1 then return "not written" end
end

local function writing_row(name, make)
  return { name = name, covers = "koresms.sqlite.connection:run", new = make, close = close,
    once = true, soft = true, again = written_again, disturb = disturb,
    run = function(self)
      local rows, why, code = run(self, "INSERT INTO t VALUES (?1)", TEXT)
      self.told = rows
      return rows, why, code
    end,
    right = function(self, rows, why)
      if self.closed and rows == nil and why == "the connection is closed" then return nil end
      if type(rows) ~= "table" or rows.changes ~= 1 then return "not written once" end
      if not self.closed and count(self) ~= 1 then return "another number of rows" end
    end }
end

local function connected(_, made)
  if type(made) ~= "userdata" then return "no connection" end
  local rows, why = made:run("SELECT 1 AS n")
  made:close()
  if not rows or rows[1].n ~= 1 then return "no connection that works: " .. tostring(why) end
end

local function new_lock()
  local path = new_path()
  return { path = path, lock = assert(sqlite.lock(path)) }
end

local function close_lock(self)
  if self.lock then self.lock:close() end
  os.remove(self.path)
end

return {
  { name = "connect", covers = "connect", right = connected,
    soft = true, run = function() return sqlite.connect(":memory:", { limit = 5 }) end },
  { name = "connect to a new file", covers = "connect", right = connected, soft = true,
    new = function() return { path = new_path() } end,
    run = function(self) return sqlite.connect(self.path, { create = true }) end,
    close = function(self) os.remove(self.path) end },
  { name = "connect refused", covers = "connect", soft = true,
    run = function() return sqlite.connect("no/such/file") end,
    right = refused("unable to open database file", "14") },
  { name = "connect to no file", covers = "connect", soft = true,
    run = function() return sqlite.connect("no/such/file", { create = true }) end,
    right = refused("No such file or directory", "14") },
  { name = "connection:run", covers = "koresms.sqlite.connection:run", soft = true, new = new,
    run = select_all, right = selected, disturb = disturb, close = close },
  writing_row("connection:run that writes", new),
  writing_row("connection:run that writes to a file", new_in_file),
  { name = "connection:run of zeros", covers = "koresms.sqlite.connection:run", new = new,
    close = close, soft = true,
    run = function(self) return run(self, "SELECT zeroblob(9000) AS zeros") end,
    right = function(_, rows)
      if type(rows) ~= "table" or rows[1].zeros ~= ("\0"):rep(9000) then return "no zeros" end
    end },
  { name = "connection:run refused", covers = "koresms.sqlite.connection:run", new = new,
    soft = true, close = close,
    run = function(self) return self.db:run("SELECT a FROM missing") end,
    right = refused("no such table: missing", "1") },
  { name = "connection:run of too few values", covers = "koresms.sqlite.connection:run",
    new = new, soft = true, close = close,
    run = function(self) return self.db:run("SELECT ?1") end,
    right = refused("the statement has 1 parameters, and 0 were given", "25") },
  { name = "connection:limit", covers = "koresms.sqlite.connection:limit", new = new,
    close = close, quiet = true,
    run = function(self) return self.db:limit(3) end, right = function() end },
  { name = "connection:close", covers = "koresms.sqlite.connection:close", quiet = true,
    new = function()
      local self = new()
      select_all(self)
      return self
    end,
    run = function(self) return self.db:close() end, right = function() end },
  { name = "lock", covers = "lock", once = true,
    new = function() return { path = new_path(), lock = false } end,
    run = function(self)
      self.lock = sqlite.lock(self.path)
      return self.lock
    end,
    right = function(_, made) if type(made) ~= "userdata" then return "no lock" end end,
    close = close_lock },
  { name = "lock that another has", covers = "lock", new = new_lock, close = close_lock,
    run = function(self) return sqlite.lock(self.path) end,
    right = refused("Resource temporarily unavailable", "busy") },
  { name = "lock:close", covers = "koresms.sqlite.lock:close", quiet = true, new = new_lock,
    run = function(self) return self.lock:close() end, right = function() end,
    close = close_lock },
}
