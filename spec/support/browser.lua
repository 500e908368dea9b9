-- A headless Chromium, driven by Debian's chromedriver over the WebDriver protocol, with curl.

local cjson = require "cjson"
local shell = require "koresms.sandbox.shell"

local json = cjson.new()
local M = {}

-- The key under which WebDriver names an element.
local ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

--- Keys of the keyboard that have no character.
M.keys = { tab = "\238\128\132", enter = "\238\128\135", escape = "\238\128\140",
  up = "\238\128\147", right = "\238\128\148", down = "\238\128\149", space = " ",
  shift = "\238\128\136",
  control = "\238\128\137", ["end"] = "\238\128\144" }

--- What is missing for a browser, or nil.
function M.missing()
  for _, name in ipairs { "chromium", "chromedriver" } do
    if not shell.run("command -v " .. name) then return name .. " is not installed" end
  end
end

local Browser = {}
Browser.__index = Browser

local function request(url, method, body)
  local words = { "curl", "-s", "--noproxy", "*", "--max-time", "60", "-X", method,
    "-H", "Content-Type: application/json" }
  local path
  if body then
    -- A script may be longer than a word of a command line.
    path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    file:write(body)
    file:close()
    words[#words + 1] = "--data-binary"
    words[#words + 1] = "@" .. path
  end
  words[#words + 1] = url
  for i, word in ipairs(words) do words[i] = shell.quote(word) end
  local _, text = shell.run(table.concat(words, " "))
  if path then os.remove(path) end
  local ok, answer = pcall(json.decode, text)
  if not ok then error(("%s %s: %s"):format(method, url, text)) end
  return answer.value
end

function Browser:call(method, path, body)
  if type(body) == "table" then body = next(body) and json.encode(body) or "{}" end
  local value = request(self.session .. path, method, body)
  if type(value) == "table" and value.error then
    error(("%s %s: %s: %s"):format(method, path, value.error, value.message), 2)
  end
  return value
end

--- Starts a browser.
-- @tparam ?table options width, height, dark
function M.start(options)
  options = options or {}
  local _, work = shell.run("mktemp -d")
  local self = setmetatable({ work = work }, Browser)
  -- Port 0 lets the system choose; the driver says which one it got.
  local _, pid = shell.run(("HOME=%s TMPDIR=%s chromedriver --port=0 >%s/log 2>&1 & echo "
    .. "$!"):format(
    shell.quote(work), shell.quote(work), shell.quote(work)))
  self.pid = pid
  local _, port = shell.run(("n=0; until grep -q 'successfully on port' %s/log || [ $n = 150 ]; "
    .. "do n=$((n + 1)); "
    .. "sleep 0.1; done; sed -n 's/.*successfully on port \\([0-9]*\\).*/\\1/p' %s/log"):format(
    work, work))
  if port == "" then
    self:stop()
    error("chromedriver did not start")
  end
  self.driver = "http://127.0.0.1:" .. port
  local arguments = { "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--no-first-run", "--hide-scrollbars",
    ("--window-size=%d,%d"):format(options.width or 1280, options.height or 900),
    -- Names as an attacker would have them: they lead here.
    "--host-resolver-rules=MAP *.example.com 127.0.0.1", "--user-data-dir=" .. work .. "/profile" }
  if options.dark then arguments[#arguments + 1] = "--force-dark-mode" end
  local session = request(self.driver .. "/session", "POST", json.encode {
    capabilities = { alwaysMatch = {
      browserName = "chrome", ["goog:chromeOptions"] = { args = arguments } } } })
  if not session.sessionId then
    self:stop()
    error("no session: " .. tostring(session.message))
  end
  self.session = self.driver .. "/session/" .. session.sessionId
  return self
end

--- Ends the browser and its driver, and removes what they wrote.
function Browser:stop()
  if self.session then pcall(request, self.session, "DELETE") end
  shell.run(("{ kill %s; n=0; while kill -0 %s && [ $n -lt 50 ]; do n=$((n + 1)); sleep 0.1; done; "
    .. "rm -rf %s; } 2>/dev/null"):format(self.pid, self.pid, shell.quote(self.work)))
end

function Browser:open(url)
  self:call("POST", "/url", { url = url })
end

--- Runs a function's body in the page.
function Browser:run(script, ...)
  local list = { ... }
  -- An empty table would be encoded as an object.
  for i, value in ipairs(list) do list[i] = json.encode(value) end
  local body = ('{"script":%s,"args":[%s]}'):format(json.encode(script), table.concat(list, ","))
  return self:call("POST", "/execute/sync", body)
end

--- Presses keys: a text, one key after the other; shift and control are held from where they
-- stand to the end.
function Browser:press(text)
  local actions, held = {}, {}
  for key in text:gmatch("[%z\1-\127\194-\244][\128-\191]*") do
    actions[#actions + 1] = { type = "keyDown", value = key }
    local up = { type = "keyUp", value = key }
    local modifier = key == M.keys.shift or key == M.keys.control
    table.insert(modifier and held or actions, up)
  end
  for _, up in ipairs(held) do actions[#actions + 1] = up end
  self:call("POST", "/actions",
    { actions = { { type = "key", id = "keyboard", actions = actions } } })
end

function Browser:find(selector)
  return self:call("POST", "/element", { using = "css selector", value = selector })[ELEMENT]
end

function Browser:click(selector)
  self:call("POST", "/element/" .. self:find(selector) .. "/click", {})
end

--- Waits until a script returns something true, and returns that.
function Browser:await(script, ...)
  for _ = 1, 200 do
    local value = self:run(script, ...)
    if value and value ~= cjson.null then return value end
    os.execute("sleep 0.05")
  end
  error("the page did not get there: " .. script, 2)
end

--- Presses Tab until the script, told the element in focus, says that it is the right one.
function Browser:tab_to(condition, key)
  for _ = 1, 80 do
    self:press(key or M.keys.tab)
    if self:run("const at = document.activeElement; return Boolean(" .. condition .. ")") then
      return
    end
  end
  error("the keyboard does not get to: " .. condition, 2)
end

--- Writes a picture of the page.
function Browser:picture(path)
  local data = self:call("GET", "/screenshot")
  local file = assert(io.open(path .. ".base64", "w"))
  file:write(data)
  file:close()
  shell.run(("base64 -d <%s >%s; rm %s"):format(shell.quote(path .. ".base64"), shell.quote(path),
    shell.quote(path .. ".base64")))
end

--- Sizes the window, and what the page takes the system's colours to be.
function Browser:look(width, height, scheme)
  self:call("POST", "/goog/cdp/execute", { cmd = "Emulation.setDeviceMetricsOverride",
    params = { width = width, height = height, deviceScaleFactor = 1, mobile = false } })
  self:call("POST", "/goog/cdp/execute", { cmd = "Emulation.setEmulatedMedia",
    params = { features = { { name = "prefers-color-scheme", value = scheme } } } })
end

return M
