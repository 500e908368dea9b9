"""A name server over UDP, for loopback: it answers from a table, or in a bad way."""

import socket
import struct
import threading
import time

TYPES = {"A": 1, "AAAA": 28}
RCODES = {"answer": 0, "servfail": 2, "nxdomain": 3, "refused": 5}


class NameServer:
    """options: host, port (53 only in a namespace of its own), mode ("answer",
    "silent", "servfail", "nxdomain", "refused", "garbage"), delay (seconds), names:
    {"kore.test": {"A": ["127.0.0.1"], "AAAA": ["::1"]}}. A name that is not in the
    table does not exist."""

    def __init__(self, options):
        self.set(options)
        self.queries = 0
        host = options.get("host", "127.0.0.1")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.bind((host, options.get("port", 0)))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def set(self, options):
        self.mode = options.get("mode", "answer")
        if self.mode not in RCODES and self.mode not in ("silent", "garbage"):
            raise ValueError("no such mode: %r" % self.mode)
        self.delay = options.get("delay", 0)
        self.names = {name.lower().rstrip("."): records
                      for name, records in (options.get("names") or {}).items()}

    def run(self):
        while True:
            try:
                query, peer = self.sock.recvfrom(4096)
            except OSError:
                return
            self.queries += 1
            if self.mode == "silent":
                continue
            time.sleep(self.delay)
            try:
                reply = b"\xff" * 20 if self.mode == "garbage" else self.answer(query)
                self.sock.sendto(reply, peer)
            except (OSError, ValueError, IndexError, struct.error):
                continue                # not a query; a name server stays silent

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            size = query[at]
            labels.append(query[at + 1:at + 1 + size].decode("ascii", "replace"))
            at += size + 1
        question = query[12:at + 5]
        kind = struct.unpack(">H", query[at + 1:at + 3])[0]
        code, records = RCODES[self.mode], []
        if code == 0:
            entry = self.names.get(".".join(labels).lower())
            if entry is None:
                code = RCODES["nxdomain"]
            else:
                records = self.records(entry, kind)
        head = query[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(records), 0, 0)
        return head + question + b"".join(records)

    @staticmethod
    def records(entry, kind):
        out = []
        for name, number in TYPES.items():
            if number == kind:
                family = socket.AF_INET if name == "A" else socket.AF_INET6
                for address in entry.get(name) or []:
                    data = socket.inet_pton(family, address)
                    out.append(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(data))
                               + data)
        return out

    def close(self):
        self.sock.close()
