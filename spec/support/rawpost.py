"""A client that believes nothing: POSTs over raw sockets and tells what came back.

    python3 rawpost.py JSON

JSON is a list of tries, each {"port", "host", "to": [numbers, one POST each on the same
connection], "timeout": seconds to wait for bytes, "leave": true (close at once after
sending), "bot": the bot id, "ca": a CA file, for TLS}. Printed is a list of {"replies": [{"bytes", "status",
"text": base64}], "end": "eof" | "reset" | "timeout" | "open" | "refused" | "left"}."""

import base64
import json
import socket
import ssl
import sys

HEAD = ("POST /api/public/bot/%s/outboundsms HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n")
MOST = 3 * 1024 * 1024


def post(bot, number):
    body = json.dumps({"fromNo": "+19876543210", "toNo": number})
    return (HEAD % (bot, len(body)) + body).encode()


def whole(data):
    """Length of the first final reply that Content-Length frames, or None."""
    at = 0
    while True:
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            return None
        if data[at:].startswith(b"HTTP/1.1 1"):
            at = end + 4
            continue
        for line in data[at:end].split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                size = end + 4 + int(line.split(b":")[1])
                return size if len(data) >= size else None
        return None


def exchange(sock, request, kept, timeout):
    """(bytes of the reply, how it ended). Only a reply that another one is to follow is
    cut at its Content-Length; the last one is read up to the end."""
    data = bytearray()
    sock.settimeout(timeout)
    try:
        sock.sendall(request)
        while len(data) < MOST:
            size = whole(data) if kept else None
            if size is not None:
                return bytes(data[:size]), "open"
            more = sock.recv(65536)
            if not more:
                return bytes(data), "eof"
            data += more
        return bytes(data), "open"
    except socket.timeout:
        return bytes(data), "timeout"
    except OSError:
        return bytes(data), "reset"


def status_of(data):
    while data.startswith(b"HTTP/1.1 1") and b"\r\n\r\n" in data:
        data = data[data.find(b"\r\n\r\n") + 4:]
    words = data[:64].split(b" ")
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def connect(plan, timeout):
    host = plan.get("host", "127.0.0.1")
    sock = socket.create_connection((host, plan["port"]), timeout)
    if plan.get("ca"):
        sock = ssl.create_default_context(cafile=plan["ca"]).wrap_socket(
            sock, server_hostname="localhost")
    return sock


def attempt(plan):
    timeout = plan.get("timeout", 1)
    numbers = plan.get("to") or ["+911"]
    replies, end, sock = [], "open", None
    try:
        for nth, number in enumerate(numbers):
            if sock is None:
                sock = connect(plan, timeout)
            request = post(plan.get("bot", "st-1"), number)
            if plan.get("leave"):
                sock.sendall(request)
                end = "left"
                continue
            data, end = exchange(sock, request, nth < len(numbers) - 1, timeout)
            replies.append({"bytes": len(data), "status": status_of(data),
                            "text": base64.b64encode(data[:4096]).decode()})
            if end != "open":
                break
            if b"\r\nconnection: close\r\n" in data.lower():
                sock.close()
                sock = None
    except socket.timeout:
        end = "timeout"
    except ConnectionRefusedError:
        end = "refused"
    except OSError:                     # a reset may come before connect() returns
        end = "reset"
        replies.append({"bytes": 0, "status": None, "text": ""})
    finally:
        if sock:
            sock.close()
    return {"replies": replies, "end": end}


print(json.dumps({"request_bytes": len(post("st-1", "+911")),
                  "tries": [attempt(plan) for plan in json.loads(sys.argv[1])]}))
