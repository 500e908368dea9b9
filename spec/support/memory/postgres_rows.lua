--- What the memory passes call of koresms.postgres; see rows.lua for the form of a row. The
-- memory of libpq itself does not fail here: what the module and Lua ask for does.

local postgres = require "koresms.postgres"

local TEXT = ("a text of some length "):rep(20)
local SELECT = "SELECT $1::text AS text, $2::int AS whole, $3::float8 AS half, $4::bool AS yes, "
  .. "$5::text AS none UNION ALL SELECT 'b', 9, 0.5, false, NULL ORDER BY whole"

-- A cluster of our own, started at the first use; it ends with this program.
local cluster
local function address()
  cluster = cluster or assert(require("spec.support.postgres").start())
  return cluster:url("postgres")
end

local function refused(pattern, code)
  return function(_, made, why, got)
    if made ~= nil or not tostring(why):find(pattern) or got ~= code then
      return ("%s, %s, %s"):format(tostring(made), tostring(why), tostring(got))
    end
  end
end

local function new()
  return { db = assert(postgres.connect(address(), { limit = 20 })) }
end

local function new_table()
  local self = new()
  assert(self.db:run("CREATE TEMPORARY TABLE t (a text)"))
  return self
end

local function close(self) self.db:close() end

local function select_all(self) return self.db:run(SELECT, TEXT, 7, 0.25, true, nil) end

local function selected(self, rows, why)
  if self.closed and rows == nil and why == "the connection is closed" then return nil end
  if type(rows) ~= "table" or #rows ~= 2 then return "other rows: " .. tostring(why) end
  local one, two = rows[1], rows[2]
  if one.text ~= TEXT or one.whole ~= 7 or one.half ~= 0.25 or one.yes ~= true
      or one.none ~= nil or two.text ~= "b" or two.whole ~= 9 or two.half ~= 0.5
      or two.yes ~= false or two.none ~= nil or rows.changes ~= 0 then
    return "another value"
  end
end

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

return {
  { name = "connect", covers = "connect",
    new = function() return { where = address() } end,
    run = function(self) return postgres.connect(self.where, { limit = 20, prepare = false }) end,
    right = function(_, made, why)
      if type(made) ~= "userdata" then return "no connection: " .. tostring(why) end
      local rows = made:run("SELECT 1 AS n")
      made:close()
      if not rows or rows[1].n ~= 1 then return "no connection that works" end
    end },
  { name = "connect refused", covers = "connect",
    run = function() return postgres.connect("postgres://u@/d?host=/no/such/directory") end,
    right = refused("No such file or directory", "08001") },
  { name = "connect to no address", covers = "connect",
    run = function() return postgres.connect("postgres://[") end,
    right = refused("^the database's address cannot be read: ", "config") },
  { name = "connection:run", covers = "koresms.postgres.connection:run", new = new,
    run = select_all, right = selected, disturb = disturb, close = close },
  { name = "connection:run that writes", covers = "koresms.postgres.connection:run",
    new = new_table, close = close, once = true,
    run = function(self) return self.db:run("INSERT INTO t VALUES ($1)", TEXT) end,
    right = function(self, rows, why)
      if self.closed and rows == nil and why == "the connection is closed" then return nil end
      if type(rows) ~= "table" or rows.changes ~= 1 then return "not written once" end
      if not self.closed and count(self) ~= 1 then return "another number of rows" end
    end,
    again = function(self)
      local before = count(self)
      if before > 1 then return "written more than once" end
      local rows = self.db:run("INSERT INTO t VALUES ($1)", TEXT)
      if not rows or rows.changes ~= 1 or count(self) ~= before + 1 then return "not written" end
    end,
    disturb = disturb },
  { name = "connection:run refused", covers = "koresms.postgres.connection:run", new = new,
    close = close, run = function(self) return self.db:run("SELECT a FROM missing") end,
    right = refused('^relation "missing" does not exist$', "42P01") },
  { name = "connection:start", covers = "koresms.postgres.connection:start",
    new = new_table, close = close, once = true,
    run = function(self) return self.db:start("INSERT INTO t VALUES ($1)", TEXT) end,
    right = function(self, started, why)
      if started ~= true then return "not started: " .. tostring(why) end
      if self.db:finish().changes ~= 1 or count(self) ~= 1 then return "not written once" end
    end,
    -- A statement that is run before `finish` takes the place of the answer.
    disturbed = function(self, started, why)
      if self.closed and started == nil and why == "the connection is closed" then return nil end
      if started ~= true then return "not started: " .. tostring(why) end
      local rows, text, code = self.db:finish()
      if self.closed then return rows and "an answer of a closed connection" end
      if not rows and code ~= "08003" then return "not finished: " .. tostring(text) end
      if count(self) ~= 1 then return "not written once" end
    end,
    again = function(self)
      local before = count(self)
      if before > 1 then return "written more than once" end
      if not self.db:start("INSERT INTO t VALUES ($1)", TEXT) then return "not started" end
      if self.db:finish().changes ~= 1 or count(self) ~= before + 1 then return "not written" end
    end,
    disturb = disturb },
  { name = "connection:finish", covers = "koresms.postgres.connection:finish",
    new = function()
      local self = new_table()
      assert(self.db:start("INSERT INTO t VALUES ($1)", TEXT))
      return self
    end, close = close, once = true,
    run = function(self) return self.db:finish() end,
    right = function(self, rows)
      if type(rows) ~= "table" or rows.changes ~= 1 then return "another answer" end
      if count(self) ~= 1 then return "another number of rows" end
    end,
    again = function(self) if count(self) ~= 1 then return "another number of rows" end end },
  { name = "connection:limit", covers = "koresms.postgres.connection:limit", new = new,
    close = close, quiet = true,
    run = function(self) return self.db:limit(3) end, right = function() end },
  { name = "connection:close", covers = "koresms.postgres.connection:close", quiet = true,
    new = function()
      local self = new()
      select_all(self)
      return self
    end,
    run = function(self) return self.db:close() end, right = function() end },
}
