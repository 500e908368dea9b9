--- The tables of a store in SQLite (3.38 and later), as steps from each version to the next.
-- Times are seconds since 1970, those of permits milliseconds.
--
-- A step is never changed once it has been released: a new one is added behind it.
-- @module koresms.store.schema_sqlite

local function number(column)
  return ("%s glob '+[1-9]*' and substr(%s, 2) not glob '*[^0-9]*' and length(%s) between 3 and 16")
    :format(column, column, column)
end

local M = {}

M.steps = {
  {
    [[create table koresms_account (
  one integer primary key default 1 check (one = 1),
  per_minute integer check (per_minute > 0), per_hour integer check (per_hour > 0),
  paused_until integer, reason text) strict]],
    -- One row is one permit: the limit is how many rows there are.
    [[create table koresms_permit (
  span integer not null, slot integer not null, free_at integer not null default 0,
  primary key (span, slot)) strict, without rowid]],
    "create index koresms_permit_free on koresms_permit (span, free_at)",
    [[create table koresms_campaign (
  id integer primary key autoincrement, name text not null unique,
  state text not null default 'paused'
    check (state in ('importing', 'paused', 'running', 'cancelled')),
  reason text, sender text check (]] .. number("sender") .. [[), expires integer,
  created integer not null default (unixepoch())) strict]],
    [[create table koresms_worker (
  id integer primary key, name text not null, until integer not null,
  started integer not null default (unixepoch())) strict]],
    [[create table koresms_message (
  id integer primary key autoincrement,
  campaign integer not null default 1 references koresms_campaign,
  recipient text not null check (]] .. number("recipient") .. [[),
  sender text check (]] .. number("sender") .. [[),
  ref text, dedupe text, due integer not null default (unixepoch()), expires integer,
  state text not null default 'pending' check (state in
    ('pending', 'sending', 'accepted', 'rejected', 'unknown', 'skipped', 'expired')),
  attempts integer not null default 0, worker integer, at integer, code text, detail text,
  unique (campaign, dedupe)) strict]],
    "create index koresms_message_state on koresms_message (campaign, state, due, id)",
    [[create table koresms_suppressed (
  recipient text primary key check (]] .. number("recipient") .. [[),
  since integer not null default (unixepoch())) strict, without rowid]],
    [[create table koresms_event (
  id integer primary key autoincrement, at integer not null default (unixepoch()),
  campaign integer, what text not null, why text) strict]],
    "insert into koresms_account (one) values (1)",
    "insert into koresms_campaign (id, name, state) values (1, 'outbox', 'running')",
    "pragma application_id = 1802464627", -- "koms"
    "pragma user_version = 1",
  },
}

--- What marks a file of SQLite as a store.
M.application_id = 1802464627

return M
