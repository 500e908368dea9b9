local cjson = require("cjson").new()
local core = require "koresms.core"
local run = require "spec.support.run"

local function hex(text)
  return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function options(changes)
  local o = { algorithm = "HS256", secret = "a secret", client_id = "cs-1", subject = "koresms",
    ttl = 300, jti = false }
  for name, value in pairs(changes or {}) do o[name] = value end
  return o
end

local function claims_of(token)
  return cjson.decode(run.unbase64url(token:match("%.(.-)%.")))
end

describe("signer", function()
  local directory, keys

  setup(function()
    directory = run.directory()
    keys = {}
    for name, command in pairs({
      rsa = "openssl genrsa -out %s 2048",
      small = "openssl genrsa -out %s 1024",
      encrypted = "openssl genrsa -aes128 -passout pass:x -out %s 2048",
      ec = "openssl ecparam -genkey -name prime256v1 -noout -out %s",
    }) do
      local file = directory .. "/" .. name
      os.execute(command:format(file) .. " 2>/dev/null")
      keys[name] = assert(io.open(file)):read("*a")
    end
    keys.public = run.output("openssl rsa -pubout -in " .. directory .. "/rsa 2>/dev/null")
  end)
  teardown(run.clean)

  it("makes tokens that another library verifies, for all algorithms and odd texts", function()
    local texts = { "plain", 'quote " and \\ backslash', "control \1\2\t\r\n\31 end", "grüße 你好 😀",
      "/slash/ and \127" }
    local lines, count = {}, 0
    for _, algorithm in ipairs({ "HS256", "HS512", "RS256", "RS512" }) do
      for i, text in ipairs(texts) do
        for _, jti in ipairs({ true, false }) do
          local hs = algorithm:find("^HS")
          local signer = assert(core.signer(options {
            algorithm = algorithm, secret = hs and text or nil,
            private_key = not hs and keys.rsa or nil,
            client_id = text, subject = texts[#texts + 1 - i], ttl = 60, jti = jti,
          }))
          local now = 1795500000 + i
          count = count + 1
          lines[count] = cjson.encode({
            token = assert(signer:token(now + 0.75)), algorithm = algorithm,
            secret = hs and hex(text) or nil, public_key = not hs and keys.public or nil,
            client_id = hex(text), subject = hex(texts[#texts + 1 - i]),
            now = now, ttl = 60, jti = jti,
          })
        end
      end
    end
    local input = run.write(directory .. "/cases", table.concat(lines, "\n") .. "\n")
    local answer = run.output("/usr/bin/python3 spec/support/verify.py < " .. input)
    assert.equal(("ok\n"):rep(count), answer)
  end)

  it("agrees with RFC 7515 A.1 on what a signature covers", function()
    -- The same key and input as there, signed by the openssl command.
    local signer = assert(core.signer(options { secret = "akey", client_id = "c", subject = "s" }))
    local token = signer:token(0)
    local input, signature = token:match("^(.*)%.(.-)$")
    local file = run.write(directory .. "/input", input)
    local wanted = run.output("openssl dgst -sha256 -mac HMAC -macopt key:akey -r " .. file)
    assert.truthy(wanted:find(hex(run.unbase64url(signature)), 1, true))
    assert.same({ alg = "HS256", typ = "JWT" },
      cjson.decode(run.unbase64url(input:match("^(.-)%."))))
  end)

  it("writes whole seconds, whatever the locale and the fraction", function()
    local old = os.setlocale()
    os.setlocale("de_DE.UTF-8")
    local signer = assert(core.signer(options()))
    local body = run.unbase64url(signer:token(1795500000.999):match("%.(.-)%."))
    os.setlocale(old)
    assert.truthy(body:find('"iat":1795500000,"exp":1795500300}', 1, true), body)
  end)

  it("gives each token an id of its own where asked to", function()
    local signer, seen = assert(core.signer(options { jti = true })), {}
    for _ = 1, 1000 do
      local jti = claims_of(signer:token()).jti
      assert.truthy(jti:find("^%x+$") and #jti == 32)
      assert.is_nil(seen[jti])
      seen[jti] = true
    end
    assert.is_nil(claims_of(core.signer(options()):token()).jti)
  end)

  it("gives the same token for the same second, and another for any other", function()
    for _, changes in ipairs({ {}, { algorithm = "HS512" },
      { algorithm = "RS256", private_key = keys.rsa } }) do
      local signer = assert(core.signer(options(changes)))
      local first = signer:token(1795500000)
      assert.equal(first, signer:token(1795500000.5))
      for _, now in ipairs({ 1795500001, 1795499999, 0 }) do
        local token = signer:token(now)
        assert.equal(now, claims_of(token).iat)
        assert.equal(token, core.signer(options(changes)):token(now))
      end
      assert.equal(first, signer:token(1795500000))
    end
  end)

  it("takes the system's clock", function()
    local before = os.time()
    local iat = claims_of(core.signer(options()):token()).iat
    assert.truthy(iat >= before and iat <= os.time())
  end)

  local refused = {
    { "no key at all", { algorithm = "RS256", private_key = "" }, "no private key" },
    { "a public key", { algorithm = "RS256" }, "no private key", "public" },
    { "an encrypted key", { algorithm = "RS256" }, "encrypted", "encrypted" },
    { "a key under 2048 bits", { algorithm = "RS512" }, "2048", "small" },
    { "a key that is not RSA", { algorithm = "RS256" }, "not an RSA key", "ec" },
    { "an empty secret", { secret = "" }, "client_secret" },
    { "a secret of one byte", { secret = "x" }, "client_secret" },
    { "a secret of 4 KB", { secret = ("x"):rep(4096) }, "client_secret" },
    { "a client id that is not UTF-8", { client_id = "\255" }, "client_id" },
    { "a client id of surrogates", { client_id = "\237\160\128" }, "client_id" },
    { "an overlong client id", { client_id = "\192\175" }, "client_id" },
    { "a client id of 256 bytes", { client_id = ("x"):rep(256) }, "client_id" },
    { "an empty subject", { subject = "" }, "subject" },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. case[1], function()
      local o = options(case[2])
      if case[4] then o.private_key = keys[case[4]] end
      local signer, text = core.signer(o)
      assert.is_nil(signer)
      assert.truthy(text:find(case[3], 1, true), text)
    end)
  end

  it("takes the longest secret, client id and subject that fit", function()
    local signer = assert(core.signer(options { secret = ("s"):rep(1024),
      client_id = ("\1"):rep(255), subject = ("\2"):rep(255), jti = true }))
    assert.equal(("\1"):rep(255), claims_of(signer:token()).appId)
  end)

  it("raises where it is used wrongly", function()
    for _, change in ipairs({ { algorithm = "none" }, { algorithm = 5 }, { ttl = 0 },
      { ttl = 3601 }, { ttl = 0 / 0 }, { secret = 12345678 }, { client_id = false } }) do
      assert.has_error(function() core.signer(options(change)) end)
    end
    assert.has_error(function() core.signer() end)
    assert.has_error(function() core.signer(options()).token({}) end)
    assert.has_error(function() core.signer(options()):token(-1) end)
  end)

  it("shows nothing of its key", function()
    local signer = assert(core.signer(options { secret = "MARKED-SECRET" }))
    assert.equal("koresms.signer", tostring(signer))
    assert.equal("koresms.signer", getmetatable(signer))
  end)
end)
