--- One message by the quota of a store, beside its workers: `koresms send --store`.
--
-- Its permit and its mark are one transaction, and its row is `sending` from the beginning, so that
-- no worker takes it. It may use the reserve.
-- @module koresms.store.single
local base = require "koresms.store.base"
local client_module = require "koresms.client"
local core = require "koresms.core"
local results = require "koresms.result"
local limits = require "koresms.store.limits"
local pacer = require "koresms.pacer"
local states = require "koresms.store.states"
local worker = require "koresms.store.worker"

local M = {}

local clock = core.clock

-- Seconds between two looks for a permit, and for which an ending is tried to be stored.
local LOOK, STORE_FOR = 0.2, 5

local function not_sent(message, code, text, retryable)
  return results.new { outcome = "not_sent", code = code, message = text,
    retryable = retryable or false,
    attempts = 0, id = message.id, from = message.from, to = message.to, elapsed = 0 }
end

-- Permits of all windows and the row, or nothing. Returns the row; false where there is no permit;
-- or nil, text, and whether it is worth to try again.
local function mark(works, message)
  local link = works.link
  local short, refused = false, false
  local row, text = link:transaction(function()
    local found, why, reason = link:run("suppressed", message.to)
    if not found then return nil, why, reason end
    if found[1].there == true or found[1].there == 1 then
      refused = true
      return nil, "the number is on the store's list of those that get nothing"
    end
    -- They may have changed while a permit was waited for.
    local rows
    rows, why, reason = link:run("account")
    if not rows then return nil, why, reason end
    local account = rows[1]
    works.account = account
    for _, window in ipairs(limits.windows) do
      if account[window.name] then
        rows, why, reason = link:run("take_permit", window.span, works.margin)
        if not rows then return nil, why, reason end
        if not rows[1] then
          short = true
          return nil
        end
      end
    end
    rows, why, reason = link:run("single", message.to, message.from, message.id, works.number)
    return rows and rows[1], why, reason
  end)
  if row then
    row.worker = works.number
    return row
  end
  if short then return false end
  return nil, text, not refused
end

-- Seconds until it is worth to ask again; nil where the store failed.
local function wait_of(works)
  local rows, text = works.link:run("free_pause")
  if not rows then return nil, text end
  local row, wait = rows[1], rows[1].paused or 0
  for _, window in ipairs(limits.windows) do
    if works.account[window.name] then wait = math.max(wait, row[window.short] or 0) end
  end
  return wait
end

-- Waits for a permit, and marks. Returns the row and until when it may start; or nil and a result.
local function take(works, message, deadline)
  while true do
    local wait, text = wait_of(works)
    if not wait then return nil, not_sent(message, "store", text, true) end
    if wait <= 0 then
      local began = clock()
      local row, why, retryable = mark(works, message)
      if row then return row, began + works.margin - 0.5 end
      if row == nil then return nil, not_sent(message, "store", why, retryable) end
    end
    if clock() + math.min(wait, LOOK) >= deadline then
      local result = not_sent(message, "rate_limited",
        ("no permit of the store before the deadline; the next one comes in %.1f s"):format(
          math.max(wait, 0)), true)
      result.retry_after = math.max(wait, 0)
      return nil, result
    end
    core.sleep(math.min(math.max(wait, 0.02), LOOK))
  end
end

-- What a result makes of its row, which is not taken by any worker.
local function state_of(result)
  return result.outcome == "not_sent" and "skipped" or result.outcome
end

-- Stores the ending, whatever it takes for a few seconds. Returns nil and a text where it cannot
-- be.
local function finish(works, row, result)
  works:finish(row, { state = state_of(result), wait = 0, code = result.code,
    detail = states.detail(result) })
  if result.code == "rate_limited" then
    works:pause_account(math.min(result.retry_after or 60, states.ACCOUNT_PAUSE_MAX),
      states.detail(result))
  end
  local since = clock()
  while not works:turn(0, 0) do
    if clock() - since > STORE_FOR then return nil, works.problem end
    core.sleep(LOOK)
  end
  return true
end

--- Sends one message.
-- @tparam table store
-- @tparam table client
-- @tparam table message
-- @tparam number timeout seconds, the wait for a permit included
-- @treturn table the result; its code is "store" where the store gave no permit or no mark
-- @treturn ?string what could not be stored, and why
function M.send(store, client, message, timeout)
  local deadline = clock() + timeout
  message = { to = message.to, from = message.from, id = message.id or core.random_id() }
  for _, field in ipairs { "to", "from" } do
    local ok, why, code = core.e164(message[field])
    if not ok then return not_sent(message, code, field .. ": " .. why) end
  end
  local link, text = base.open(store, true)
  if not link then return not_sent(message, "store", text, true) end
  local settings, fault = limits.of_settings()
  local works
  if settings then
    works, fault = worker.new(link, "send", false)
    if works then fault = limits.difference(settings, works.account) end
  end
  if fault then return not_sent(message, "store", fault) end
  link:run("lease", works.number, works.name, timeout + worker.LEASE)
  local session = client_module.session(client)
  session.pacer = pacer.unlimited()
  -- It has no connection yet, and its permit has to count until it leaves.
  works.margin = math.min(works.margin + session.settings.connect_timeout, worker.MARGIN_MAX)
  local row, until_when = take(works, message, deadline)
  if not row then
    works:close()
    return until_when
  end
  local result
  message.start_before = until_when
  if clock() < until_when and clock() < deadline then
    local sent, _, _, failure = client:send(message, { retries = 0, timeout = deadline - clock() })
    result = sent or failure
  else
    result = not_sent(message, "store", "the store took too long to mark the message", true)
  end
  local stored, problem = finish(works, row, result)
  works:close()
  return result, not stored and problem or nil
end

return M
