rockspec_format = "3.0"
package = "koresms"
version = "scm-1"

-- The tree that holds this file: `luarocks make` fetches nothing.
source = { url = "file://." }

description = {
  summary = "SMS through Kore.ai's Send Outbound SMS API, never sent twice by itself",
  detailed = [[
    Sends outbound SMS messages and says honestly what became of each: accepted,
    rejected, not sent, or unknown. A library for Lua 5.1 to 5.4 and LuaJIT, and a
    command.]],
  license = "MIT",
}

dependencies = {
  "lua >= 5.1",
  "lua-cjson >= 2.1.0",
  "argparse >= 0.7.1",
}

-- Only libraries are named: the compiler knows where their headers are, LuaRocks does
-- not where they live in a multiarch directory. The C files name the package of a header
-- that is missing.
build = {
  type = "builtin",
  modules = {
    ["koresms.core"] = {
      sources = {
        "src/core.c", "src/e164.c", "src/jwt.c", "src/request.c", "src/head.c", "src/http1.c",
      },
      libraries = { "crypto" },
    },
    ["koresms.curl"] = {
      sources = { "src/engine.c", "src/head.c" },
      libraries = { "curl" },
    },
    ["koresms"] = "lua/koresms/init.lua",
  },
  install = {
    bin = { koresms = "bin/koresms" },
  },
}
