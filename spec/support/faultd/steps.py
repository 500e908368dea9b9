"""The steps of a script. A script is a list of {"do": name, ...}; each step is one
function here, called with the connection and the step."""

import json
import os
import signal
import threading

import http1
import relay
import tls
from connection import BUSY, IDLE, End
from counters import ODD, TOTALS, to_number

STEPS = {}
PROPER = ("length", "chunked", "close", "none", "same_twice")
ENDLESS = {
    "header": (b"HTTP/1.1 200 OK\r\n", b"X-Fill: %s\r\n" % (b"a" * 1000)),
    "header_line": (b"HTTP/1.1 200 OK\r\nX-Fill: ", b"a" * 1000),
    "status": (b"HTTP/1.1 200 ", b"a" * 1000),
    "body": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" " * 1000),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
               b"3e8\r\n%s\r\n" % (b" " * 1000)),
    "chunk_extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
                        b"a" * 1000),
    "trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
                b"X-Fill: %s\r\n" % (b"a" * 1000)),
    "1xx": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" * 10),
}


def step(function):
    STEPS[function.__name__.lstrip("_")] = function
    return function


def check(script):
    """Raises ValueError where a script holds something that is no step."""
    if isinstance(script, dict) and not script:
        return []                       # an empty table from Lua
    if not isinstance(script, list):
        raise ValueError("a script is a list, not %.60r" % (script,))
    for item in script:
        if not isinstance(item, dict) or item.get("do") not in STEPS:
            raise ValueError("no such step: %.100r" % (item,))
        if item["do"] == "repeat":
            check(item.get("steps"))
    return script


def play(connection, script):
    for item in script:
        STEPS[item["do"]](connection, item)


@step
def serve(connection, item):
    """Requests until the connection ends, each answered by `answers` (a respond step
    for each toNo), else by the scenario in its bot id or, where that is an ordinary one,
    by what `numbers` says for its recipient, else with the documented success."""
    answers = item.get("answers") or {}
    while True:
        if not connection.buffer:
            connection.state = IDLE
            connection.wait_readable()
            connection.state = BUSY
        request = connection.read_request()
        answer = answers.get(connection.processed[-1]) if connection.processed else None
        play(connection, [answer] if answer else request_script(request, item.get("numbers")))
        if connection.must_close:
            raise End("framing")


def number_script(request, numbers):
    """What is done for a recipient: numbers[first six characters of toNo] is a list of
    scripts, for its first request, its second and so on, the last one for all later ones.
    {digits} in a text stands for the recipient's last six digits, too few to be masked,
    {serial} for all behind the prefix."""
    number = to_number(request.body)
    scripts = numbers.get(number[:6])
    if not scripts:
        return [{"do": "respond"}]
    script = scripts[min(TOTALS.to[number], len(scripts)) - 1]
    text = json.dumps(script).replace("{digits}", number[-6:])
    return check(json.loads(text.replace("{serial}", number[6:])))


def request_script(request, numbers=None):
    plan = getattr(request, "scenario", None)
    if plan is None:
        return number_script(request, numbers) if numbers else [{"do": "respond"}]
    scripts = plan.get("requests") or []
    if request.nth < len(scripts):
        return check(scripts[request.nth])
    return check(plan.get("default") or [{"do": "respond"}])


@step
def read_request(connection, item):
    """Reads one request whole. A POST that was read whole is what counts as processed."""
    connection.read_request()


@step
def read_bytes(connection, item):
    """Reads exactly n bytes, or up to the end of the head where n is "head". They are
    dropped: whatever they were, nothing was processed."""
    n = item["n"]
    while True:
        if n == "head":
            if b"\r\n\r\n" in connection.buffer:
                break
            connection.fill(1)
        elif len(connection.buffer) < n:
            connection.fill(n - len(connection.buffer))
        else:
            break
    if n == "head":
        connection.buffer.clear()
    else:
        del connection.buffer[:n]


@step
def read_all_but(connection, item):
    """Reads a request but for its last n bytes, which stay unread."""
    n = item.get("n", 1)
    while b"\r\n\r\n" not in connection.buffer:
        connection.fill(1)
    head = bytes(connection.buffer)
    fields = dict(http1.parse_head(head[:-4])[2])
    left = int(fields.get("content-length", "0")) - n
    while left > 0:
        before = len(connection.buffer)
        connection.fill(left)
        left -= len(connection.buffer) - before
    connection.buffer.clear()


@step
def wait_readable(connection, item):
    """Waits for the first byte of something without reading it."""
    if not connection.buffer:
        connection.state = IDLE
        connection.wait_readable()
        connection.state = BUSY


@step
def respond(connection, item):
    connection.deliver(http1.reply(item), item)
    if "limit" not in item:
        proper = item.get("framing", "length") in PROPER
        connection.answered(item.get("status", 200) if proper else ODD)
    if item.get("framing") in ("close", "wrong_long") or "limit" in item:
        connection.must_close = True


@step
def send(connection, item):
    connection.deliver(http1.blob(item.get("data")), item)
    connection.answered(ODD)
    if item.get("last"):
        connection.must_close = True


@step
def stall(connection, item):
    """Does nothing for some seconds (for ever without), or until the peer leaves."""
    connection.pause(item.get("seconds", 1e6))


@step
def close(connection, item):
    """FIN; over TLS after close_notify, unless notify is false."""
    connection.close(item.get("notify", True))
    raise End("close")


@step
def reset(connection, item):
    connection.reset()
    raise End("reset")


@step
def half_close(connection, item):
    connection.half_close()


@step
def interrupt(connection, item):
    """Sends SIGINT to the process `pid`, after some seconds."""
    def send():
        try:
            os.kill(int(item["pid"]), signal.SIGINT)
        except ProcessLookupError:
            pass
    threading.Timer(item.get("after", 0), send).start()


@step
def endless(connection, item):
    """Sends without end: see ENDLESS for `what`. In pieces of some 64 KB, or one unit
    each `delay` seconds."""
    start, unit = ENDLESS[item["what"]]
    connection.write(start)
    delay = item.get("delay")
    piece = unit if delay else unit * 64
    while True:
        connection.write(piece)
        if delay and connection.pause(delay):
            raise End("peer closed")


@step
def _repeat(connection, item):
    for _ in range(item["n"]):
        play(connection, item["steps"])


@step
def handshake(connection, item):
    """The TLS handshake, where the listener leaves it to the script."""
    connection.handshake()


@step
def read_client_hello(connection, item):
    """Reads one TLS record and keeps it for handshake_part."""
    while len(connection.buffer) < 5 or \
            len(connection.buffer) < 5 + int.from_bytes(connection.buffer[3:5], "big"):
        connection.in_request = True    # these bytes are no request
        connection.fill()


@step
def handshake_part(connection, item):
    """Answers a ClientHello with a true first flight, of which `limit` bytes leave."""
    read_client_hello(connection, item)
    flight = tls.first_flight(connection.listener.context, bytes(connection.buffer))
    connection.deliver(flight, item)


@step
def tunnel(connection, item):
    """What a proxy does once it agrees: relay.tunnel."""
    relay.tunnel(connection, item)
