-- What a client does, as Prometheus reads it. In a program:
--
--     local metrics = require("metrics").new()
--     local client = koresms.new { on_event = metrics.on_event }
--     ...
--     write(metrics.text(client))      -- what GET /metrics answers
--
-- Numbers and ids are no labels: there are too many of them, and they are nobody's to collect.
local M = {}

local HEAD = {
  koresms_messages_total = "counter", koresms_attempts_total = "counter",
  koresms_attempt_seconds_sum = "counter", koresms_pauses_total = "counter",
  koresms_in_flight = "gauge", koresms_waiting = "gauge", koresms_permits = "gauge",
  koresms_paused_seconds = "gauge", koresms_last_accepted_timestamp_seconds = "gauge",
}

-- Of what `client:stats()` tells, that which is not counted by events.
local GAUGES = {
  in_flight = "koresms_in_flight", waiting = "koresms_waiting", permits = "koresms_permits",
  paused = "koresms_paused_seconds", last_accepted = "koresms_last_accepted_timestamp_seconds",
}

--- Makes a set of counters for one client.
-- @treturn table `on_event`, and `text(client)`
function M.new()
  local values = {}

  local function count(name, labels, by)
    local key = labels and ("%s{%s}"):format(name, labels) or name
    values[key] = (values[key] or 0) + by
  end

  local self = {}

  function self.on_event(event)
    if event.kind == "verdict" then
      count("koresms_messages_total",
        ('outcome="%s",code="%s"'):format(event.outcome, event.code or ""), 1)
    elseif event.kind == "attempt" and event.elapsed then
      count("koresms_attempts_total",
        ('connection="%s"'):format(event.reused and "reused" or "new"), 1)
      count("koresms_attempt_seconds_sum", nil, event.elapsed)
    elseif event.kind == "pause" then
      count("koresms_pauses_total", nil, 1)
    end
  end

  function self.text(client)
    local stats, lines, said = client:stats(), {}, {}
    for field, name in pairs(GAUGES) do values[name] = stats[field] end
    for key in pairs(values) do lines[#lines + 1] = key end
    table.sort(lines)
    for i, key in ipairs(lines) do
      local name = key:match("^[^{]+")
      local head = said[name] and "" or ("# TYPE %s %s\n"):format(name, HEAD[name])
      said[name] = true
      lines[i] = ("%s%s %.14g\n"):format(head, key, values[key])
    end
    return table.concat(lines)
  end

  return self
end

return M
