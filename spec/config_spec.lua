local cjson = require("cjson").new()
local config = require "koresms.config"
local koresms = require "koresms"
local session_of = require("koresms.client").session
local run = require "spec.support.run"

local interpreter = arg and arg[-1] and arg[-1]:find("lua") and arg[-1]
  or rawget(_G, "jit") and "luajit" or "lua" .. _VERSION:match("%d.%d")

local function base(changes)
  local o = { host = "platform.kore.ai", bot_id = "st-1", client_id = "cs-1",
    client_secret = "MARKED-SECRET" }
  for name, value in pairs(changes or {}) do o[name] = value end
  return o
end

-- What another process makes of these variables and options.
local function load_with(variables, options)
  local words = { "env -i PATH=\"$PATH\" LUA_PATH=" .. run.quote(package.path)
    .. " LUA_CPATH=" .. run.quote(package.cpath) .. " " .. run.preload() }
  for name, value in pairs(variables) do
    words[#words + 1] = name .. "=" .. run.quote(value)
  end
  words[#words + 1] = interpreter .. " spec/support/load_config.lua "
    .. run.quote(cjson.encode(options or {})) .. " 2>&1"
  local text = run.output(table.concat(words, " "))
  local ok, value = pcall(cjson.decode, text)
  assert(ok, text)
  return value
end

local required = { KORESMS_HOST = "platform.kore.ai", KORESMS_BOT_ID = "st-1",
  KORESMS_CLIENT_ID = "cs-1", KORESMS_CLIENT_SECRET = "MARKED-SECRET" }

local function with(changes)
  local variables = {}
  for name, value in pairs(required) do variables[name] = value end
  for name, value in pairs(changes) do variables[name] = value or nil end
  return variables
end

describe("config", function()
  local directory
  setup(function() directory = run.directory() end)
  teardown(run.clean)

  local function file(name, text) return run.write(directory .. "/" .. name, text) end

  local function refused(options, ...)
    local client, text, code = koresms.new(options)
    assert.is_nil(client)
    assert.equal("config", code)
    assert.is_nil(text:find("MARKED", 1, true), text)
    for _, wanted in ipairs({ ... }) do assert.truthy(text:find(wanted, 1, true), text) end
  end

  it("has the defaults of the documentation", function()
    local s = assert(config.load(base()))
    local defaults = { algorithm = "HS256", subject = "koresms", token_ttl = 300, jti = false,
      timeout = 10, connect_timeout = 5, retries = 2, per_minute = 60, per_hour = false,
      max_idle = 30, max_age = 300, allow_http = false, later_flush = 2 }
    for name, value in pairs(defaults) do assert.equal(value, s[name], name) end
    for _, row in ipairs(config.settings) do
      assert.equal(defaults[row.name], row.default, row.name)
      assert.truthy(row.help, row.name)
    end
  end)

  it("copies the options on entry", function()
    local o = base { timeout = 3 }
    local client = assert(koresms.new(o))
    o.timeout, o.host = 99, "elsewhere"
    assert.equal(3, session_of(client).settings.timeout)
    assert.equal("platform.kore.ai", session_of(client).settings.host)
    client:close()
  end)

  describe("raises at the caller's line for", function()
    local cases = {
      { "an unknown option", { colour = 1 }, "unknown option 'colour'" },
      { "a near miss", { timout = 1 }, "did you mean 'timeout'" },
      { "the platform's own name", { botId = "x" }, "did you mean 'bot_id'" },
      { "text for a number", { timeout = "10" }, "option 'timeout': number expected, got string" },
      { "a number for text", { from = 19876543210 }, "option 'from': string expected, got number" },
      { "text for a boolean", { jti = "true" }, "option 'jti': boolean expected, got string" },
      { "text for a limit", { per_minute = "60" }, "number or false expected, got string" },
      { "text for a listener", { on_event = "print" }, "function expected, got string" },
      { "a table for a token", { token = {} }, "string or function expected, got table" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local ok, text = pcall(function() koresms.new(base(case[2])) end)
        assert.is_false(ok)
        assert.truthy(text:find(case[3], 1, true), text)
        assert.truthy(text:find("config_spec.lua:%d+:"), text)
      end)
    end

    it("what is no table, and one argument too many", function()
      for _, f in ipairs({ function() koresms.new("host") end,
        function() koresms.new(base(), 1) end }) do
        local ok, text = pcall(f)
        assert.is_false(ok)
        assert.truthy(text:find("config_spec.lua:%d+: bad argument #%d to 'new'"), text)
      end
    end)
  end)

  describe("returns, naming setting and source, for", function()
    local cases = {
      { "no host", { host = "" }, "option 'host'", "empty" },
      { "a host with a path", { host = "h.example/api" }, "option 'host'", "path" },
      { "a host with a query", { host = "h.example?x" }, "option 'host'", "query" },
      { "user information", { host = "https://u:MARKED@h.example" }, "option 'host'", "user" },
      { "a port out of range", { host = "h.example:65536" }, "option 'host'", "port" },
      { "port 0", { host = "h.example:0" }, "option 'host'", "port" },
      { "a bare IPv6 address", { host = "fe80::1" }, "option 'host'", "brackets" },
      { "another scheme", { host = "ftp://h.example" }, "option 'host'", "scheme" },
      { "a line end in the host", { host = "h.example\r\nX: y" }, "option 'host'" },
      { "NUL in the host", { host = "h.example\0" }, "option 'host'" },
      { "http to another host", { host = "http://h.example" }, "option 'host'", "allow_http" },
      { "http to a name like loopback", { host = "http://127.0.0.1.example" }, "allow_http" },
      { "http to a name after a loopback address", { host = "http://127.0.0.1." }, "allow_http" },
      { "an address that is none", { host = "http://127.0.0.256" }, "IPv4" },
      { "an address with a leading zero", { host = "http://127.0.0.08" }, "IPv4" },
      { "a host with a line end", { host = "h.example\r" }, "option 'host'", "line end" },
      { "a host with a byte order mark", { host = "\239\187\191h.example" }, "option 'host'",
        "byte order mark" },
      { "a host with a blank", { host = "h.example " }, "option 'host'", "blank" },
      { "a host in quotes", { host = "'h.example'" }, "option 'host'", "quote" },
      { "a host in quotes of a typesetter", { host = "\226\128\156h.example\226\128\157" },
        "option 'host'", "ASCII" },
      { "a host that is not ASCII", { host = "h\195\182.example" }, "option 'host'", "xn--" },
      { "a scheme without slashes", { host = "https:h.example" }, "option 'host'",
        "https:// once" },
      { "a scheme with one slash", { host = "https:/h.example" }, "option 'host'",
        "https:// once" },
      { "a scheme without a colon", { host = "https//h.example" }, "option 'host'",
        "https:// once" },
      { "a scheme twice", { host = "https://https://h.example" }, "option 'host'",
        "https:// once" },
      { "a blank before its scheme", { host = " https://h.example" }, "option 'host'", "blank" },
      { "a dot too many", { host = "h..example" }, "option 'host'", "dot" },
      { "a dot at the beginning", { host = ".h.example" }, "option 'host'", "dot" },
      { "a file in a home that nobody expands", { ca_file = "~/ca.pem" }, "option 'ca_file'",
        "whole path" },
      { "a path as bot id", { bot_id = "../admin" }, "option 'bot_id'" },
      { "dots as bot id", { bot_id = ".." }, "option 'bot_id'" },
      { "a line end in the bot id", { bot_id = "st-1\r\n" }, "option 'bot_id'", "line end" },
      { "a line end in the client id", { client_id = "cs-1\r\nX: y" }, "option 'client_id'",
        "line end" },
      { "NUL in the client id", { client_id = "cs-1\0" }, "option 'client_id'", "NUL" },
      { "a blank in the client id", { client_id = "cs-1 " }, "option 'client_id'", "blank" },
      { "a client id that is no UTF-8", { client_id = "cs-\255" }, "option 'client_id'", "UTF-8" },
      { "a line end in the subject", { subject = "a\n" }, "option 'subject'", "line end" },
      { "a subject that is no UTF-8", { subject = "\255" }, "option 'subject'", "UTF-8" },
      { "an empty secret", { client_secret = "" }, "option 'client_secret'", "empty" },
      { "a secret with NUL", { client_secret = "MARKED\0" }, "option 'client_secret'", "NUL" },
      { "a secret with a line end", { client_secret = "MARKED\n" }, "option 'client_secret'",
        "line end" },
      { "a secret with a carriage return", { client_secret = "MARKED\r" }, "option 'client_secret'",
        "line end" },
      { "a secret with a byte order mark", { client_secret = "\239\187\191MARKED" },
        "option 'client_secret'", "byte order mark" },
      { "a client id with a byte order mark", { client_id = "\239\187\191cs-1" },
        "option 'client_id'",
        "byte order mark" },
      { "a bot id with a byte order mark", { bot_id = "\239\187\191st-1" }, "option 'bot_id'",
        "byte order mark" },
      { "a secret of one byte", { client_secret = "x" }, "option 'client_secret'" },
      { "a secret of 4 KB", { client_secret = ("x"):rep(4096) }, "option 'client_secret'" },
      { "a token with a line end", { token = "MARKED\r\nX: y" }, "option 'token'" },
      { "an unknown algorithm", { algorithm = "none" }, "option 'algorithm'", "RS512" },
      { "a sender that is no number", { from = "KORE" }, "option 'from'", "E.164" },
      { "a negative timeout", { timeout = -1 }, "option 'timeout'" },
      { "no time at all", { timeout = 0 }, "option 'timeout'" },
      { "an endless timeout", { timeout = math.huge }, "option 'timeout'", "finite" },
      { "no number", { connect_timeout = 0 / 0 }, "option 'connect_timeout'" },
      { "half a repeat", { retries = 1.5 }, "option 'retries'", "whole" },
      { "a limit of true", { per_minute = true }, "option 'per_minute'", "false" },
      { "a limit of 0", { per_hour = 0 }, "option 'per_hour'" },
      { "a lifetime over an hour", { token_ttl = 3601 }, "option 'token_ttl'" },
      { "a CA file that is missing", { ca_file = "/nowhere/ca.pem" }, "option 'ca_file'",
        "/nowhere" },
      { "a CA file that is a directory", { ca_file = "/" }, "option 'ca_file'" },
      { "a key without certificate", { client_key = "/dev/null" }, "client_cert" },
      { "a proxy that is no address", { proxy = "proxy.example" }, "option 'proxy'", "http://" },
      { "a proxy whose password ends the address", { proxy = "http://u:MARKED@MARKED@h" },
        "option 'proxy'",
        "%40" },
      { "a proxy with half an escape", { proxy = "http://u:50%MARKED@h" }, "option 'proxy'",
        "%25" },
      { "a proxy with a control byte", { proxy = "http://u:MARKED%0a@h" }, "option 'proxy'",
        "control" },
      { "a line end in the proxy", { proxy = "http://p\r\n" }, "option 'proxy'" },
      { "RS256 without a key", { algorithm = "RS256" }, "private_key_file" },
      { "a key file that is none", { algorithm = "RS256", private_key_file = "/dev/null" },
        "private_key_file" },
      { "two sources of the secret", { client_secret_file = "/dev/null" }, "client_secret_file" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function() refused(base(case[2]), case[3], case[4]) end)
    end

    for _, name in ipairs({ "host", "bot_id", "client_id", "client_secret" }) do
      it("a missing " .. name, function()
        local o = base()
        o[name] = nil
        refused(o, name .. " is required", "KORESMS_" .. name:upper())
      end)
    end
  end)

  describe("refuses, without asking for a passphrase,", function()
    local key, old
    setup(function()
      key, old = directory .. "/encrypted.pem", directory .. "/old.pem"
      run.output(("openssl genrsa 2048 2>/dev/null | openssl pkcs8 -topk8 -v2 aes-256-cbc "
        .. "-passout pass:MARKED -out %s 2>&1"):format(key))
      -- The form of OpenSSL before 1.0.
      run.output(("openssl rsa -traditional -aes128 -passin pass:MARKED -passout pass:MARKED -in "
        .. "%s -out %s 2>&1")
        :format(key, old))
    end)

    it("a client key that is encrypted, in both forms", function()
      for _, path in ipairs({ key, old }) do
        refused(base { client_cert = "/dev/null", client_key = path }, "option 'client_key'", path,
          "encrypted", "openssl pkey")
      end
    end)

    it("a certificate whose file has such a key", function()
      refused(base { client_cert = key }, "option 'client_cert'", "encrypted")
    end)
  end)

  it("names all that is missing at once", function()
    refused({}, "host is required", "bot_id is required", "client_id is required",
      "client_secret is required", "KORESMS_CLIENT_SECRET")
    local _, text, _, texts = config.load({ bot_id = "st-1" })
    assert.equal(3, #texts)
    -- Inside nginx there is one more thing to do.
    assert.is_nil(text:find("nginx", 1, true))
    finally(function() rawset(_G, "ngx", nil) end)
    rawset(_G, "ngx", {})
    _, text = config.load({ bot_id = "st-1" })
    assert.truthy(text:find("; nginx keeps no variable of its environment, unless the directive "
      .. "`env`", 1, true))
  end)

  it("finds what is probably not what it was meant to be, and shows nothing of it", function()
    local good = ("s"):rep(44)
    for value, wanted in pairs({
      [good] = false, [" " .. good] = "blank at its beginning", [good .. " "] = "blank at its end",
      [good .. "\t"] = "control character", ['"' .. good .. '"'] = "quote at its beginning",
      ["'" .. good .. "'"] = "quote at its end",
      ["KORESMS_CLIENT_SECRET=" .. good] = "name of a variable",
      ["export KORESMS_CLIENT_SECRET=" .. good] = "name of a variable",
      [good:sub(2)] = "another length", [good:sub(2) .. "\195\164"] = "not ASCII",
      ["***"] = "nothing but asterisks", ["changeme"] = "stands for no value",
      ["undefined"] = "stands for no value",
      ["$KORESMS_CLIENT_SECRET"] = "not filled in", ["<" .. good .. ">"] = "as in an example",
    }) do
      local s = assert(config.load(base { client_secret = value }))
      local texts = table.concat(s.suspicions, "\n")
      assert.truthy(wanted and texts:find(wanted, 1, true) or not wanted and texts == "",
        value .. ": " .. texts)
      assert.is_nil(texts:find("sss", 1, true))
      local name = file("suspicious", value .. "\n")
      s = assert(config.load { host = "h.example", bot_id = "st-1", client_id = "cs-1",
        client_secret_file = name })
      assert.equal((texts:gsub("option 'client_secret'", "option 'client_secret_file'")),
        table.concat(s.suspicions, "\n"))
    end
    local s = assert(config.load { host = "h.example", bot_id = "'st-1'", token = '"e.y.J"' })
    assert.matches("^option 'bot_id' has a quote.*\noption 'token' has a quote",
      table.concat(s.suspicions, "\n"))
  end)

  it("says that a private key wants another algorithm", function()
    local name = file("key.pem", "any")
    refused({ host = "h.example", bot_id = "st-1", client_id = "cs-1", private_key_file = name },
      "client_secret is required", "option 'private_key_file' is for the algorithms RS256")
  end)

  it("keeps whole numbers whole", function()
    -- As lua-cjson makes them of a file.
    local s = assert(config.load(base { per_minute = 60.0, token_ttl = 120.0, timeout = 2.5 }))
    assert.equal("60 120 2.5", ("%s %s %s"):format(s.per_minute, s.token_ttl, s.timeout))
  end)

  it("takes what is allowed", function()
    for _, change in ipairs({ { host = "https://h.example/" }, { host = "HTTPS://H.example:1" },
      { host = "http://127.0.0.1:8080" }, { host = "http://[::1]:80" },
      { host = "http://localhost" },
      { host = "http://h.example", allow_http = true }, { per_minute = false },
      { timeout = 0.25 }, { retries = 0 }, { max_idle = 0 },
      { proxy = "http://user:pass@proxy.example:3128" }, { bot_id = "st-é" } }) do
      local client, text = koresms.new(base(change))
      assert(client, text)
      client:close()
    end
  end)

  it("wants no client id where a token is given", function()
    local s = assert(config.load { host = "h.example", bot_id = "st-1", token = "a.b.c" })
    assert.equal("a.b.c", s.token)
  end)

  describe("from the environment", function()
    it("reads every type", function()
      local got = load_with(with { KORESMS_TIMEOUT = "2.5", KORESMS_JTI = "true",
        KORESMS_PER_MINUTE = "false", KORESMS_PER_HOUR = "100", KORESMS_FROM = "+19876543210" })
      assert.is_nil(got.text)
      assert.equal(2.5, got.values.timeout)
      assert.is_true(got.values.jti)
      assert.is_false(got.values.per_minute)
      assert.equal(100, got.values.per_hour)
      assert.equal("KORESMS_FROM", got.where.from)
    end)

    it("takes what a file of variables with line ends of Windows leaves", function()
      local got = load_with(with { KORESMS_TIMEOUT = "2.5\r", KORESMS_JTI = "True\r",
        KORESMS_PER_MINUTE = "off\r" })
      assert.same({ 2.5, true, false }, { got.values.timeout, got.values.jti,
        got.values.per_minute })
      for name, value in pairs({ HOST = "platform.kore.ai", CLIENT_ID = "cs-1", BOT_ID = "st-1",
        CLIENT_SECRET = "x1" }) do
        got = load_with(with { ["KORESMS_" .. name] = value .. "\r" })
        assert.matches("^KORESMS_" .. name .. ": .*line end", got.text)
      end
    end)

    it("comes after the options", function()
      local got = load_with(with { KORESMS_TIMEOUT = "2" }, { timeout = 3 })
      assert.equal(3, got.values.timeout)
    end)

    local cases = {
      { { KORESMS_TIMEOUT = "soon" }, "KORESMS_TIMEOUT: expected a number" },
      { { KORESMS_TIMEOUT = "0x10" }, "KORESMS_TIMEOUT: expected a number" },
      { { KORESMS_TIMEOUT = "inf" }, "KORESMS_TIMEOUT: expected a number" },
      { { KORESMS_JTI = "maybe" }, "KORESMS_JTI: expected true or false" },
      { { KORESMS_TIMEOUT = "10s" }, "KORESMS_TIMEOUT: expected a number such as 10" },
      { { KORESMS_TIMEOUT = "10,5" }, "KORESMS_TIMEOUT: expected a number such as 10" },
      { { KORESMS_TIMEOUT = '"10"' }, "KORESMS_TIMEOUT: expected a number such as 10" },
      { { KORESMS_PER_MINUTE = "0" },
        "KORESMS_PER_MINUTE: expected a whole number from 1 to 1000000, got 0" },
      { { KORESMS_CONFIG = "/none\27[2J\194\155\226\128\174x.json" },
        "/none [2J  x.json: No such file" },
      { { KORESMS_CONFIG = "~/settings.json" }, "write the whole path" },
      { { KORESMS_PER_MINUTE = "many" }, "KORESMS_PER_MINUTE: expected a number, or false" },
      { { KORESMS_HOST = "h/p" }, "KORESMS_HOST: has a path" },
      { { KORESMS_CLIENT_SECRET = "" }, "KORESMS_CLIENT_SECRET is set, but empty" },
      { { KORESMS_HOST = false }, "KORESMS_HOST" },
      { { KORESMS_CONFIG = "/nowhere.json" }, "KORESMS_CONFIG: /nowhere.json" },
      { { KORESMS_CONFIG = "/nowhere" }, ".json or .lua" },
    }
    for _, case in ipairs(cases) do
      it("names " .. case[2], function()
        local got = load_with(with(case[1]))
        assert.equal("config", got.code)
        assert.truthy(got.text:find(case[2], 1, true), got.text)
        assert.is_nil(got.text:find("MARKED", 1, true))
      end)
    end
  end)

  describe("from a file", function()
    it("reads JSON and Lua, after the environment", function()
      local json = file("good.json",
        '{"timeout": 4, "per_minute": false, "jti": true, "subject": "file"}')
      local lua = file("good.lua",
        '-- settings\nreturn { timeout = 2 * 2, per_minute = false, jti = true, subject = "file" }')
      for _, name in ipairs({ json, lua }) do
        local got = load_with(with { KORESMS_CONFIG = name, KORESMS_SUBJECT = "variable" })
        assert.is_nil(got.text)
        assert.equal(4, got.values.timeout)
        assert.is_false(got.values.per_minute)
        assert.is_true(got.values.jti)
        assert.equal("variable", got.values.subject)
        assert.truthy(got.where.timeout:find(name, 1, true))
      end
    end)

    local bad = {
      { "half.json", '{"timeout": 4,\n "client_secret": "MARKED', "line 2" },
      { "array.json", '["MARKED"]', "expected an object" },
      { "scalar.json", '"MARKED"', "got a string" },
      { "null.json", '{"timeout": null}', "timeout: expected a number, got null" },
      { "type.json", '{"timeout": "MARKED"}', "timeout: expected a number, got string" },
      { "unknown.json", '{"timout": 4}', "unknown setting 'timout' (did you mean 'timeout'?)" },
      { "platform.json", '{"fromNo": "+12345678"}', "did you mean 'from'" },
      { "code.json", '{"on_event": "x"}', "in code only" },
      { "value.json", '{"timeout": -4}', "setting 'timeout': expected a number from" },
      { "nan.json", '{"timeout": NaN}', "is not JSON" },
      { "empty.json", "", "is not JSON" },
      { "syntax.lua", 'return {\n client_secret = "MARKED\n}', "syntax error at line 2" },
      { "none.lua", "local x = 1", "got nothing" },
      { "null.json", "null", "got nothing" },
      { "world.lua", "return { subject = os.getenv('HOME') }", "empty environment" },
      { "endless.lua", "while true do end", "too long" },
      { "methods.lua", 'return { subject = ("x"):rep(4) }', "empty environment" },
      { "near.json", '{"bot": "st-1"}', "did you mean 'bot_id'" },
      { "nearer.json", '{"secret_file": "st-1"}', "did you mean 'client_secret_file'" },
      { "marked.json", '\239\187\191{"timeout": 4}', "byte order mark" },
      { "marked.lua", '\239\187\191return { timeout = 4}', "byte order mark" },
      { "utf16.json", '\255\254{\0}\0', "UTF-16" },
      { "dotenv.json", 'KORESMS_TIMEOUT=4', "is not JSON" },
      { "bytecode.lua", string.dump(function() return {} end), "compiled" },
      { "config.txt", "timeout=4", ".json or .lua" },
    }
    for _, case in ipairs(bad) do
      it("refuses " .. case[1], function()
        local name = file(case[1], case[2])
        local got = load_with(with { KORESMS_CONFIG = name })
        assert.equal("config", got.code)
        assert.truthy(got.text:find(name, 1, true), got.text)
        assert.truthy(got.text:find(case[3], 1, true), got.text)
        assert.is_nil(got.text:find("MARKED", 1, true), got.text)
      end)
    end

    it("refuses a directory and a file of more than 1 MiB", function()
      os.execute("mkdir " .. directory .. "/dir.json")
      local got = load_with(with { KORESMS_CONFIG = directory .. "/dir.json" })
      assert.truthy(got.text:find("dir.json", 1, true), got.text)
      got = load_with(with { KORESMS_CONFIG = file("big.json", (" "):rep(1024 * 1024 + 1)) })
      assert.truthy(got.text:find("1 MiB", 1, true), got.text)
    end)

    it("takes a secret from a pipe, too", function()
      local name = directory .. "/pipe"
      os.execute("mkfifo " .. name)
      os.execute("echo MARKED-SECRET > " .. name .. " &")
      local s = assert(config.load { host = "h.example", bot_id = "st-1", client_id = "cs-1",
        client_secret_file = name })
      assert.equal("MARKED-SECRET", s.client_secret)
    end)

    it("takes a secret from a file of its own, without the last line end", function()
      local name = file("secret", "MARKED-SECRET\n")
      local s = assert(config.load { host = "h.example", bot_id = "st-1", client_id = "cs-1",
        client_secret_file = name })
      assert.equal("MARKED-SECRET", s.client_secret)
      refused({ host = "h.example", bot_id = "st-1", client_id = "cs-1",
        client_secret_file = file("empty", "\n") }, "client_secret_file", "got 0")
    end)

    it("prefers the credential of the source that comes first", function()
      local name = file("secret2", "FROM-FILE")
      local got = load_with(with { KORESMS_TOKEN = "env.to.ken" }, { client_secret = "option" })
      assert.equal("option", got.values.client_secret)
      assert.is_nil(got.values.token)
      got = load_with(with {}, { client_secret_file = name })
      assert.equal("FROM-FILE", got.values.client_secret)
    end)
  end)
end)
