"""The agreeing part of an HTTP proxy: CONNECT, and requests in absolute form."""

import select
import socket
import ssl
from urllib.parse import urlsplit

from connection import BUSY, IDLE, End

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
UNREACHABLE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


def target_of(request):
    """(host, port) that a request to a proxy names."""
    if request.method == "CONNECT":
        parts = urlsplit("//" + request.target)
        return parts.hostname, parts.port or 443
    parts = urlsplit(request.target)
    return parts.hostname, parts.port or 80


def is_loopback(address):
    return address == "::1" or address.startswith("127.")


def connect(host, port):
    """A connection to the first address of a name that takes one, on loopback only."""
    # A minimal system has no hosts file, and localhost is no name to ask a server for.
    if host.lower() == "localhost":
        host = "127.0.0.1"
    problem = OSError("not on loopback")
    for family, kind, proto, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM):
        if not is_loopback(address[0]):
            continue
        sock = socket.socket(family, kind, proto)
        sock.settimeout(5)
        try:
            sock.connect(address)
        except OSError as refused:
            sock.close()
            problem = refused
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    raise problem


def tunnel(connection, item):
    """Connects to the request's target (or to `to`, [host, port]), and relays both
    ways until either side ends, or `up` or `down` bytes have gone that way."""
    request = connection.request
    host, port = item.get("to") or target_of(request)
    try:
        far = connect(host, port)
    except OSError:
        connection.write(UNREACHABLE)
        raise End("target unreachable")
    with far:
        if request.method == "CONNECT":
            connection.write(ESTABLISHED)
        else:
            far.sendall(request.raw)
        if connection.buffer:
            far.sendall(connection.buffer)
            connection.buffer.clear()
        copy(connection, far, item)


def copy(connection, far, item):
    left = {"up": item.get("up"), "down": item.get("down")}
    near = connection.sock

    def move(source, sink, way):
        """False where that way is finished."""
        limit = left[way]
        try:
            data = source.recv(65536 if limit is None else min(65536, limit))
        except ssl.SSLWantReadError:
            return True
        if not data:
            return False
        sink.settimeout(connection.left())
        sink.sendall(data)
        if limit is not None:
            left[way] = limit - len(data)
        return left[way] != 0

    while True:
        near.settimeout(connection.left())
        far.settimeout(connection.left())
        if connection.pending():
            ready = [near]
        else:
            connection.state = IDLE
            ready, _, _ = select.select([near, far], [], [], connection.left())
            connection.state = BUSY
        if near in ready and not move(near, far, "up"):
            return
        if far in ready and not move(far, near, "down"):
            return
