--- The page for people, inside nginx: its files, which stand beside this one.
-- @module koresms.sandbox.page

local guard = require "koresms.sandbox.guard"

local M = {}

-- Nothing is loaded from elsewhere, and no other page may frame this one.
local POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
  .. "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

local FILES = {
  ["/"] = {"page.html", "text/html; charset=utf-8"},
  ["/_page/page.css"] = {"page.css", "text/css; charset=utf-8"},
  ["/_page/page.js"] = {"page.js", "text/javascript; charset=utf-8"},
  ["/_page/entry.js"] = {"entry.js", "text/javascript; charset=utf-8"},
}

--- Called once, before nginx makes its workers.
function M.init(given)
  for _, row in pairs(FILES) do
    local file = assert(io.open(given.directory .. "/" .. row[1], "rb"))
    row.text = file:read("*a")
    file:close()
  end
end

local function answer(status, kind, text)
  ngx.status = status
  ngx.header["Content-Type"] = kind
  ngx.header["Content-Length"] = #text
  ngx.header["Cache-Control"] = "no-cache"
  ngx.header["Content-Security-Policy"] = POLICY
  ngx.header["X-Content-Type-Options"] = "nosniff"
  ngx.header["Referrer-Policy"] = "no-referrer"
  ngx.print(text)
end

--- Handles a request for one of the files.
function M.handle()
  local method = ngx.req.get_method()
  if method ~= "GET" and method ~= "HEAD" then
    ngx.header.Allow = "GET, HEAD"
    return answer(405, "text/plain", "this address takes GET\n")
  end
  local wrong = guard.check()
  if wrong then return answer(403, "text/plain", wrong .. "\n") end
  local row = FILES[ngx.var.uri]
  if not row then return answer(404, "text/plain", "there is no such file\n") end
  return answer(200, row[2], row.text)
end

return M
