--- What the memory passes call of koresms.core; see rows.lua for the form of a row.

local core = require "koresms.core"

local REPLY = "HTTP/1.1 200 OK\r\nContent-Length: 200\r\nDate: Thu, 26 Nov 2026 00:00:00 GMT\r\n"
  .. "Retry-After: 1234567\r\n\r\n"
local NOW = 1795500000

-- No two bodies are alike, so that each is a new string.
local serial = 0
local function body()
  serial = serial + 1
  return ("%010d"):format(serial):rep(20)
end

local function is(...)
  local wanted, n = { ... }, select("#", ...)
  return function(_, ...)
    for i = 1, n do
      local got = select(i, ...)
      if got ~= wanted[i] then
        return ("value %d is %s, not %s"):format(i, tostring(got), tostring(wanted[i]))
      end
    end
  end
end

local function read_key(name)
  local pipe = assert(io.popen("env -u LD_PRELOAD openssl genrsa 2048 2>/dev/null"))
  local text = pipe:read("*a")
  pipe:close()
  assert(text:find("PRIVATE KEY", 1, true), name)
  return text
end

local key

local function signer(algorithm, jti)
  local options = { algorithm = algorithm, client_id = "cs-1", subject = "s", ttl = 60, jti = jti }
  if algorithm:find("^RS") then
    key = key or read_key(algorithm)
    options.private_key = key
  else
    options.secret = "a secret"
  end
  return assert(core.signer(options)), options
end

-- A token of an own time for each call, as each has an iat; with a jti no token is given twice.
local function token_row(algorithm, jti)
  local wanted
  return {
    name = "signer:token " .. algorithm .. (jti and " jti" or ""),
    covers = "koresms.signer:token",
    new = function() return { signer = signer(algorithm, jti), seen = {} } end,
    run = function(self) return self.signer:token(NOW) end,
    right = function(self, token)
      if type(token) ~= "string" or not token:find("^[%w_-]+%.[%w_-]+%.[%w_-]+$") then
        return "no token: " .. tostring(token)
      elseif jti then
        if self.seen[token] then return "this token was handed out before" end
        self.seen[token] = true
      else
        wanted = wanted or token
        if token ~= wanted then return "another token than before" end
      end
    end,
    -- A message that a finalizer sends.
    disturb = {
      again = function(self)
        local token = assert(self.signer:token(jti and NOW or NOW + 1))
        assert(not jti or not self.seen[token], "a finalizer got a token that was handed out")
        self.seen[token] = true
      end,
    },
    soft = true,
  }
end

local function signer_row(algorithm)
  local options = select(2, signer(algorithm, true))
  return {
    name = "signer " .. algorithm, covers = "signer", soft = true,
    run = function() return core.signer(options) end,
    right = function(_, made)
      local token = type(made) == "userdata" and made:token(NOW)
      if not token then return "no signer that signs" end
    end,
  }
end

-- A reader that has been fed this much.
local function fed(bytes, cap)
  local reader = core.reader(cap)
  if bytes then assert(reader:feed(bytes)) end
  return reader
end

local function whole()
  local text = body()
  return { reader = fed(REPLY .. text), body = text }
end

-- Who is told that the reply was refused for want of memory is told so ever after.
local function refused(_, ok, text, code)
  if ok ~= nil or text ~= "no memory for the reply" or code == nil then
    return "the refusal became " .. tostring(ok) .. ", " .. tostring(text)
  end
end

local function catcher_close(self)
  if self.catcher then self.catcher:close() end
end

local rows = {
  { name = "clock", covers = "clock", run = core.clock, quiet = true,
    right = function(_, t) return type(t) ~= "number" and "no number" or nil end },
  { name = "time", covers = "time", run = core.time, quiet = true,
    right = function(_, t) return type(t) ~= "number" and "no number" or nil end },
  { name = "forks", covers = "forks", run = core.forks, right = is(0), quiet = true },
  { name = "e164", covers = "e164", right = is("+911234567890"), quiet = true,
    run = function() return core.e164("+911234567890") end },
  { name = "e164 refused", covers = "e164",
    run = function() return core.e164("00911234567890") end,
    right = is(nil, "not an E.164 number: at byte 1: the dialling prefix '00'; "
      .. "write '+' in its place", "invalid_number") },
  signer_row("HS256"), signer_row("RS256"),
  { name = "signer refused", covers = "signer",
    run = function()
      return core.signer { algorithm = "RS256", client_id = "c", subject = "s", ttl = 1,
        private_key = "none" }
    end,
    right = function(_, made, text)
      if made ~= nil or type(text) ~= "string" then return "not refused" end
    end },
  token_row("HS256", false), token_row("HS512", true),
  token_row("RS256", true), token_row("RS512", false),
  { name = "tostring of a signer", covers = "koresms.signer.__tostring",
    new = function() return { signer = signer("HS256") } end,
    run = function(self) return tostring(self.signer) end, right = is("koresms.signer") },
  { name = "random_id", covers = "random_id", soft = true,
    new = function() return { seen = {} } end, run = core.random_id,
    right = function(self, id)
      if type(id) ~= "string" or not id:find("^%x+$") or #id ~= 32 then return "no id" end
      if self.seen[id] then return "this id was handed out before" end
      self.seen[id] = true
    end,
    disturb = { again = function(self)
      local id = core.random_id()
      assert(not self.seen[id], "a finalizer got an id that was handed out before")
      self.seen[id] = true
    end } },
  { name = "origin", covers = "origin",
    run = function() return core.origin("HTTP://[::1]:8080/") end,
    right = function(_, o)
      if type(o) ~= "table" or o.scheme ~= "http" or o.host ~= "::1" or o.port ~= 8080
          or o.authority ~= "[::1]:8080" or o.origin ~= "http://[::1]:8080" then
        return "another origin"
      end
    end },
  { name = "origin refused", covers = "origin",
    run = function() return core.origin("a/b") end,
    right = is(nil, "has a path; give scheme, host and port alone") },
  { name = "path", covers = "path", run = function() return core.path("st-1 \\") end,
    right = is(nil, "has a blank, line end, NUL or other control character") },
  { name = "path encoded", covers = "path", run = function() return core.path("st%1") end,
    right = is("/api/public/bot/st%251/outboundsms") },
  { name = "body", covers = "body",
    run = function() return core.body("+19876543210", "+911234567890") end,
    right = is('{"fromNo":"+19876543210","toNo":"+911234567890"}') },
  { name = "request", covers = "request",
    run = function() return core.request("/p", "host", "token", "body") end,
    right = function(_, text)
      if type(text) ~= "string" or not text:find("^POST /p HTTP/1.1\r\nHost: host\r\n")
          or not text:find("\r\nauth: token\r\nContent%-Length: 4\r\n\r\nbody$") then
        return "another request"
      end
    end },
  { name = "reader", covers = "reader", run = function() return core.reader() end,
    right = function(_, reader)
      if type(reader) ~= "userdata" or reader:feed("H") ~= "more" then return "no reader" end
    end },
  { name = "reader:feed", covers = "koresms.reader:feed", soft = true, refused = refused,
    quiet = true,
    new = function() return { reader = fed("HTTP/1.1 200 OK\r\nA: b"), part = ("x"):rep(600) } end,
    run = function(self) return self.reader:feed(self.part) end, right = is("more"),
    disturb = {
      feed = function(self) self.reader:feed("x") end,
      eof = function(self) self.reader:eof() end,
    },
    disturbed = function() end },
  { name = "reader:feed of a body", covers = "koresms.reader:feed", soft = true,
    refused = refused, quiet = true,
    new = function() return { reader = fed(REPLY) } end,
    run = function(self) return self.reader:feed(("x"):rep(200)) end, right = is("done"),
    disturb = { result = function(self) pcall(self.reader.result, self.reader) end },
    disturbed = function() end },
  { name = "reader:feed refused", covers = "koresms.reader:feed", quiet = true,
    new = function() return { reader = core.reader() } end,
    run = function(self) return self.reader:feed("HTTQ") end,
    right = is(nil, "not an HTTP status line", "bad_response") },
  { name = "reader:eof", covers = "koresms.reader:eof", quiet = true,
    new = function() return { reader = fed(REPLY .. "x") } end,
    run = function(self) return self.reader:eof() end,
    right = is(nil, "connection closed in the reply's body", "connection_lost"),
    disturb = { feed = function(self) self.reader:feed("x") end } },
  { name = "reader:result", covers = "koresms.reader:result", new = whole, once = true,
    run = function(self) return self.reader:result() end,
    right = function(self, ...)
      return is(200, self.body, "1234567", "Thu, 26 Nov 2026 00:00:00 GMT", true)(self, ...)
    end,
    disturb = {
      result = function(self)
        local _, text = self.reader:result()
        assert(text == self.body or text == "", "another body in a finalizer")
      end,
      feed = function(self) self.reader:feed("x") end,
      eof = function(self) self.reader:eof() end,
    },
    -- A finalizer that was first has taken the body.
    disturbed = function(self, status, text)
      if status ~= 200 or text ~= self.body and text ~= "" then return "another reply" end
    end },
  { name = "catch_interrupts", covers = "catch_interrupts", once = true,
    new = function() return { catcher = false } end,
    run = function(self)
      self.catcher = core.catch_interrupts()
      return type(self.catcher), core.interrupted()
    end,
    right = is("userdata", 0), close = catcher_close,
    disturb = { again = function(self)
      local ok, made = pcall(core.catch_interrupts)
      if ok then
        assert(not self.catcher, "two of them catch interrupts")
        made:close()
      end
    end } },
  { name = "interrupted", covers = "interrupted", run = core.interrupted, right = is(0),
    quiet = true },
  { name = "catcher:close", covers = "koresms.catcher:close", quiet = true,
    new = function() return { catcher = core.catch_interrupts() } end,
    run = function(self) return self.catcher:close() end, right = function() end,
    close = catcher_close },
}

return rows
