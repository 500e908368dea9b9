--- Odd, wrong and endless replies: everything about how a reply is put on the wire. The
-- message is always processed once. Fields of a row: see request.lua.

local step = require("spec.support.faults.step")

local rows = {}
local OK = "HTTP/1.1 200 OK\r\n"
local JSON = "Content-Type: application/json\r\n"
local BODY = step.OK_BODY
local LENGTH = "Content-Length: " .. #BODY .. "\r\n"
local CHUNKED = "Transfer-Encoding: chunked\r\n"

local function add(kind, name, steps, more)
  local row = more or {}
  row.name, row.group, row.processed = name, "framing", 1
  row.steps = step.after_reading((unpack or table.unpack)(steps))
  row.answers = kind ~= "broken"
  row.malformed = kind == "broken" or nil
  row.either = kind == "either" or row.either
  if row.answers then
    row.status, row.body = row.status or 200, row.body or "object"
  end
  rows[#rows + 1] = row
end

-- The bytes given, then the end of the connection.
local function raw(kind, name, bytes, more)
  add(kind, name, { step.send { data = bytes }, step.close() }, more)
end

local function head(kind, name, lines, more)
  raw(kind, name, OK .. JSON .. lines .. "\r\n" .. BODY, more)
end

-- Correct, if uncommon ------------------------------------------------------------------

local CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n"
local HINTS = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
local WORKING = "HTTP/1.1 102 Processing\r\n\r\n"

add("good", "plain", { step.respond() })
add("good", "continue_100", { step.send { data = CONTINUE }, step.respond() })
add("good", "early_hints_103", { step.send { data = HINTS }, step.respond() })
add("good", "several_1xx", {
  step.send { data = { CONTINUE, HINTS, WORKING } }, step.stall { seconds = 0.02 },
  step.send { data = { HINTS, WORKING } }, step.respond(),
})
add("good", "no_content_204", { step.respond { status = 204, body = "", framing = "none" } },
  { status = 204, body = "none" })
add("good", "empty_by_length", { step.respond { body = "" } }, { body = "none" })
add("good", "chunked", { step.respond { framing = "chunked" } })
add("good", "chunked_bytewise", { step.respond { framing = "chunked", chunk_size = 1 } })
add("good", "chunked_trailers", { step.respond {
  framing = "chunked", trailers = { { "X-Sum", "1" }, { "Content-Length", "7" } },
} })
add("good", "chunked_extension",
  { step.send { data = OK .. CHUNKED .. "\r\n2;a=b;c=\"d\"\r\n{}\r\n0;last\r\n\r\n" } })
add("good", "close_delimited", { step.respond { framing = "close" }, step.close() })
add("good", "http10", { step.respond { version = "HTTP/1.0", framing = "close" },
  step.close() })
add("good", "http10_with_length", { step.respond { version = "HTTP/1.0" }, step.close() })
add("good", "header_8bit", { step.respond { headers = { { "X-Name", { b64 = "5Pb8" } } } } })
raw("good", "no_reason", "HTTP/1.1 200 \r\n" .. LENGTH .. "\r\n" .. BODY)

-- The length ----------------------------------------------------------------------------

add("broken", "length_short", { step.respond { framing = "wrong_short" }, step.close() })
add("either", "length_short_by_junk",
  { step.respond { framing = "wrong_short", body = BODY .. "JUNK!" }, step.close() })
add("broken", "length_long_close", { step.respond { framing = "wrong_long" }, step.close() })
add("broken", "length_long_reset", { step.respond { framing = "wrong_long" }, step.reset() })
add("broken", "length_long_stall", { step.respond { framing = "wrong_long" }, step.stall() },
  { stalls = true })
add("broken", "two_lengths", { step.respond { framing = "two_lengths" }, step.close() })
add("either", "same_length_twice", { step.respond { framing = "same_twice" } })
add("broken", "length_and_chunked", { step.respond { framing = "both" }, step.close() })
head("broken", "length_zero_with_body", "Content-Length: 0\r\n")
head("either", "length_list", ("Content-Length: %d, %d\r\n"):format(#BODY, #BODY))
head("broken", "length_negative", "Content-Length: -5\r\n")
head("broken", "length_plus", "Content-Length: +" .. #BODY .. "\r\n")
head("broken", "length_hex", "Content-Length: 0x10\r\n")
head("broken", "length_empty", "Content-Length:\r\n")
head("broken", "length_huge", "Content-Length: 99999999999999999999999\r\n")
head("broken", "length_2_63", "Content-Length: 9223372036854775808\r\n")

-- Transfer codings and chunks -----------------------------------------------------------

local GZIPPED = "H4sIAAAAAAACA6tWyk0tLk5MT1WyUgopykxPTy1KTVGqBQDmSyV4FwAAAA=="

head("broken", "coding_gzip_chunked", "Transfer-Encoding: gzip, chunked\r\n")
head("broken", "coding_chunked_twice", "Transfer-Encoding: chunked\r\n" .. CHUNKED)
head("broken", "coding_unknown", "Transfer-Encoding: cow\r\n")
add("broken", "gzip_unasked", { step.respond {
  body = { b64 = GZIPPED }, headers = { { "Content-Encoding", "gzip" } },
} })
add("either", "gzip_only_said",
  { step.respond { headers = { { "Content-Encoding", "gzip" } } } })

for name, body in pairs {
  size_word = "cow\r\n{}\r\n0\r\n\r\n", size_negative = "-2\r\n{}\r\n0\r\n\r\n",
  size_huge = "fffffffffffffffff\r\n{}\r\n0\r\n\r\n", size_empty = "\r\n{}\r\n0\r\n\r\n",
  too_long = "2\r\n{}{}\r\n0\r\n\r\n", no_last = "2\r\n{}\r\n", cut_end = "2\r\n{}\r\n0\r\n",
} do
  raw("broken", "chunk_" .. name, OK .. CHUNKED .. "\r\n" .. body)
end

-- Lines of the head ---------------------------------------------------------------------

head("broken", "folded_header", "X-Folded: a\r\n b\r\n" .. LENGTH)
head("broken", "folded_first", " folded\r\n" .. LENGTH)
head("broken", "header_without_colon", "nonsense\r\n" .. LENGTH)
head("broken", "header_blank_before_colon", "X-Blank : a\r\n" .. LENGTH)
head("broken", "header_without_name", ": a\r\n" .. LENGTH)
head("broken", "header_bare_cr", "X-Cr: a\rb\r\n" .. LENGTH)
add("broken", "header_nul", { step.send {
  data = { OK .. JSON .. "X-Nul: a", { b64 = "AA==" }, "b\r\n" .. LENGTH .. "\r\n" .. BODY },
}, step.close() })
raw("either", "header_bare_lf", ((OK .. LENGTH):gsub("\r", "")) .. "\n" .. BODY)
add("either", "header_100k", { step.respond {
  headers = { { "X-Fill", { ["repeat"] = "a", n = 100 * 1024 } } },
} })
add("either", "header_10000_lines", { step.send { data = {
  OK, LENGTH, { ["repeat"] = "X-Fill: a\r\n", n = 10000 }, "\r\n", BODY,
} } })

local SAMPLE = "Content-Length: 2\r\n\r\n{}"

raw("broken", "garbage_before_status", "garbage\r\n" .. OK .. SAMPLE)
raw("either", "blank_line_before_status", "\r\n" .. OK .. SAMPLE)
raw("broken", "http09", '{"message":"no head at all"}')
raw("broken", "binary", "\1\2\3\4\5\6\7\8\r\n\r\n")

for name, line in pairs {
  two_digits = "HTTP/1.1 20 OK", four_digits = "HTTP/1.1 2000 OK", word = "HTTP/1.1 OK",
  negative = "HTTP/1.1 -200 OK", zero = "HTTP/1.1 000 OK", h2 = "HTTP/2 200",
  http3 = "HTTP/3.0 200 OK", icy = "ICY 200 OK", cut = "HTTP/1.1",
} do
  raw("broken", "status_line_" .. name, line .. "\r\n" .. SAMPLE)
end
for name, line in pairs {
  lower_case = "http/1.1 200 OK", no_blank = "HTTP/1.1 200", http12 = "HTTP/1.2 200 OK",
  high = "HTTP/1.1 999 High",
} do
  raw("either", "status_line_" .. name, line .. "\r\n" .. SAMPLE)
end

raw("broken", "switching_101",
  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: cow\r\nConnection: Upgrade\r\n\r\n{}")

-- Without end ---------------------------------------------------------------------------

for _, what in ipairs {
  "header", "header_line", "status", "body", "chunks", "chunk_extension", "trailer", "1xx",
} do
  add("broken", "endless_" .. what, { step.endless { what = what } })
  add("broken", "endless_slow_" .. what, { step.endless { what = what, delay = 0.05 } },
    { stalls = true })
end

-- Size of the body; the cap of the client is 1 MiB --------------------------------------

local CAP = 1024 * 1024

local function json_of(size)
  return { '{"message":"', { ["repeat"] = "a", n = size - 14 }, '"}' }
end

add("good", "body_at_cap", { step.respond { body = json_of(CAP) } })
add("good", "body_at_cap_chunked",
  { step.respond { body = json_of(CAP), framing = "chunked", chunk_size = 8000 } })
add("broken", "body_over_cap", { step.respond { body = json_of(CAP + 1) } })
add("broken", "body_over_cap_chunked",
  { step.respond { body = json_of(CAP + 1), framing = "chunked", chunk_size = 8000 } })
add("broken", "body_over_cap_close_delimited",
  { step.respond { body = json_of(CAP + 1), framing = "close" }, step.close() })
add("broken", "body_over_cap_announced",
  { step.send { data = OK .. "Content-Length: 1048577\r\n\r\n" }, step.stall() },
  { stalls = true })

-- More than one reply -------------------------------------------------------------------

local REFUSED = step.respond { status = 503, body = '{"errors":[{"msg":"no","code":503}]}' }

add("good", "second_reply_same_write",
  { step.send { data = step.OK_REPLY .. step.OK_REPLY }, step.serve() })
add("good", "second_reply_delayed",
  { step.respond(), step.stall { seconds = 0.02 }, step.respond(), step.serve() })

-- The second message is refused, while a stale success waits on the connection: taking
-- that one for its answer would be a lie.
for name, steps in pairs {
  same_write = { step.send { data = step.OK_REPLY .. step.OK_REPLY } },
  delayed = { step.respond(), step.stall { seconds = 0.02 }, step.respond() },
} do
  steps[#steps + 1] = step.read_request()
  steps[#steps + 1] = REFUSED
  steps[#steps + 1] = step.close()
  add("either", "stale_reply_" .. name, steps, { kept = true, status = 503, body = "errors" })
end

-- Rows above come from unordered tables; a suite wants the same order every time.
table.sort(rows, function(a, b) return a.name < b.name end)

return rows
