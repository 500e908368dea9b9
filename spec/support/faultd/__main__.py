"""The fault bench: a server that fails on demand and counts what it processed.

    python3 -B faultd DIRECTORY PARENT

Commands come on standard input, one JSON object a line, and go until its end or until
the process PARENT is gone. Each is answered by one line on the FIFO DIRECTORY/replies:
{"ok": true, ...} or {"ok": false, "error": text}. Certificates are made in DIRECTORY
when the first of them is needed. Everything listens on loopback addresses only."""

import json
import os
import signal
import sys
import threading
import time

from certs import Certs
from counters import LOCK, TOTALS
from dns import NameServer
from listener import Listener
from relay import is_loopback


class Guard(threading.Thread):
    """Interrupts the process of the bench's driver where it does not come back in time."""

    def __init__(self, parent):
        super().__init__(daemon=True)
        self.parent = parent
        self.until = None
        self.start()

    def run(self):
        while True:
            time.sleep(0.25)
            if self.until is not None and time.monotonic() > self.until:
                self.until = None
                os.kill(self.parent, signal.SIGINT)


class Bench:
    def __init__(self, directory, parent):
        self.parent = parent
        self.guarding = None
        self.certs = Certs(os.path.join(directory, "tls"))
        self.listeners = {}
        self.name_servers = {}

    def listener(self, command):
        found = self.listeners.get(self.address(command))
        if found is None:
            raise ValueError("no listener on %s, port %s" % self.address(command))
        return found

    @staticmethod
    def address(command):
        return command.get("host", "127.0.0.1"), command.get("port")

    @staticmethod
    def check_host(command):
        if not is_loopback(command.get("host", "127.0.0.1")):
            raise ValueError("host is a loopback address")

    def ping(self, command):
        return {}

    def listen(self, command):
        self.check_host(command)
        made = Listener(command, self.certs)
        self.listeners[made.host, made.port] = made
        return {"port": made.port}

    def script(self, command):
        self.listener(command).script(command.get("connections"),
                                      command.get("default"))
        return {}

    def close(self, command):
        self.listener(command).close()
        del self.listeners[self.address(command)]
        return {}

    def settle(self, listeners, seconds):
        """Waits until everything sent so far is counted. Proxies first: what leaves
        them is seen at the server behind."""
        end = time.monotonic() + seconds
        listeners = sorted(listeners, key=lambda one: not one.proxy)
        while not all(one.settled() for one in listeners):
            if time.monotonic() > end:
                return False
            time.sleep(0.0003)
        return True

    def stats(self, command):
        """Of one listener, of one scenario (its bot id), or of all."""
        one = self.listener(command) if "port" in command else None
        out = {}
        if "settle" in command:
            chosen = [one] if one else list(self.listeners.values())
            out["settled"] = self.settle(chosen, command["settle"])
        if one:
            out.update(one.counters.report(command.get("connections"),
                                           command.get("requests")))
            return out
        with LOCK:
            if "scenario" in command:
                found = TOTALS.scenarios.get(command["scenario"])
                out["processed"] = found.seen if found else 0
                out["to"] = dict(found.to) if found else {}
            else:
                out["processed"] = TOTALS.processed
                out["twice"] = {n: c for n, c in TOTALS.to.items() if c > 1}
                out["live"] = sum(len(l.live) for l in self.listeners.values())
                if command.get("to"):
                    out["to"] = dict(TOTALS.to)
        return out

    def forget(self, command):
        TOTALS.forget()
        return {}

    def guard(self, command):
        """The driver comes back within so many seconds (0: whenever it likes)."""
        self.guarding = self.guarding or Guard(self.parent)
        seconds = command["seconds"]
        self.guarding.until = time.monotonic() + seconds if seconds else None
        return {}

    def make_certs(self, command):
        return {"files": self.certs.files()}

    def dns(self, command):
        self.check_host(command)
        port = command.get("port", 0)
        if port in self.name_servers:
            self.name_servers[port].set(command)
            return {"port": port, "queries": self.name_servers[port].queries}
        made = NameServer(command)
        self.name_servers[made.port] = made
        return {"port": made.port, "queries": 0}

    COMMANDS = {"ping": ping, "listen": listen, "script": script, "close": close,
                "stats": stats, "forget": forget, "certs": make_certs, "dns": dns,
                "guard": guard}

    def answer(self, line):
        try:
            command = json.loads(line)
            reply = self.COMMANDS[command["cmd"]](self, command)
            return {"ok": True, **reply}
        except KeyError as problem:
            return {"ok": False, "error": "unknown or missing: %s" % problem}
        except Exception as problem:    # whatever it is, the driver has to hear of it
            return {"ok": False,
                    "error": "%s: %s" % (type(problem).__name__, problem)}


def watch(parent):
    """Ends the process where the parent died but something holds our input open."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(3)
        except PermissionError:
            pass
        time.sleep(1)


def main(directory, parent):
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the parent decides
    sys.setswitchinterval(0.0005)                   # many threads, each with little to do
    threading.stack_size(256 * 1024)
    threading.Thread(target=watch, args=(parent,), daemon=True).start()
    bench = Bench(directory, parent)
    with open(os.path.join(directory, "replies"), "wb", buffering=0) as replies:
        for line in sys.stdin.buffer:
            if line.strip() == b"stop":
                break
            text = json.dumps(bench.answer(line), separators=(",", ":"))
            try:
                replies.write(text.encode() + b"\n")
            except BrokenPipeError:
                break
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
