-- A content handler of OpenResty that leaves a message to the store's worker:
--
--   content_by_lua_file examples/outbox/handler.lua;
--
-- It answers once the message is in the store; `koresms campaign run --all --stay` sends it. Adding
-- takes about a millisecond, during which this worker of nginx waits: for more than some hundred
-- messages a second use a driver of PostgreSQL that has cosockets, and the same insert as in
-- order.sql.
-- luacheck: std ngx_lua
local koresms = require "koresms"

-- One store for each worker of nginx: a connection is not shared with a process forked off.
local store = package.loaded["example.store"]
if not store then
  local why
  store, why = koresms.store()
  if not store then
    ngx.log(ngx.ERR, why)
    return ngx.exit(503)
  end
  package.loaded["example.store"] = store
end

ngx.req.read_body()
local given = ngx.req.get_post_args()
local phone, order = given.phone, given.order
if type(phone) ~= "string" or type(order) ~= "string" then return ngx.exit(400) end

local expires = os.date("!%Y-%m-%dT%H:%M:%SZ", ngx.time() + 600)
local added, text, code = store:add("outbox",
  { { to = phone, dedupe = "order-" .. order, expires = expires } })
if added then return ngx.say(added == 1 and "queued" or "was queued before") end
if code ~= "store" then
  ngx.status = 400
  return ngx.say(text)
end
ngx.log(ngx.ERR, text)
return ngx.exit(503)
