--- The control paths, inside nginx: /_sandbox/...
-- @module koresms.sandbox.control

local app = require "koresms.sandbox.app"
local cjson = require "cjson"
local guard = require "koresms.sandbox.guard"
local plays = require "koresms.sandbox.plays"
local rules = require "koresms.sandbox.rules"
local sample = require "koresms.sandbox.sample"
local store = require "koresms.sandbox.store"
local utf8 = require("koresms.sandbox.text").utf8

local json = cjson.new()
local M = {}

local identity

--- Called once, before nginx makes its workers.
function M.init(given)
  identity = {host = given.host, bot_id = given.bot_id, client_id = given.client_id,
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

-- Seconds between two looks for what a request waits for, and the longest wait.
local LOOK, LONGEST_WAIT = 0.1, 60

local function is_given() return true end

-- What may stand in the query of `messages`: how each is read.
local QUERY = {after = tonumber, wait = tonumber, to = tostring, run = tostring,
  all = is_given}

-- The query, checked, or nil and what is wrong with it.
local function query()
  local given = {}
  for name, value in pairs(ngx.req.get_uri_args()) do
    local read = QUERY[name]
    if not read then return nil, ("unknown parameter %q"):format(name) end
    given[name] = read(value)
    if given[name] == nil then return nil, name .. " must be a number" end
  end
  return given
end

-- Whether the play would change anything.
local function plays_something(play)
  return plays.replaces(play) or play.delay or play.headers or play.content_type
end

local ROUTES = {health = {}, messages = {}, play = {}, settings = {}, state = {}}

function ROUTES.health.GET()
  return 200, '{"status":"ok"}'
end

-- With `all`, the exchanges, refused ones included; else the messages that were processed.
-- With `wait`, the answer waits until there is something to tell.
function ROUTES.messages.GET()
  local given, wrong = query()
  if not given then return fail(400, wrong) end
  local read = given.all and store.exchanges or store.messages
  local counter = given.all and "logged" or "processed"
  local run = store.run()
  local text, listed, count = read(given.after, given.to)
  local looks = math.min(given.wait or 0, LONGEST_WAIT) / LOOK
  -- Whoever knows another run is to hear of this one at once.
  if (given.after or 0) > count or (given.run or run) ~= run then looks = 0 end
  while listed == 0 and looks > 0 and not ngx.worker.exiting() and store.run() == run do
    ngx.sleep(LOOK)
    looks = looks - 1
    -- What was looked at before is not looked at again.
    if store.counted(counter) ~= count then text, listed, count = read(count, given.to) end
  end
  return 200, text
end

-- Sends a message to the sandbox itself, as a client would.
function ROUTES.messages.POST()
  local message, wrong = body(rules.message)
  if not message then return fail(400, wrong) end
  if not message.to then return fail(400, "to must be given") end
  local sent, problem = sample.send(message, app.bot(), app.sign())
  if not sent then return fail(409, problem) end
  return 200, '{"sent":true}'
end

function ROUTES.messages.DELETE()
  store.reset()
  return 200, '{"count":0}'
end

function ROUTES.state.GET()
  return 200, json.encode({
    host = identity.host,
    bot_id = identity.bot_id,
    client_id = identity.client_id,
    key = identity.key,
    count = store.counted("processed"),
    requests = store.counted("requests"),
    answers = store.answers(),
    bench_count = store.counted("bench"),
    last_minute = store.last_minute(),
    plays = plays.waiting(),
    settings = store.settings(),
    worker = ngx.worker.pid(),
    nginx = ngx.var.nginx_version,
  })
end

-- Everything as it was at the start.
function ROUTES.state.DELETE()
  store.reset()
  plays.clear()
  store.forget_permits()
  store.reset_settings()
  return ROUTES.state.GET()
end

function ROUTES.settings.GET()
  return 200, json.encode(store.settings())
end

function ROUTES.settings.POST()
  local changes, wrong = body(rules.settings)
  if not changes then return fail(400, wrong) end
  -- A limit that is set counts from now on.
  if changes.per_minute ~= nil then store.forget_permits() end
  store.set_settings(changes)
  return ROUTES.settings.GET()
end

ROUTES.settings.PUT = ROUTES.settings.POST

function ROUTES.settings.DELETE()
  store.forget_permits()
  store.reset_settings()
  return ROUTES.settings.GET()
end

function ROUTES.play.GET()
  return 200, ('{"plays":%d,"waiting":%s}'):format(plays.waiting(), plays.list())
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
  local wrong = guard.check()
  if wrong then return fail(403, wrong) end
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
  -- JSON is UTF-8, and what clients send need not be.
  text = utf8(text)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json; charset=utf-8"
  ngx.header["Content-Length"] = #text
  ngx.header["Cache-Control"] = "no-store"
  ngx.header["X-Content-Type-Options"] = "nosniff"
  ngx.print(text)
end

return M
