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

-- A supervisor, whose command where there is one has ended when all is closed.
local function supervise(words, variables)
  return function() return { supervisor = core.supervise(words, variables) } end
end

local function supervisor_close(self)
  local supervisor = self.supervisor
  if supervisor and self.command then
    for _ = 1, 50 do
      if supervisor:wait(0.1) then break end
    end
  end
  if supervisor then supervisor:close() end
  if self.other then self.other:close() end
end

local function supervise_row(name, words, variables)
  return { name = name, covers = "supervise", once = true, close = supervisor_close,
    new = function() return { supervisor = false, command = words } end,
    run = function(self)
      self.supervisor = core.supervise(words, variables)
      return self.supervisor
    end,
    right = function(self, made)
      if type(made) ~= "userdata" then return "no supervisor" end
      if self.other then return "two of them supervise" end
      local status = words and made:wait(5)
      if words and status ~= 0 then return "the command ended with " .. tostring(status) end
    end,
    -- A finalizer that is first makes one, and keeps it.
    disturb = { again = function(self)
      local ok, made = pcall(core.supervise)
      if ok then self.other = made end
    end },
    may_raise = "there is a supervisor already$" }
end

-- A file that nobody else has.
local function new_path()
  local path = os.tmpname()
  os.remove(path)
  return path
end

local function new_file()
  local path = new_path()
  return { path = path, file = assert(core.create_file(path)) }
end

local function remove_file(self)
  if self.file then self.file:close() end
  os.remove(self.path)
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
  { name = "is_message", covers = "is_message",
    run = function() return core.is_message({ to = "+911", from = "+1", start_before = 1 }) end,
    right = is(true) },
  { name = "body", covers = "body",
    run = function() return core.body("+19876543210", "+911234567890") end,
    right = is('{"fromNo":"+19876543210","toNo":"+911234567890"}') },
  { name = "head", covers = "head", run = function() return core.head("/p", "host") end,
    right = function(_, text)
      if type(text) ~= "string" or not text:find("^POST /p HTTP/1.1\r\nHost: host\r\n")
          or not text:find("\r\nauth: $") then
        return "another head"
      end
    end },
  { name = "post", covers = "post", run = function() return core.post("head: ", "token",
    "body") end,
    right = is("head: token\r\nContent-Length: 4\r\n\r\nbody") },
  { name = "proxy", covers = "proxy",
    run = function() return core.proxy("http://us%20er:pass%40word@[::1]:3128") end,
    right = function(_, p)
      if type(p) ~= "table" or p.scheme ~= "http" or p.host ~= "::1" or p.port ~= 3128
          or p.user ~= "us er" or p.password ~= "pass@word" then
        return "another proxy"
      end
    end },
  { name = "proxy refused", covers = "proxy", run = function() return core.proxy("http://a b") end,
    right = is(nil, "has a blank; within user or password write it as %20") },
  { name = "sleep", covers = "sleep", run = function() return core.sleep(0) end, quiet = true,
    right = function() end },
  { name = "secure_descriptors", covers = "secure_descriptors", run = core.secure_descriptors,
    quiet = true,
    right = function(_, closed) if type(closed) ~= "boolean" then return "no boolean" end end },
  { name = "variable_names", covers = "variable_names",
    run = function() return core.variable_names("KSMS_BUILD") end,
    right = function(_, names)
      if type(names) ~= "table" or names[1] ~= "KSMS_BUILD" then return "other names" end
    end },
  { name = "file_mode", covers = "file_mode",
    run = function() return core.file_mode("Makefile") end,
    quiet = true,
    right = function(_, mode) if type(mode) ~= "number" then return "no mode" end end },
  { name = "file_mode refused", covers = "file_mode",
    run = function() return core.file_mode("no/such/file") end,
    right = is(nil, "No such file or directory") },
  { name = "create_file", covers = "create_file", once = true,
    new = function() return { path = new_path(), file = false } end,
    run = function(self)
      self.file = core.create_file(self.path)
      return self.file
    end,
    right = function(_, file) if type(file) ~= "userdata" then return "no file" end end,
    close = remove_file },
  { name = "create_file refused", covers = "create_file",
    run = function() return core.create_file("Makefile") end, right = is(nil, "File exists",
      true) },
  { name = "newfile:write", covers = "koresms.newfile:write", quiet = true, once = true,
    new = new_file, close = remove_file,
    run = function(self) return self.file:write("text") end, right = is(true) },
  { name = "newfile:close", covers = "koresms.newfile:close", quiet = true, once = true,
    new = new_file, close = remove_file,
    run = function(self) return self.file:close() end, right = is(true) },
  { name = "newfile:close twice", covers = "koresms.newfile:close",
    new = function()
      local self = new_file()
      self.file:close()
      return self
    end,
    run = function(self) return self.file:close() end, right = is(nil, "Bad file descriptor"),
    close = remove_file },
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
      return self.catcher
    end,
    right = function(_, made) if type(made) ~= "userdata" then return "no catcher" end end,
    close = catcher_close,
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
  supervise_row("supervise"),
  supervise_row("supervise a command", { "sh", "-c", 'test "$A" = b && test -z "$KSMS_BUILD"' },
    { A = "b", KSMS_BUILD = false }),
  { name = "supervise refused", covers = "supervise",
    run = function() return core.supervise({ "./no/such/command" }, {}) end,
    right = is(nil, "No such file or directory", "missing") },
  { name = "supervisor:wait", covers = "koresms.supervisor:wait", quiet = true,
    new = supervise({ "true" }, {}), close = supervisor_close,
    run = function(self) return self.supervisor:wait(5) end, right = is(0) },
  { name = "supervisor:signal", covers = "koresms.supervisor:signal", quiet = true,
    new = function()
      return { supervisor = core.supervise({ "sleep", "60" }, {}), command = true }
    end,
    run = function(self) return self.supervisor:signal("KILL") end, right = function() end,
    close = supervisor_close },
  { name = "supervisor:close", covers = "koresms.supervisor:close", quiet = true,
    new = supervise(), run = function(self) return self.supervisor:close() end,
    right = function() end },
}

return rows
