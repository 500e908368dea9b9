--- What each scenario of the fault bench has to end in, as the contract says it.
--
-- An outcome and a code are written "unknown/timeout"; "accepted" has no code. Where several
-- may be, since it is a matter of timing or of what the network shows, they stand with "|"
-- between them. Names are written with {a,b} for several.

local bed_support = require "spec.support.fault_bed"
local faults = require "spec.support.faults"

local M = {}

-- Outcomes and codes of the contract's table, and whether sending again may succeed.
M.contract = {
  not_sent = { invalid_number = false, sign = false, rate_limited = true, dns = true,
    connect = true, proxy = true, tls = false, timeout = true, cancelled = true,
    context = false, config = false },
  unknown = { timeout = false, connection_lost = false, bad_response = false,
    server_error = false },
  rejected = { unauthorized = false, forbidden = false, not_found = false,
    rate_limited = true, redirect = false, invalid_request = false },
  accepted = {},
}

--- Scenario -> text as above, or a function of k and of the length of the whole.
M.rows = {}

-- Calls `with` for each name in a text.
local function each(names, with)
  for name in names:gmatch("%S+") do
    local before, list, after = name:match("^(.-){(.-)}(.*)$")
    if before then
      for word in list:gmatch("[^,]+") do each(before .. word .. after, with) end
    else
      with(name)
    end
  end
end

local function expect(verdict, names)
  each(names, function(name)
    assert(not M.rows[name], "two verdicts for " .. name)
    M.rows[name] = verdict
  end)
end

local LOST, TIMEOUT, BAD = "unknown/connection_lost", "unknown/timeout", "unknown/bad_response"

local function either(...) return table.concat({ ... }, "|") end

-- The request did not arrive, or no answer came back -----------------------------------

expect(LOST, [[
  accept_close {unread,read_head,read_all_but_one,read_k}_close {read_head,read_all_but_one}_reset
  processed_{close,reset,cut,half_close} half_close_processed
  {next_unread,next_read_k,next_read_all_but_one,next_processed}_{close,reset} ]])
-- A reset may overtake the end of connecting.
expect(either(LOST, "not_sent/connect"), "accept_reset unread_reset")
expect(function(k) return k == 0 and either(LOST, "not_sent/connect") or LOST end, "read_k_reset")
expect(TIMEOUT, [[
  accept_never_read {unread,read_head,read_all_but_one,read_k}_stall
  {processed,answer_k,chunked_k,close_delimited_k}_stall answer_too_slow
  next_{unread,read_k,read_all_but_one,processed,answer_k}_stall ]])

-- An answer of which a part came. Where that is less than a status line, it may be taken
-- for something that is not HTTP.
local STATUS_LINE = #"HTTP/1.1 200 OK\r\n"

local function cut(k)
  return k > 0 and k < STATUS_LINE and either(LOST, BAD) or LOST
end

expect(cut, "{answer_k,next_answer_k}_{close,reset} chunked_k_reset close_delimited_k_reset")
-- Without the very last line feed nothing of the message is missing.
expect(function(k, whole)
  return k == whole - 1 and either(LOST, "accepted") or cut(k)
end, "chunked_k_close")
-- The body ends with the connection, so what shows is half a JSON text.
local CLOSE_HEAD = select(2, faults.step.CLOSE_REPLY:find("\r\n\r\n", 1, true))
expect(function(k) return k >= CLOSE_HEAD and BAD or cut(k) end, "close_delimited_k_close")

expect(either("accepted", LOST), "answer_then_reset close_delimited_cut")

-- Connections that were kept -------------------------------------------------------------

expect("accepted", "kept_good idle_announced_close")
-- The server leaves while the client may be sending.
expect(either("accepted", LOST), "idle_{close,reset,half_close}")
-- The answer that nobody asked for must not be taken for one.
expect(either("accepted", LOST, "unknown/server_error"), "stale_reply_{same_write,delayed}")

-- The form of an answer -------------------------------------------------------------------

expect("accepted", [[
  answer_{late,in_pieces,bytewise} plain continue_100 early_hints_103 several_1xx chunked
  chunked_{bytewise,trailers,extension} close_delimited http10 http10_with_length header_8bit
  no_reason body_at_cap body_at_cap_chunked second_reply_{same_write,delayed} ]])
-- 2xx, but no JSON object.
expect(BAD, "no_content_204 empty_by_length gzip_unasked length_short length_zero_with_body")
expect(LOST, "length_long_{close,reset} chunk_{no_last,cut_end}")
expect(TIMEOUT, "length_long_stall")
expect(BAD, [[
  two_lengths length_and_chunked length_{negative,plus,hex,empty,huge,2_63}
  coding_{gzip_chunked,chunked_twice,unknown} chunk_size_{negative,huge,empty} chunk_too_long
  folded_{header,first} header_{without_colon,blank_before_colon,without_name,bare_cr,nul}
  garbage_before_status http09 binary switching_101
  status_line_{two_digits,four_digits,word,negative,zero,h2,http3,icy,cut}
  body_over_cap body_over_cap_{chunked,close_delimited}
  endless_{header,header_line,status,body,chunks,trailer,1xx} ]])
-- "cow" begins with a hexadecimal digit: a chunk of twelve bytes that does not come.
expect(either(BAD, LOST), "chunk_size_word")
expect(BAD, "endless_chunk_extension")
expect(TIMEOUT, "endless_slow_{1xx,header,header_line,status,body,chunks,trailer}")
-- A chunk's line has the smallest limit: a fifth of a second reaches it, however slow the rest.
expect(bed_support.STALL < 0.2 and TIMEOUT or either(BAD, TIMEOUT), "endless_slow_chunk_extension")
expect(either(BAD, TIMEOUT), "body_over_cap_announced")
expect(either("accepted", BAD), [[
  length_short_by_junk same_length_twice length_list gzip_only_said header_bare_lf header_100k
  header_10000_lines blank_line_before_status
  status_line_{lower_case,no_blank,http12,high} ]])

-- What an answer says ----------------------------------------------------------------------

expect("accepted", [[
  body_{documented,other_object,empty_object,padded_object} success_{201,202,299}
  body_errors_{empty,null} ]])
expect(BAD, [[
  body_{html,empty,blank,text,truncated,truncated_object,deep_array,nul_inside,byte_order_mark}
  body_{array,empty_array,string,number,null,true,two_objects,trailing_text} ]])
expect(either("accepted", BAD), "body_{deep_object,invalid_utf8}")
expect(either("rejected/invalid_request", BAD), "body_deep_errors")
expect("rejected/invalid_request", "body_{errors,errors_string_code,errors_text} refused_unread")
expect("rejected/redirect", [[
  redirect_{301,302,303,307,308} redirect_{301,302,303,307,308}_{itself,other_host,http,nowhere}
  status_{300,304} ]])
expect("rejected/rate_limited", [[
  throttled throttled_{seconds,zero,hour,date,date_past,date_far,date_bad,negative,absurd}
  throttled_{fraction,word,blank,long,twice,html,no_body} limit_told_in_{400,403}
  limit_of_the_{minute,hour,api} ]])
expect("rejected/unauthorized", [[
  envelope_{sdk_credentials,not_a_jwt,scope,jti,apikey,header} status_401
  envelope_401_{message_for_msg,status_error,bare_text,html,empty,no_code,no_msg,empty_list}
  envelope_401_{list_of_text,object,code_null,code_object,code_huge,two_errors,control_bytes}
  envelope_401_{long_msg,deep,array} ]])
expect("rejected/forbidden", "status_403 limit_told_by_a_page")
expect("rejected/not_found", "envelope_stream_id status_404")
expect("rejected/invalid_request", [[
  envelope_{file_id,arguments,string_code,method}
  status_{400,402,405,406,407,409,410,411,412,413,414,415,417,421,422,423,425,426,428,431}
  status_451 ]])
expect("unknown/server_error", [[
  unavailable_503 envelope_internal
  status_{408,499,500,501,502,503,504,505,507,511,520,599} ]])

-- TLS, connecting ----------------------------------------------------------------------------

expect("accepted", "tls_{good,good_12,chain,chain_reversed,revoked} connect_ipv6")
expect("accepted", "tls_client_cert_{12,13}_given")
expect("not_sent/tls", [[
  tls_{expired,not_yet,self_signed,wrong_host,wrong_purpose,wrong_ca,no_intermediate}
  tls_{weak_rsa1024,weak_rsa512,weak_hash,10_only,11_only,null_cipher}
  tls_client_cert_12_{missing,wrong}
  tls_{alert,garbage,to_plain_http} ]])
-- Cut by the network, nothing was said about certificate, name, protocol or key.
expect("not_sent/connect", "tls_{accept,hello,flight_k}_{close,reset}")
-- Under TLS 1.3 the server may refuse when the request has begun to leave.
expect(either("not_sent/tls", LOST), "tls_client_cert_13_{missing,wrong} tls_done_{close,reset}")
expect("not_sent/timeout", "tls_{accept,hello,flight_k}_stall connect_hangs")
expect(TIMEOUT, "tls_done_stall")
expect("not_sent/connect", "connect_refused connect_ipv6_refused")

-- Proxies. What follows "over" is told of a proxy before a server without TLS. -----------------

local function over(tls, plain) return { tls = tls, plain = plain } end

expect("accepted", "proxy_{good,slow}")
expect("not_sent/proxy", [[
  proxy_refuses_{400,403,404,407,500,502,503} proxy_{accept,asked}_close proxy_asked_reset
  proxy_{garbage,endless_header,redirects} ]])
-- A reset may overtake the end of connecting.
expect(either("not_sent/proxy", "not_sent/connect"), "proxy_accept_reset")
expect("not_sent/timeout", "proxy_{accept,asked}_stall")
expect(over(either("not_sent/connect", "not_sent/proxy"), LOST), "proxy_agreed_{close,reset}")
expect(over("not_sent/connect", LOST), "proxy_agreed_hello_{close,reset}")
expect(over("not_sent/timeout", TIMEOUT), "proxy_agreed_stall proxy_agreed_hello_stall")
expect(over(either("accepted", "not_sent/connect", "not_sent/proxy", LOST),
  either("accepted", LOST, BAD)), "proxy_{up,down}_k_{close,reset}")
expect(over(either("accepted", "not_sent/timeout", TIMEOUT),
  either("accepted", TIMEOUT)), "proxy_{up,down}_k_stall")

-- What differs ---------------------------------------------------------------------------------

--- Over TLS: a reset or an early end may come before the client thinks it is connected.
M.over_tls = {}
each("accept_close accept_reset half_close_processed", function(name)
  M.over_tls[name] = either(LOST, "not_sent/connect")
end)

--- What the settings are that end a failed handshake's text: the word to look for.
M.hints = {}
each("tls_{self_signed,wrong_purpose,wrong_ca,no_intermediate,weak_rsa1024,weak_rsa512,weak_hash}",
  function(name) M.hints[name] = "ca_file" end)
each("tls_{expired,not_yet}", function(name) M.hints[name] = "clock" end)
each("tls_{wrong_host,garbage,to_plain_http}", function(name) M.hints[name] = "host" end)
-- A server that refuses does not say what it would have liked.
each("tls_client_cert_12_{missing,wrong} tls_{10_only,11_only,null_cipher,alert}",
  function(name) M.hints[name] = "client_cert" end)

--- Seconds that a throttled reply asks for, at least and at most; the others say nothing
-- usable, which means to the end of the minute.
M.pauses = {
  throttled_seconds = { 1, 1 }, throttled_zero = { 0, 0 }, throttled_hour = { 3600, 3600 },
  throttled_date = { 1, 2 }, throttled_date_past = { 0, 0 }, throttled_twice = { 1, 9 },
  throttled_date_far = { 60, 60 }, throttled_absurd = { 3600, 3600 },
  limit_told_in_403 = { 2, 2 },
}

--- The verdicts that a case may have, as a set of texts.
-- @tparam table row
-- @param k of a sweep, or false
-- @tparam string way "plain" or "tls"
-- @tparam number whole the length of what is swept over
function M.of(row, k, way, whole)
  local verdict = row.verdict or M.rows[row.name]
  if type(verdict) == "table" then verdict = verdict[way] end
  if type(verdict) == "function" then verdict = verdict(k, whole) end
  local set = {}
  for _, text in ipairs { verdict, way == "tls" and M.over_tls[row.name] or "" } do
    for one in text:gmatch("[^|]+") do set[one] = true end
  end
  return set
end

-- Faults beside those of the bench -------------------------------------------------------------

local step = faults.step
local ENVELOPE = '{"errors":[{"msg":"no","code":1}]}'

--- Rows in the form of the bench's, each with its `verdict`.
M.more = {}

-- Refusals that are cut off: the end of their head was never seen, or of their body.
for _, status in ipairs { 302, 400, 401, 429, 503 } do
  local reply = ("HTTP/1.1 %d No\r\nRetry-After: 0\r\nContent-Length: %d\r\n\r\n%s"):format(
    status, #ENVELOPE, ENVELOPE)
  M.more[#M.more + 1] = { name = "cut_" .. status .. "_k", group = "processed", processed = 1,
    answers = false, sweep = #reply, verdict = cut,
    steps = function(arg)
      return step.after_reading(step.send { data = reply, limit = arg.k }, step.close())
    end }
end

-- A server that announces the end of the connection and then stays, reading nothing: the next
-- message needs another connection.
for name, fields in pairs {
  says_close = { headers = { { "Connection", "close" } } }, http10_stays = { version = "HTTP/1.0" },
} do
  M.more[#M.more + 1] = { name = name, group = "processed", processed = 1, answers = true,
    status = 200, body = "object", verdict = "accepted", leaves = true,
    steps = step.after_reading(step.respond(fields), step.stall()) }
end
table.sort(M.more, function(a, b) return a.name < b.name end)

return M
