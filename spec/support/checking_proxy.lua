--- Starts the proxies of checking_proxy.py, and reads what they noted.
local cjson = require("cjson").new()
local run = require "spec.support.run"

local M = {}

local Proxies = {}
Proxies.__index = Proxies

--- Starts them.
-- @tparam string certificate file, for the one that speaks TLS
-- @tparam string key file
-- @treturn table `ports` by kind
function M.start(certificate, key)
  local work = run.directory()
  local self = setmetatable({ log = run.write(work .. "/log", ""), ports = {} }, Proxies)
  os.execute("mkfifo " .. run.quote(work .. "/ports"))
  self.pipe = assert(io.popen(("exec env -u LD_PRELOAD python3 -B "
    .. "spec/support/checking_proxy.py %s %s %s >%s")
    :format(run.quote(self.log), run.quote(certificate), run.quote(key),
      run.quote(work .. "/ports")), "w"))
  for line in io.lines(work .. "/ports") do
    local kind, port = line:match("^(%S+) (%d+)$")
    if kind == "end" then break end
    self.ports[kind] = tonumber(port)
  end
  return self
end

local function bytes(hex)
  if hex == cjson.null then return nil end
  return (hex:gsub("%x%x", function(two) return string.char(tonumber(two, 16)) end))
end

--- What was noted since it was asked last: a list of `kind`, `user`, `password`, `target` and
-- `fault`.
function Proxies:noted()
  local file = assert(io.open(self.log, "r"))
  file:seek("set", self.read or 0)
  local list = {}
  for line in file:lines() do
    local entry = cjson.decode(line)
    list[#list + 1] = { kind = entry.kind, user = bytes(entry.user),
      password = bytes(entry.password),
      target = entry.target, fault = entry.fault ~= cjson.null and entry.fault or nil }
  end
  self.read = file:seek("cur")
  file:close()
  return list
end

function Proxies:stop()
  self.pipe:close()
end

return M
