--- One request and its answer, as the page and the programs see it, inside nginx.
-- @module koresms.sandbox.exchange

local cjson = require "cjson"
local text = require "koresms.sandbox.text"

local json = cjson.new()
local M = {}

-- What is kept of one exchange has bounds, so that the log has them, too.
local BODY, VALUE, HEADERS = 2048, 512, 40

-- A token whose signature is left out is of no use to whoever reads the log. It may stand
-- where it does not belong.
local function without_signature(value)
  return (value:gsub("(eyJ[%w_-]*%.[%w_-]+%.)[%w_.=-]+", "%1[signature]"))
end

local function headers()
  local list = {}
  for name, value in pairs(ngx.req.get_headers(HEADERS, true)) do
    if type(value) == "table" then value = table.concat(value, ", ") end
    value = without_signature(tostring(value))
    list[#list + 1] = {name, (text.beginning(value, VALUE))}
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

--- Begins with what the request says.
-- @tparam ?string body
-- @treturn table
function M.begin(body)
  local shown, cut = text.beginning(without_signature(body or ""), BODY)
  return {
    at = ngx.req.start_time(),
    request = {
      method = ngx.req.get_method(),
      path = (text.beginning(without_signature(ngx.var.request_uri), VALUE)),
      http = ngx.req.http_version(),
      tls = ngx.var.ssl_protocol,
      connection = tonumber(ngx.var.connection),
      client = ngx.var.remote_addr,
      headers = headers(),
      body = shown,
      cut = cut or nil,
    },
  }
end

-- What a client may say of an answer, by its status: the first row that fits.
local OUTCOMES = {
  {function(reply) return reply.close or reply.silent end, "unknown"},
  {function(reply) return reply.status == 408 or reply.status == 499 or reply.status >= 500 end,
    "unknown"},
  {function(reply) return reply.status >= 300 end, "rejected"},
}

local function outcome(reply)
  for _, row in ipairs(OUTCOMES) do
    if row[1](reply) then return row[2] end
  end
  local ok, value = pcall(json.decode, reply.body)
  if not ok or type(value) ~= "table" or not reply.body:find("^%s*{") then return "unknown" end
  return value.errors ~= nil and "rejected" or "accepted"
end

--- Completes it with the answer.
-- @tparam table exchange
-- @tparam table reply
-- @tparam {{string,string},...} sent the headers of the answer
function M.finish(exchange, reply, sent)
  ngx.update_time()
  exchange.outcome = outcome(reply)
  exchange.processed = reply.processed or false
  exchange.seconds = ngx.now() - exchange.at
  local answered = not (reply.close or reply.silent)
  local body, cut
  if answered then body, cut = text.beginning(reply.body, BODY) end
  exchange.reply = {
    close = reply.close, silent = reply.silent,
    status = answered and reply.status or nil,
    headers = answered and sent or nil,
    body = body,
    cut = cut or nil,
  }
end

return M
