-- Drives the library and the command with marked secrets, and searches all that comes out.
local faults = require "spec.support.faults"
local koresms = require "koresms"
local run = require "spec.support.run"
local sandbox = require "koresms.sandbox"

local SECRET = "MARKED-SECRET-0123456789-abcdefghij"
local TO, FROM = "+915550001234567", "+18885559876543"

-- What must not be read anywhere: secrets, tokens, and enough of a number to call it.
local function check(text, where)
  text = tostring(text)
  for _, needle in ipairs({ "MARKED", "5550001234", "8885559876" }) do
    assert(not text:find(needle, 1, true), where .. " shows " .. needle)
  end
  -- A token: a header that begins with {" and two more parts.
  assert(not text:find("eyJ[%w_-]+%.[%w_-]+%.[%w_-]+"), where .. " shows a token: " .. text)
end

-- Everything that can be reached from a value, tables and metatables of ours included.
local function walk(value, where, seen)
  if type(value) == "table" then
    if seen[value] then return end
    seen[value] = true
    check(tostring(value), where)
    for k, v in pairs(value) do
      walk(k, where .. ".key", seen)
      -- The numbers of a result are those that its caller gave.
      if not ((k == "to" or k == "from") and rawget(value, "outcome")) then
        walk(v, where .. "." .. tostring(k), seen)
      end
    end
  else
    check(value, where)
  end
end

describe("secrets", function()
  local box, bench, directory

  setup(function()
    box = assert(sandbox.start { client_secret = SECRET })
    bench = faults.start()
    directory = run.directory()
  end)
  teardown(function()
    box:stop()
    bench:stop()
    run.clean()
  end)

  local events

  local function options(changes)
    local o = { host = box.plain, bot_id = box.bot_id, client_id = box.client_id,
      client_secret = SECRET, per_minute = false, retries = 1, timeout = 2,
      on_event = function(e) events[#events + 1] = e end }
    for name, value in pairs(changes or {}) do o[name] = value end
    for name, value in pairs(o) do if value == "none" then o[name] = nil end end
    return o
  end

  before_each(function()
    events = {}
    box:control("DELETE", "/_sandbox/play")
  end)

  local function drive(what, changes, message)
    local c = assert(koresms.new(options(changes)))
    local result, text, code, failed = c:send(message or { to = TO, from = FROM })
    walk({ text = text, code = code }, what .. " returned", {})
    walk(result or failed, what .. " result", {})
    walk(events, what .. " events", {})
    assert.truthy(#events > 0, what)
    walk(c, what .. " client", {})
    c:close()
    walk(c, what .. " closed client", {})
  end

  it("stay out of every ending of a send", function()
    local echo = '{"errors":[{"msg":"bad ' .. TO .. ' from ' .. FROM .. '","code":"' .. TO .. '"}]}'
    for _, play in ipairs({ { status = 200 }, { status = 500 }, { status = 401 }, { status = 429 },
      { status = 400, body = echo }, { status = 412, body = echo }, { status = 200, body = echo },
      { status = 503, body = echo }, { close = true }, { html = true }, { json = "wrong" },
      { status = 302, headers = { Location = "http://127.0.0.1/" .. TO } } }) do
      box:control("DELETE", "/_sandbox/play")
      box:control("POST", "/_sandbox/play", play)
      events = {}
      drive("ending " .. (play.status or "other"))
    end
    box:control("DELETE", "/_sandbox/play")
    events = {}
    drive("accepted")
    events = {}
    drive("delayed", { timeout = 0.2 })
  end)

  it("stay out of replies that repeat the request", function()
    -- The server plays back the token that it was sent.
    local signer = require("koresms.core").signer { algorithm = "HS256", secret = SECRET,
      client_id = "cs-1", subject = "x", ttl = 300, jti = false }
    local token = signer:token()
    local step = faults.step
    for _, status in ipairs({ 200, 400, 401, 403, 404, 429, 500 }) do
      local server = bench:listen { default = { step.read_request(), step.respond { status = status,
        body = '{"errors":[{"msg":"no ' .. token .. ' for ' .. TO .. '","code":"' .. token .. '"}]}' },
        step.close() } }
      events = {}
      drive("echo " .. status, { host = server.origin, token = token })
      server:close()
    end
  end)

  it("stay out of replies that repeat a token of any form", function()
    local step = faults.step
    for _, token in ipairs({ "MARKED-opaque-token", "MARKED/with+odd%=(chars)", "MARKED" .. ("x"):rep(3000) }) do
      for _, status in ipairs({ 200, 400, 401, 429, 500 }) do
        local server = bench:listen { default = { step.read_request(), step.respond { status = status,
          body = '{"errors":[{"msg":"no ' .. (token:gsub("/", "\\/")) .. ' and ' .. token
            .. '","code":"' .. token .. '"}]}' }, step.close() } }
        events = {}
        drive("echo " .. status, { host = server.origin, token = token })
        server:close()
      end
    end
  end)

  it("stay out of what never leaves", function()
    for what, case in pairs({
      ["no number"] = { {}, { to = TO .. "x", from = FROM } },
      ["no sender"] = { {}, { to = TO, from = FROM .. "000000" } },
      ["refused"] = { { host = "http://127.0.0.1:1" } },
      ["no name"] = { { host = "https://nonexistent.invalid" } },
      ["proxy"] = { { proxy = "http://MARKED:MARKED@127.0.0.1:1" } },
      ["untrusted"] = { { host = box.host } },
      ["callback raises"] = { { token = function() error("MARKED " .. SECRET) end } },
      ["callback gives rubbish"] = { { token = function() return "MARKED\r\n" end } },
      ["callback says why"] = { { token = function() return nil, TO end } },
      ["own limit"] = { { per_minute = 1, timeout = 0.1 } },
    }) do
      events = {}
      drive(what, case[1], case[2])
    end
  end)

  it("stay out of streams", function()
    local c = assert(koresms.new(options()))
    box:control("POST", "/_sandbox/play", { times = 1, status = 500 })
    for result in c:send_many({ { to = TO, from = FROM }, { to = TO .. "x", from = FROM },
      { to = TO, from = FROM } }) do
      walk(result, "stream", {})
    end
    local ok, raised = pcall(function()
      for _ in c:send_many({ { to = TO, text = SECRET } }) do error("unreachable") end
    end)
    assert.is_false(ok)
    check(raised, "raised")
    walk(events, "events", {})
    c:close()
  end)

  it("stay out of errors of configuration and misuse", function()
    local secrets = { client_secret = SECRET .. "\0", token = "MARKED MARKED",
      proxy = "MARKED:MARKED@proxy", host = "https://MARKED:MARKED@h.example", from = TO .. "x",
      private_key_file = "/dev/null" }
    for name, value in pairs(secrets) do
      local changes = { [name] = value }
      if name == "private_key_file" then changes.algorithm, changes.client_secret = "RS256", "none" end
      local c, text = koresms.new(options(changes))
      assert.is_nil(c)
      check(text, name)
    end
    local c = assert(koresms.new(options()))
    for _, f in ipairs({ function() koresms.new({ MARKEDx = SECRET }) end }) do
      local ok = pcall(f)
      assert.is_false(ok)
    end
    for _, f in ipairs({
      function() koresms.new({ client_secret = { SECRET } }) end,
      function() koresms.new({ client_secert = SECRET }) end,
      function() c:send({ to = tonumber("915550001234567") }) end,
      function() c:send({ to = TO, from = { FROM } }) end,
      function() c:send({ to = TO, text = SECRET }) end,
      function() c:send(TO) end,
      function() c:send({ to = TO }, { [SECRET:sub(8)] = 1 }) end,
      function() koresms.e164(915550001234567) end,
    }) do
      local ok, text = pcall(f)
      assert.is_false(ok)
      check(text, "misuse")
    end
    c:close()
  end)

  describe("and the command", function()
    local lua = rawget(_G, "jit") and "luajit" or "lua" .. _VERSION:match("%d.%d")

    local function command(arguments, changes)
      local words = { "env -i PATH=\"$PATH\"" }
      local variables = { LUA_PATH = package.path, LUA_CPATH = package.cpath,
        KORESMS_HOST = box.plain, KORESMS_BOT_ID = box.bot_id, KORESMS_CLIENT_ID = box.client_id,
        KORESMS_CLIENT_SECRET = SECRET, KORESMS_FROM = FROM, KORESMS_RETRIES = "0" }
      for name, value in pairs(changes or {}) do variables[name] = value or nil end
      for name, value in pairs(variables) do words[#words + 1] = name .. "=" .. run.quote(value) end
      words[#words + 1] = lua .. " bin/koresms " .. arguments
      return run.output("{ " .. table.concat(words, " ") .. "; } 2>&1")
    end

    it("stay out of its output", function()
      for _, arguments in ipairs({ "send --to " .. TO, "send --to " .. TO .. " --dry-run",
        "send --to " .. TO .. "x", "check", "--help", "send --help", "--version", "nonsense",
        "send", "send --to " .. TO .. " --client-secret MARKED" }) do
        check(command(arguments), arguments)
      end
      for _, changes in ipairs({ { KORESMS_CLIENT_SECRET = "MARKED-wrong-secret" },
        { KORESMS_HOST = "http://127.0.0.1:1" }, { KORESMS_HOST = "https://MARKED@h.example" },
        { KORESMS_TOKEN = "MARKED token" }, { KORESMS_FROM = FROM .. "x" },
        { KORESMS_MARKED_NOT = "x", KORESMS_CLIENT_SECERT = SECRET } }) do
        for _, arguments in ipairs({ "send --to " .. TO, "check", "send --to " .. TO .. " --dry-run" }) do
          local text = command(arguments, changes):gsub("KORESMS_MARKED_NOT", "")
          check(text, arguments)
        end
      end
    end)

    it("show the whole numbers of the message itself in JSON, and nothing else", function()
      local text = command("send --json --to " .. TO)
      assert.truthy(text:find('"to":"' .. TO .. '"', 1, true), text)
      check(text:gsub('"to":"[^"]*"', ""):gsub('"from":"[^"]*"', ""), "json")
    end)

    it("stay out of its arguments", function()
      box:control("POST", "/_sandbox/play", { times = 1, delay = 1 })
      local name = directory .. "/argv"
      command("send --to " .. TO .. " & sleep 0.5; "
        .. "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f 2>/dev/null; echo; done "
        .. "| grep '^lua[a-z0-9.]* bin/koresms send' > " .. name .. "; wait")
      local file = assert(io.open(name))
      local text = file:read("*a")
      file:close()
      assert.truthy(text:find("bin/koresms send", 1, true), text)
      check(text:gsub("%-%-to " .. TO:gsub("%+", "%%+"), ""), "argv")
    end)
  end)
end)
