--- Who may give orders: a program, or the sandbox's own page, and no web page from elsewhere.
--
-- A page from elsewhere carries its own Origin, or comes under a name of its own that was made
-- to point here (DNS rebinding), which then stands in Host.
-- @module koresms.sandbox.guard

local M = {}

local names = {["localhost"] = true, ["127.0.0.1"] = true, ["[::1]"] = true}
local any_address = false

--- Called once, before nginx makes its workers.
function M.init(given)
  local listen = given.listen
  if listen:find(":", 1, true) then listen = "[" .. listen .. "]" end
  any_address = listen == "0.0.0.0" or listen == "[::]"
  names[listen:lower()] = true
end

-- An address as such cannot be made to point elsewhere.
local function is_address(name)
  return name:find("^%d+%.%d+%.%d+%.%d+$") ~= nil or name:find("^%[[%x:.]+%]$") ~= nil
end

-- The host's name, without the port: that one may differ, where a port is forwarded.
local function name_of(host)
  local name, rest = host:lower():match("^(%[[^%]]*%])(.*)$")
  if not name then name, rest = host:lower():match("^([^:]*)(.*)$") end
  return (rest == "" or rest:find("^:%d+$")) and name or nil
end

--- What is wrong with the request's Host, Origin or Sec-Fetch-Site, or nil.
-- @tparam ?string host
-- @tparam ?string origin
-- @tparam ?string site
-- @treturn ?string
function M.problem(host, origin, site)
  local name = host and name_of(host)
  if not name or not (names[name] or any_address and is_address(name)) then
    return "this Host is not the sandbox's own; it answers to localhost and to the address "
      .. "on which it listens"
  end
  if origin ~= nil then
    if origin:lower():match("^https?://(.+)$") ~= host:lower() then
      return "this Origin is not the sandbox's own page: other web pages cannot drive it"
    end
  end
  if site ~= nil and site ~= "same-origin" and site ~= "none" then
    return "this request comes from another web page"
  end
end

-- The variables hold the first of each; a browser sends one.
local function problem()
  return M.problem(ngx.var.http_host, ngx.var.http_origin, ngx.var.http_sec_fetch_site)
end

--- What is wrong with the request at hand, where it gives an order.
M.check = problem

--- What is wrong with the request at hand, where it is a call of the platform: a client may
-- reach the sandbox under any name, but none of them is a web page.
function M.check_call()
  if ngx.var.http_origin or ngx.var.http_sec_fetch_site then return problem() end
end

return M
