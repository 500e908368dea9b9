--- Talks to a running sandbox's control paths, through the curl command.
-- @module koresms.sandbox.client

local cjson = require "cjson"
local shell = require "koresms.sandbox.shell"

local json = cjson.new()
local M = {}

--- One control request.
-- @tparam table box
-- @tparam string method
-- @tparam string path such as "play", or whole: "/_sandbox/play"
-- @tparam ?table body sent as JSON
-- @treturn table the answer
-- @treturn nil,string
function M.control(box, method, path, body)
  if path:sub(1, 1) ~= "/" then path = "/_sandbox/" .. path end
  local words = {"curl", "--disable", "--silent", "--show-error", "--globoff", "--noproxy", "*",
    "--max-time", "90",
    "--request", method, "--write-out", "\n%{http_code}"}
  if body then
    words[#words + 1] = "--data-raw"
    words[#words + 1] = json.encode(body)
  end
  words[#words + 1] = box.plain .. path
  for index, word in ipairs(words) do words[index] = shell.quote(word) end
  local ok, output = shell.run(table.concat(words, " ") .. " 2>&1")
  local text, status = output:match("^(.*)\n(%d+)$")
  if not ok then
    return nil, ("%s %s: curl failed: %s"):format(method, path, text or output)
  end
  local decoded, answer = pcall(json.decode, text)
  if not decoded or status ~= "200" then
    return nil, decoded and answer.error or ("status %s: %s"):format(status, text)
  end
  return answer
end

--- What stands at a control path.
function M.get(box, path)
  return M.control(box, "GET", path)
end

return M
