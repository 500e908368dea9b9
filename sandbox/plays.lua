--- The failures that were asked for, played to the next requests in the order given.
-- @module koresms.sandbox.plays

local cjson = require "cjson"

local json = cjson.new()
local M = {}

local shared = ngx.shared.koresms_sandbox

-- Any of these makes the play's answer replace the ordinary one; the others add to it.
local REPLACING = {"status", "body", "close", "silent", "json", "html", "retry_after"}

local HTML = "<html><head><title>%d</title></head><body><h1>%d</h1></body></html>\n"

local ERRORS = '{"errors":[{"msg":"Played by the sandbox","code":400}]}'

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

local function range()
  return shared:get("plays:first") or 1, shared:get("plays:last") or 0
end

--- Takes the play for this request, if there is one.
-- @treturn ?table
function M.take()
  local first, last = range()
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
  local first, last = range()
  local count = 0
  for number = first, last do
    if (shared:get("left:" .. number) or 0) > 0 then count = count + 1 end
  end
  return count
end

--- The plays that wait, as JSON: each with `left`, the requests that it is still for, -1 for
-- all, and `says`, its text.
-- @treturn string
function M.list()
  local first, last = range()
  local list = {}
  for number = first, last do
    local text, left = shared:get("play:" .. number), shared:get("left:" .. number)
    if text and left and left > 0 then
      local play = json.decode(text)
      play.says = M.describe(play)
      play.left = play.times == -1 and -1 or left
      list[#list + 1] = json.encode(play)
    end
  end
  return "[" .. table.concat(list, ",") .. "]"
end

--- Empties the queue.
function M.clear()
  local first, last = range()
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

local JSON = {wrong = "broken JSON", errors = "JSON that holds errors"}

local function status_of(play)
  return play.status
    or (play.body or play.json or play.html) and 200
    or play.retry_after and 429
end

--- The play in a few words.
function M.describe(play)
  local words = {}
  local function add(text) words[#words + 1] = text end
  if play.close then add("closed without an answer") end
  if play.silent then add("silent") end
  local status = not (play.close or play.silent) and status_of(play)
  if status then add(("status %d"):format(status)) end
  if play.html then add("HTML") end
  if play.json then add(JSON[play.json]) end
  if play.body then add("a body of its own") end
  if play.retry_after then add("Retry-After " .. tostring(play.retry_after)) end
  if play.headers or play.content_type then add("headers of its own") end
  if play.delay then add(("after %g s"):format(play.delay)) end
  if play.when == "after" and M.replaces(play) then table.insert(words, 1, "processed") end
  return table.concat(words, ", ")
end

--- The play's own answer.
-- @tparam table play
-- @tparam function ordinary gives the body that belongs to a status
-- @treturn table {status=, body=, content_type=, retry_after=, close=, silent=}
function M.answer(play, ordinary)
  local status = status_of(play)
  local reply = {status = status, close = play.close, silent = play.silent,
    retry_after = play.retry_after}
  if play.body then
    reply.body = play.body
  elseif play.json == "errors" then
    reply.body = ERRORS
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
