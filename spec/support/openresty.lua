--- A real nginx with the tree's own koresms in it, which runs what a spec gives it.
--
--     local server = require("spec.support.openresty").start { workers = 4, http = "..." }
--     server:run([[ return { sum = given.a + given.b } ]], { a = 1, b = 2 }).sum
--     server:stop()

local cjson = require("cjson").new()
local launch = require "koresms.sandbox.launch"
local nginx = require "koresms.sandbox.nginx"
local run = require "spec.support.run"
local shell = require "koresms.sandbox.shell"

local M = {}

-- `main`, `events`, `http`, `locations`, `init` and `initworker` come from the spec. What stands
-- there may use the names below, too. `/run` runs a chunk of Lua and answers with what it returns.
local TEMPLATE = [[
daemon off;
$user
$main
worker_processes $workers;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log error.log warn;
$modules
events { worker_connections 8192; $events }
http {
  access_log off;
  client_body_temp_path temp;
  proxy_temp_path temp;
  fastcgi_temp_path temp;
  uwsgi_temp_path temp;
  scgi_temp_path temp;
  client_max_body_size 4m;
  client_body_buffer_size 4m;
  keepalive_requests 1000000000;
  lua_package_path "$path";
  lua_package_cpath "$cpath";
  lua_socket_log_errors off;
  lua_ssl_trusted_certificate $ca;
  lua_ssl_verify_depth 3;
  lua_ssl_protocols TLSv1.2 TLSv1.3;
  init_by_lua_block { $init }
  init_worker_by_lua_block {
    $initworker
    assert(io.open(ngx.config.prefix() .. "up", "w")):close()
  }
  $http
  server {
    listen 127.0.0.1:$port reuseport backlog=4096;
    location = /run {
      content_by_lua_block {
        ngx.req.read_body()
        local json = require("cjson").new()
        local order = json.decode(ngx.req.get_body_data())
        local chunk = assert(loadstring("local given = ... " .. order.code, "=spec"))
        ngx.print(json.encode(chunk(order.given) or {}))
      }
    }
    $locations
  }
}
]]

local Server = {}
Server.__index = Server

--- Gets an address; returns the answer's body, and its status.
-- @tparam string path
-- @tparam[opt] string words further words for the curl command
function Server:get(path, words)
  local _, output = shell.run(("curl -sS --noproxy '*' --max-time 120 -w '\\n%%{http_code}' %s %s")
    :format(words or "", shell.quote(self.url .. path)) .. " 2>&1")
  local body, status = output:match("^(.-)\n?(%d%d%d)$")
  return body or output, tonumber(status)
end

--- Runs a chunk of Lua in a content handler.
-- @tparam string code it has `given`, and returns a table
-- @tparam[opt] table given
-- @tparam[opt="/run"] string path of a location that does the same
-- @treturn table
function Server:run(code, given, path)
  local input = run.write(os.tmpname(), cjson.encode { code = code, given = given or {} })
  local body, status = self:get(path or "/run", "--data-binary @" .. input)
  os.remove(input)
  if status ~= 200 then error(("status %s: %s\n%s"):format(status, body, self:log()), 2) end
  return cjson.decode(body)
end

--- What stands in the error log, but for that which nginx itself logs whenever the network
-- breaks a connection, or whenever it is told something.
function Server:log()
  local lines = {}
  for line in io.lines(self.prefix .. "/error.log") do
    if not line:find("%w%(%) failed %(") and not line:find("[notice]", 1, true)
        and not line:find("peer closed connection in SSL handshake", 1, true)
        -- In a network of its own there is only one group.
        and not line:find("initgroups(", 1, true) then
      lines[#lines + 1] = line
    end
  end
  return table.concat(lines, "\n")
end

local function read(path)
  local file = io.open(path)
  if not file then return "" end
  local text = file:read("*a")
  file:close()
  return text
end

--- The process of the master; nil once it is gone.
function Server:master()
  return tonumber(read(self.prefix .. "/nginx.pid"):match("%d+"))
end

--- The processes of the workers, those that are about to exit among them.
function Server:workers()
  local list = {}
  for pid in run.output("pgrep -P " .. self:master()):gmatch("%d+") do
    list[#list + 1] = tonumber(pid)
  end
  return list
end

--- The resident memory of the first worker, in kB.
function Server:rss()
  return tonumber(read(("/proc/%d/status"):format(self:workers()[1])):match("VmRSS:%s*(%d+)"))
end

--- Tells nginx "HUP" (reload) or "QUIT" (end when all is done).
function Server:signal(name)
  assert(shell.run(("kill -%s %d"):format(name, self:master())))
end

--- Reloads, and waits until new workers serve.
function Server:reload()
  local before = {}
  for _, pid in ipairs(self:workers()) do before[pid] = true end
  self:signal("HUP")
  for _ = 1, 500 do
    shell.run("sleep 0.02")
    local old = false
    for _, pid in ipairs(self:workers()) do old = old or before[pid] end
    if not old then return end
  end
  error("the old workers do not go", 2)
end

--- Waits until nginx has gone by itself.
function Server:wait(seconds)
  for _ = 1, seconds * 50 do
    if not self:master() then return true end
    shell.run("sleep 0.02")
  end
  return false
end

function Server:stop()
  self.pipe:close()
end

-- A program that starts nginx in this environment. It holds for the workers, too, which nginx
-- forks; `LD_PRELOAD` has to be set so late, since the launcher unsets it.
local function wrapper(program, environment)
  local words = { "#!/bin/sh\nexec env" }
  for name, value in pairs(environment) do
    words[#words + 1] = shell.quote(name .. "=" .. value)
  end
  words[#words + 1] = shell.quote(program) .. ' "$@"\n'
  local name = run.write(run.output("mktemp"):gsub("\n", ""), table.concat(words, " "))
  run.output("chmod 700 " .. name)
  return name
end

--- Starts nginx.
-- @tparam[opt] table options `workers`, `main`, `http`, `locations` and what else stands in
--   those texts as $name; `ca` (a file), `environment` (by name)
-- @treturn table server
function M.start(options)
  local found = assert(nginx.find())
  local here, modules = shell.absolute("."), {}
  for index, path in ipairs(found.modules) do modules[index] = ("load_module %q;"):format(path) end
  local _, user = shell.run("id -u")
  local environment = options and options.environment
  local program = environment and wrapper(found.program, environment) or found.program
  local values = {
    main = "", events = "", http = "", locations = "", init = "", initworker = "", workers = "1",
    ca = "cert.pem",
    user = user == "0" and "user root;" or "",
    modules = table.concat(modules, "\n"),
    path = ("%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;;"):format(here, here, here),
    cpath = shell.absolute(os.getenv("KSMS_BUILD") or "build") .. "/jit/?.so;;",
  }
  for name, value in pairs(options or {}) do values[name] = tostring(value) end
  for try = 1, 5 do
    local mark = assert(shell.random("-hex", 8))
    local prefix = (os.getenv("TMPDIR") or "/tmp") .. "/koresms-openresty." .. mark
    values.port = tostring(20000 + tonumber(mark:sub(1, 4), 16) % 12000)
    values.prefix = prefix
    -- Once for what comes from the spec, and once for what stands there.
    local conf = TEMPLATE:gsub("%$(%a+)", values):gsub("%$(%a+)", values)
    local pipe, text, taken = launch.launch(prefix, program, "{}", conf)
    if environment and (pipe or try == 5 or not taken) then os.remove(program) end
    if pipe then
      return setmetatable({ pipe = pipe, prefix = prefix, port = values.port,
        url = "http://127.0.0.1:" .. values.port }, Server)
    end
    if try == 5 or not taken then error(text) end
  end
end

return M
