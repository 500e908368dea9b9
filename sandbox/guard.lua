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
-- @tparam ?string|table origin
-- @tparam ?string site
-- @treturn ?string
function M.problem(host, origin, site)
  local name = host and name_of(host)
  if not name or not (names[name] or any_address and is_address(name)) then
    return "this Host is not the sandbox's own; it answers to localhost and to the address "
      .. "on which it listens"
  end
  if origin ~= nil then
    local own = type(origin) == "string" and origin:lower():match("^https?://(.+)$")
    if own ~= host:lower() then
      return "this Origin is not the sandbox's own page: other web pages cannot drive it"
    end
  end
  if site ~= nil and site ~= "same-origin" and site ~= "none" then
    return "this request comes from another web page"
  end
end

--- The same for the request at hand.
function M.check()
  local headers = ngx.req.get_headers()
  return M.problem(ngx.var.http_host, headers.origin, headers["sec-fetch-site"])
end

return M
