--- Recipients with a meaning: +1500555 and four digits say what becomes of a message, so that
-- a program in any language can be tested without a control call. Each meaning is a play.
-- @module koresms.sandbox.recipients

local M = {}

local PREFIX = "^%+1500555(%d%d%d%d)$"

--- What the four digits say; all others are accepted.
M.meanings = {
  ["1001"] = {when = "after", close = true},
  ["1002"] = {when = "after", silent = true},
  ["1003"] = {when = "after", html = true},
  ["1004"] = {when = "after", json = "wrong"},
  ["1005"] = {json = "errors"},
  ["1006"] = {retry_after = 2},
  ["1007"] = {when = "after", delay = 2},
}

--- The meaning of a number.
-- @tparam string number
-- @treturn ?table a play
function M.meaning(number)
  local digits = number:match(PREFIX)
  if not digits then return nil end
  local status = tonumber(digits)
  if status >= 200 and status <= 599 then
    -- A status of success is one of a message that was processed.
    return {status = status, when = status < 300 and "after" or nil}
  end
  return M.meanings[digits]
end

return M
