"""Listening sockets: who is accepted gets the next script of the list."""

import select
import socket
import threading
import time

import steps
import tls
from connection import DONE, Connection
from counters import LOCK, Counters

SERVE = [{"do": "serve"}]


class Listener:
    """options: host ("127.0.0.1", "::1"), port (0: a free one), tls (see tls.context;
    "manual": the script does the handshake), proxy
    (what comes is counted as proxied, not as processed), limit (seconds a connection
    may last), mode ("refuse": bound but not listening, "blackhole": connecting hangs),
    connections (a script for each connection in turn), default (for later ones)."""

    def __init__(self, options, certs):
        self.host = options.get("host", "127.0.0.1")
        self.mode = options.get("mode", "serve")
        self.limit = options.get("limit", 30)
        self.proxy = bool(options.get("proxy"))
        settings = options.get("tls")
        self.context = None if settings is None else tls.context(settings, certs)
        self.manual_tls = bool(settings and settings.get("manual"))
        self.script(options.get("connections"), options.get("default"))
        self.live = set()
        self.closing = False
        self.accepting = False
        self.fillers = []
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((self.host, options.get("port", 0)))
        self.port = self.sock.getsockname()[1]
        if self.mode == "serve":
            self.sock.listen(512)
            self.sock.setblocking(False)
            threading.Thread(target=self.accept, daemon=True).start()
        elif self.mode == "blackhole":
            self.fill_backlog(family)
        elif self.mode != "refuse":
            self.sock.close()
            raise ValueError("mode is serve, refuse or blackhole")

    def script(self, connections=None, default=None):
        """New scripts and new counters; connections still open keep the old ones."""
        scripts = [steps.check(one) for one in connections or []]
        last = steps.check(default) if default else SERVE
        with LOCK:
            self.scripts, self.default = scripts, last
            self.counters = Counters()

    def fill_backlog(self, family):
        """A queue of one that is full: the kernel drops every later SYN."""
        self.sock.listen(0)
        for _ in range(4):
            filler = socket.socket(family, socket.SOCK_STREAM)
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
            self.fillers.append(filler)
        time.sleep(0.01)

    def accept(self):
        poller = select.poll()
        poller.register(self.sock.fileno(), select.POLLIN)
        while not self.closing:
            poller.poll()
            self.accepting = True
            try:
                sock, _ = self.sock.accept()
            except OSError:
                self.accepting = False
                continue
            self.start(sock)
            self.accepting = False

    def start(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with LOCK:
            counters = self.counters
            counters.accepted += 1
            nth = counters.accepted
            script = self.scripts[nth - 1] if nth <= len(self.scripts) else self.default
            connection = Connection(self, sock, nth, script)
            connection.counters = counters
            counters.connections.append(connection)
            self.live.add(connection)
        threading.Thread(target=self.run, args=(connection,), daemon=True).start()

    def run(self, connection):
        try:
            connection.run(steps.play)
        finally:
            with LOCK:
                self.live.discard(connection)

    def settled(self):
        """Whether all that clients have sent so far is counted."""
        if self.mode != "serve":
            return True
        poller = select.poll()
        poller.register(self.sock.fileno(), select.POLLIN)
        if poller.poll(0) or self.accepting:
            return False
        with LOCK:
            live = list(self.live)
        return all(connection.settled() for connection in live)

    def close(self):
        self.closing = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)    # wakes the thread in accept()
        except OSError:
            pass
        self.sock.close()
        for filler in self.fillers:
            filler.close()
        with LOCK:
            live = list(self.live)
        for connection in live:
            with connection.lock:
                if connection.state != DONE:
                    try:
                        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
                    except OSError:
                        pass
