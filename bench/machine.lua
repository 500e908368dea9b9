-- The machine and the versions that a run's figures belong to.
local shell = dofile("sandbox/shell.lua")

local M = {}

-- The first line that a command prints; nil where it fails.
local function first(command)
  local ok, text = shell.run(command .. " 2>&1")
  return ok and text:match("[^\n]+") or nil
end

local function npm_version(ctx, package)
  local version = first(("node -p 'require(\"%s/node_modules/%s/package.json\").version'"):format(
    ctx.npm, package))
  return version and package .. " " .. version
end

local function debian_version(package)
  local version = first("dpkg-query -W -f '${Version}' " .. package)
  return version and version ~= "" and package .. " " .. version or nil
end

-- Its version, and those of what it speaks TLS with.
local function libcurl()
  local text = first("curl --version") or ""
  local version = text:match("libcurl/(%S+)")
  return version and table.concat({ version, text:match("OpenSSL/%S+") or text:match("GnuTLS/%S+")
    or "", text:match("nghttp2/%S+") or "" }, ", ")
end

local function all(list, n)
  local found = {}
  for i = 1, n do found[#found + 1] = list[i] end
  return #found > 0 and table.concat(found, ", ") or nil
end

--- Rows of name and text.
function M.facts(ctx)
  local luas = {}
  for i, lua in ipairs(ctx.luas) do
    luas[i] = not lua.missing and first(lua.program .. " -v"):match("^Lua%S* %S+") or nil
  end
  local rows = {
    { "processor", first("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo") },
    { "cores", first("getconf _NPROCESSORS_ONLN") },
    { "load before", ctx.load },
    { "system", first("sed -n 's/^PRETTY_NAME=\"\\(.*\\)\"/\\1/p' /etc/os-release") },
    { "kernel", first("uname -srm") },
    { "Lua", all(luas, 2) },
    { "libcurl", libcurl() },
    { "OpenSSL", (first("openssl version") or ""):match("^OpenSSL (%S+)") },
    { "nginx", (first("nginx -v") or ""):match("nginx/%S+") },
    { "Node", all({ first("node --version"), npm_version(ctx, "undici"), npm_version(ctx, "twilio"),
      npm_version(ctx, "axios") }, 4) },
    { "Debian", all({ debian_version("lua-socket"), debian_version("lua-http"),
      debian_version("python3-requests"), debian_version("python3-aiohttp"),
      debian_version("wrk") }, 5) },
    -- The results themselves are no change to what was measured.
    { "koresms", first("echo $(git describe --always)$(git diff --quiet HEAD -- . "
      .. "':!bench/RESULTS.md' || echo -dirty)") },
  }
  local facts = {}
  for i = 1, 12 do
    if rows[i] and rows[i][2] then facts[#facts + 1] = rows[i] end
  end
  return facts
end

return M
