--- Sends SMS through Kore.ai's "Send Outbound SMS" API.
--
-- A message is never sent a second time by itself: where a request may have left this
-- machine and no usable answer came back, its outcome is `unknown` and it is left alone.
-- `accepted` means that the platform triggered the experience flow.
-- The platform's page: https://docs.kore.ai/ai-for-service/apis/contact-center/send-outbound-sms
-- @module koresms
local core = require "koresms.core"
local client = require "koresms.client"
local config = require "koresms.config"
local misuse = require "koresms.misuse"
local results = require "koresms.result"

local M = { _VERSION = core._VERSION }

-- The part for this host.
local function runtime()
  local ngx = rawget(_G, "ngx")
  local inside = ngx and ngx.socket and ngx.socket.tcp and ngx.get_phase
  return require(inside and "koresms.runtime.nginx" or "koresms.runtime.plain")
end

--- Seconds on a clock that is never set back: the one on which `send_many` wants times.
-- @function clock
-- @treturn number
M.clock = core.clock

--- Checks a telephone number against E.164; nothing is cleaned up or guessed.
-- @function e164
-- @tparam string number `+`, country code and number: 2 to 15 ASCII digits in all; a value
--   that is not a string raises
-- @treturn[1] string the same text
-- @treturn[2] nil
-- @treturn[2] string which byte is wrong and why
-- @treturn[2] string the code "invalid_number"
function M.e164(number, ...)
  misuse.check_dot(M, "e164", number)
  misuse.check_arity("e164", 2, ...)
  if type(number) ~= "string" then
    misuse.raise(("bad argument #1 to 'e164' (string expected, got %s)"):format(type(number)))
  end
  return core.e164(number)
end

--- Makes a client. No connection is opened.
-- @function new
-- @tparam[opt] table options settings by name, see the README; they come before the
--   environment, the file that `KORESMS_CONFIG` names, and the defaults. A wrong type or an
--   unknown name raises.
-- @treturn[1] table a client
-- @treturn[2] nil
-- @treturn[2] string which setting, from which source, is wrong
-- @treturn[2] string the code "config"
function M.new(options, ...)
  misuse.check_dot(M, "new", options)
  misuse.check_arity("new", 2, ...)
  local settings, text, code = config.load(options)
  if not settings then return nil, text, code end
  return client.new(settings, runtime())
end

--- Opens a store of messages that survive the process; see koresms.store.
-- @function store
-- @tparam[opt] string location a file of SQLite, or `postgres://...`; default: the setting
--   `store`
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
-- @treturn[2] string "config" or "store"
function M.store(location, ...)
  misuse.check_dot(M, "store", location)
  return require("koresms.store").open(M.new, location, ...)
end

local default

local function default_client()
  local text, code
  if not default then default, text, code = M.new() end
  return default, text, code
end

--- Sends one message with a client that is built once, from environment and file.
-- @function send
-- @tparam table message see `client:send`
-- @tparam[opt] table options see `client:send`
-- @return what `client:send` returns; where there is no good configuration nil, a text, the
--   code "config", and a result with the outcome "not_sent"
function M.send(message, options, ...)
  misuse.check_dot(M, "send", message)
  if default then return default:send(message, options, ...) end
  -- Misuse is misuse, whatever the configuration.
  client.check_send(message, options, ...)
  local built, text, code = default_client()
  if not built then
    return nil, text, code, results.new { outcome = "not_sent", code = code, message = text,
      retryable = false, attempts = 0, id = message.id or core.random_id(),
      from = message.from, to = message.to, elapsed = 0.0 }
  end
  return built:send(message, options)
end

--- Inside nginx, leaves a message to a timer: for phases without network, such as log. A worker
-- keeps up to 1000 messages of a client; one that exits goes on sending for `later_flush`
-- seconds, and the rest is `cancelled`. The result goes to the client's `on_event` (kind
-- "verdict"); where there is none, what was not accepted goes to nginx's error log. So does, in
-- any case, what is left in a worker that ends before it could be told.
-- @function later
-- @tparam table message see `client:send`; it is checked at once
-- @tparam[opt] table options see `client:send`, and `client`: one to send with, in place of the
--   one that is built from environment and file
-- @treturn[1] boolean true: the message is in the queue
-- @treturn[2] nil
-- @treturn[2] string text for people
-- @treturn[2] string "invalid_number", "rate_limited" (the queue is full), "context" (outside
--   nginx, or where there are no timers), "cancelled" (the client was closed, or the
--   worker exits and takes no more) or "config"
function M.later(message, options, ...)
  misuse.check_dot(M, "later", message)
  misuse.check_arity("later", 3, ...)
  return require("koresms.nginx.later").put(default_client, message, options)
end

return M
