--- A line for each request, for the program that started the sandbox: JSON, in files that are
-- numbered, so that the reader removes each one that it has read to the end.
-- @module koresms.sandbox.lines

local cjson = require "cjson"

local json = cjson.new()
local M = {}

-- Bytes after which the next file begins.
local MOST = 1024 * 1024

local enabled, file, number, written

--- Called once, before nginx makes its workers; there is one of them where lines are written.
function M.init(given)
  enabled = given.lines
end

local function open()
  number, written = (number or 0) + 1, 0
  file = io.open(ngx.config.prefix() .. "requests." .. number, "w")
  if file then file:setvbuf("no") end
end

--- Writes the line of a request that is answered.
function M.write(record)
  if not enabled then return end
  if not file then open() end
  if not file then return end
  local reply, problem = record.reply, nil
  for _, check in ipairs(record.token and record.token.checks or {}) do
    if not check.ok then problem = problem or check.text end
  end
  local line = json.encode({at = record.at, to = record.to, outcome = record.outcome,
    seconds = record.seconds, status = reply.status, close = reply.close, silent = reply.silent,
    problem = problem, played = record.played or record.recipient,
    method = record.request.method, path = record.request.path}) .. "\n"
  file:write(line)
  written = written + #line
  if written > MOST then
    file:close()
    open()
  end
end

return M
