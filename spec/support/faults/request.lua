--- Faults around the request: before it is read, while it is read, once it is processed,
-- and on a connection that was kept.
--
-- Fields of a row, here and in the files beside this one:
--   name, group   `steps`: a script, or a function of `arg` that gives one
--   sweep         "request" or a number: `arg.k` runs from 0 to one below it
--   processed     how often the server processes the message, per attempt
--   answers       whether one whole, well-formed final reply is sent
--   status, body  of that reply; body: "object", "errors", "none", "other"
--   malformed     the reply breaks the protocol
--   either        the outcome is the client's choice, or a matter of timing
--   kept          a first request is answered properly; the row tells of the second one
--   stalls        it lasts until the client gives up
--   listen        options of the listener it needs

local step = require("spec.support.faults.step")

local rows = {}

local function add(group, processed, name, steps, more)
  local row = more or {}
  row.name, row.group, row.steps, row.processed = name, group, steps, processed
  row.answers = row.answers or false
  if row.answers then
    row.status, row.body = row.status or 200, row.body or "object"
  end
  rows[#rows + 1] = row
end

local after_reading, after_second = step.after_reading, step.after_second
local ENDS = { close = step.close, reset = step.reset, stall = step.stall }

-- Each way to end, as name and step; a stall is noted in the row.
local function each_end(make)
  for _, name in ipairs { "close", "reset", "stall" } do
    make(name, ENDS[name](), name == "stall" and true or nil)
  end
end

-- Before the request was read -----------------------------------------------------------

add("early", 0, "accept_close", { step.close() })
add("early", 0, "accept_reset", { step.reset() })
add("early", 0, "accept_never_read", { step.stall() }, { stalls = true })

each_end(function(name, ending, stalls)
  add("early", 0, "unread_" .. name, { step.wait_readable(), ending }, { stalls = stalls })
  add("early", 0, "read_k_" .. name, function(arg)
    return { step.read_bytes { n = arg.k }, ending }
  end, { sweep = "request", stalls = stalls })
  add("early", 0, "read_head_" .. name, { step.read_bytes { n = "head" }, ending },
    { stalls = stalls })
  add("early", 0, "read_all_but_one_" .. name, { step.read_all_but { n = 1 }, ending },
    { stalls = stalls })
end)

add("early", 0, "refused_unread", {
  step.read_bytes { n = "head" },
  step.respond { status = 413, body = "", headers = { { "Connection", "close" } } },
  step.close(),
}, { answers = true, status = 413, body = "none" })

-- Once it was processed -----------------------------------------------------------------

each_end(function(name, ending, stalls)
  add("processed", 1, "processed_" .. name, after_reading(ending), { stalls = stalls })
  add("processed", 1, "answer_k_" .. name, function(arg)
    return after_reading(step.respond { limit = arg.k }, ending)
  end, { sweep = #step.OK_REPLY, stalls = stalls })
  add("processed", 1, "chunked_k_" .. name, function(arg)
    return after_reading(step.send { data = step.CHUNKED_REPLY, limit = arg.k }, ending)
  end, { sweep = #step.CHUNKED_REPLY, stalls = stalls })
  add("processed", 1, "close_delimited_k_" .. name, function(arg)
    return after_reading(step.send { data = step.CLOSE_REPLY, limit = arg.k }, ending)
  end, { sweep = #step.CLOSE_REPLY, stalls = stalls })
end)

-- Over TLS these two end without close_notify.
add("processed", 1, "processed_cut", after_reading(step.close { notify = false }))
add("processed", 1, "close_delimited_cut",
  after_reading(step.respond { framing = "close" }, step.close { notify = false }),
  { answers = true, either = true })

add("processed", 1, "processed_half_close", after_reading(step.half_close(), step.stall()))
add("processed", 1, "half_close_processed",
  { step.half_close(), step.read_request(), step.stall() }, { either = true })
add("processed", 1, "answer_then_reset", after_reading(step.respond(), step.reset()),
  { answers = true, either = true })
add("processed", 1, "answer_late", after_reading(step.stall { seconds = 0.1 },
  step.respond()), { answers = true })
add("processed", 1, "answer_in_pieces", after_reading(step.respond { chunk = 7 }),
  { answers = true })
add("processed", 1, "answer_bytewise",
  after_reading(step.respond { chunk = 1, delay = 0.001 }), { answers = true })
add("processed", 1, "answer_too_slow",
  after_reading(step.respond { chunk = 1, delay = 0.25 }), { stalls = true })

-- On a kept connection ------------------------------------------------------------------

add("kept", 1, "kept_good", { step.serve() }, { kept = true, answers = true })
add("kept", 1, "idle_close", after_reading(step.respond(), step.close()),
  { kept = true, answers = true, either = true })
add("kept", 1, "idle_reset", after_reading(step.respond(), step.reset()),
  { kept = true, answers = true, either = true })
add("kept", 1, "idle_announced_close",
  after_reading(step.respond { headers = { { "Connection", "close" } } }, step.close()),
  { kept = true, answers = true })
add("kept", 1, "idle_half_close", after_reading(step.respond(), step.half_close(),
  step.serve()), { kept = true, either = true, stalls = true })

each_end(function(name, ending, stalls)
  add("kept", 0, "next_unread_" .. name,
    after_reading(step.respond(), step.wait_readable(), ending),
    { kept = true, stalls = stalls })
  add("kept", 0, "next_read_k_" .. name, function(arg)
    return after_reading(step.respond(), step.wait_readable(),
      step.read_bytes { n = arg.k }, ending)
  end, { kept = true, sweep = "request", stalls = stalls })
  add("kept", 0, "next_read_all_but_one_" .. name,
    after_reading(step.respond(), step.read_all_but { n = 1 }, ending),
    { kept = true, stalls = stalls })
  add("kept", 1, "next_processed_" .. name, after_second(ending),
    { kept = true, stalls = stalls })
  add("kept", 1, "next_answer_k_" .. name, function(arg)
    return after_second(step.respond { limit = arg.k }, ending)
  end, { kept = true, sweep = #step.OK_REPLY, stalls = stalls })
end)

return rows
