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
        "src/core.c", "src/e164.c", "src/encode.c", "src/jwt.c", "src/address.c",
        "src/request.c", "src/proxy.c", "src/post.c", "src/head.c", "src/reader.c",
        "src/reader_lua.c", "src/buffer.c", "src/fork.c", "src/signal.c", "src/system.c",
        "src/process.c",
      },
      libraries = { "crypto" },
    },
    ["koresms.curl"] = {
      sources = {
        "src/engine.c", "src/request_lua.c", "src/connection.c", "src/wire.c", "src/post.c",
        "src/encode.c", "src/head.c", "src/reader.c", "src/buffer.c", "src/fork.c",
      },
      libraries = { "curl" },
    },
    ["koresms"] = "lua/koresms/init.lua",
    ["koresms.cli"] = "lua/koresms/cli/init.lua",
    ["koresms.cli.bulk"] = "lua/koresms/cli/bulk.lua",
    ["koresms.cli.check"] = "lua/koresms/cli/check.lua",
    ["koresms.cli.checked_io"] = "lua/koresms/cli/checked_io.lua",
    ["koresms.cli.client"] = "lua/koresms/cli/client.lua",
    ["koresms.cli.csv"] = "lua/koresms/cli/csv.lua",
    ["koresms.cli.descriptors"] = "lua/koresms/cli/descriptors.lua",
    ["koresms.cli.input"] = "lua/koresms/cli/input.lua",
    ["koresms.cli.jsonl"] = "lua/koresms/cli/jsonl.lua",
    ["koresms.cli.leftover_file"] = "lua/koresms/cli/leftover_file.lua",
    ["koresms.cli.number_set"] = "lua/koresms/cli/number_set.lua",
    ["koresms.cli.output"] = "lua/koresms/cli/output.lua",
    ["koresms.cli.progress"] = "lua/koresms/cli/progress.lua",
    ["koresms.cli.requests"] = "lua/koresms/cli/requests.lua",
    ["koresms.cli.row_buffer"] = "lua/koresms/cli/row_buffer.lua",
    ["koresms.cli.sandbox"] = "lua/koresms/cli/sandbox.lua",
    ["koresms.cli.send"] = "lua/koresms/cli/send.lua",
    ["koresms.cli.send_many"] = "lua/koresms/cli/send_many.lua",
    ["koresms.cli.spool"] = "lua/koresms/cli/spool.lua",
    ["koresms.cli.token"] = "lua/koresms/cli/token.lua",
    ["koresms.client"] = "lua/koresms/client.lua",
    ["koresms.config"] = "lua/koresms/config.lua",
    ["koresms.curl.transport"] = "lua/koresms/curl/transport.lua",
    ["koresms.curl.workers"] = "lua/koresms/curl/workers.lua",
    ["koresms.delivery"] = "lua/koresms/delivery.lua",
    ["koresms.failure"] = "lua/koresms/failure.lua",
    ["koresms.http_date"] = "lua/koresms/http_date.lua",
    ["koresms.mask"] = "lua/koresms/mask.lua",
    ["koresms.meta"] = "lua/koresms/meta.lua",
    ["koresms.misuse"] = "lua/koresms/misuse.lua",
    ["koresms.nginx.later"] = "lua/koresms/nginx/later.lua",
    ["koresms.nginx.peer"] = "lua/koresms/nginx/peer.lua",
    ["koresms.nginx.phase"] = "lua/koresms/nginx/phase.lua",
    ["koresms.nginx.shared_pacer"] = "lua/koresms/nginx/shared_pacer.lua",
    ["koresms.nginx.transport"] = "lua/koresms/nginx/transport.lua",
    ["koresms.nginx.workers"] = "lua/koresms/nginx/workers.lua",
    ["koresms.pacer"] = "lua/koresms/pacer.lua",
    ["koresms.runtime.nginx"] = "lua/koresms/runtime/nginx.lua",
    ["koresms.runtime.plain"] = "lua/koresms/runtime/plain.lua",
    ["koresms.sandbox"] = "sandbox/init.lua",
    ["koresms.sandbox.app"] = "sandbox/app.lua",
    ["koresms.sandbox.certificate"] = "sandbox/certificate.lua",
    ["koresms.sandbox.client"] = "sandbox/client.lua",
    ["koresms.sandbox.control"] = "sandbox/control.lua",
    ["koresms.sandbox.exchange"] = "sandbox/exchange.lua",
    ["koresms.sandbox.guard"] = "sandbox/guard.lua",
    ["koresms.sandbox.identity"] = "sandbox/identity.lua",
    ["koresms.sandbox.launch"] = "sandbox/launch.lua",
    ["koresms.sandbox.lines"] = "sandbox/lines.lua",
    ["koresms.sandbox.needs"] = "sandbox/needs.lua",
    ["koresms.sandbox.nginx"] = "sandbox/nginx.lua",
    ["koresms.sandbox.page"] = "sandbox/page.lua",
    ["koresms.sandbox.plays"] = "sandbox/plays.lua",
    ["koresms.sandbox.recipients"] = "sandbox/recipients.lua",
    ["koresms.sandbox.rules"] = "sandbox/rules.lua",
    ["koresms.sandbox.sample"] = "sandbox/sample.lua",
    ["koresms.sandbox.shell"] = "sandbox/shell.lua",
    ["koresms.sandbox.store"] = "sandbox/store.lua",
    ["koresms.sandbox.text"] = "sandbox/text.lua",
    ["koresms.sandbox.token"] = "sandbox/token.lua",
    ["koresms.sources"] = "lua/koresms/sources.lua",
    ["koresms.store.adding"] = "lua/koresms/store/adding.lua",
    ["koresms.store.base"] = "lua/koresms/store/base.lua",
    ["koresms.store.campaigns"] = "lua/koresms/store/campaigns.lua",
    ["koresms.store"] = "lua/koresms/store/init.lua",
    ["koresms.store.limits"] = "lua/koresms/store/limits.lua",
    ["koresms.store.link"] = "lua/koresms/store/link.lua",
    ["koresms.store.location"] = "lua/koresms/store/location.lua",
    ["koresms.store.moment"] = "lua/koresms/store/moment.lua",
    ["koresms.store.origin"] = "lua/koresms/store/origin.lua",
    ["koresms.store.postgres"] = "lua/koresms/store/postgres.lua",
    ["koresms.store.rota"] = "lua/koresms/store/rota.lua",
    ["koresms.store.run"] = "lua/koresms/store/run.lua",
    ["koresms.store.schema_postgres"] = "lua/koresms/store/schema_postgres.lua",
    ["koresms.store.schema_sqlite"] = "lua/koresms/store/schema_sqlite.lua",
    ["koresms.store.sqlite"] = "lua/koresms/store/sqlite.lua",
    ["koresms.store.states"] = "lua/koresms/store/states.lua",
    ["koresms.store.status"] = "lua/koresms/store/status.lua",
    ["koresms.store.text"] = "lua/koresms/store/text.lua",
    ["koresms.store.worker"] = "lua/koresms/store/worker.lua",
    ["koresms.stream"] = "lua/koresms/stream.lua",
    ["koresms.suspicions"] = "lua/koresms/suspicions.lua",
    ["koresms.utf8"] = "lua/koresms/utf8.lua",
    ["koresms.verdict"] = "lua/koresms/verdict.lua",
    ["resty.koresms"] = "lua/resty/koresms.lua",
  },
  install = {
    bin = { koresms = "bin/koresms" },
    -- The sandbox's page: each file keeps its name, in the directory that its key says.
    lua = {
      ["koresms.sandbox.entry_js"] = "sandbox/entry.js",
      ["koresms.sandbox.page_css"] = "sandbox/page.css",
      ["koresms.sandbox.page_html"] = "sandbox/page.html",
      ["koresms.sandbox.page_js"] = "sandbox/page.js",
    },
  },
}
