"""One accepted connection: bytes in and out under a time limit, and its script."""

import select
import socket
import ssl
import struct
import threading
import time

import counters as count
import http1

IDLE, BUSY, DONE = "idle", "busy", "done"
GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class End(Exception):
    """The connection is over; the text says why."""


class Connection:
    def __init__(self, listener, sock, number, script):
        self.listener = listener
        self.counters = listener.counters
        self.sock = sock
        self.number = number
        self.script = script
        self.deadline = time.monotonic() + listener.limit
        self.buffer = bytearray()
        self.state = BUSY
        self.lock = threading.Lock()    # held where the socket is closed or polled
        self.request = None             # the one being answered
        self.in_request = False         # bytes of an unfinished request were read
        self.must_close = False         # the reply's framing ends with the connection
        self.begun = 0
        self.processed = []             # toNo of each request processed on it
        self.answers = []               # and what was answered to each, see answered()
        self.unasked = False
        self.gap = False                # one was processed after one that was broken off
        self.ended = None
        self.tls = None                 # the version of TLS, after the handshake
        self.protocol = None            # ALPN's choice

    def summary(self):
        return {"n": self.number, "begun": self.begun, "state": self.state,
                "processed": list(self.processed), "answers": list(self.answers),
                "gap": self.gap, "ended": self.ended,
                "tls": self.tls, "alpn": self.protocol}

    # ---- time

    def left(self):
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise End("limit")
        return left

    def poll(self, events, seconds):
        """What of `events` (or an error) is there within the time."""
        poller = select.poll()
        poller.register(self.sock.fileno(), events)
        found = poller.poll(max(0, min(seconds, self.left())) * 1000)
        return found[0][1] if found else 0

    def pause(self, seconds):
        """Waits without reading. It ends early, and tells so, where the peer leaves."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return False
            if self.poll(GONE, left):
                return True

    def pending(self):
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def wait_readable(self):
        if not self.buffer and not self.pending():
            while not self.poll(select.POLLIN, self.left()):
                pass

    def settled(self):
        """No byte waits and nothing is being done: what the client sent is counted.
        The state is looked at again after the socket, as the thread turns busy before
        it reads."""
        with self.lock:
            if self.state != IDLE:
                return self.state == DONE
            poller = select.poll()
            poller.register(self.sock.fileno(), select.POLLIN)
            waiting = poller.poll(0)
            return not waiting and self.state == IDLE

    # ---- bytes

    def fill(self, most=65536):
        """Reads some bytes into the buffer."""
        self.sock.settimeout(self.left())
        data = self.sock.recv(most)
        if not data:
            raise End("peer closed")
        self.begin()
        self.buffer += data

    def begin(self):
        if not self.in_request:
            self.in_request = True
            self.begun += 1
            self.counters.add("begun")

    def write(self, data):
        self.sock.settimeout(self.left())
        self.sock.sendall(data)

    def deliver(self, data, step):
        """Writes data as a step wishes: only the first `limit` bytes (a negative one
        counts from the end), in pieces of `chunk` bytes, `delay` seconds apart."""
        limit = step.get("limit")
        if limit is not None:
            data = data[:limit]
        size, delay = step.get("chunk"), step.get("delay", 0)
        if not size:
            if data:
                self.write(data)
            return
        for at in range(0, len(data), size):
            if at and delay and self.pause(delay):
                raise End("peer closed")
            self.write(data[at:at + size])

    # ---- requests

    def answered(self, status):
        """Notes the answer to the request processed last: the status of the first whole
        and proper one, else ODD. Where nothing whole is sent it stays at 0. An answer
        that nobody asked for may pass for the answer to any later request."""
        if self.answers and self.answers[-1] > 0:
            self.unasked = True
        elif self.answers and not self.unasked:
            self.answers[-1] = status

    def read_request(self):
        self.request = request = http1.read_request(self)
        self.in_request = bool(self.buffer)
        if self.in_request:
            self.begun += 1
            self.counters.add("begun")
        with count.LOCK:
            self.counters.requests.append({
                "connection": self.number, "method": request.method,
                "target": request.target, "headers": [list(h) for h in request.headers],
                "body": request.body.decode("utf-8", "replace"),
                "bytes": len(request.raw)})
        if self.listener.proxy:
            self.counters.add("connects" if request.method == "CONNECT" else "proxied")
        elif request.method != "POST":
            self.counters.add("others")
        else:
            bot = count.bot_id(request.target)
            request.nth = count.processed(self, bot, request.body,
                                          self.begun - self.in_request)
            request.scenario = count.decode_scenario(bot)
        return request

    # ---- ends

    def close(self, notify=True):
        """An orderly end: FIN, then reading until the peer closes too, since a plain
        close() with bytes unread makes the kernel send a reset instead."""
        self.state = DONE
        raw = socket.socket
        if isinstance(self.sock, ssl.SSLSocket) and notify:
            try:
                self.sock.settimeout(0)
                self.sock.unwrap()
            except (OSError, ValueError):
                pass                    # SSLWantRead: its close_notify has left
        try:
            raw.shutdown(self.sock, socket.SHUT_WR)
            self.sock.settimeout(min(1, self.left()))
            while raw.recv(self.sock, 65536):
                pass
        except OSError:
            pass
        self.drop()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack("ii", 1, 0))
        self.drop()

    def drop(self):
        with self.lock:
            self.state = DONE
            self.sock.close()

    def half_close(self):
        if isinstance(self.sock, ssl.SSLSocket):
            try:
                self.sock.settimeout(0)
                self.sock.unwrap()
            except (OSError, ValueError):
                pass
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def handshake(self):
        context = self.listener.context
        self.sock = context.wrap_socket(self.sock, server_side=True,
                                        do_handshake_on_connect=False)
        self.sock.settimeout(self.left())
        try:
            self.sock.do_handshake()
        except (OSError, ValueError) as problem:
            with count.LOCK:
                self.counters.handshake_failures += 1
                self.counters.handshake_error = str(problem)
            raise End("handshake failed") from problem
        self.tls = self.sock.version()
        self.protocol = self.sock.selected_alpn_protocol()
        self.counters.add("handshakes")

    def run(self, play):
        """The whole life of the connection; `play(connection, script)` does the steps."""
        try:
            if self.listener.context and not self.listener.manual_tls:
                self.handshake()
            play(self, self.script)
            raise End("script")
        except End as end:
            self.ended = str(end)
        except (socket.timeout, TimeoutError):
            self.ended = "limit"
        except OSError as problem:
            self.ended = "peer: " + type(problem).__name__
        except http1.BadRequest as problem:
            self.ended = "bad request"
            self.counters.error("%s: not a request: %s" % (self.number, problem))
        except Exception as problem:    # a script or the bench itself is wrong
            self.ended = "bench"
            self.counters.error("connection %d: %s: %s" % (
                self.number, type(problem).__name__, problem))
        finally:
            if self.sock.fileno() >= 0:
                try:
                    self.close()
                except End:
                    self.drop()
