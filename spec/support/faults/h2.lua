--- HTTP/2. Each row has a listener of its own (`bench:listen_for(row)`); `steps` holds a
-- script for each stream of the first connection, see faultd/h2.py. Fields of a row: see
-- request.lua; `refused`: the protocol guarantees that nothing was processed, so that a
-- client may send again.

local step = require("spec.support.faults.step")

local rows = {}
local PROCESS, ANSWER = step.process(), step.answer()

local function add(name, streams, more)
  local row = more or {}
  row.name, row.group, row.steps = name, "h2", streams
  row.processed = row.processed or 0
  row.answers = row.answers or false
  if row.answers then
    row.status, row.body = row.status or 200, row.body or "object"
  end
  row.listen, row.ca = { h2 = true }, "ca.pem"
  rows[#rows + 1] = row
end

local function plus(fields, more)
  local out = {}
  for key, value in pairs(fields) do out[key] = value end
  for key, value in pairs(more) do out[key] = value end
  return out
end

-- Each fault on the first stream, and on the second one of a kept connection.
local function both(name, steps, fields)
  add("h2_" .. name, { steps }, plus(fields or {}, {}))
  add("h2_next_" .. name, { { PROCESS, ANSWER }, steps }, plus(fields or {}, { kept = true }))
end

local DONE = { processed = 1 }

both("good", { PROCESS, ANSWER }, { processed = 1, answers = true })
both("no_content", { PROCESS, step.answer { status = 204, body = "" } },
  { processed = 1, answers = true, status = 204, body = "none" })
both("throttled", { PROCESS, step.answer { status = 429, body = "{}",
  headers = { { "retry-after", "1" } } } },
  { processed = 1, answers = true, status = 429, retry_after = 1 })
both("error", { PROCESS, step.answer { status = 500, body = "" } },
  { processed = 1, answers = true, status = 500, body = "none" })

-- The stream was not processed, and the server says so.
both("goaway_before", { step.goaway { last = "before" }, step.close() }, { refused = true })
both("goaway_before_at_headers",
  { step.at_headers(), step.goaway { last = "before" }, step.close() }, { refused = true })
both("refused_stream", { step.rst { code = "REFUSED_STREAM" } }, { refused = true })
both("refused_at_headers", { step.at_headers(), step.rst { code = "REFUSED_STREAM" } },
  { refused = true })
both("needs_http11", { step.rst { code = "HTTP_1_1_REQUIRED" } })

-- It may have been.
both("goaway_after_processing", { PROCESS, step.goaway { last = "this" }, step.close() },
  DONE)
both("goaway_error_after_processing",
  { PROCESS, step.goaway { last = "this", code = "INTERNAL_ERROR" }, step.close() }, DONE)
both("goaway_then_answer", { PROCESS, step.goaway { last = "this" }, ANSWER, step.close() },
  { processed = 1, answers = true })
both("rst_unprocessed", { step.rst { code = "INTERNAL_ERROR" } })
both("rst_at_headers", { step.at_headers(), step.rst { code = "INTERNAL_ERROR" } })
both("rst_after_processing", { PROCESS, step.rst { code = "INTERNAL_ERROR" } }, DONE)
both("rst_cancel_after_processing", { PROCESS, step.rst { code = "CANCEL" } }, DONE)
both("rst_no_error_after_processing", { PROCESS, step.rst { code = "NO_ERROR" } }, DONE)
both("rst_after_head", { PROCESS, step.headers(), step.rst { code = "INTERNAL_ERROR" } },
  DONE)
both("rst_in_body", { PROCESS, step.answer { limit = 20 },
  step.rst { code = "INTERNAL_ERROR" } }, DONE)
both("rst_after_answer", { PROCESS, ANSWER, step.rst { code = "NO_ERROR" } },
  { processed = 1, answers = true, either = true })

for _, name in ipairs { "close", "reset", "stall" } do
  local ending, stalls = step[name](), name == "stall" and true or nil
  both("unprocessed_" .. name, { ending }, { stalls = stalls })
  both("processed_" .. name, { PROCESS, ending }, { processed = 1, stalls = stalls })
  both("head_" .. name, { PROCESS, step.headers(), ending },
    { processed = 1, stalls = stalls })
  both("body_" .. name, { PROCESS, step.answer { limit = 20 }, ending },
    { processed = 1, stalls = stalls })
end

-- Broken frames after processing: a HEADERS frame of nonsense, DATA before HEADERS, a
-- frame that is announced far larger than allowed.
both("bad_hpack", { PROCESS, step.raw { data = { b64 = "AAAEAQUAAAAB/////w==" } },
  step.stall() }, { processed = 1, malformed = true, stalls = true, either = true })
both("huge_frame", { PROCESS, step.raw { data = { b64 = "//////8A/////w==" } },
  step.stall() }, { processed = 1, malformed = true, stalls = true })
both("text", { PROCESS, step.raw { data = step.OK_REPLY }, step.close() },
  { processed = 1, malformed = true })

return rows
