-- An order and the message about it, in one transaction: both are there, or neither.
--
--   psql postgres://host/db -v order=17 -v phone=+911234567890 -f order.sql
--
-- A worker (`koresms campaign run --all --stay`) sends what was committed, once. `expires` keeps a
-- text that is late from being sent at all.
\set ON_ERROR_STOP on
begin;
insert into orders (id, phone) values (:'order', :'phone');
insert into koresms_message (recipient, dedupe, expires)
  values (:'phone', 'order-' || :'order', now() + interval '10 minutes');
commit;
