--- What the sandbox needs of a machine, looked at all together, and how to install it.
-- @module koresms.sandbox.needs

local shell = require "koresms.sandbox.shell"

local M = {}

-- Where Debian's Lua 5.1 and OpenResty look for modules.
local LUA = {"/usr/share/lua/5.1/", "/usr/local/share/lua/5.1/", "/usr/local/openresty/lualib/",
  "/usr/local/openresty/site/lualib/"}

local function lua_module(path)
  local words = {}
  for index, directory in ipairs(LUA) do words[index] = "[ -e " .. directory .. path .. " ]" end
  return table.concat(words, " || ")
end

local function c_module(name)
  return ("ls /usr/lib/*/lua/5.1/%s.so /usr/lib*/lua/5.1/%s.so /usr/local/lib/lua/5.1/%s.so "
    .. "/usr/local/openresty/lualib/%s.so 2>/dev/null | grep -q ."):gsub("%%s", name)
end

-- What it is called, a command of the shell that succeeds where it is there, and the package of
-- Debian that holds it.
local NEEDS = {
  {"the command openssl", "command -v openssl", "openssl"},
  {"the command curl", "command -v curl", "curl"},
  {"lua-cjson for Lua 5.1", c_module("cjson"), "lua-cjson"},
  {"luaossl for Lua 5.1", lua_module("openssl/hmac.lua"), "lua-luaossl"},
  {"lua-resty-core", lua_module("resty/core.lua"), "lua-resty-core"},
}

local NGINX = {"nginx", nil, "nginx"}
local NGX_LUA = {"nginx's Lua module (ngx_lua)", nil, "libnginx-mod-http-lua"}

-- Debian's nginx starts a web server on port 80, now and at each boot, unless systemd knows a
-- unit of its name that is masked. Where there is no systemd, as in a container, nothing starts.
local QUIET = [[

    sudo ln -s /dev/null /etc/systemd/system/nginx.service
    sudo apt-get install --no-install-recommends %s

(the first line keeps systemd from starting a web server on port 80, now and at each boot: the
sandbox starts its own. `sudo rm /etc/systemd/system/nginx.service` undoes it.)]]

local PLAIN = [[

    sudo apt-get install --no-install-recommends %s]]

--- Everything that is missing, as a text for people.
-- @tparam ?string nginx what is wrong with nginx: "nginx" where there is none, "ngx_lua" where
--   it has no Lua, else nil
-- @treturn ?string nil where nothing is missing
function M.missing(nginx)
  local missing = {}
  if nginx == "nginx" then missing[1] = NGINX end
  if nginx then missing[#missing + 1] = NGX_LUA end
  for _, need in ipairs(NEEDS) do
    if not shell.run("{ " .. need[2] .. "; } >/dev/null 2>&1") then missing[#missing + 1] = need end
  end
  if #missing == 0 then return nil end
  local names, packages = {}, {}
  for index, need in ipairs(missing) do names[index], packages[index] = need[1], need[3] end
  return ("the sandbox needs what this machine lacks: %s.\nOn Debian 12 and its relatives:\n%s")
    :format(table.concat(names, ", "),
      (nginx == "nginx" and QUIET or PLAIN):format(table.concat(packages, " ")))
end

return M
