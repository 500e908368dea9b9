--- The failures that were asked for, played to the next requests in the order given.
-- @module koresms.sandbox.plays

local cjson = require "cjson"

local json = cjson.new()
local M = {}

local shared = ngx.shared.koresms_sandbox

-- Any of these makes the play's answer replace the ordinary one; the others add to it.
local REPLACING = {"status", "body", "close", "json", "html", "retry_after"}

local HTML = "<html><head><title>%d</title></head><body><h1>%d</h1></body></html>\n"

-- Plays are numbered; those from "plays:first" to "plays:last" wait, each with a count of
-- what is left. The count, taken down atomically, says which request gets a play.

--- Puts a play at the end of the queue.
-- @treturn boolean
-- @treturn nil,string
function M.queue(play)
  local text = json.encode(play)
  local number = shared:incr("plays:last", 1, 0)
  local left = (play.times or 1) > 0 and (play.times or 1) or 2^53
  local ok, why = shared:safe_set("play:" .. number, text)
  if ok then ok, why = shared:safe_set("left:" .. number, left) end
  if not ok then return nil, "the queue of plays is full: " .. why end
  return true
end

--- Takes the play for this request, if there is one.
-- @treturn ?table
function M.take()
  local first, last = shared:get("plays:first") or 1, shared:get("plays:last") or 0
  for number = first, last do
    local left = shared:incr("left:" .. number, -1)
    local text = left and left >= 0 and shared:get("play:" .. number)
    if left and left <= 0 then
      shared:delete("play:" .. number)
      shared:delete("left:" .. number)
      shared:set("plays:first", number + 1)
    end
    if text then return json.decode(text) end
  end
end

--- How many plays are not used up.
function M.waiting()
  local first, last = shared:get("plays:first") or 1, shared:get("plays:last") or 0
  local count = 0
  for number = first, last do
    if (shared:get("left:" .. number) or 0) > 0 then count = count + 1 end
  end
  return count
end

--- Empties the queue.
function M.clear()
  local first, last = shared:get("plays:first") or 1, shared:get("plays:last") or 0
  for number = first, last do
    shared:delete("left:" .. number)
    shared:delete("play:" .. number)
  end
  shared:set("plays:first", last + 1)
end

--- Whether the play has an answer of its own.
function M.replaces(play)
  for _, name in ipairs(REPLACING) do
    if play[name] then return true end
  end
  return false
end

--- The play's own answer.
-- @tparam table play
-- @tparam function ordinary gives the body that belongs to a status
-- @treturn table {status=, body=, content_type=, retry_after=, close=}
function M.answer(play, ordinary)
  local status = play.status
    or (play.body or play.json or play.html) and 200
    or play.retry_after and 429
  local reply = {status = status, close = play.close, retry_after = play.retry_after}
  if play.body then
    reply.body = play.body
  elseif play.json then
    -- Cut off in the middle.
    reply.body = ordinary(200):sub(1, 40)
  elseif play.html then
    reply.body, reply.content_type = HTML:format(status, status), "text/html"
  elseif status then
    reply.body = ordinary(status)
  end
  return reply
end

return M
