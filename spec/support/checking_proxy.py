"""Proxies that note who asked them for what, and tunnel to loopback only.

    checking_proxy.py LOG CERTIFICATE KEY

Standard output: one line a listener, its kind and port: `http` and `https` (CONNECT with Basic
credentials, RFC 7617), `socks` (SOCKS 5 with a user and a password, RFC 1928 and 1929), and
`http-refusing` and `socks-refusing`, which refuse whoever comes. LOG gets one JSON object a
connection: `kind`, `user` and `password` (hexadecimal, null where none came), `target`, `fault`.
It ends with its standard input.
"""
import base64
import json
import os
import select
import socket
import ssl
import struct
import sys
import threading

LOCK = threading.Lock()


class Fault(Exception):
    pass


def read_exactly(sock, count):
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise Fault("ended early")
        data += piece
    return data


def read_head(sock):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        if len(data) > 65536:
            raise Fault("the head is too long")
        data += read_exactly(sock, 1)
    return data[:-4].split(b"\r\n")


def by_http(sock, entry, refuse):
    lines = read_head(sock)
    method, target, version = lines[0].split(b" ")
    if method != b"CONNECT" or version != b"HTTP/1.1":
        raise Fault("no CONNECT")
    given = [line for line in lines[1:] if line.lower().startswith(b"proxy-authorization:")]
    if len(given) > 1:
        raise Fault("credentials twice")
    if given:
        word, text = given[0].split(b":", 1)[1].split()
        if word != b"Basic":
            raise Fault("no Basic credentials")
        user, colon, password = base64.b64decode(text, validate=True).partition(b":")
        if not colon:
            raise Fault("no colon")
        entry["user"], entry["password"] = user.hex(), password.hex()
    entry["target"] = target.decode("ascii")
    if refuse:
        sock.sendall(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\n"
                     b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        return None
    host, port = entry["target"].rsplit(":", 1)
    return host.strip("[]"), int(port), b"HTTP/1.1 200 OK\r\n\r\n"


def by_socks(sock, entry, refuse):
    version, count = read_exactly(sock, 2)
    if version != 5:
        raise Fault("not SOCKS 5")
    methods = read_exactly(sock, count)
    if 2 in methods:
        sock.sendall(b"\5\2")
        if read_exactly(sock, 1) != b"\1":
            raise Fault("another negotiation")
        user = read_exactly(sock, read_exactly(sock, 1)[0])
        password = read_exactly(sock, read_exactly(sock, 1)[0])
        entry["user"], entry["password"] = user.hex(), password.hex()
        sock.sendall(b"\1\1" if refuse else b"\1\0")
        if refuse:
            return None
    else:
        sock.sendall(b"\5\0")
    _, command, _, kind = read_exactly(sock, 4)
    if command != 1:
        raise Fault("no CONNECT")
    if kind == 1:
        host = socket.inet_ntop(socket.AF_INET, read_exactly(sock, 4))
    elif kind == 4:
        host = socket.inet_ntop(socket.AF_INET6, read_exactly(sock, 16))
    else:
        host = read_exactly(sock, read_exactly(sock, 1)[0]).decode("ascii")
    port = struct.unpack(">H", read_exactly(sock, 2))[0]
    entry["target"] = "%s:%d" % (host, port)
    return host, port, b"\5\0\0\1\0\0\0\0\0\0"


def relay(near, far):
    while True:
        ready = [near] if isinstance(near, ssl.SSLSocket) and near.pending() else (
            select.select([near, far], [], [], 30)[0])
        if not ready:
            return
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (far if source is near else near).sendall(data)


def serve(sock, kind, context, log):
    entry = {"kind": kind, "user": None, "password": None, "target": None, "fault": None}
    try:
        sock.settimeout(30)
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True)
        ask = by_socks if kind.startswith("socks") else by_http
        where = ask(sock, entry, kind.endswith("refusing"))
        with LOCK:
            log.write(json.dumps(entry) + "\n")
            log.flush()
        if where is None:
            return
        host, port, agreed = where
        far = socket.create_connection(("127.0.0.1" if host == "localhost" else host, port), 5)
        with far:
            sock.sendall(agreed)
            relay(sock, far)
    except (OSError, ValueError, Fault) as problem:
        entry["fault"] = repr(problem)
        with LOCK:
            log.write(json.dumps(entry) + "\n")
            log.flush()
    finally:
        sock.close()


def listen(kind, context, log):
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(kind, listener.getsockname()[1], flush=True)

    def accept():
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(sock, kind, context, log), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def main():
    log = open(sys.argv[1], "a", encoding="ascii")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    for kind in ("http", "https", "socks", "http-refusing", "socks-refusing"):
        listen(kind, context if kind == "https" else None, log)
    print("end", 0, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)


main()
