rockspec_format = "3.0"
package = "koresms-postgres"
version = "scm-1"

-- The tree that holds this file: `luarocks make` fetches nothing.
source = { url = "file://." }

description = {
  summary = "PostgreSQL for koresms: messages that survive the process, on any number of machines",
  license = "MIT",
}

dependencies = {
  "lua >= 5.1",
  "koresms",
}

build = {
  type = "builtin",
  modules = {
    ["koresms.postgres"] = {
      sources = { "src/postgres.c", "src/postgres_run.c", "src/postgres_values.c", "src/module.c" },
      libraries = { "pq" },
    },
  },
}
