--- Marked secrets, tokens and numbers, and a search for them in all that comes out.

local M = {}

-- What stands in their place may show their ends, so the marks of numbers are the middles.
M.secret = "MARKEDsecretMARKEDsecretMARKEDsecretMARKED+/="
M.token = "eyJNQVJLRUQiOjF9.eyJNQVJLRUQiOjJ9.MARKEDsignature"
M.opaque = "MARKEDopaque-token-without-a-form"
M.to, M.from = "+91557340912178", "+19998265173021"
M.password = "MARKEDpassword"

-- Base64 of "user:" and the password, as a proxy is told it.
local PROXY_AUTH = "dXNlcjpNQVJLRURwYXNzd29yZA"

local marks = {
  secret = "MARKEDsecret", token = "MARKEDsig", ["head of a token"] = "NQVJLRUQiOj",
  ["opaque token"] = "MARKEDopaque", password = "MARKEDpass", ["proxy's password"] = PROXY_AUTH,
  ["any mark"] = "MARKED", recipient = "73409121", sender = "82651730",
}

-- JSON of the platform's that says all that it was sent, in several forms.
function M.echo()
  local bare = M.to:sub(2)
  return ('{"errors":[{"msg":"no: auth %s, toNo %s, (%s) from=%s;%s x%s","code":400}]}'):format(
    M.token, M.to, bare, M.from, M.from:sub(2), M.token)
end

--- Adds a further mark, such as a line of a key.
function M.add(name, text) marks[name] = text end

--- Fails where a text holds a mark.
-- @tparam string where it came from
-- @tparam string text
function M.look(where, text)
  for name, mark in pairs(marks) do
    local at = text:find(mark, 1, true)
    if at then
      error(("%s shows a %s: ...%s..."):format(where, name, text:sub(math.max(1, at - 60),
        at + 60)), 2)
    end
  end
end

--- Fails where a value holds a mark, wherever in it. Keys of `but` are not looked at: they
-- are the caller's own.
-- @tparam string where
-- @param value
-- @tparam[opt] table but set of keys
function M.walk(where, value, but, seen)
  seen = seen or {}
  M.look(where, tostring(value))
  if type(value) ~= "table" or seen[value] then return end
  seen[value] = true
  for key, one in pairs(value) do
    M.look(where .. ", a key", tostring(key))
    if not (but and but[key]) then
      M.walk(("%s.%s"):format(where, tostring(key)), one, but, seen)
    end
  end
  M.walk(where .. ", metatable", debug.getmetatable(value), but, seen)
end

--- What a result may show: the message's own numbers, and the platform's code as it came.
M.OWN = { to = true, from = true }

return M
