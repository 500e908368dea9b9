-- What is measured, as data: groups of rows, each with the row that it is compared to.
--
-- A row has a name, what it signs, its concurrency, the number of messages, and the words of
-- a command; or what is missing for it. `goal` bounds its ratios to the group's first row.
local M = {}

local PATH = "/api/public/bot/st-00000000-0000-5000-8000-000000000001/outboundsms"

-- Writes out where the two Luas find the tree's modules.
local function koresms_words(ctx, lua, ...)
  return { "env", "LUA_PATH=lua/?.lua;lua/?/init.lua;;",
    ("LUA_CPATH=%s/%s/?.so;;"):format(ctx.build, lua.version), lua.program, "bench/client.lua",
    ... }
end

local function koresms(ctx, lua, mode, c, n, settings)
  local row = { name = ("koresms, %s"):format(lua.program), signs = "HS256", c = c, n = n,
    missing = lua.missing, command = koresms_words(ctx, lua, mode, n, c) }
  for _, setting in ipairs(settings) do row.command[#row.command + 1] = setting end
  return row
end

local function yardstick(ctx, program, text, c, n, url, ...)
  return { name = text, c = c, n = n, command = { ctx.bin .. "/" .. program, url, n, ... } }
end

local function wrk(ctx, c, url)
  return { name = "wrk (limit of any client)", c = c, counted = "(%d+) requests in",
    missing = ctx.lacks("wrk", "command -v wrk"),
    command = { "wrk", "-t1", "-c" .. c, ("-d%ds"):format(math.max(1, math.floor(2 * ctx.scale))),
      "-s", "bench/peers/wrk.lua", url } }
end

local function singles(ctx)
  local n = ctx.scaled(5000)
  local rows = { yardstick(ctx, "easy", "C, curl_easy_perform", 1, n, ctx.plain .. PATH) }
  for _, lua in ipairs(ctx.luas) do
    local row = koresms(ctx, lua, "singles", 1, n, { "host=" .. ctx.plain })
    row.goal = { cpu_most = 1.05 }
    rows[#rows + 1] = row
  end
  return { { title = "Single sends, one after another, plain HTTP", rows = rows } }
end

-- The ways over the wire on which bulk is measured.
local WAYS = {
  bulk = { title = "plain HTTP/1.1", origin = "plain", n = 20000, wrk = true,
    goal = { cpu_most = 0.7, rate_least = 1.4 }, jit_goal = { cpu_most = 0.6 } },
  tls = { title = "TLS, HTTP/1.1", origin = "tls", n = 20000, wrk = true,
    goal = { cpu_most = 0.72 } },
}

local function bulk_group(ctx, way, c)
  local n, origin = ctx.scaled(way.n), ctx[way.origin]
  local url = origin .. PATH
  local settings = { "host=" .. origin, "ca_file=" .. ctx.ca }
  local rows = { yardstick(ctx, "multi", "C, curl_multi_poll", c, n, url, c) }
  for i, lua in ipairs(ctx.luas) do
    if i == 1 or c == 64 then
      local row = koresms(ctx, lua, "bulk", c, n, settings)
      row.goal = c == 64 and (i > 1 and way.jit_goal or way.goal) or nil
      rows[#rows + 1] = row
    end
  end
  rows[#rows + 1] = yardstick(ctx, "socket_action", "C, curl_multi_socket_action, epoll", c, n,
    url, c)
  if way.wrk then rows[#rows + 1] = wrk(ctx, c, url) end
  return { title = ("Bulk, %s, %d at a time"):format(way.title, c), rows = rows }
end

local function bulk(name)
  return function(ctx)
    local groups = {}
    for i, c in ipairs({ 16, 64, 256 }) do groups[i] = bulk_group(ctx, WAYS[name], c) end
    return groups
  end
end

local function rs256(ctx)
  local lua = ctx.luas[1]
  local signed = koresms(ctx, lua, "bulk", 64, ctx.scaled(4000), { "host=" .. ctx.plain,
    "algorithm=RS256", "jti=true", "private_key_file=" .. ctx.rsa_key })
  signed.signs = "RS256, jti"
  return { {
    title = "The price of an RSA signature (2048 bits)",
    rows = {
      { name = "openssl speed: one signature", speed = "rsa2048" }, signed,
      koresms(ctx, lua, "bulk", 64, ctx.scaled(20000), { "host=" .. ctx.plain }),
    },
  } }
end

local function peers(ctx)
  local url, authority = ctx.plain .. PATH, ctx.plain:match("//(.*)$")
  -- Enough of them for the start of a process to weigh little.
  local few, some, many = ctx.scaled(300), ctx.scaled(5000), ctx.scaled(20000)
  -- A connection a message keeps its port for a minute, and there are some 28,000 of them.
  local fresh = ctx.scaled(2000)
  local lua, python, npm = ctx.luas[1], ctx.python, "BENCH_NPM=" .. ctx.npm
  local function in_python(module) return ("%s -c 'import %s'"):format(python, module) end
  local function in_node(module)
    return ("cd '%s' && node -e 'require(\"%s\")'"):format(ctx.npm, module)
  end
  local config = ctx.work .. "/curl.conf"
  return { {
    title = "What one would pick instead, plain HTTP",
    rows = {
      koresms(ctx, lua, "bulk", 64, many, { "host=" .. ctx.plain }),
      { name = "Node undici, Pool", signs = "HS256", c = 64, n = many,
        missing = ctx.lacks("undici", in_node("undici")), goal = { cpu_least = 1 / 0.7 },
        command = { "env", npm, "node", "bench/peers/undici.mjs", ctx.plain, PATH, many, 64 } },
      { name = "twilio-node", signs = "no", c = 64, n = some,
        missing = ctx.lacks("twilio", in_node("twilio")), goal = { cpu_least = 10 },
        command = { "env", npm, "node", "bench/peers/twilio.js", ctx.plain, some, 64 } },
      { name = "Python aiohttp", signs = "HS256", c = 64, n = some,
        missing = ctx.lacks("python3-aiohttp", in_python("aiohttp")),
        command = { python, "bench/peers/with_aiohttp.py", url, some, 64 } },
      { name = "Python requests, Session", signs = "HS256", c = 1, n = some,
        missing = ctx.lacks("python3-requests", in_python("requests")),
        command = { python, "bench/peers/with_requests.py", url, some } },
      { name = "lua-http, connections kept, lua5.1", signs = "no", c = 64, n = some,
        missing = ctx.lacks("lua-http", "lua5.1 -e 'require \"http.client\"'"),
        command = { "lua5.1", "bench/peers/luahttp.lua", authority, PATH, some, 64 } },
      { name = ("LuaSocket, %s"):format(lua.program), signs = "no", c = 1, n = fresh,
        missing = ctx.lacks("lua-socket", lua.program .. " -e 'require \"socket.http\"'"),
        command = { lua.program, "bench/peers/luasocket.lua", url, fresh } },
      { name = "curl -Z with a config file", signs = "no", c = 64, n = some,
        missing = ctx.lacks("curl", "curl --version"),
        prepare = ("sh bench/peers/curl_config.sh %s %d >%s"):format(url, some, config),
        command = { "curl", "-Z", "--parallel-max", 64, "-K", config } },
      { name = "curl, one process a message", signs = "no", c = 1, n = few,
        missing = ctx.lacks("curl", "curl --version"),
        command = { "sh", "bench/peers/curl_each.sh", url, few } },
    },
  } }
end

local function memory(ctx)
  local n, rows = ctx.scaled(1000000), {}
  for i, lua in ipairs(ctx.luas) do
    local row = koresms(ctx, lua, "memory", 64, n, {})
    row.sandbox, row.goal = true, { peak_most = 16, growth_most = 1 }
    rows[i] = row
  end
  return { { title = "Memory: a pull function, against the sandbox", rounds = 1, rows = rows } }
end

--- The sections by name, in their order.
M.sections = {
  { "singles", singles }, { "bulk", bulk("bulk") }, { "tls", bulk("tls") },
  { "rs256", rs256 }, { "peers", peers }, { "memory", memory },
}

return M
