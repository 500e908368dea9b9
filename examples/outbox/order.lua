-- An order and the message about it, in one transaction: both are there, or neither.
--
--   lua order.lua postgres://host/db 17 +911234567890 [fail]
--
-- A worker (`koresms campaign run --all --stay`) sends what was committed, once. The same goes for
-- a file of SQLite with koresms.sqlite, where times are seconds since 1970; whoever has no
-- transaction of his own says koresms.store(where):add("outbox", { { to = ..., dedupe = ... } }).
local postgres = require "koresms.postgres"

local where, order, phone, fails = arg[1], arg[2], arg[3], arg[4] == "fail"

local connection = assert(postgres.connect(where))
assert(connection:run "begin")
assert(connection:run("insert into orders (id, phone) values ($1, $2)", order, phone))
assert(connection:run([[insert into koresms_message (recipient, dedupe, expires)
  values ($1, $2, now() + interval '10 minutes') on conflict do nothing]],
  phone, "order-" .. order))
assert(connection:run(fails and "rollback" or "commit"))
connection:close()
