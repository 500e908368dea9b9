-- A PostgreSQL of our own: a cluster in a temporary directory, reached by a unix socket only.
-- It ends with this program, however that ends. Debian's own cluster is not touched.

require "spec.support.paths"

local shell = require "koresms.sandbox.shell"

local M = {}

local Cluster = {}
Cluster.__index = Cluster

-- PostgreSQL refuses to run as root.
local AS_POSTGRES = [[
if [ "$(id -u)" = 0 ]; then run() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
else run() { "$@"; }; fi
]]

local SCRIPT = AS_POSTGRES .. [[
trap '' INT TERM HUP PIPE
cd "$dir" || exit 1
if [ "$primary" ]; then
  run "$bin/pg_basebackup" -h "$primary" -U postgres -D "$dir/data" -R -c fast
else
  run "$bin/initdb" -D "$dir/data" -U postgres --auth=trust -E UTF8 --no-locale --no-instructions -N
fi >"$dir/initdb" 2>&1 || { touch "$dir/failed"; exec cat >/dev/null; }
printf 'local all locked scram-sha-256\nlocal all,replication all trust\n' >"$dir/data/pg_hba.conf"
cat >>"$dir/data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$dir'
max_connections = 60
shared_buffers = 64MB
END
run "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 start >>"$dir/start" 2>&1 \
  && touch "$dir/ready" || touch "$dir/failed"
cat >/dev/null
run "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$dir"
]]

-- Where the server's programs are; nil where there are none.
local function programs()
  local _, found = shell.run([[
    for d in "$(pg_config --bindir 2>/dev/null)" \
        $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV); do
      if [ -x "$d/initdb" ] && [ -x "$d/pg_ctl" ]; then echo "$d"; break; fi
    done]])
  return found ~= "" and found or nil
end

local function exists(path)
  local file = io.open(path)
  return file ~= nil and file:close() ~= nil
end

--- Starts a cluster.
-- @tparam ?table primary the cluster whose standby it is to be
-- @treturn[1] table
-- @treturn[2] nil where PostgreSQL is not installed
-- @treturn[2] string
function M.start(primary)
  local bin = programs()
  if not bin then return nil, "PostgreSQL is not installed (initdb, pg_ctl)" end
  local _, dir = shell.run("d=$(mktemp -d /tmp/koresms-pg.XXXXXX) && "
    .. "{ [ $(id -u) != 0 ] || chown postgres \"$d\"; } && echo \"$d\"")
  assert(dir ~= "", "no temporary directory")
  local self = setmetatable({ dir = dir, bin = bin, count = 0 }, Cluster)
  self.pipe = assert(io.popen(("unset LD_PRELOAD LC_ALL; export LC_ALL=C; dir=%s; "
    .. "bin=%s primary=%s\n%s"):format(
    shell.quote(dir), shell.quote(bin), shell.quote(primary and primary.dir or ""), SCRIPT), "w"))
  for _ = 1, 1200 do
    if exists(dir .. "/ready") then return self end
    if exists(dir .. "/failed") then break end
    shell.run("sleep 0.05")
  end
  local _, log = shell.run(("cat %s/initdb %s/log %s/start 2>/dev/null"):format(dir, dir, dir))
  self:stop()
  error("PostgreSQL did not start:\n" .. log)
end

--- Stops it, and removes its files.
function Cluster:stop()
  local pipe = self.pipe
  self.pipe = nil
  if pipe then pipe:close() end
end

--- The address of a database in it.
-- @tparam string database
-- @tparam ?string more parameters, such as "&prepare=false"
-- @tparam ?string user and password
function Cluster:url(database, more, user)
  return ("postgres://%s@/%s?host=%s%s"):format(user or "postgres", database, self.dir, more or "")
end

--- Makes a database; returns its address.
function Cluster:database(more)
  self.count = self.count + 1
  local name = "spec" .. self.count
  local ok, text = shell.run(("%s/createdb -h %s -U postgres %s 2>&1"):format(self.bin, self.dir,
    name))
  assert(ok, text)
  return self:url(name, more), name
end

--- Runs pg_ctl on it, such as "stop -m immediate" or "start".
function Cluster:control(what)
  local ok, text = shell.run(("%s LC_ALL=C; cd %s; run %s/pg_ctl -D %s/data -l %s/log -w -t 60 "
    .. "%s >/dev/null 2>&1")
    :format(AS_POSTGRES, self.dir, self.bin, self.dir, self.dir, what))
  assert(ok, text)
end

return M
