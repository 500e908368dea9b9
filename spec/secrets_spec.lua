-- Secrets, tokens and whole numbers come out nowhere: not in errors, results, events, texts of
-- objects, nor in anything that a process writes by itself.

local bed_support = require "spec.support.fault_bed"
local child = require "spec.support.fault_child"
local core = require "koresms.core"
local curl = require "koresms.curl"
local faults = require "spec.support.faults"
local koresms = require "koresms"
local marks = require "spec.support.secret_marks"
local run = require "spec.support.run"

local step = faults.step

describe("secrets stay where they are:", function()
  local bed, work

  setup(function()
    bed = bed_support.start()
    work = run.directory()
  end)
  teardown(function()
    bed:stop()
    run.clean()
  end)

  local function file(name, text) return run.write(work .. "/" .. name, text) end

  local settings = { from = marks.from, client_secret = marks.secret }

  -- Sends to an origin with marked settings; looks at all that comes back and at the events.
  local function send(origin, where, changes, options, message)
    message = message or { to = marks.to }
    local events = {}
    local all = { on_event = function(event)
      for name, value in pairs(event) do events[#events + 1] = name .. " " .. tostring(value) end
      events[#events + 1] = event
    end }
    for name, value in pairs(settings) do all[name] = value end
    for name, value in pairs(changes or {}) do all[name] = value end
    local client = bed:client(origin, all)
    local result, text, _, failed = client:send(message, options)
    marks.look(where .. ": text", tostring(text))
    marks.walk(where .. ": result", result or failed, marks.OWN)
    marks.walk(where .. ": events", events)
    assert(#events > 0, where)
    -- A stream waits for the end of a pause, however long.
    local pauses = all.per_minute == 1 or failed and (failed.retry_after or 0) > 0
    for one in client:send_many(pauses and {} or { message }, options) do
      marks.walk(where .. ": result of a stream", one, marks.OWN)
    end
    -- The sender is a setting that is no secret, and shown where settings are.
    marks.walk(where .. ": client", client, { from = true })
    if pauses then
      local _, why, _, late = client:send(message, { timeout = 0.05 })
      assert.equal("rate_limited", late.code, where)
      marks.look(where .. ": text", why)
      marks.walk(where .. ": result", late, marks.OWN)
    end
    client:close()
    marks.walk(where .. ": closed client", client, { from = true })
    return result or failed
  end

  local CREDENTIALS = {
    { "a secret", {} }, { "a token", { client_secret = "none", token = marks.token } },
    { "a callback", { client_secret = "none", token = function() return marks.token end } },
    { "an opaque token", { client_secret = "none", token = marks.opaque } },
    { "a token of odd characters", { client_secret = "none", token = "MARKED/with+odd%=(chars)" } },
    { "a long token", { client_secret = "none", token = "MARKED" .. ("x"):rep(3000) } },
  }

  -- What a platform may say that repeats a token of any form.
  local function bodies_with(token)
    local escaped = token:gsub("/", "\\/")
    return {
      (marks.echo():gsub("eyJ[%w.]+", function() return escaped end)),
      ('{"errors":[{"msg":"no","code":"%s"}]}'):format(token),
      ('{"errors":[{"msg":"no %s and %s","code":"%s"}]}'):format(escaped, token, token),
    }
  end

  for _, credential in ipairs(CREDENTIALS) do
    it("whatever the platform repeats, with " .. credential[1], function()
      local server = bed.servers.plain
      local echo = marks.echo()
      local bodies = { echo, '{"message":"' .. marks.to .. '"}', marks.to .. " " .. marks.token,
        "[" .. echo .. "]",
        ('{"errors":[{"msg":"x","code":"%s %s"}]}'):format(marks.token, marks.to),
        ('{"errors":[{"msg":"%s%s","code":1}]}'):format(("a "):rep(140), marks.to),
        ('{"errors":[{"msg":"%s%s","code":1}]}'):format(("a "):rep(2190), marks.token),
        ('{"errors":[{"msg":"Bearer %s","code":1}]}'):format(marks.token) }
      local token = credential[2].token
      if type(token) == "string" and token ~= marks.token then bodies = bodies_with(token) end
      for _, status in ipairs { 200, 302, 400, 401, 403, 404, 412, 429, 500, 503 } do
        for i, body in ipairs(bodies) do
          local reply = step.respond { status = status, body = body, reason = marks.to,
            headers = { { "Location", "https://x.test/" .. marks.token },
              { "Retry-After", "0" }, { "Date", marks.to } } }
          server:script({}, { step["repeat"] { n = 9, steps = { step.read_request(), reply } } })
          send(server.origin, ("%d, body %d"):format(status, i), credential[2])
        end
      end
    end)
  end

  it("whatever breaks on the way", function()
    -- Those that stall take long, and end alike.
    local stalls = { accept_never_read = true, processed_stall = true, tls_hello_stall = true,
      connect_hangs = true }
    for _, row in ipairs(faults.list) do
      if row.group ~= "proxy" and not row.sweep
          and (not row.stalls or stalls[row.name] or bed_support.long) then
        local over = row.listen and bed.bench:listen_for(row) or bed.servers.plain
        if not row.listen then over:script({}, faults.script(row)) end
        send(over.origin, row.name, {
          client_cert = bed.certs[row.client_cert], client_key = bed.certs[row.client_key] },
          { timeout = (row.stalls and 1 or 3) * bed_support.STALL, retries = 0 })
        if row.listen then over:close() end
      end
    end
  end)

  it("where nothing leaves", function()
    bed.servers.plain:script()
    local plain, tls = bed.servers.plain.origin, bed.servers.tls.origin
    for what, case in pairs {
      ["nobody there"] = { "http://127.0.0.1:1" },
      ["a name that does not exist"] = { "https://nonexistent.invalid" },
      ["an authority that is not trusted"] = { tls, { ca_file = "none" } },
      ["a limit of its own"] = { plain, { per_minute = 1 }, { timeout = 0.1 } },
      ["a sender that is none"] = { plain, nil, nil,
        { to = marks.to, from = marks.from .. "000000" } },
      ["a recipient that is none"] = { plain, nil, nil, { to = marks.to .. "x" } },
      ["a callback that raises"] = { plain, { client_secret = "none",
        token = function() error("MARKED " .. marks.secret) end } },
      ["a callback that gives rubbish"] = { plain, { client_secret = "none",
        token = function() return "MARKED\r\n" end } },
      ["a callback that says why"] = { plain, { client_secret = "none",
        token = function() return nil, marks.to end } },
    } do
      send(case[1], what, case[2], case[3] or { timeout = 1, retries = 0 }, case[4])
    end
  end)

  it("in streams, whatever becomes of a message", function()
    bed.servers.plain:script({}, { step.read_request(), step.respond { status = 500,
      body = marks.echo() },
      step.serve() })
    local events = {}
    local client = bed:client(bed.servers.plain.origin, { from = marks.from,
      client_secret = marks.secret,
      on_event = function(event) events[#events + 1] = event end })
    local good = { to = marks.to }
    local iterator, state, control, closing = client:send_many { good, { to = marks.to .. "x" },
      good,
      { to = marks.to, from = marks.from:sub(2) }, good }
    for _, one in pairs { iterator, state or false, control or false, closing or false } do
      marks.walk("what a stream is made of", one, marks.OWN)
    end
    local count = 0
    for result in iterator do
      marks.walk("a result of a stream", result, marks.OWN)
      count = count + 1
    end
    assert.equal(5, count)
    marks.walk("events", events)
    assert(#events >= 5)
    for _, wrong in ipairs { { to = marks.to, text = marks.secret }, { to = { marks.to } },
      marks.to } do
      local ok, raised = pcall(function()
        for _ in client:send_many { good, wrong } do count = count + 1 end
      end)
      assert.is_false(ok)
      marks.look("raised", tostring(raised))
    end
    client:close()
  end)

  it("with a proxy that has a password", function()
    for _, row in ipairs(faults.list) do
      if row.group == "proxy" and not row.sweep then
        local proxy = bed.bench:listen_for(row)
        local address = proxy.origin:gsub("//", "//user:" .. marks.password .. "@")
        send(bed.servers.tls.origin, row.name, { proxy = address },
          { timeout = (row.stalls and 1 or 3) * bed_support.STALL, retries = 0 })
        proxy:close()
      end
    end
    for _, address in ipairs { "http://user:%s@127.0.0.1:1", "http://user:%s@x.invalid:80",
        "https://user:%s@127.0.0.1:1", "socks5h://user:%s@127.0.0.1:1" } do
      send(bed.servers.tls.origin, address, { proxy = address:format(marks.password) },
        { timeout = 1, retries = 0 })
    end
  end)

  it("in what is raised and refused", function()
    local long = marks.secret:rep(40)
    local loaded = 0
    local function try(where, f, ...)
      local ok, value, text, code, more = pcall(f, ...)
      marks.walk(where, ok and type(value) ~= "string" and value or value, marks.OWN)
      for _, one in ipairs { text or "", code or "", more or "" } do
        marks.walk(where, one, marks.OWN)
      end
      loaded = loaded + 1
    end
    local base = { host = "https://kore.test", bot_id = "st-1", client_id = "cs-1" }
    local function new(where, changes)
      local o = {}
      for name, value in pairs(base) do o[name] = value end
      for name, value in pairs(changes) do o[name] = value end
      try("new: " .. where, koresms.new, o)
    end
    new("a secret that is too long", { client_secret = long })
    new("a secret with NUL", { client_secret = marks.secret .. "\0" })
    new("a secret of a wrong type", { client_secret = { marks.secret } })
    new("a setting that is none", { client_secrt = marks.secret })
    new("two secrets", { client_secret = marks.secret, client_secret_file = file("s",
      marks.secret) })
    new("a secret file that is too long", { client_secret_file = file("long", long) })
    new("a secret file with NUL", { client_secret_file = file("nul", marks.secret .. "\0x") })
    new("a key that is none", { algorithm = "RS256", private_key_file = file("key", marks.secret) })
    new("a key of another kind", { algorithm = "RS256", private_key_file = file("key",
      "-----BEGIN PRIVATE KEY-----\n" .. marks.secret .. "\n-----END PRIVATE KEY-----\n") })
    new("a token with a blank", { token = marks.opaque .. " x" })
    new("a token with a line end", { token = marks.token .. "\r\nX: y" })
    new("a proxy that is none", { token = "t", proxy = "ftp://user:" .. marks.password .. "@h" })
    new("a proxy with a blank", { token = "t", proxy = "http://u:" .. marks.password .. "@h x" })
    new("a proxy with a path", { token = "t", proxy = "http://u:" .. marks.password .. "@h/x" })
    new("a secret with a blank in a proxy", { token = "t", proxy = "MARKED:MARKED@proxy" })
    new("an empty key file", { algorithm = "RS256", private_key_file = "/dev/null" })
    new("a host with a password", { token = "t", host = "https://u:" .. marks.password .. "@h" })
    new("a sender that is none", { token = "t", from = marks.from .. "x" })
    try("signer", core.signer, { algorithm = "HS256", secret = "", client_id = marks.secret })
    try("signer", core.signer, { algorithm = "none", secret = marks.secret, client_id = "c" })
    try("signer", core.signer, { algorithm = "RS256", private_key = marks.secret, client_id = "c" })
    try("e164", core.e164, marks.to .. "x")
    try("e164", koresms.e164, marks.to:sub(2))
    try("body", core.body, marks.from .. "x", marks.to)
    try("request", core.request, "/x", "h", marks.token .. "\r\n", "{}")
    local client = bed:client(bed.servers.plain.origin, settings)
    for where, message in pairs { text = marks.to, ["unknown field"] = { to = marks.to, txt = "x" },
        number = { to = tonumber(marks.to) }, table = { to = { marks.to } },
        ["bad recipient"] = { to = marks.to .. "x" }, ["bad sender"] = { to = marks.to,
          from = marks.from .. "0123" },
        blank = { to = " " .. marks.to }, ["no table"] = marks.to,
        ["sender in a table"] = { to = marks.to, from = { marks.from } },
        ["a text"] = { to = marks.to, text = marks.secret } } do
      try("send: " .. where, client.send, client, message)
      try("send_many: " .. where, function()
        for result in client:send_many { { to = "+1" }, message } do
          marks.walk("a result", result, marks.OWN)
        end
      end)
      try("send of the module: " .. where, koresms.send, message)
    end
    for _, callback in ipairs { function() error(marks.token) end,
        function() error({ marks.token }) end, function() return marks.token .. "\n" end,
        function() return nil, "refused: " .. marks.token .. " for " .. marks.to end,
        function() return { marks.token } end } do
      local with = bed:client(bed.servers.plain.origin,
        { token = callback, client_secret = "none" })
      try("callback", with.send, with, { to = marks.to })
      try("callback, token", with.token, with)
      with:close()
    end
    try("an option that is none", client.send, client, { to = marks.to },
      { timeouts = marks.secret })
    try("a number for a text", koresms.e164, tonumber(marks.to))
    client:close()
    try("closed", client.send, client, { to = marks.to })
    assert(loaded > 50)
  end)

  it("in objects", function()
    local key = run.output("openssl genrsa 2048 2>/dev/null")
    marks.add("line of a key", key:match("\n([%w+/=]+)\n[%w+/=]+\n%-"))
    for _, options in ipairs { { algorithm = "HS256", secret = marks.secret },
        { algorithm = "RS256", private_key = key } } do
      options.client_id, options.subject, options.ttl = "cs-1", "s", 60
      local signer = assert(core.signer(options))
      marks.walk("a signer", signer)
      local token = assert(signer:token())
      marks.look("a token", token)
    end
    bed.servers.plain:script()
    local engine = curl.engine { url = bed.servers.plain.origin .. "/", head = "x", reply_max = 1,
      max_idle = 1, max_age = 300 }
    marks.walk("an engine", engine)
    local client = bed:client(bed.servers.plain.origin,
      { algorithm = "RS256", private_key_file = file("good.pem", key), client_secret = "none" })
    marks.walk("a client with a key", client)
    assert.equal("accepted", bed:send(client).outcome)
    -- All that a client holds, its transport and pacer among them.
    for name, one in pairs(require("koresms.client").session(client)) do
      marks.look(name, tostring(one))
      marks.walk(name, one, { from = true })
    end
    client:close()
  end)

  it("in files of settings that are wrong", function()
    local cases = {
      { "json", '{"client_secret": "%s", }' }, { "json", '{"client_secret": "%s"' },
      { "json", '{"client_secret": ["%s"]}' }, { "json", '{"client_secret": "%s\\u0000"}' },
      { "json", '"%s"' }, { "json", '["%s"]' }, { "json", '{"clent_secret": "%s"}' },
      { "json", '{"proxy": "http://x:%s@h x"}' }, { "json", '{"token": "%s x", "host": "h"}' },
      { "lua", 'return { client_secret = "%s" ' }, { "lua", 'error("%s")' },
      { "lua", 'local a = nil; return a["%s"]' }, { "lua", 'return "%s"' },
      { "lua", 'return { client_secret = "%s" .. nil }' },
      { "lua", 'return { client_secret = { "%s" } }' },
      { "lua", "%s" }, { "lua", 'local x = "%s\n' }, { "lua", 'goto %s' }, { "txt", "%s" },
    }
    local names = {}
    for i, case in ipairs(cases) do
      names[i] = run.quote(file(("settings%d.%s"):format(i, case[1]),
        (case[2]:gsub("%%s", marks.opaque))))
    end
    -- The variable has to be there before the process is.
    for i, name in ipairs(names) do
      local out = child.run([[
        local koresms = require "koresms"
        print(koresms.new { host = "https://kore.test", bot_id = "st-1", client_id = "cs-1" })
        print(pcall(koresms.send, { to = "+12", from = "+12" })) ]], "KORESMS_CONFIG=" .. name)
      assert(out:find("KORESMS_CONFIG", 1, true) or out:find("settings" .. i, 1, true), out)
      marks.look("settings " .. i, out)
    end
  end)

  it("in what a process writes by itself", function()
    local server = bed.bench:listen { tls = {} }
    local out = child.run(([[
      local koresms = require "koresms"
      local client = assert(koresms.new { host = %q, bot_id = "st-1", client_id = "cs-1",
        client_secret = %q, ca_file = %q, per_minute = false })
      for _ = 1, 3 do
        local result = assert(client:send { to = %q, from = %q })
        io.write(result.outcome, " ")
      end
      print(client)
      client:close() ]]):format(server.origin, marks.secret, bed.certs["ca.pem"],
        marks.to, marks.from), "CURL_VERBOSE=1 CURL_DEBUG=1 SSLKEYLOGFILE=" .. work .. "/keys")
    marks.look("three sends", out)
    assert.equal(("accepted accepted accepted koresms.client (%s, bot st-1)\n"):format(
      server.origin), out)
    server:close()
  end)
end)
