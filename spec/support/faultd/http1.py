"""HTTP/1.1 as the bench speaks it: bytes from JSON, requests in, replies out."""

import base64
import email.utils
import time

OK_BODY = (b'{"message":"Triggered the configured Experience flow to deliver '
           b'message via SMS channel"}')

REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content",
    301: "Moved Permanently", 302: "Found", 303: "See Other",
    307: "Temporary Redirect", 308: "Permanent Redirect",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 407: "Proxy Authentication Required",
    408: "Request Timeout", 412: "Precondition Failed", 413: "Content Too Large",
    429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
}


class BadRequest(Exception):
    """What came is not an HTTP/1.1 request."""


class Request:
    """One request that was read completely."""

    def __init__(self, method, target, headers, body, raw):
        self.method = method
        self.target = target
        self.headers = headers      # pairs, names in lower case, in order of arrival
        self.body = body
        self.raw = raw              # the bytes as they came

    def header(self, name):
        for key, value in self.headers:
            if key == name:
                return value
        return None


def blob(value):
    """Bytes described in JSON: text; a list of blobs; {"b64": text};
    {"repeat": blob, "n": times}; {"http_date": seconds from now}."""
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, list):
        return b"".join(blob(part) for part in value)
    if isinstance(value, dict):
        if "b64" in value:
            return base64.b64decode(value["b64"])
        if "repeat" in value:
            return blob(value["repeat"]) * int(value["n"])
        if "http_date" in value:
            when = time.time() + value["http_date"]
            return email.utils.formatdate(when, usegmt=True).encode()
        if not value:               # Lua's {} does not tell a list from an object
            return b""
    raise ValueError("not a blob: %.80r" % (value,))


def parse_head(head):
    """(method, target, pairs) of a request head without its blank line."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest("request line %.100r" % lines[0])
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest("header line %.100r" % line)
        headers.append((name.lower(), value.strip()))
    return words[0], words[1], headers


def read_request(stream):
    """Reads one request whole. `stream` has `buffer` (a bytearray), `fill()`, which
    adds to it or raises, and `write(bytes)`. Nothing past the request is taken."""
    def take_until(mark, start):
        while True:
            at = stream.buffer.find(mark, start)
            if at >= 0:
                return at
            stream.fill()

    def need(size):
        while len(stream.buffer) < size:
            stream.fill()

    end = take_until(b"\r\n\r\n", 0)
    method, target, headers = parse_head(bytes(stream.buffer[:end]))
    fields = dict(headers)
    at = end + 4
    if fields.get("expect", "").lower() == "100-continue":
        stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "transfer-encoding" in fields:
        body = bytearray()
        while True:
            line = take_until(b"\r\n", at)
            size = int(bytes(stream.buffer[at:line]).split(b";")[0], 16)
            at = line + 2
            need(at + size + 2)
            body += stream.buffer[at:at + size]
            at += size + 2
            if size == 0:
                break
    else:
        size = int(fields.get("content-length", "0"))
        need(at + size)
        body = stream.buffer[at:at + size]
        at += size
    raw = bytes(stream.buffer[:at])
    del stream.buffer[:at]
    return Request(method, target, headers, bytes(body), raw)


def chunked(body, size, trailers):
    out = []
    for at in range(0, len(body), size):
        part = body[at:at + size]
        out.append(b"%x\r\n%s\r\n" % (len(part), part))
    out.append(b"0\r\n")
    for name, value in trailers:
        out.append(blob(name) + b": " + blob(value) + b"\r\n")
    out.append(b"\r\n")
    return b"".join(out)


def framing_headers(kind, body, by):
    """Header lines that announce the body, in the way or the wrong way asked for."""
    size = len(body)
    table = {
        "length": [("Content-Length", size)],
        "chunked": [("Transfer-Encoding", "chunked")],
        "close": [("Connection", "close")],
        "none": [],
        "both": [("Content-Length", size), ("Transfer-Encoding", "chunked")],
        "wrong_short": [("Content-Length", max(size - by, 0))],
        "wrong_long": [("Content-Length", size + by)],
        "two_lengths": [("Content-Length", size), ("Content-Length", size + by)],
        "same_twice": [("Content-Length", size), ("Content-Length", size)],
    }
    return table[kind]


def reply(step):
    """Bytes of a reply: status, reason, version, headers (pairs of blobs), body
    (blob), framing, by (how wrong a length is), chunk_size, trailers. With nothing
    given, the documented success."""
    status = step.get("status", 200)
    if "body" in step:
        body = blob(step["body"])
    else:
        body = OK_BODY
    framing = step.get("framing", "length")
    reason = step.get("reason", REASONS.get(status, "Status"))
    head = [blob("%s %d %s\r\n" % (step.get("version", "HTTP/1.1"), status, reason))]
    lines = list(step.get("headers") or [])
    if not any(blob(name).lower() == b"content-type" for name, _ in lines):
        lines.append(["Content-Type", "application/json; charset=utf-8"])
    for name, value in framing_headers(framing, body, step.get("by", 5)):
        lines.append([name, str(value)])
    for name, value in lines:
        head.append(blob(name) + b": " + blob(value) + b"\r\n")
    head.append(b"\r\n")
    if framing in ("chunked", "both"):
        body = chunked(body, step.get("chunk_size", 32), step.get("trailers") or [])
    return b"".join(head) + body
