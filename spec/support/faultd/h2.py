"""A small HTTP/2 server, enough to answer and to fail in every way that matters.

Request headers are not decoded (that needs no HPACK decoder): a stream is a request,
its DATA is the body. The script of a connection is a list with one script for each
stream in turn; later streams are processed and answered. A stream's script runs when
its request is complete, or at its HEADERS where the first step is {"do": "at_headers"}.

Steps: process; answer (status, headers, body; limit: so many bytes of the body, then no
END_STREAM); headers, data (data, end); goaway (last: "before", "this" or a number;
code); rst (code: number or name); raw (data); stall (seconds); close; reset."""

import struct

import counters as count
import http1
import steps
from connection import BUSY, IDLE, End

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = \
    0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
CODES = {"NO_ERROR": 0, "PROTOCOL_ERROR": 1, "INTERNAL_ERROR": 2,
         "FLOW_CONTROL_ERROR": 3, "STREAM_CLOSED": 5, "REFUSED_STREAM": 7, "CANCEL": 8,
         "ENHANCE_YOUR_CALM": 11, "HTTP_1_1_REQUIRED": 13}
INDEXED_STATUS = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
ANSWERED = [{"do": "process"}, {"do": "answer"}]
MAX_FRAME = 16384


class Stream:
    def __init__(self, number, script):
        self.id = number
        self.script = script
        self.body = bytearray()
        self.played = False


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + \
        struct.pack(">BBI", kind, flags, stream) + payload


def literal(text):
    """An HPACK string without Huffman coding."""
    if len(text) < 127:
        return bytes([len(text)]) + text
    out, rest = bytearray([127]), len(text) - 127
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    out.append(rest)
    return bytes(out) + text


def header_block(status, pairs):
    index = INDEXED_STATUS.get(status)
    if index:
        out = bytes([0x80 | index])
    else:                               # a literal value for the indexed name :status
        out = bytes([8]) + literal(b"%d" % status)
    for name, value in pairs:
        out += b"\0" + literal(http1.blob(name).lower()) + literal(http1.blob(value))
    return out


def send_headers(connection, stream, item, end=False):
    pairs = list(item.get("headers") or [])
    if not any(http1.blob(n).lower() == b"content-type" for n, _ in pairs):
        pairs.append(["content-type", "application/json; charset=utf-8"])
    block = header_block(item.get("status", 200), pairs)
    parts = [block[at:at + MAX_FRAME] for at in range(0, len(block), MAX_FRAME)]
    for at, part in enumerate(parts):
        kind = CONTINUATION if at else HEADERS
        flags = END_HEADERS if at == len(parts) - 1 else 0
        if end and not at:
            flags |= END_STREAM
        connection.write(frame(kind, flags, stream.id, part))


def send_data(connection, stream, body, end):
    parts = [body[at:at + MAX_FRAME] for at in range(0, len(body), MAX_FRAME)] or [b""]
    for at, part in enumerate(parts):
        last = at == len(parts) - 1
        connection.write(frame(DATA, END_STREAM if end and last else 0, stream.id, part))


def do_process(connection, stream, item):
    count.processed(connection, None, bytes(stream.body), connection.begun)


def do_answer(connection, stream, item):
    body = http1.blob(item["body"]) if "body" in item else http1.OK_BODY
    limit = item.get("limit")
    send_headers(connection, stream, item, end=not body and limit is None)
    if body:
        send_data(connection, stream, body[:limit], end=limit is None)
    if limit is None:
        connection.answered(item.get("status", 200))


def do_headers(connection, stream, item):
    send_headers(connection, stream, item, item.get("end", False))


def do_data(connection, stream, item):
    send_data(connection, stream, http1.blob(item.get("data")), item.get("end", False))


def do_goaway(connection, stream, item):
    last = item.get("last", "this")
    last = {"before": max(stream.id - 2, 0), "this": stream.id}.get(last, last)
    connection.write(frame(GOAWAY, 0, 0, struct.pack(">II", last, code(item))))


def do_rst(connection, stream, item):
    connection.write(frame(RST_STREAM, 0, stream.id, struct.pack(">I", code(item))))


def code(item):
    value = item.get("code", 0)
    return CODES[value] if isinstance(value, str) else value


def plain(name):
    return lambda connection, stream, item: steps.STEPS[name](connection, item)


STEPS = {"process": do_process, "answer": do_answer, "headers": do_headers,
         "data": do_data, "goaway": do_goaway, "rst": do_rst,
         "at_headers": lambda connection, stream, item: None,
         "raw": plain("send"), "stall": plain("stall"), "close": plain("close"),
         "reset": plain("reset")}


def check(script):
    """Raises ValueError where the script of a connection is none."""
    if not isinstance(script, list):
        if script == {}:
            return []
        raise ValueError("an h2 script is a list of lists, not %.60r" % (script,))
    for one in script:
        if not isinstance(one, list):
            raise ValueError("the script of a stream is a list, not %.60r" % (one,))
        for item in one:
            if not isinstance(item, dict) or item.get("do") not in STEPS:
                raise ValueError("no such h2 step: %.100r" % (item,))
    return script


def perform(connection, stream):
    stream.played = True
    for item in stream.script:
        STEPS[item["do"]](connection, stream, item)


def need(connection, size):
    while len(connection.buffer) < size:
        connection.in_request = True    # requests begin with HEADERS, counted there
        connection.fill()
    data = bytes(connection.buffer[:size])
    del connection.buffer[:size]
    return data


def play(connection, script):
    """The frames of one connection, in order, until it ends. A client that did not
    choose h2 is served as HTTP/1.1."""
    if connection.protocol != "h2":
        return steps.play(connection, [{"do": "serve"}])
    connection.write(frame(SETTINGS, 0, 0))
    if need(connection, len(PREFACE)) != PREFACE:
        raise End("no h2 preface")
    streams = {}
    while True:
        if not connection.buffer:
            connection.state = IDLE
            connection.wait_readable()
            connection.state = BUSY
        head = need(connection, 9)
        size = int.from_bytes(head[:3], "big")
        kind, flags, number = struct.unpack(">BBI", head[3:])
        payload = need(connection, size)
        if kind == SETTINGS and not flags & ACK:
            connection.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            connection.write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            raise End("peer said goaway")
        elif kind == RST_STREAM:
            streams.pop(number, None)
        elif kind == HEADERS:
            nth = connection.begun
            connection.begun += 1
            connection.counters.add("begun")
            stream = Stream(number, script[nth] if nth < len(script) else ANSWERED)
            streams[number] = stream
            if stream.script and stream.script[0]["do"] == "at_headers":
                perform(connection, stream)
        elif kind == DATA and number in streams:
            if flags & PADDED:
                payload = payload[1:len(payload) - payload[0]]
            streams[number].body += payload
            if size:
                connection.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", size)))
        if flags & END_STREAM and kind in (HEADERS, DATA) and number in streams:
            stream = streams.pop(number)
            if not stream.played:
                perform(connection, stream)
