-- Secrets that pass through the C modules, and a look at all memory that they give back.
require "spec.support.paths"

local core = require "koresms.core"
local curl = require "koresms.curl"

local host = rawget(_G, "host")

-- Long enough for any buffer to hold it as it stands.
local SECRET = "wipe-me-" .. ("0123456789"):rep(3)

host.secret(SECRET)

local function send(changes)
  local options = { url = "http://127.0.0.1:1", head = core.head("/x", "127.0.0.1"),
    reply_max = 1000, max_idle = 1, max_age = 300 }
  for name, value in pairs(changes) do options[name] = value end
  local engine, request = curl.engine(options), curl.request()
  if not engine:start(request, SECRET, "{}", core.clock() + 2, 2) then
    repeat engine:step(0.5) until request:finished()
  end
  engine:close()
end

send {}
send { proxy = "http://127.0.0.1:1", proxy_user = SECRET, proxy_password = SECRET, proxy_port = 1 }
for _, address in ipairs { "http://u:%s@127.0.0.1:1", "http://%s:p@127.0.0.1:1", "http://%s@" } do
  core.proxy(address:format(SECRET))
end
local signer = assert(core.signer { algorithm = "HS256", secret = SECRET, client_id = "cs-1",
  subject = "s", ttl = 60, jti = false })
assert(signer:token())
signer = nil -- luacheck: ignore 311
collectgarbage()
collectgarbage()
print(("%d unwiped"):format(host.unwiped()))
