--- The half of `worker.lua` that runs inside nginx.
-- luacheck: std ngx_lua

local cjson = require("cjson").new()
local core = require "koresms.core"
local cosocket = require "koresms.nginx.transport"

local M = {}

local function run(job)
  local origin = core.origin(job.settings.host)
  local transport, text = cosocket.new(job.settings,
    core.head(core.path(job.settings.bot_id), origin.authority))
  if not transport then return { text = text } end
  local replies = {}
  for index, exchange in ipairs(job.exchanges or { {} }) do
    if exchange.pause then transport:wait(core.clock() + exchange.pause) end
    local start = core.clock()
    local reply = transport:exchange {
      token = "eyJ0b2tlbiI6MX0.e30.c2ln",
      body = exchange.body or core.body("+19876543210", "+911234567890"),
      deadline = start + (exchange.timeout or job.timeout or 5),
      connect_timeout = exchange.connect_timeout or job.connect_timeout or 5,
    }
    reply.elapsed = core.clock() - start
    replies[index] = reply
  end
  transport:close()
  return { replies = replies }
end

local function run_all(jobs)
  local threads, results = {}, {}
  for index, job in ipairs(jobs) do threads[index] = ngx.thread.spawn(run, job) end
  for index, thread in ipairs(threads) do
    local ok, result = ngx.thread.wait(thread)
    results[index] = ok and result or { text = "raised: " .. tostring(result) }
  end
  return results
end

--- Runs the jobs of the request's body and answers with their results.
function M.handle()
  ngx.req.read_body()
  ngx.print(cjson.encode(run_all(cjson.decode(ngx.req.get_body_data()))))
end

--- The same from a timer, which has no request of its own.
function M.in_timer()
  ngx.req.read_body()
  local jobs, results = cjson.decode(ngx.req.get_body_data()), nil
  assert(ngx.timer.at(0, function() results = run_all(jobs) end))
  while not results do ngx.sleep(0.01) end
  ngx.print(cjson.encode(results))
end

--- One exchange, for phases in which it must fail; its reply as text.
function M.one(origin)
  return cjson.encode(run({ settings = { host = origin, bot_id = "st-1" } }).replies[1])
end

--- What `one` came to, by phase.
function M.said()
  local said = {}
  for _, phase in ipairs(ngx.shared.phases:get_keys()) do
    said[phase] = cjson.decode(ngx.shared.phases:get(phase))
  end
  ngx.print(cjson.encode(said))
end

return M
