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

local Verifier = {}
Verifier.__index = Verifier

--- Checks a token's form, signature, application and expiry.
-- @tparam string token
-- @tparam number now
-- @treturn table its claims
-- @treturn string its algorithm
-- @treturn nil,string "malformed" or "credentials"
function Verifier:check(token, now)
  local first, second, third = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]*)$")
  local header = first and object(first)
  local claims = header and object(second)
  local signature = claims and decode(third)
  if not signature then return nil, "malformed" end
  local name = type(header.alg) == "string" and ALGORITHMS[self.kind][header.alg]
  -- "crit" names extensions that must be understood; none is.
  if not name or header.crit ~= nil
    or not MATCHES[self.kind](self.key, name, first .. "." .. second, signature)
    or claims.appId ~= self.client_id then
    return nil, "credentials"
  end
  local expiry = claims.exp
  if expiry ~= nil and not (type(expiry) == "number" and expiry > now) then
    return nil, "credentials"
  end
  return claims, header.alg
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
