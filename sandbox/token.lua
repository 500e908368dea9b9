--- Checks tokens, inside nginx, with luaossl. That is the point: nothing that koresms signs
-- with takes part in saying whether it signed well.
-- @module koresms.sandbox.token

local base64 = require "ngx.base64"
local bit = require "bit"
local cjson = require "cjson"
local digest = require "openssl.digest"
local hmac = require "openssl.hmac"
local pkey = require "openssl.pkey"

local json = cjson.new()
json.decode_invalid_numbers(false)

local M = {}

-- The kind of key decides which algorithms are looked at, never the token alone: a public
-- key must not be taken for an HMAC secret.
local ALGORITHMS = {
  secret = {HS256 = "sha256", HS512 = "sha512"},
  public = {RS256 = "sha256", RS512 = "sha512"},
}

local KEYS = {secret = "the client secret", public = "the public key"}
local TAKEN = {secret = "HS256 and HS512", public = "RS256 and RS512"}

-- Takes as long for a wrong first byte as for a wrong last one.
local function equal(a, b)
  if #a ~= #b then return false end
  local difference = 0
  for index = 1, #a do
    difference = bit.bor(difference, bit.bxor(a:byte(index), b:byte(index)))
  end
  return difference == 0
end

local MATCHES = {}

function MATCHES.secret(key, name, text, signature)
  return equal(hmac.new(key, name):final(text), signature)
end

function MATCHES.public(key, name, text, signature)
  local ran, good = pcall(key.verify, key, signature, digest.new(name):update(text))
  return ran and good == true
end

-- Decoding forgives what encoding never makes (padding, stray bits in the last character);
-- only what comes out the same again is base64url.
local function decode(part)
  local bytes = base64.decode_base64url(part)
  return bytes and base64.encode_base64url(bytes) == part and bytes or nil
end

local function object(part)
  local text = decode(part)
  if not text or not text:find("^%s*{") then return nil end
  local ok, value = pcall(json.decode, text)
  return ok and value or nil
end

-- A claim as a text for people.
local function shown(value)
  if value == nil then return "missing" end
  return type(value) == "table" and "an object or a list" or json.encode(value)
end

local Verifier = {}
Verifier.__index = Verifier

-- Each check returns whether it passed, and a text for people.
local CHECKS = {}

function CHECKS.signature(verifier, parts)
  local algorithm = parts.header.alg
  local name = type(algorithm) == "string" and ALGORITHMS[verifier.kind][algorithm]
  if not name then
    return false, ("alg is %s; taken are %s"):format(shown(algorithm), TAKEN[verifier.kind])
  end
  -- "crit" names extensions that must be understood; none is.
  if parts.header.crit ~= nil then return false, "crit asks for extensions; none is known" end
  if not MATCHES[verifier.kind](verifier.key, name, parts.text, parts.signature) then
    return false, ("%s does not match %s"):format(algorithm, KEYS[verifier.kind])
  end
  return true, ("%s, made with %s"):format(algorithm, KEYS[verifier.kind])
end

function CHECKS.application(verifier, parts)
  local id = parts.claims.appId
  if id == verifier.client_id then return true, "appId is the client id" end
  return false, ("appId is %s; the client id is %s"):format(shown(id), shown(verifier.client_id))
end

function CHECKS.expiry(_, parts, now)
  local expiry = parts.claims.exp
  if expiry == nil then return true, "no exp: valid for ever" end
  if type(expiry) ~= "number" then
    return false, "exp is " .. shown(expiry) .. "; it must be a number of seconds"
  end
  if expiry <= now then return false, ("expired %.0f s before"):format(now - expiry) end
  return true, ("valid for another %.0f s"):format(expiry - now)
end

local ORDER = {"signature", "application", "expiry"}

--- Checks a token's form, signature, application and expiry.
-- @tparam ?string token
-- @tparam number now
-- @treturn table report: `header` and `claims` where they can be read, `checks` with one
--   {name=, ok=, text=} for each, and `refusal`: nil, "malformed" or "credentials"
function Verifier:inspect(token, now)
  local report = {checks = {}}
  local function note(name, ok, text, refusal)
    report.checks[#report.checks + 1] = {name = name, ok = ok, text = text}
    if not ok then report.refusal = report.refusal or refusal end
  end
  if token == nil or token == "" then
    note("form", false, "there is no header auth", "credentials")
    return report
  end
  local first, second, third
  if type(token) == "string" then
    first, second, third = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]*)$")
  end
  report.header = first and object(first)
  report.claims = report.header and object(second)
  local signature = report.claims and decode(third)
  if not signature then
    note("form", false, "not a JWT: three parts in base64url, the first two JSON objects"
      .. (type(token) == "string" and token:find("^[Bb]earer ") and ", without Bearer" or ""),
      "malformed")
    return report
  end
  note("form", true, "a JWT of three parts")
  local parts = {header = report.header, claims = report.claims, signature = signature,
    text = first .. "." .. second}
  for _, name in ipairs(ORDER) do
    local ok, text = CHECKS[name](self, parts, now)
    note(name, ok, text, "credentials")
  end
  return report
end

--- A token of this application, for the requests that the page sends.
-- @tparam number now
-- @treturn ?string nil where only a public key is known
function Verifier:sign(now)
  if self.kind ~= "secret" then return nil end
  local function part(value) return base64.encode_base64url(json.encode(value)) end
  local text = part({alg = "HS256", typ = "JWT"}) .. "."
    .. part({appId = self.client_id, sub = "sandbox", exp = math.floor(now) + 300,
      jti = ("%s-%d"):format(ngx.var.request_id or "sandbox", math.random(2^30))})
  return text .. "." .. base64.encode_base64url(hmac.new(self.key, "sha256"):final(text))
end

--- A verifier for one application.
-- @tparam table given client_id, and client_secret or public_key
-- @treturn table
-- @treturn nil,string
function M.new(given)
  local verifier = {client_id = given.client_id, kind = "secret", key = given.client_secret}
  if given.public_key then
    local ok, key = pcall(pkey.new, given.public_key)
    if not ok or key:type() ~= "rsaEncryption" then
      return nil, "public_key is not an RSA public key in PEM"
    end
    verifier.kind, verifier.key = "public", key
  end
  return setmetatable(verifier, Verifier)
end

return M
