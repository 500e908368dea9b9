--- A store in SQLite: its statements, without policy. koresms.store.postgres is the same in
-- PostgreSQL: the same names, the same parameters, the same columns. The times are this machine's.
-- @module koresms.store.sqlite
local cjson = require "cjson"
local schema = require "koresms.store.schema_sqlite"

local M = { name = "sqlite", steps = schema.steps }

-- Milliseconds since 1970; permits are kept as exactly as that.
local MS = "cast((julianday('now') - 2440587.5) * 86400000 as integer)"

local function shown(time)
  return ("strftime('%%Y-%%m-%%dT%%H:%%M:%%SZ', %s, 'unixepoch')"):format(time)
end

local function permit_wait(span, reserve)
  return ("(select (max(free_at, 946684800000) - %s) / 1000.0 from koresms_permit "
    .. "where span = %d order by free_at limit 1 offset %s)"):format(MS, span, reserve)
end

local PAUSED = "max(0, paused_until - unixepoch())"

M.statements = {
  begin = "begin immediate", commit = "commit", rollback = "rollback",
  lock_schema = "select 1 as locked",
  has_schema = "select count(*) > 0 as there from sqlite_master where name = 'koresms_message'",
  tables = "select count(*) as n from sqlite_master",
  version = "select user_version as version, application_id from pragma_user_version, "
    .. "pragma_application_id",

  now = "select " .. MS .. " / 1000.0 as now",

  account = "select per_minute, per_hour, reason, " .. PAUSED .. " as paused from koresms_account",
  end_pause = "update koresms_account set paused_until = null, reason = null",
  set_limits = "update koresms_account set per_minute = ?1, per_hour = ?2",
  permits = "select count(*) as n from koresms_permit where span = ?1",
  used_before = "select exists (select 1 from koresms_worker) as used",
  add_permits = [[with recursive series(i) as
      (select 1 where ?3 > 0 union all select i + 1 from series where i < ?3)
    insert into koresms_permit (span, slot, free_at)
    select ?1, coalesce((select max(slot) from koresms_permit where span = ?1), 0) + i,
      case when ?2 = 0 then 0 else ]] .. MS .. [[ + cast(?2 * 1000 as integer) end from series]],
  drop_permits = [[delete from koresms_permit where (span, slot) in (select span, slot
    from koresms_permit where span = ?1 order by free_at limit ?2)]],

  campaign = "select id, name, state, reason, sender, " .. shown("expires")
    .. " as expires from koresms_campaign where name = ?1",
  campaigns = "select id, name, state, reason from koresms_campaign order by id",
  create = [[insert into koresms_campaign (name, sender, expires, state, reason)
    values (?1, ?2, cast(?3 as integer), ?4, ?5) on conflict (name) do nothing returning id]],
  set_state = [[update koresms_campaign set state = ?2, reason = ?3
    where id = ?1 and state <> 'cancelled' and (?4 is null or state = ?4)]],
  pause_all = "update koresms_campaign set state = 'paused', reason = ?1 where state = 'running'",
  event = "insert into koresms_event (campaign, what, why) values (?1, ?2, ?3)",
  counts = "select state, count(*) as n from koresms_message where campaign = ?1 group by state",
  old_pending = [[select count(*) as n from koresms_message where campaign = ?1
    and state = 'pending' and due < unixepoch() - 86400 and expires is null]],
  -- ?2 JSON: [recipient, sender, ref, dedupe, expiry in seconds since 1970] each; nulls at the end
  -- are left out.
  add = [[insert into koresms_message (campaign, recipient, sender, ref, dedupe, expires)
    select ?1, value->>0, value->>1, value->>2, coalesce(value->>3, value->>0),
      cast(value->>4 as integer)
    from json_each(?2) where true on conflict (campaign, dedupe) do nothing]],
  suppress = [[insert into koresms_suppressed (recipient)
    select value from json_each(?1) where true on conflict do nothing]],
  unsuppress = [[delete from koresms_suppressed
    where recipient in (select value from json_each(?1))]],

  lease = [[insert into koresms_worker (id, name, until)
    values (?1, ?2, unixepoch() + cast(?3 as integer))
    on conflict (id) do update set until = excluded.until]],
  has_worker = "select exists (select 1 from koresms_worker where id = ?1) as there",
  end_leases = [[update koresms_worker set until = 0
    where id <> ?1 and name like 'run %' and until > 0]],
  sweep = [[update koresms_message set state = 'unknown', code = 'interrupted', detail = null,
      at = unixepoch()
    where id in (select m.id from koresms_campaign c
        cross join koresms_message m indexed by koresms_message_state on m.campaign = c.id
      where m.state = 'sending' and m.worker in
        (select id from koresms_worker where until < unixepoch()) limit 10000)]],
  skip_cancelled = [[update koresms_message set state = 'skipped', code = 'cancelled',
      at = unixepoch()
    where id in (select m.id from koresms_campaign c
        cross join koresms_message m indexed by koresms_message_state on m.campaign = c.id
      where c.state = 'cancelled' and m.state = 'pending' limit 10000)]],
  pull_permits = [[update koresms_permit set free_at = ]] .. MS .. [[ + (span + 31) * 1000
    where free_at > ]] .. MS .. " + (span + 32) * 1000",
  -- The wall clock was set: permits go with it. ?1 milliseconds.
  move_permits = "update koresms_permit set free_at = free_at + ?1 where free_at > 0",

  look = [[select c.state, c.reason, a.reason as pause_reason, ]] .. PAUSED .. [[ as paused,
      a.per_minute, a.per_hour,
      (select min(m.due) - ]] .. MS .. [[ / 1000.0 from koresms_message m
        where m.campaign = c.id and m.state = 'pending') as due,
      exists (select 1 from koresms_message m
        where m.campaign = c.id and m.state = 'sending') as sending,
      exists (select 1 from koresms_worker w where w.id = ?4 and w.until > unixepoch()) as alive,
      1 as original,
      ]] .. permit_wait(60, "?2") .. [[ as minute, ]] .. permit_wait(3600, "?3") .. [[ as hour
    from koresms_campaign c, koresms_account a where c.id = ?1]],

  count_unknown = [[select count(*) as n from koresms_message
    where campaign = ?1 and state = 'unknown' and at <= ?2]],
  count_rejected = [[select count(*) as n from koresms_message
    where campaign = ?1 and state = 'rejected' and at <= ?2 and (?3 is null or code = ?3)]],
  resolve_unknown = [[update koresms_message set state = ?3,
      code = case when ?3 = 'skipped' then code end, worker = null,
      due = unixepoch(), at = unixepoch()
    where id in (select id from koresms_message where campaign = ?1 and state = 'unknown'
      and at <= ?2 limit 10000)]],
  retry_rejected = [[update koresms_message set state = 'pending', code = null, detail = null,
      worker = null, due = unixepoch(), at = unixepoch()
    where id in (select id from koresms_message where campaign = ?1 and state = 'rejected'
      and at <= ?2 and (?3 is null or code = ?3) limit 10000)]],
  rows = [[select id, recipient as "to", sender as "from", ref, dedupe, state, code, attempts, ]]
    .. shown("at") .. [[ as at, detail from koresms_message
    where +campaign = ?1 and id > ?3 and (?2 is null or state = ?2)
    order by id limit 2000]],

  suppressed = [[select exists (select 1 from koresms_suppressed where recipient = ?1)
    as there]],
  single = [[insert into koresms_message
      (campaign, recipient, sender, ref, state, attempts, worker, at)
    values (1, ?1, ?2, ?3, 'sending', 1, ?4, unixepoch()) returning id, attempts]],
  take_permit = [[update koresms_permit
      set free_at = ]] .. MS .. [[ + cast((span + ?2) * 1000 as integer)
    where (span, slot) = (select span, slot from koresms_permit
      where span = ?1 and free_at <= ]] .. MS .. [[ order by free_at limit 1) returning span]],
  free_pause = "select " .. PAUSED .. " as paused, " .. permit_wait(60, "0") .. " as minute, "
    .. permit_wait(3600, "0") .. " as hour from koresms_account",

  -- The turn, between `begin` and `commit`.
  finish = [[update koresms_message set state = x.s, code = x.c, detail = x.d, at = unixepoch(),
      due = case when x.s = 'pending' then unixepoch() + cast(coalesce(x.w, 0) as integer)
        else due end
    from (select cast(value->>'i' as integer) as i, value->>'n' as n,
        cast(value->>'k' as integer) as k, value->>'s' as s, value->>'c' as c, value->>'d' as d,
        value->>'w' as w from json_each(?1)) as x
    where koresms_message.id = x.i and attempts = x.n and worker = x.k
      and state in ('sending', 'unknown')]],
  -- A second more, since the one that is under way may be over at once.
  halt = [[update koresms_account set reason = ?2,
    paused_until = max(coalesce(paused_until, 0), unixepoch() + cast(?1 + 1.999 as integer))]],
  open = [[select exists (select 1 from koresms_campaign c, koresms_account a
    where c.id = ?1 and c.state = 'running'
      and (a.paused_until is null or a.paused_until <= unixepoch())
      and (a.per_minute is not null) = ?3 and (a.per_hour is not null) = ?4
      and exists (select 1 from koresms_worker w where w.id = ?2 and w.until > unixepoch()))
    as open]],
  free = [[select count(*) as n from (select 1 from koresms_permit
    where span = ?1 and free_at <= ]] .. MS .. " limit ?2)",
  take = [[update koresms_message set state = next, worker = ?2, at = unixepoch(), detail = null,
      code = case next when 'expired' then 'expired' when 'skipped' then 'suppressed' end,
      attempts = attempts + (next = 'sending')
    from (select m.id as mid, case
        when m.expires <= unixepoch() or c.expires <= unixepoch() then 'expired'
        when exists (select 1 from koresms_suppressed s where s.recipient = m.recipient)
          then 'skipped' else 'sending' end as next
      from koresms_message m join koresms_campaign c on m.campaign = c.id
      where c.id = ?1 and m.campaign = ?1 and m.state = 'pending' and m.due <= unixepoch()
      order by m.due, m.id limit ?3)
    where koresms_message.id = mid
    returning id, attempts, recipient, ref, state,
      coalesce(sender, (select sender from koresms_campaign c where c.id = campaign)) as sender]],
  spend = [[update koresms_permit set free_at = ]] .. MS .. [[ + cast((span + ?3) * 1000 as integer)
    where (span, slot) in (select span, slot from koresms_permit
      where span = ?1 and free_at <= ]] .. MS .. " order by free_at limit ?2)",
}

local Q = M.statements

-- How many rows may be taken, as far as the permits of one window go.
local function within(conn, span, most, reserve)
  local rows, text, code = conn:run(Q.free, span, most + reserve)
  if not rows then return nil, text, code end
  return math.max(0, math.min(most, rows[1].n - reserve))
end

local function take(conn, t)
  local rows, text, code = conn:run(Q.open, t.campaign, t.worker, t.minute, t.hour)
  if not rows then return nil, text, code end
  if rows[1].open == 0 then return {} end
  local most = t.free
  for _, window in ipairs { { t.minute, 60, t.keep_minute }, { t.hour, 3600, t.keep_hour } } do
    if window[1] then
      most, text, code = within(conn, window[2], most, window[3])
      if not most then return nil, text, code end
    end
  end
  if most == 0 then return {} end
  rows, text, code = conn:run(Q.take, t.campaign, t.worker, most)
  if not rows then return nil, text, code end
  local starting = 0
  for _, row in ipairs(rows) do
    if row.state == "sending" then starting = starting + 1 end
  end
  for span, limited in pairs { [60] = t.minute, [3600] = t.hour } do
    if limited and starting > 0 then
      local ok
      ok, text, code = conn:run(Q.spend, span, starting, t.margin)
      if not ok then return nil, text, code end
    end
  end
  return rows
end

local function steps(conn, t)
  local ok, text, code = true, nil, nil
  if t.shift then ok, text, code = conn:run(Q.move_permits, t.shift) end
  if ok and t.results ~= "[]" then ok, text, code = conn:run(Q.finish, t.results) end
  if ok and t.pause then ok, text, code = conn:run(Q.halt, t.pause, t.pause_reason) end
  if not ok then return nil, text, code end
  if t.free == 0 then return {} end
  return take(conn, t)
end

--- Stores what has ended and takes what may start, in one transaction; see koresms.store.postgres.
-- `shift`: milliseconds by which the wall clock was set since the last turn.
function M.turn(conn, t)
  local ok, text, code = conn:run(Q.begin)
  -- What it holds was not looked at yet.
  if not ok then return nil, text, M.is_bad_data(code) and "commit" or code end
  local rows
  rows, text, code = steps(conn, t)
  if not rows then
    conn:run(Q.rollback)
    return nil, text, code
  end
  ok, text, code = conn:run(Q.commit)
  if ok then return rows end
  conn:run(Q.rollback)
  -- What was written to the disk and not confirmed may come back when the file is opened again.
  return nil, text, M.is_input_output(code) and "commit" or code
end

local json = cjson.new()

local function quote(text)
  if text == nil then return "null" end
  if text:find('^[ !#-%[%]-~]*$') then return '"' .. text .. '"' end
  return json.encode(text)
end

--- Adds messages that are not there; see koresms.store.postgres. `changes` of the table that it
-- returns says how many are new.
function M.add(conn, campaign, list)
  local parts, recipient, sender, ref, dedupe, expires = {}, list.recipient, list.sender, list.ref,
    list.dedupe, list.expires
  for i = 1, list.count do
    local ends = expires[i]
    if ends or sender[i] or dedupe[i] then
      parts[i] = '["' .. recipient[i] .. '",' .. quote(sender[i]) .. "," .. quote(ref[i]) .. ","
        .. quote(dedupe[i]) .. "," .. (ends and ("%.0f"):format(ends) or "null") .. "]"
    else
      parts[i] = '["' .. recipient[i] .. '"]'
    end
  end
  return conn:run(Q.add, campaign, "[" .. table.concat(parts, ",") .. "]")
end

--- Whether the disk failed, so that nobody knows what stands there.
function M.is_input_output(code)
  return tonumber(code) ~= nil and tonumber(code) % 256 == 10
end

--- Whether nobody knows what became of a statement that was answered with a code.
function M.is_lost(code)
  return code == "commit"
end

local bad_data = { [1] = true, [18] = true, [19] = true, [20] = true }

--- Whether a statement was refused for what it holds, and would be again.
function M.is_bad_data(code)
  return bad_data[tonumber(code) and tonumber(code) % 256] or false
end

-- What must be so for a mark to be on the disk before a message leaves.
local settings = {
  { "pragma journal_mode = wal", "journal_mode", "wal" },
  { "pragma synchronous = full" },
  { "pragma synchronous", "synchronous", 2 },
  { "pragma foreign_keys = on" },
}

--- How long each statement may take from now on; see koresms.store.postgres.
function M.limit(conn, seconds)
  conn:limit(seconds)
  return true
end

--- Connects; see koresms.store.postgres.
function M.connect(driver, location, options)
  local conn, text, code = driver.connect(location.where, { create = options.create,
    limit = options.limit })
  if not conn then return nil, text, code end
  for _, row in ipairs(settings) do
    local rows
    rows, text, code = conn:run(row[1])
    if not rows then return nil, text, code end
    if row[2] and rows[1][row[2]] ~= row[3] then
      return nil, ("SQLite does not keep %s = %s on this file's system"):format(row[2],
        tostring(row[3])), "settings"
    end
  end
  return conn
end

return M
