--- A real nginx worker with the tree's own koresms in it, which runs exchanges on demand.
--
--     local worker = require("spec.support.worker").start(bench)
--     local results = worker:run{ { settings = {...}, exchanges = { {}, { pause = 0.1 } } } }
--     worker:stop()
--
-- Jobs run at once, each in a light thread of its own; the exchanges of a job in turn.

local cjson = require("cjson").new()
local launch = require "koresms.sandbox.launch"
local nginx = require "koresms.sandbox.nginx"
local shell = require "koresms.sandbox.shell"

local M = {}

--- What the name server knows.
M.NAMES = { ["kore.test"] = { A = { "127.0.0.1" } } }

-- `run` has a resolver and trusts the bench's authority, `bare` has neither; `shallow` permits
-- no intermediate. The others are phases in which there are no cosockets.
local TEMPLATE = [[
daemon off;
$user
worker_processes 1;
pid nginx.pid;
error_log error.log warn;
$modules
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path temp;
  proxy_temp_path temp;
  fastcgi_temp_path temp;
  uwsgi_temp_path temp;
  scgi_temp_path temp;
  client_max_body_size 4m;
  client_body_buffer_size 4m;
  lua_package_path "$path";
  lua_package_cpath "$cpath";
  lua_shared_dict phases 64k;
  lua_socket_log_errors off;
  init_worker_by_lua_block {
    ngx.shared.phases:set("init_worker", require("spec.support.worker_jobs").one("$origin"))
    assert(io.open(ngx.config.prefix() .. "up", "w")):close()
  }
  server {
    listen 127.0.0.1:$port;
    location = /run {
      $resolver
      resolver_timeout 30s;
      lua_ssl_trusted_certificate $ca;
      lua_ssl_verify_depth 3;
      lua_ssl_protocols TLSv1.2 TLSv1.3;
      content_by_lua_block { require("spec.support.worker_jobs").handle() }
    }
    location = /shallow {
      lua_ssl_trusted_certificate $ca;
      lua_ssl_verify_depth 0;
      content_by_lua_block { require("spec.support.worker_jobs").handle() }
    }
    location = /bare {
      content_by_lua_block { require("spec.support.worker_jobs").handle() }
    }
    location = /timer {
      content_by_lua_block { require("spec.support.worker_jobs").in_timer() }
    }
    location = /phases {
      set_by_lua_block $set { return require("spec.support.worker_jobs").one("$origin") }
      header_filter_by_lua_block {
        ngx.shared.phases:set("header_filter", require("spec.support.worker_jobs").one("$origin"))
      }
      body_filter_by_lua_block {
        ngx.shared.phases:set("body_filter", require("spec.support.worker_jobs").one("$origin"))
      }
      log_by_lua_block {
        ngx.shared.phases:set("log", require("spec.support.worker_jobs").one("$origin"))
      }
      content_by_lua_block {
        ngx.shared.phases:set("set", ngx.var.set)
        ngx.print("{}")
      }
    }
    location = /said {
      content_by_lua_block { require("spec.support.worker_jobs").said() }
    }
    location = /rewrite {
      rewrite_by_lua_block { require("spec.support.worker_jobs").handle() ngx.exit(200) }
    }
    location = /access {
      access_by_lua_block { require("spec.support.worker_jobs").handle() ngx.exit(200) }
    }
  }
}
]]

local Worker = {}
Worker.__index = Worker

--- Runs jobs: `settings` for the transport, and `exchanges`, each with `pause` (seconds before
-- it), `timeout`, `connect_timeout` and `body`.
-- @tparam table jobs
-- @tparam[opt="run"] string location
-- @treturn table a list: `text` where no transport was made, else `replies`, each with `elapsed`
function Worker:run(jobs, location)
  local input = os.tmpname()
  local file = assert(io.open(input, "w"))
  file:write(cjson.encode(jobs))
  file:close()
  local _, output = shell.run(("curl -sS --noproxy '*' --max-time 60 --data-binary @%s %s/%s 2>&1")
    :format(input, self.url, location or "run"))
  os.remove(input)
  local decoded, results = pcall(cjson.decode, output)
  return decoded and results or error(output .. "\n" .. self:log())
end

--- What stands in the error log, but for that which nginx itself logs whenever the network or
-- TLS breaks a connection.
function Worker:log()
  local lines = {}
  for line in io.lines(self.prefix .. "/error.log") do
    if not line:find("%w%(%) failed %(")
        and not line:find("peer closed connection in SSL handshake", 1, true) then
      lines[#lines + 1] = line
    end
  end
  return table.concat(lines, "\n")
end

function Worker:stop()
  self.pipe:close()
end

--- Starts nginx beside a fault bench, whose name server knows kore.test.
-- @tparam table bench
-- @treturn table worker; `names` is the port of the name server, `certs` the bench's files
function M.start(bench)
  local server = assert(nginx.find())
  local here = shell.absolute(".")
  local modules = {}
  for index, path in ipairs(server.modules) do
    modules[index] = ("load_module %q;"):format(path)
  end
  local _, user = shell.run("id -u")
  local certs = bench:certs()
  local names = bench:dns { names = M.NAMES }
  local values = {
    user = user == "0" and "user root;" or "",
    modules = table.concat(modules, "\n"),
    path = ("%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;;"):format(here, here, here),
    cpath = shell.absolute(os.getenv("KSMS_BUILD") or "build") .. "/jit/?.so;;",
    resolver = ("resolver 127.0.0.1:%d valid=1s ipv6=off;"):format(names.port),
    ca = certs["ca.pem"], origin = bench:listen().origin,
  }
  for try = 1, 5 do
    local mark = assert(shell.random("-hex", 8))
    local prefix = (os.getenv("TMPDIR") or "/tmp") .. "/koresms-worker." .. mark
    values.port = tostring(20000 + tonumber(mark:sub(1, 4), 16) % 12000)
    local conf = TEMPLATE:gsub("%$([%a]+)", values)
    local pipe, text, taken = launch.launch(prefix, server.program, "{}", conf)
    if pipe then
      return setmetatable({ pipe = pipe, prefix = prefix, names = names.port, certs = certs,
        url = "http://127.0.0.1:" .. values.port }, Worker)
    end
    if try == 5 or not taken then error(text) end
  end
end

return M
