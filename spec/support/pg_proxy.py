"""A proxy of PostgreSQL's protocol that loses answers, cuts before and after a statement was carried
out, and delays statements until long after their client has gone on.

    pg_proxy.py DIRECTORY TARGET_DIRECTORY SEED PERCENT

It listens on DIRECTORY/.s.PGSQL.5432 and ends when its standard input does. On each statement PERCENT
decides whether something happens to it.
"""
import os
import random
import select
import socket
import sys
import threading
import time

directory, target, seed, percent = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
dice = random.Random(seed)
lock = threading.Lock()
counts = {}


def roll():
    with lock:
        if dice.random() * 100 >= percent:
            return None, 0.0
        kind = dice.choice(["cut", "lose", "late", "late", "slow"])
        counts[kind] = counts.get(kind, 0) + 1
        return kind, dice.random()


def drain(server, seconds):
    """Reads answers that nobody wants."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ready, _, _ = select.select([server], [], [], 0.05)
        if ready and not server.recv(65536):
            return


def serve(client):
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(target + "/.s.PGSQL.5432")
        started = False
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if server in ready:
                data = server.recv(65536)
                if not data:
                    return
                client.sendall(data)
            if client in ready:
                data = client.recv(1 << 20)
                if not data:
                    return
                # Bind and execute, or a statement with its values.
                statement = started and data[:1] in (b"B", b"P")
                started = True
                kind, much = roll() if statement else (None, 0.0)
                if kind == "cut":
                    return
                if kind == "slow":
                    time.sleep(0.3 * much)
                if kind == "late":
                    client.close()
                    time.sleep(2.5 * much)
                server.sendall(data)
                if kind == "lose":
                    client.close()
                if kind in ("late", "lose"):
                    drain(server, 0.5)
                    return
    except OSError:
        pass
    finally:
        client.close()
        server.close()


listener = socket.socket(socket.AF_UNIX)
listener.bind(directory + "/.s.PGSQL.5432")
listener.listen(64)


def accept():
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
print(counts, flush=True)
os._exit(0)
