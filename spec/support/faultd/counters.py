"""What the bench has seen. Every number is changed under one lock."""

import base64
import collections
import functools
import json
import threading

LOCK = threading.Lock()
ODD = -1                                # an answer of bytes that may be anything
PREFIX = "/api/public/bot/"


class Counters:
    """Counts of one listener since it was last given a script."""

    NAMES = ("accepted", "begun", "processed", "proxied", "connects", "others",
             "handshakes", "handshake_failures")

    def __init__(self):
        for name in self.NAMES:
            setattr(self, name, 0)
        self.to = collections.Counter()     # processed, by the body's toNo
        self.connections = []
        self.requests = collections.deque(maxlen=500)
        self.errors = []                    # faults of the bench or of a script
        self.handshake_error = None

    def add(self, name):
        with LOCK:
            setattr(self, name, getattr(self, name) + 1)

    def error(self, text):
        with LOCK:
            self.errors.append(text)

    def report(self, connections=False, requests=False):
        with LOCK:
            out = {name: getattr(self, name) for name in self.NAMES}
            out["to"] = dict(self.to)
            out["errors"] = list(self.errors)
            out["handshake_error"] = self.handshake_error
            if connections:
                out["connections"] = [c.summary() for c in self.connections]
            if requests:
                out["requests"] = list(self.requests)
        return out


class Scenario:
    """State of one scenario, over all connections: how many requests named it."""

    def __init__(self):
        self.seen = 0
        self.to = collections.Counter()


class Totals:
    """Processed since the start of the bench, whatever the listener."""

    def __init__(self):
        self.forget()

    def forget(self):
        with LOCK:
            self.processed = 0
            self.to = collections.Counter()
            self.scenarios = collections.defaultdict(Scenario)


TOTALS = Totals()


def bot_id(target):
    """The bot id in a request target of either form, or None."""
    at = target.find(PREFIX)
    if at < 0:
        return None
    return target[at + len(PREFIX):].split("/")[0]


@functools.lru_cache(maxsize=256)
def decode_scenario(bot):
    """The script that a bot id carries as base64url of JSON, or None where it is an
    ordinary bot id: {"requests": [script, ...], "default": script}."""
    if not bot:
        return None
    try:
        text = base64.urlsafe_b64decode(bot + "=" * (-len(bot) % 4))
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def to_number(body):
    """The toNo of a JSON body; "" where it has none."""
    try:
        value = json.loads(body)
    except ValueError:
        return ""
    number = value.get("toNo") if isinstance(value, dict) else None
    return number if isinstance(number, str) else ""


def processed(connection, bot, body, begun):
    """Counts one POST that was read whole, and tells the how-manieth of its scenario
    it is (from 0). `begun` requests had begun with it on its connection."""
    number, counters = to_number(body), connection.counters
    with LOCK:
        counters.processed += 1
        TOTALS.processed += 1
        if begun > len(connection.processed) + 1:
            connection.gap = True
        connection.processed.append(number)
        connection.answers.append(ODD if connection.unasked else 0)
        nth = 0
        if number:
            counters.to[number] += 1
            TOTALS.to[number] += 1
        if bot is not None:
            scenario = TOTALS.scenarios[bot]
            nth = scenario.seen
            scenario.seen += 1
            if number:
                scenario.to[number] += 1
    return nth
