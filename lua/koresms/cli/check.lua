--- `koresms check`: what a newcomer gets wrong, in the order of a message's journey.
--
-- One POST whose body is `{}` tells all that the network and the platform can say. It
-- names no number, so it sends no message.
local client_module = require "koresms.client"
local core = require "koresms.core"
local http_date = require "koresms.http_date"
local koresms = require "koresms"
local mask = require "koresms.mask"
local opener = require "koresms.cli.client"
local output = require "koresms.cli.output"

local M = {}

M.summary = "Find out what is wrong with the configuration, without sending."

-- Seconds between two clocks that a token survives for certain.
local CLOCK_SLACK = 60

function M.define(command)
  command:description(M.summary .. [[


One line a step: ok, warn, FAIL with what to do, or skip where an earlier step decides.
It makes one request, with an empty body, so no message is sent. Only a real message shows
whether the SMS channel is configured and the number is attached to an experience flow.

Exit status here: 0 all is well, 1 a step failed, 2 the configuration is not complete.]])
  command:flag("--json"):description("Print each step as a JSON object with step, state, text.")
end

-- Prints steps, and remembers the worst.
local function reporter(as_json)
  local self = { failed = false }
  function self.say(state, step, text)
    self.failed = self.failed or state == "FAIL"
    output.print(as_json
      and output.json({ "step", "state", "text" }, { step = step, state = state, text = text })
      or ("%-4s  %-13s  %s"):format(state, step, output.plain(text)))
  end
  return self
end

-- The octal digits of a file's mode that let others than its owner read it.
local function others_may_read(mode)
  return math.floor(mode / 4) % 2 == 1 or math.floor(mode / 32) % 2 == 1
end

-- Files that hold secrets, or may, and the setting that names each.
local function secret_files(settings)
  local files = {}
  for _, name in ipairs({ "client_secret_file", "private_key_file", "client_key" }) do
    if settings[name] then files[#files + 1] = { settings[name], settings.where[name] } end
  end
  local path = os.getenv("KORESMS_CONFIG")
  if path and path ~= "" then files[#files + 1] = { path, "KORESMS_CONFIG" } end
  return files
end

-- Warns of what works and is probably not meant so.
local function warn(say, settings)
  for _, text in ipairs(settings.suspicions) do say("warn", "configuration", text) end
  for _, file in ipairs(secret_files(settings)) do
    local mode = core.file_mode(file[1])
    if mode and others_may_read(mode) then
      say("warn", "configuration", ("%s: others than its owner may read %s (chmod 600)"):format(
        file[2], file[1]))
    end
  end
end

-- Makes the client, or names each setting that is missing.
local function check_configuration(say)
  for _, stranger in ipairs(opener.strangers()) do
    say("warn", "configuration", opener.about(stranger))
  end
  local client, text = koresms.new()
  if not client then
    for _, one in ipairs(opener.faults(text)) do say("FAIL", "configuration", one) end
    return nil
  end
  local settings = client_module.session(client).settings
  warn(say, settings)
  local key = settings.where[settings.credential]
  say("ok", "configuration", ("host %s, bot %s, %s, %s"):format(settings.host,
    settings.bot_id, settings.credential == "token" and "a ready-made token"
      or settings.algorithm .. (key and " with " .. key or ""),
    settings.from and "sender " .. mask.number(settings.from)
      or "no sender (each message needs --from)"))
  return client
end

-- The steps of the network: how each reads where it went well, and what to do where not.
local network = {
  {
    step = "name",
    good = function(origin) return origin.host .. " has an address" end,
    advice = "is host (KORESMS_HOST) spelt as on the platform, and does this machine's name "
      .. "service work?",
  },
  {
    step = "connection",
    good = function(origin) return ("connected to port %d"):format(origin.port) end,
    advice = "look at the port in host (KORESMS_HOST), at firewalls, and at the proxy where "
      .. "one is needed (KORESMS_PROXY)",
  },
  {
    step = "tls",
    good = function(origin) return "the certificate is valid for " .. origin.host end,
    advice = "the certificate must name the host and come from an authority that this machine "
      .. "trusts; ca_file (KORESMS_CA_FILE) names others; a wrong clock makes valid ones expire",
  },
}

-- The step in which each failure happens. The other failures, such as running out of
-- time, do not tell.
local step_of = { dns = "name", connect = "connection", proxy = "connection", tls = "tls" }

-- Why a step does not apply.
local function exempt(step, settings, origin)
  if step == "tls" and origin.scheme == "http" then return "plain HTTP, without TLS" end
  if step == "name" and settings.where.proxy ~= "default" then return "left to the proxy" end
end

-- Reports the steps of the network; returns whether all went well.
local function check_network(say, settings, reply)
  local origin = core.origin(settings.host)
  -- A request that has begun to leave has all of them behind it.
  local reached = not reply.failure or reply.starts > 0
  local told = reached or step_of[reply.failure]
  local culprit = not reached and (step_of[reply.failure] or "connection")
  local past = false
  for _, row in ipairs(network) do
    local reason = past and "not reached" or exempt(row.step, settings, origin)
      or not told and "not determined"
    if row.step == culprit then
      say("FAIL", row.step, reply.text .. "; " .. row.advice)
      past = true
    elseif reason then
      say("skip", row.step, reason)
    else
      say("ok", row.step, row.good(origin))
    end
  end
  return reached
end

local function check_clock(say, reply)
  local date = reply.date and http_date.parse(reply.date)
  if not date then return say("skip", "clock", "the answer has no date") end
  local ahead = core.time() - date
  local text = ("%.0f s %s the server's"):format(math.abs(ahead),
    ahead < 0 and "behind" or "ahead of")
  if math.abs(ahead) <= CLOCK_SLACK then return say("ok", "clock", text) end
  say("FAIL", "clock", text .. "; set this machine's clock (NTP): a token holds times, and one "
    .. "from the past may have expired when it arrives")
end

-- The statuses with which the platform refuses what a body holds.
local about_body = { [400] = true, [412] = true, [422] = true }

-- Whether the answer to an empty body shows that the token passed.
local function passed(judged)
  return judged.outcome == "accepted" or judged.code == "invalid_request"
    and about_body[judged.status] and judged.platform_message ~= nil
end

-- Endings in which the address is at fault, and nothing is known of the token.
local about_address = { not_found = true, redirect = true }

local scope = "; the signature is right, but the API scope \"Outbound SMS\" is not granted to "
  .. "the app, or not published"

local function describe(judged)
  local said = judged.platform_message
  if judged.code == "unauthorized" and said and said:lower():find("scope", 1, true) then
    return ("HTTP %d (%s)%s"):format(judged.status, said, scope)
  end
  if judged.code == "invalid_request" then
    return ("HTTP %d is not how the platform answers a request without numbers; does host "
      .. "(KORESMS_HOST) name it?"):format(judged.status)
  end
  return judged.message
end

-- What the answer says of the token and of the bot.
local function check_answer(say, judged)
  if passed(judged) then
    say("ok", "token", "accepted; not tried on the live platform: that it judges the token "
      .. "before an empty body")
    say("ok", "bot", "no error reported")
  elseif about_address[judged.code] then
    say("skip", "token", "not determined")
    say("FAIL", "bot", describe(judged))
  else
    say("FAIL", "token", describe(judged))
    say("skip", "bot", "not determined")
  end
end

function M.run(arguments)
  local report = reporter(arguments.json)
  local say = report.say
  local client = check_configuration(say)
  if not client then return 2 end
  local session = client_module.session(client)
  local reply, judged = client_module.probe(session)
  if check_network(say, session.settings, reply) then
    check_clock(say, reply)
    check_answer(say, judged)
  else
    for _, step in ipairs({ "clock", "token", "bot" }) do say("skip", step, "not reached") end
  end
  say("skip", "message", "none is sent here. It needs, on the platform, a configured SMS channel "
    .. "and the sender's number in it, attached to an experience flow")
  client:close()
  return report.failed and 1 or 0
end

return M
