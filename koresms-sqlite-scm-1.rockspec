rockspec_format = "3.0"
package = "koresms-sqlite"
version = "scm-1"

-- The tree that holds this file: `luarocks make` fetches nothing.
source = { url = "file://." }

description = {
  summary = "SQLite for koresms: messages that survive the process, on one machine",
  license = "MIT",
}

dependencies = {
  "lua >= 5.1",
  "koresms",
}

build = {
  type = "builtin",
  modules = {
    ["koresms.sqlite"] = {
      sources = { "src/sqlite.c", "src/sqlite_rows.c", "src/module.c" },
      libraries = { "sqlite3" },
    },
  },
}
