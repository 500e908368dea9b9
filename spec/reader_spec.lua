-- The reader of HTTP/1.1 replies: every case whole, byte by byte and cut at every place.

local core = require "koresms.core"

local OK = "HTTP/1.1 200 OK\r\n"

-- What a reply comes to: "status|body|reusable", then "retry=", "date=" and "eof" (only the
-- end of the connection completed it) where they apply; or "code: text".
local function outcome(pieces, cap)
  local reader = core.reader(cap)
  local state, text, code = "more", nil, nil
  for _, piece in ipairs(pieces) do
    state, text, code = reader:feed(piece)
    if not state then break end
  end
  local at_eof = state == "more"
  if at_eof then state, text, code = reader:eof() end
  if not state then
    assert.same({ nil, text, code }, { reader:feed(OK .. "\r\n") })
    assert.same({ nil, text, code }, { reader:eof() })
    assert.has_error(function() reader:result() end)
    return code .. ": " .. text
  end
  assert.equal("done", state)
  local status, body, retry_after, date, reusable = reader:result()
  local parts = { status, body, tostring(reusable) }
  if retry_after then parts[#parts + 1] = "retry=" .. retry_after end
  if date then parts[#parts + 1] = "date=" .. date end
  if at_eof then parts[#parts + 1] = "eof" end
  return table.concat(parts, "|")
end

local function bytes_of(s)
  local list = {}
  for i = 1, #s do list[i] = s:sub(i, i) end
  return list
end

local accepted = {
  ["length"] = { OK .. "Content-Length: 2\r\n\r\n{}", "200|{}|true" },
  ["length zero"] = { OK .. "Content-Length: 0\r\n\r\n", "200||true" },
  ["length with leading zeros"] = { OK .. "Content-Length: 002\r\n\r\n{}", "200|{}|true" },
  ["names in any case, blanks around values"] =
    { OK .. "cOnTeNt-LeNgTh:\t 2 \t\r\n\r\n{}", "200|{}|true" },
  ["value without blank"] = { OK .. "Content-Length:2\r\n\r\n{}", "200|{}|true" },
  ["empty value"] = { OK .. "X:\r\nContent-Length: 0\r\n\r\n", "200||true" },
  ["bytes beyond ASCII in a value"] = { OK .. "X: \195\164\r\nContent-Length: 0\r\n\r\n",
    "200||true" },
  ["lines ended by LF alone"] = { "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", "200|{}|false" },
  ["one line ended by LF alone"] =
    { OK .. "X: a\nContent-Length: 2\r\n\r\n{}", "200|{}|false" },
  ["no reason"] = { "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200||true" },
  ["empty reason"] = { "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "200||true" },
  ["body with NUL, CR and LF"] = { OK .. "Content-Length: 4\r\n\r\n\0\r\nx", "200|\0\r\nx|true" },
  ["fields that are handed on"] = { "HTTP/1.1 429 Slow\r\nRetry-After: 7 \r\n" ..
    "Date: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 0\r\n\r\n",
    "429||true|retry=7|date=Tue, 15 Nov 1994 08:12:31 GMT" },
  ["the first of two Retry-After"] = { OK .. "Retry-After: 1\r\nRetry-After: 9\r\n" ..
    "Content-Length: 0\r\n\r\n", "200||true|retry=1" },
  ["a Retry-After too long to keep"] = { OK .. "Retry-After: " .. ("9"):rep(64) ..
    "\r\nContent-Length: 0\r\n\r\n", "200||true" },
  ["Connection: close"] = { OK .. "Connection: close\r\nContent-Length: 0\r\n\r\n", "200||false" },
  ["close among other options"] =
    { OK .. "Connection: x , CLOSE,\r\nContent-Length: 0\r\n\r\n", "200||false" },
  ["close in a second Connection"] =
    { OK .. "Connection: keep-alive\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
      "200||false" },
  ["a word that begins with close"] =
    { OK .. "Connection: closed\r\nContent-Length: 0\r\n\r\n", "200||true" },
  ["HTTP/1.0"] = { "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "200||false" },
  ["HTTP/1.0 keep-alive"] =
    { "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", "200||true" },
  ["until close"] = { OK .. "\r\nhello", "200|hello|false|eof" },
  ["until close, empty"] = { OK .. "\r\n", "200||false|eof" },
  ["204"] = { "HTTP/1.1 204 No Content\r\n\r\n", "204||true" },
  ["304"] = { "HTTP/1.1 304 Not Modified\r\n\r\n", "304||true" },
  ["204 that announces a body"] = { "HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", "204||false" },
  ["204 that announces chunks"] =
    { "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", "204||false" },
  ["100"] = { "HTTP/1.1 100 Continue\r\n\r\n" .. OK .. "Content-Length: 2\r\n\r\n{}",
    "200|{}|true" },
  ["several 1xx, their fields forgotten"] = { "HTTP/1.1 103 Early\r\nContent-Length: 7\r\n" ..
    "Retry-After: 3\r\nConnection: close\r\n\r\nHTTP/1.1 102 X\r\n\r\n" .. OK ..
    "Content-Length: 2\r\n\r\n{}", "200|{}|true" },
  ["chunked"] = { OK .. "Transfer-Encoding: Chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    "200|{}|true" },
  ["chunks, hex in both cases"] = { OK .. "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n" ..
    "00b\r\n0123456789a\r\n0\r\n\r\n", "200|01234567890123456789a|true" },
  ["chunk extensions"] = { OK
    .. "Transfer-Encoding: chunked\r\n\r\n2 ;a=b;c=\"d e\"\r\n{}\r\n0;z\r\n\r\n",
    "200|{}|true" },
  ["blanks after a chunk size"] =
    { OK .. "Transfer-Encoding: chunked\r\n\r\n2  \r\n{}\r\n0\t\r\n\r\n", "200|{}|true" },
  ["trailers, ignored"] = { OK .. "Transfer-Encoding: chunked\r\n\r\n0\r\nRetry-After: 5\r\n" ..
    "Content-Length: 3\r\nConnection: close\r\n\r\n", "200||true" },
  ["surplus after a length"] = { OK .. "Content-Length: 2\r\n\r\n{}x", "200|{}|false" },
  ["surplus after chunks"] = { OK .. "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" .. OK,
    "200||false" },
  ["surplus after 204"] = { "HTTP/1.1 204 X\r\n\r\n" .. OK, "204||false" },
}

-- Replies by the text of their refusal; each is an array.
local CHUNKED = OK .. "Transfer-Encoding: chunked\r\n\r\n"
local refused = {
  ["not an HTTP status line"] = { "\r\n" .. OK .. "\r\n", "garbage", "HTTP 200 OK\r\n",
    "http/1.1 200 OK\r\n\r\n",
    "<html>hello</html>\n", "ICY 200 OK\r\n", "HTTP/3 200\r\n", "HTTP/0.9 200\r\n",
    "HTTP/1.x 200 OK\r\n",
    "HTTP/1.1 100 C\r\n\r\n{}", "HTTP/1.1 100 C\r\n\r\n\r\n" .. OK, "HTTP/2.0 200\r\n",
    "HTTP/2 200 \r\n" },
  ["malformed HTTP status line"] = { "HTTP/1.1  200 OK\r\n", "HTTP/1.1 20 OK\r\n",
    "HTTP/1.1 2000 OK\r\n",
    "HTTP/1.1\t200 OK\r\n", "HTTP/1.1 2x0 OK\r\n", "HTTP/1.1 200-OK\r\n", "HTTP/1.10 200 OK\r\n",
    "HTTP/1.1 \r\n" },
  ["HTTP status out of range"] = { "HTTP/1.1 000 X\r\n", "HTTP/1.1 099 X\r\n",
    "HTTP/1.1 600 X\r\n" },
  ["switch of protocols that was not asked for"] = { "HTTP/1.1 101 Switching\r\n\r\n" },
  ["bare carriage return in the header"] = { OK .. "X: a\rb\r\n", OK .. "X: a\r\r\n",
    OK .. "\r\r\n",
    OK .. "X: a\rContent-Length: 5\r\n", "HTTP/1.1 200 O\rK\r\n", CHUNKED .. "0\r\nX: a\rb\r\n" },
  ["control character in the header"] = { OK .. "X: a\0b\r\n", OK .. "X\0: a\r\n",
    "HTTP/1.1 200 \27\r\n",
    OK .. "X: \127\r\n", CHUNKED .. "0\r\nX: \1\r\n" },
  ["folded header line"] = { OK .. "X: a\r\n b\r\n", OK .. " X: a\r\n", OK .. "X: a\r\n\tb: c\r\n",
    CHUNKED .. "0\r\n X: a\r\n" },
  ["header line without a colon"] = { OK .. "Content-Length\r\n", CHUNKED .. "0\r\nabc\r\n" },
  ["blank in or after a header name"] = { OK .. "Content-Length : 5\r\n",
    OK .. "Content Length: 5\r\n",
    OK .. "X\t: 5\r\n" },
  ["bad character in a header name"] = { OK .. "X(y): 5\r\n", OK .. "X\195\164: 5\r\n",
    OK .. "HTTP/1.1 200 OK\r\n" },
  ["empty header name"] = { OK .. ": 5\r\n", OK .. ":\r\n" },
  ["more than one Content-Length"] = { OK .. "Content-Length: 2\r\nContent-Length: 2\r\n",
    OK .. "Content-Length: 2\r\nX: y\r\ncontent-length: 3\r\n" },
  ["Content-Length is not a number"] = { OK .. "Content-Length: -1\r\n",
    OK .. "Content-Length: +1\r\n",
    OK .. "Content-Length: 2, 2\r\n", OK .. "Content-Length: 0x2\r\n",
    OK .. "Content-Length: 2.0\r\n",
    OK .. "Content-Length: 1 2\r\n" },
  ["empty Content-Length"] = { OK .. "Content-Length:\r\n", OK .. "Content-Length: \t \r\n" },
  ["Content-Length is too large"] = { OK .. "Content-Length: 9007199254740992\r\n",
    OK .. "Content-Length: 18446744073709551618\r\n", OK .. "Content-Length: " .. ("9"):rep(400)
      .. "\r\n" },
  ["Content-Length together with Transfer-Encoding"] = {
    OK .. "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    OK .. "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n" },
  ["Transfer-Encoding is not chunked"] = { OK .. "Transfer-Encoding: gzip, chunked\r\n",
    OK .. "Transfer-Encoding: identity\r\n", OK .. "Transfer-Encoding: \r\n",
    OK .. "Transfer-Encoding: xchunked\r\n",
    OK .. "Transfer-Encoding: chunked;q=1\r\n" },
  ["more than one Transfer-Encoding"] = { OK
    .. "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" },
  ["Transfer-Encoding in an HTTP/1.0 reply"] = {
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n" },
  ["malformed chunk size"] = { CHUNKED .. "\r\n", CHUNKED .. "x\r\n", CHUNKED .. "-1\r\n",
    CHUNKED .. "0x2\r\n",
    CHUNKED .. " 2\r\n", CHUNKED .. "+2\r\n", CHUNKED .. "2 2\r\n", CHUNKED .. "2,2\r\n",
    CHUNKED .. "2\r\r\n",
    CHUNKED .. ";a\r\n" },
  ["chunk size too large"] = { CHUNKED .. "FFFFFFFFFFFFFFFF\r\n", CHUNKED .. ("0"):rep(16)
    .. "\r\n" },
  ["chunk line without carriage return"] = { CHUNKED .. "0\n\r\n", CHUNKED .. "\n",
    CHUNKED .. "2\n{}\n0\n\n" },
  ["control character in a chunk extension"] = { CHUNKED .. "2;a\0b\r\n", CHUNKED .. "2;\r\r\n" },
  ["chunk longer than its size"] = { CHUNKED .. "2\r\n{} \r\n", CHUNKED .. "2\r\n{}x",
    CHUNKED .. "2\r\n{}\n0\r\n\r\n" },
  ["reply body too large"] = { OK .. "Content-Length: 1048577\r\n\r\n", CHUNKED .. "100001\r\n",
    CHUNKED .. "1\r\n{\r\nfffffffffffffff\r\n" },
}

local broken_off = {
  ["connection closed before a reply"] = { "" },
  ["connection closed in the reply's header"] = { "H", "HTTP/1.1 200 OK", OK, OK .. "Content-Le",
    OK .. "Content-Length: 0\r\n", OK .. "Content-Length: 0\r\n\r", "HTTP/1.1 100 C\r\n\r\n",
    "HTTP/1.1 100 C\r\n\r\nHTTP" },
  ["connection closed in the reply's body"] = { OK .. "Content-Length: 5\r\n\r\n",
    OK .. "Content-Length: 5\r\n\r\n1234",
    CHUNKED, CHUNKED .. "2", CHUNKED .. "2\r\n", CHUNKED .. "2\r\n{", CHUNKED .. "2\r\n{}",
    CHUNKED .. "2\r\n{}\r\n",
    CHUNKED .. "0\r\n", CHUNKED .. "0\r\nX: y\r\n" },
}

local function check(reply, want, cap)
  assert.equal(want, outcome({ reply }, cap))
  assert.equal(want, outcome(bytes_of(reply), cap))
  for at = 1, #reply - 1 do
    local got = outcome({ reply:sub(1, at), reply:sub(at + 1) }, cap)
    if got ~= want then assert.equal(want .. " (cut after byte " .. at .. ")", got) end
  end
end

describe("core.reader", function()
  for name, case in pairs(accepted) do
    it("takes: " .. name, function() check(case[1], case[2]) end)
  end

  for text, replies in pairs(refused) do
    it("refuses: " .. text, function()
      for _, reply in ipairs(replies) do check(reply, "bad_response: " .. text) end
    end)
  end

  for text, replies in pairs(broken_off) do
    it("reports: " .. text, function()
      for _, reply in ipairs(replies) do check(reply, "connection_lost: " .. text) end
    end)
  end

  it("holds the cap for each kind of body, to the byte", function()
    for _, head in ipairs { "Content-Length: 4\r\n\r\n", "\r\n" } do
      check(OK .. head .. "1234", outcome({ OK .. head .. "1234" }), 4)
      check(OK .. head:gsub("4", "5") .. "12345", "bad_response: reply body too large", 4)
    end
    check(CHUNKED .. "2\r\n12\r\n2\r\n34\r\n0\r\n\r\n", "200|1234|true", 4)
    check(CHUNKED .. "2\r\n12\r\n3\r\n", "bad_response: reply body too large", 4)
    check(OK .. "Content-Length: 0\r\n\r\n", "200||true", 0)
    check(OK .. "\r\n1", "bad_response: reply body too large", 0)
  end)

  it("takes a body of the default cap", function()
    local body = ("x"):rep(1048576)
    -- Not assert.equal: its message would be two megabytes long.
    assert.is_true("200|" .. body .. "|true" == outcome { OK .. "Content-Length: 1048576\r\n\r\n",
      body })
    assert.is_true("200|" .. body .. "|false|eof" == outcome { OK .. "\r\n", body })
    assert.equal("bad_response: reply body too large", outcome { OK .. "\r\n", body, "x" })
  end)

  it("bounds the head, trailers and extensions, however they come", function()
    local line, filler = "X-Filler: " .. ("y"):rep(1000) .. "\r\n", ("y"):rep(300 * 1024)
    local large = "bad_response: header too large"
    local interim = "HTTP/1.1 103 E\r\n" .. line .. "\r\n"
    for _, reply in ipairs {
      OK .. "X: " .. filler, OK .. line:rep(270), "HTTP/1.1 200 " .. filler, interim:rep(270),
      CHUNKED .. "0\r\n" .. line:rep(270), CHUNKED .. "0\r\nX: " .. filler,
      CHUNKED .. ("1;" .. ("e"):rep(1000) .. "\r\nz\r\n"):rep(270),
    } do
      assert.equal(large, outcome { reply })
      assert.equal(large, outcome(bytes_of(reply)))
    end
    assert.equal("200||true", outcome { OK .. line:rep(250) .. "Content-Length: 0\r\n\r\n" })
    check(CHUNKED .. "1;" .. ("e"):rep(4095), "bad_response: chunk line too long")
  end)

  it("hands the body over once", function()
    local reader = core.reader()
    reader:feed(OK .. "Content-Length: 2\r\n\r\n{}")
    assert.equal("{}", (select(2, reader:result())))
    assert.equal("", (select(2, reader:result())))
  end)

  it("finds a connection that closed after the reply unfit", function()
    local reader = core.reader()
    assert.equal("done", reader:feed(OK .. "Content-Length: 0\r\n\r\n"))
    assert.equal("done", reader:eof())
    assert.is_false((select(5, reader:result())))
  end)

  it("raises for misuse", function()
    local reader = core.reader()
    assert.has_error(function() reader:feed(12) end)
    assert.has_error(function() reader:feed() end)
    assert.has_error(function() reader.feed({}, "x") end)
    assert.has_error(function() reader:result() end)
    for _, cap in ipairs { -1, 2 ^ 31, 0 / 0 } do
      assert.has_error(function() core.reader(cap) end)
    end
  end)
end)
