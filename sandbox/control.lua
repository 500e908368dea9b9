--- The control paths, inside nginx: /_sandbox/...
-- @module koresms.sandbox.control

local cjson = require "cjson"
local plays = require "koresms.sandbox.plays"
local rules = require "koresms.sandbox.rules"
local store = require "koresms.sandbox.store"

local json = cjson.new()
local M = {}

local identity

--- Called once, before nginx makes its workers.
function M.init(given)
  identity = {bot_id = given.bot_id, client_id = given.client_id,
    key = given.public_key and "public key" or "client secret"}
end

local function fail(status, text)
  return status, json.encode({error = text})
end

-- The request's JSON object, checked, or nil and what is wrong with it.
local function body(known)
  ngx.req.read_body()
  local text = ngx.req.get_body_data() or ""
  local ok, value = pcall(json.decode, text)
  if not ok or type(value) ~= "table" or not text:find("^%s*{") then
    return nil, "the body must be a JSON object"
  end
  local wrong = rules.check(known, value)
  if wrong then return nil, wrong end
  return value
end

-- Whether the play would change anything.
local function plays_something(play)
  return plays.replaces(play) or play.delay or play.headers or play.content_type
end

local ROUTES = {health = {}, messages = {}, play = {}, settings = {}, state = {}}

function ROUTES.health.GET()
  return 200, '{"status":"ok"}'
end

function ROUTES.messages.GET()
  return 200, store.messages()
end

function ROUTES.messages.DELETE()
  store.reset()
  return 200, '{"count":0}'
end

function ROUTES.state.GET()
  return 200, json.encode({
    bot_id = identity.bot_id,
    client_id = identity.client_id,
    key = identity.key,
    count = store.counted("processed"),
    requests = store.counted("requests"),
    answers = store.answers(),
    bench_count = store.counted("bench"),
    plays = plays.waiting(),
    settings = store.settings(),
    worker = ngx.worker.pid(),
    nginx = ngx.var.nginx_version,
  })
end

function ROUTES.settings.GET()
  return 200, json.encode(store.settings())
end

function ROUTES.settings.PUT()
  local changes, wrong = body(rules.settings)
  if not changes then return fail(400, wrong) end
  -- A limit that is set counts from now on.
  if changes.per_minute ~= nil then store.forget_permits() end
  store.set_settings(changes)
  return ROUTES.settings.GET()
end

function ROUTES.play.POST()
  local play, wrong = body(rules.play)
  if play and not plays_something(play) then
    play, wrong = nil, "a play needs something to play, such as status, close or delay"
  end
  if not play then return fail(400, wrong) end
  local queued, full = plays.queue(play)
  if not queued then return fail(507, full) end
  return 200, json.encode({plays = plays.waiting()})
end

function ROUTES.play.DELETE()
  plays.clear()
  return 200, '{"plays":0}'
end

local function keys(map)
  local list = {}
  for key in pairs(map) do list[#list + 1] = key end
  table.sort(list)
  return table.concat(list, ", ")
end

local function answer()
  local route = ROUTES[ngx.var.uri:match("^/_sandbox/(%l+)$") or ""]
  if not route then return fail(404, "under /_sandbox/ there are: " .. keys(ROUTES)) end
  local handler = route[ngx.req.get_method()]
  if not handler then
    ngx.header.Allow = keys(route)
    return fail(405, "this path takes: " .. keys(route))
  end
  return handler()
end

--- Handles every request to a control path.
function M.handle()
  local status, text = answer()
  ngx.status = status
  ngx.header["Content-Type"] = "application/json; charset=utf-8"
  ngx.header["Content-Length"] = #text
  ngx.print(text)
end

return M
