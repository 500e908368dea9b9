-- The common ground of Lua 5.1 to 5.4 and LuaJIT, so that nothing slips in which one of
-- them lacks.
std = "min"
-- The same as in .editorconfig and .clang-format.
max_line_length = 100
cache = false
exclude_files = { "build/" }

-- Looked at, where they exist, through `table.unpack or unpack` and the like.
read_globals = {
  "jit", "unpack", "loadstring", "setfenv",
  table = { fields = { "unpack", "pack" } },
  coroutine = { fields = { "isyieldable" } },
  package = { fields = { "searchers", "loaders", "searchpath" } },
}

files["lua/koresms/nginx/"] = { std = "ngx_lua" }
files["lua/koresms/meta.lua"] = { ignore = { "2.." } }
files["lua/resty/"] = { std = "ngx_lua" }
files["examples/nginx/"] = { std = "ngx_lua" }
files["sandbox/"] = { std = "+ngx_lua" }
files["bin/koresms"] = { std = "min" }
files["spec/"] = { std = "+busted" }
files["spec/support/worker_jobs.lua"] = { std = "ngx_lua" }
files["*.rockspec"] = { std = "rockspec" }
files[".busted"] = { std = "min" }
