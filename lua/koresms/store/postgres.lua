--- A store in PostgreSQL: its statements, without policy. koresms.store.sqlite is the same in
-- SQLite: the same names, the same parameters, the same columns. All times are the server's.
-- @module koresms.store.postgres
local schema = require "koresms.store.schema_postgres"

local M = { name = "postgres", steps = schema.steps }

local EPOCH = "extract(epoch from %s)::float8"

-- Seconds from now until a time.
local function left(time)
  return EPOCH:format(time) .. " - " .. EPOCH:format("clock_timestamp()")
end

-- A time for people and programs.
local function shown(time)
  return ([[to_char(%s at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')]]):format(time)
end

local function permit_wait(span, reserve)
  return ("(select %s from koresms_permit where span = %d order by free_at offset %s limit 1)")
    :format(left("greatest(free_at, '2000-01-01'::timestamptz)"), span, reserve)
end

M.statements = {
  begin = "begin", commit = "commit", rollback = "rollback",
  -- One migration at a time.
  lock_schema = "select pg_advisory_xact_lock(7023452)",
  has_schema = "select to_regclass('koresms_schema') is not null as there",
  version = "select version from koresms_schema",
  set_version = "update koresms_schema set version = $1::int",

  now = "select " .. EPOCH:format("clock_timestamp()") .. " as now",
  durability = "select current_setting('fsync') as fsync",
  origin = [[select system as known, timeline as known_timeline,
    (select system_identifier::text from pg_control_system()) as system,
    ]] .. schema.timeline .. [[ as timeline from koresms_schema]],
  accept_origin = [[update koresms_schema set
    system = (select system_identifier::text from pg_control_system()),
    timeline = ]] .. schema.timeline,

  account = "select per_minute, per_hour, reason, greatest(0, " .. left("paused_until")
    .. ") as paused from koresms_account",
  end_pause = "update koresms_account set paused_until = null, reason = null",
  set_limits = "update koresms_account set per_minute = $1::int, per_hour = $2::int",
  permits = "select count(*) as n from koresms_permit where span = $1::int",
  used_before = "select exists (select 1 from koresms_worker) as used",
  -- $2: seconds until they are free.
  add_permits = [[insert into koresms_permit (span, slot, free_at)
    select $1::int, coalesce((select max(slot) from koresms_permit where span = $1::int), 0) + i,
      case when $2::float8 = 0 then '-infinity'::timestamptz
        else clock_timestamp() + $2::float8 * interval '1 second' end
    from generate_series(1, $3::int) i]],
  drop_permits = [[delete from koresms_permit where (span, slot) in (select span, slot
    from koresms_permit where span = $1::int order by free_at limit $2::int)]],

  campaign = "select id, name, state, reason, sender, " .. shown("expires")
    .. " as expires from koresms_campaign where name = $1::text",
  campaigns = "select id, name, state, reason from koresms_campaign order by id",
  create = [[insert into koresms_campaign (name, sender, expires, state, reason)
    values ($1::text, $2::text, to_timestamp($3::float8), $4::text, $5::text)
    on conflict (name) do nothing returning id]],
  -- $4: a state from which it goes; null: any but cancelled.
  set_state = [[update koresms_campaign set state = $2::text, reason = $3::text
    where id = $1::int and state <> 'cancelled' and ($4::text is null or state = $4::text)]],
  pause_all = [[update koresms_campaign set state = 'paused', reason = $1::text
    where state = 'running']],
  event = [[insert into koresms_event (campaign, what, why)
    values ($1::int, $2::text, $3::text)]],
  counts = [[select state, count(*) as n from koresms_message where campaign = $1::int
    group by state]],
  old_pending = [[select count(*) as n from koresms_message where campaign = $1::int
    and state = 'pending' and due < clock_timestamp() - interval '1 day' and expires is null]],
  -- $2 to $6: arrays of recipients, senders, refs, dedupes, and expiries in seconds since 1970; a
  -- shorter one is filled with nulls.
  add = [[insert into koresms_message (campaign, recipient, sender, ref, dedupe, expires)
    select $1::int, t, f, r, coalesce(d, t), to_timestamp(e)
    from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::float8[]) as x(t, f, r, d, e)
    on conflict (campaign, dedupe) do nothing]],
  suppress = [[insert into koresms_suppressed (recipient)
    select value from json_array_elements_text($1::json) on conflict do nothing]],
  unsuppress = [[delete from koresms_suppressed
    where recipient in (select value from json_array_elements_text($1::json))]],

  -- Until when a worker is taken for alive.
  lease = [[insert into koresms_worker (id, name, until) values ($1::bigint, $2::text,
    clock_timestamp() + $3::float8 * interval '1 second')
    on conflict (id) do update set until = excluded.until]],
  has_worker = "select exists (select 1 from koresms_worker where id = $1::bigint) as there",
  end_leases = [[update koresms_worker set until = '-infinity'
    where id <> $1::bigint and name like 'run %' and until > '-infinity']],
  -- The list is of the dead: a worker that came later than this statement's view is not in it.
  sweep = [[with dead as materialized (
      select id from koresms_worker where until < clock_timestamp()),
    left_over as materialized (
      select m.id from koresms_message m
      where m.campaign = any (array(select id from koresms_campaign)) and m.state = 'sending'
        and m.worker = any (array(select id from dead)) limit 10000 for update skip locked)
    update koresms_message set state = 'unknown', code = 'interrupted', detail = null,
      at = clock_timestamp()
    where id = any (array(select id from left_over)) and state = 'sending']],
  skip_cancelled = [[update koresms_message set state = 'skipped', code = 'cancelled',
      at = clock_timestamp()
    where id = any (array(select m.id from koresms_message m
      where m.campaign = any (array(select id from koresms_campaign where state = 'cancelled'))
        and m.state = 'pending' limit 10000 for update skip locked))]],
  -- A clock that was set back must not hold permits for longer than they can be used up.
  pull_permits = [[update koresms_permit
    set free_at = clock_timestamp() + (span + 31) * interval '1 second'
    where free_at > clock_timestamp() + (span + 32) * interval '1 second']],

  -- $2, $3: permits that are kept for single sends.
  look = [[select c.state, c.reason, a.reason as pause_reason,
      greatest(0, ]] .. left("a.paused_until") .. [[) as paused, a.per_minute, a.per_hour,
      (select ]] .. left("min(m.due)") .. [[ from koresms_message m
        where m.campaign = c.id and m.state = 'pending') as due,
      exists (select 1 from koresms_message m
        where m.campaign = c.id and m.state = 'sending') as sending,
      exists (select 1 from koresms_worker w
        where w.id = $4::bigint and w.until > clock_timestamp()) as alive,
      coalesce(s.timeline = ]] .. schema.timeline .. [[, false) as original,
      ]] .. permit_wait(60, "$2::int") .. [[ as minute,
      ]] .. permit_wait(3600, "$3::int") .. [[ as hour
    from koresms_campaign c, koresms_account a, koresms_schema s where c.id = $1::int]],

  -- $3: epoch seconds of the moment at which a person was shown how many.
  count_unknown = [[select count(*) as n from koresms_message
    where campaign = $1::int and state = 'unknown' and at <= to_timestamp($2::float8)]],
  count_rejected = [[select count(*) as n from koresms_message
    where campaign = $1::int and state = 'rejected' and at <= to_timestamp($2::float8)
      and ($3::text is null or code = $3::text)]],
  resolve_unknown = [[update koresms_message set state = $3::text,
      code = case when $3::text = 'skipped' then code end, worker = null,
      due = clock_timestamp(), at = clock_timestamp()
    where id = any (array(select id from koresms_message where campaign = $1::int
      and state = 'unknown' and at <= to_timestamp($2::float8) limit 10000 for update))]],
  retry_rejected = [[update koresms_message set state = 'pending', code = null, detail = null,
      worker = null, due = clock_timestamp(), at = clock_timestamp()
    where id = any (array(select id from koresms_message where campaign = $1::int
      and state = 'rejected' and at <= to_timestamp($2::float8)
      and ($3::text is null or code = $3::text) limit 10000 for update))]],
  -- Pages by id. $2: a state, or null.
  rows = [[select id, recipient as "to", sender as "from", ref, dedupe, state, code, attempts, ]]
    .. shown("at") .. [[ as at, detail from koresms_message
    where campaign = $1::int and id > $3::bigint and ($2::text is null or state = $2::text)
    order by id limit 2000]],

  -- A single send: its row is `sending` from the beginning, and its permits leave no reserve.
  suppressed = [[select exists (select 1 from koresms_suppressed where recipient = $1::text)
    as there]],
  single = [[insert into koresms_message
      (campaign, recipient, sender, ref, state, attempts, worker, at)
    select 1, $1::text, $2::text, $3::text, 'sending', 1, $4::bigint, clock_timestamp()
    where set_config('synchronous_commit', 'on', true) = 'on'
    returning id, attempts]],
  take_permit = [[update koresms_permit
      set free_at = clock_timestamp() + (span + $2::float8) * interval '1 second'
    where (span, slot) = (select span, slot from koresms_permit
      where span = $1::int and free_at <= now() order by free_at limit 1
      for update skip locked) returning span]],
  free_pause = [[select greatest(0, ]] .. left("paused_until") .. [[) as paused,
    ]] .. permit_wait(60, "0") .. [[ as minute, ]] .. permit_wait(3600, "0")
    .. [[ as hour from koresms_account]],
}

-- Permits of one window, locked; a worker leaves `reserve` of them.
local function permits(name, span, reserve)
  return ([[%s as materialized (
  select span, slot from koresms_permit p
  where span = %d and free_at <= now() and exists (select 1 from campaign) order by free_at
  limit case when $3::int > 0 then $3::int + %s::int else 0 end for update of p skip locked),
]]):format(name, span, reserve)
end

-- $1 JSON: [{i: id, n: attempt, k: worker, s: state, c: code, d: detail, w: seconds to wait}],
-- $2 worker, $3 how many may start, $4 campaign, $5 and $6 permits of the minute and of the hour
-- that are kept for single sends, $7 seconds that a permit is kept beyond its window, $8 seconds
-- for which the account is paused, or null, and $9 why.
local function turn(minute, hour)
  local names, most = {}, { "$3::int" }
  if minute then
    names[1] = "minute"
    most[2] = "(select count(*) from minute) - $5::int"
  end
  if hour then
    names[#names + 1] = "hour"
    most[#most + 1] = "(select count(*) from hour) - $6::int"
  end
  local used = {}
  for i, name in ipairs(names) do
    used[i] = ("select * from (select span, slot from %s limit (select count(*) from chosen "
      .. "where next = 'sending')) %s"):format(name, name)
  end
  return [[with ended as (
  select * from jsonb_to_recordset($1::jsonb)
    as x(i bigint, n int, k bigint, s text, c text, d text, w float8)
  where set_config('synchronous_commit', 'on', true) = 'on'),
finished as (
  update koresms_message m set state = s, code = c, detail = d, at = clock_timestamp(),
    due = case when s = 'pending' then clock_timestamp() + coalesce(w, 0) * interval '1 second'
      else due end
  from ended where m.id = i and m.attempts = n and m.worker = k
    and m.state in ('sending', 'unknown')
  returning m.id),
halted as (
  update koresms_account set reason = $9::text,
    paused_until = greatest(paused_until, clock_timestamp() + $8::float8 * interval '1 second')
  where $8::float8 is not null),
campaign as materialized (
  select c.id, c.expires, c.sender from koresms_campaign c, koresms_account a
  where c.id = $4::int and c.state = 'running' and $3::int > 0
    and (a.paused_until is null or a.paused_until <= clock_timestamp())
    and (a.per_minute is not null) = ]] .. tostring(minute) .. [[

    and (a.per_hour is not null) = ]] .. tostring(hour) .. [[

    and $5::int >= 0 and $6::int >= 0 and $7::float8 > 0
    and exists (select 1 from koresms_worker w
      where w.id = $2::bigint and w.until > clock_timestamp())
    and (select s.timeline from koresms_schema s) = ]] .. schema.timeline .. [[

    and set_config('synchronous_commit', 'on', true) = 'on'),
]] .. (minute and permits("minute", 60, "$5") or "")
    .. (hour and permits("hour", 3600, "$6") or "") .. [[
chosen as materialized (
  select m.id, case when m.expires <= now() or c.expires <= now() then 'expired'
      when exists (select 1 from koresms_suppressed s where s.recipient = m.recipient)
        then 'skipped' else 'sending' end as next, coalesce(m.sender, c.sender) as sender
  from koresms_message m join campaign c on m.campaign = c.id
  where m.campaign = $4::int and m.state = 'pending' and m.due <= now()
  order by m.due, m.id limit greatest(0, least(]] .. table.concat(most, ", ") .. [[))
  for update of m skip locked)]] .. (names[1] and [[,
used as (
  update koresms_permit p
  set free_at = clock_timestamp() + (span + $7::float8) * interval '1 second'
  where (span, slot) in (]] .. table.concat(used, " union all ") .. "))" or "") .. [[

update koresms_message m set state = next, worker = $2::bigint, at = clock_timestamp(),
  code = case next when 'expired' then 'expired' when 'skipped' then 'suppressed' end,
  detail = null, attempts = attempts + (next = 'sending')::int
from chosen where m.id = chosen.id and m.id = any (array(select id from chosen))
returning m.id, m.attempts, m.recipient, chosen.sender, m.ref, m.state]]
end

local turns = {}
for _, minute in ipairs { false, true } do
  for _, hour in ipairs { false, true } do
    turns[tostring(minute) .. tostring(hour)] = turn(minute, hour)
  end
end

--- Stores what has ended and takes what may start, in one transaction.
-- @tparam table conn
-- @tparam table turn `results` (JSON), `worker`, `free`, `campaign`, `keep_minute`, `keep_hour`,
--   `margin`, `pause`, `pause_reason`, `minute` and `hour` (booleans: are there such limits?)
-- @treturn[1] table the rows that were taken; their `state` is "sending", "expired" or "skipped"
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string
function M.turn(conn, t)
  return conn:run(turns[tostring(t.minute) .. tostring(t.hour)], t.results, t.worker, t.free,
    t.campaign, t.keep_minute, t.keep_hour, t.margin, t.pause, t.pause_reason)
end

M.turn_text = turn

local special = '["\\\\]'

-- One column of a list of rows as an array of PostgreSQL's.
local function column(values, count)
  if next(values) == nil then return "{}" end
  local parts = {}
  for i = 1, count do
    local value = values[i]
    if value == nil then
      parts[i] = "NULL"
    elseif type(value) == "number" then
      parts[i] = ("%.0f"):format(value)
    else
      if value:find(special) then value = value:gsub(special, "\\%0") end
      parts[i] = '"' .. value .. '"'
    end
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- Begins to add messages that are not there; `conn:finish` has to follow.
-- @tparam table conn
-- @tparam number campaign
-- @tparam table list columns `recipient`, `sender`, `ref`, `dedupe` (nil: the recipient), `expires`
--   (seconds since 1970), and the `count` of rows
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string
function M.add(conn, campaign, list)
  local count = list.count
  return conn:start(M.statements.add, campaign, column(list.recipient, count),
    column(list.sender, count), column(list.ref, count), column(list.dedupe, count),
    column(list.expires, count))
end

-- What follows from a code: nobody knows whether the statement took effect.
local lost = { ["57P01"] = true, ["57P02"] = true, ["40003"] = true, timeout = true }

--- Whether nobody knows what became of a statement that was answered with a code.
function M.is_lost(code)
  return lost[code] or code:sub(1, 2) == "08"
end

--- Whether a statement was refused for what it holds, and would be again.
function M.is_bad_data(code)
  local class = code:sub(1, 2)
  return class == "22" or class == "23"
end

-- The server gives a statement up a little earlier than we do.
local function statement_timeout(seconds)
  return ("set statement_timeout = %d"):format(seconds * 900)
end

--- How long each statement may take from now on.
-- @tparam table conn
-- @tparam number seconds
-- @tparam table location of koresms.store.location
-- @treturn[1] table or true
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string
function M.limit(conn, seconds, location)
  conn:limit(seconds)
  return not location.prepare or conn:run(statement_timeout(seconds))
end

--- Connects.
-- @tparam table driver koresms.postgres
-- @tparam table location of koresms.store.location
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string
function M.connect(driver, location, options)
  local conn, text, code = driver.connect(location.where, { prepare = location.prepare,
    limit = options.limit })
  if not conn then return nil, text, code end
  if location.prepare then
    -- Compiling a turn takes a hundred times as long as the turn. A pooler keeps no settings:
    -- there they belong to the role.
    for _, text_of in ipairs { "set jit = off", "set synchronous_commit = on",
      statement_timeout(options.limit) } do
      local ok
      ok, text, code = conn:run(text_of)
      if not ok then return nil, text, code end
    end
  end
  return conn
end

return M
