--- Finds an nginx that has ngx_lua, and writes its configuration.
-- @module koresms.sandbox.nginx

local shell = require "koresms.sandbox.shell"

local M = {}

local NAMES = {"nginx", "openresty", "/usr/local/openresty/nginx/sbin/nginx"}

-- Directories that an ordinary user's PATH leaves out.
local PATHS = "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/openresty/bin; "

local MODULE_DIRECTORIES = {"/usr/share/nginx/modules", "/usr/lib/nginx/modules",
  "/usr/lib64/nginx/modules"}

local function exists(path)
  local file = io.open(path)
  return file ~= nil and file:close() ~= nil
end

-- The load_module lines that this nginx needs for ngx_lua: none where it is built in.
local function modules_of(build)
  if build:find("%-%-add%-module=%S*lua") then return {} end
  local own = build:match("%-%-modules%-path=(%S+)")
  for index = own and 0 or 1, #MODULE_DIRECTORIES do
    local directory = MODULE_DIRECTORIES[index] or own
    local lua = directory .. "/ngx_http_lua_module.so"
    if exists(lua) then
      local kit = directory .. "/ndk_http_module.so"
      return exists(kit) and {kit, lua} or {lua}
    end
  end
end

--- Looks for an nginx with ngx_lua.
-- @tparam ?table names of the programs to try
-- @treturn table {program=, modules=}
-- @treturn nil,string "nginx" where there is none, "ngx_lua" where none has it
function M.find(names)
  local bare
  for _, name in ipairs(names or NAMES) do
    local ok, program = shell.run(PATHS .. "command -v " .. shell.quote(name))
    if ok then
      local _, build = shell.run(shell.quote(program) .. " -V 2>&1")
      local modules = modules_of(build)
      if modules then return {program = program, modules = modules} end
      bare = bare or program
    end
  end
  return nil, bare and "ngx_lua" or "nginx"
end

-- What LuaJIT inside nginx may search besides its own default: where a Lua 5.1 would look
-- that is installed like the one running here. OpenResty, for one, leaves out /usr/share.
local function lua51(path)
  local list = {";"}
  for entry in path:gmatch("[^;]+") do
    local there, found = entry:gsub("/lua/5%.%d/", "/lua/5.1/")
    if found > 0 and entry:sub(1, 1) == "/" then list[#list + 1] = there end
  end
  return table.concat(list, ";")
end

local function quote(text)
  return '"' .. text:gsub('[\\"]', "\\%0") .. '"'
end

-- Relative paths are relative to the prefix. A request body stays in memory, whole, so that
-- a handler finds it. The two ports share one server: what differs is TLS.
local TEMPLATE = [[
daemon off;
$user
worker_processes $workers;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log $log warn;
$modules
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path temp;
  proxy_temp_path temp;
  fastcgi_temp_path temp;
  uwsgi_temp_path temp;
  scgi_temp_path temp;
  default_type application/json;
  client_max_body_size 64k;
  client_body_buffer_size 64k;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  http2_max_concurrent_streams 1024;
  lua_socket_log_errors off;
  lua_package_path $path;
  lua_package_cpath $cpath;
  lua_shared_dict koresms_sandbox 4m;
  lua_shared_dict koresms_sandbox_messages 16m;
  lua_shared_dict koresms_sandbox_log 16m;
  lua_shared_dict koresms_sandbox_short 32m;
  init_by_lua_block {
    local file = assert(io.open(ngx.config.prefix() .. "settings.json"))
    local given = require("cjson").decode(file:read("*a"))
    file:close()
    table.insert(package.loaders, 2, function(name)
      local part = name:match("^koresms%.sandbox%.([%w_]+)$")
      return part and assert(loadfile(given.directory .. "/" .. part .. ".lua"))
    end)
    for _, part in ipairs({"app", "control", "guard", "lines", "page", "sample"}) do
      require("koresms.sandbox." .. part).init(given)
    end
  }
  init_worker_by_lua_block {
    assert(io.open(ngx.config.prefix() .. "up", "w")):close()
  }
  server {
    listen $address:$port ssl http2 backlog=4096;
    listen $address:$plain_port backlog=4096;
    ssl_certificate $certificate;
    ssl_certificate_key $key;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {
      content_by_lua_block { require("koresms.sandbox.app").handle() }
    }
    location = / {
      content_by_lua_block { require("koresms.sandbox.page").handle() }
    }
    location /_page/ {
      content_by_lua_block { require("koresms.sandbox.page").handle() }
    }
    location = /favicon.ico {
      return 204;
    }
    location /_sandbox {
      content_by_lua_block { require("koresms.sandbox.control").handle() }
    }
    # A client that has gone away ends the wait.
    location = /_silence {
      internal;
      lua_check_client_abort on;
      content_by_lua_block { require("koresms.sandbox.app").silence() }
    }
    location = /api/public/bot/bench/outboundsms {
      content_by_lua_block { require("koresms.sandbox.app").bench() }
    }
  }
}
]]

--- The text of nginx.conf.
-- @tparam table server what `find` gave
-- @tparam table box with listen, port, plain_port, workers, log, ca_file, key_file
-- @treturn string
function M.conf(server, box)
  local modules = {}
  for index, path in ipairs(server.modules) do
    modules[index] = "load_module " .. quote(path) .. ";"
  end
  local _, user = shell.run("id -u")
  local values = {
    -- Root's workers would else become nobody, who may not enter the private prefix.
    user = user == "0" and "user root;" or "",
    workers = tostring(box.workers),
    log = quote(box.log),
    modules = table.concat(modules, "\n"),
    path = quote(lua51(package.path)),
    cpath = quote(lua51(package.cpath)),
    address = box.listen:find(":", 1, true) and "[" .. box.listen .. "]" or box.listen,
    certificate = quote(box.ca_file),
    key = quote(box.key_file),
    port = tostring(box.port),
    plain_port = tostring(box.plain_port),
  }
  return (TEMPLATE:gsub("%$([%a_]+)", values))
end

return M
