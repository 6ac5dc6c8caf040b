#!/usr/bin/env python3
"""How long a user waits: times of two sites on this machine, taken by `connect()` and `van link status -o json`.

    .ci/times.py target/release/van [rounds]

Prints medians and worst cases; exits with 1 if a wait never ends. What is expected stands in the table: it is no limit, for a busy
machine is no fault of the program.
"""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

VAN = os.path.abspath(sys.argv[1])
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 10
PATIENCE = 60.0  # seconds until a wait counts as endless

EXPECTED = {
    "system start of a fresh site, to Ready": 0.5,
    "token redeem, to link Ready": 1.0,
    "connector create, to a reachable listener": 0.2,
    "link status": 0.05,
    "kill -9, system start, to link Ready": 3.0,
    "kill -9, system start, to served again": 3.0,
}


class Endless(Exception):
    pass


def van(*arguments, **options):
    return subprocess.run([VAN, *arguments], check=True, capture_output=True, text=True, timeout=PATIENCE, **options).stdout


def status(namespace, kind):
    """The documents of a kind as `-o json` shows them; none while there is nothing to show."""
    run = subprocess.run([VAN, "-n", namespace, kind, "status", "-o", "json"], capture_output=True, text=True, timeout=PATIENCE)
    found = json.loads(run.stdout) if run.returncode == 0 and run.stdout.strip() else []
    return found if isinstance(found, list) else [found]


def is_ready(namespace, kind):
    """Whether all documents of a kind say Ready."""
    found = status(namespace, kind)
    return bool(found) and all(document["status"]["status"] == "Ready" for document in found)


def until(what, is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise Endless(what)
        time.sleep(0.002)


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    """Whether a connection reaches the server behind it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"hello")
            return client.recv(5) == b"hello"
    except OSError:
        return False


def serve_echo(server):
    def echo(client):
        with client, contextlib.suppress(OSError):
            while octets := client.recv(65536):
                client.sendall(octets)

    while True:
        client, _ = server.accept()
        threading.Thread(target=echo, args=(client,), daemon=True).start()


def process_of(namespace):
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if words[0].decode() == VAN and b"controller" in words and namespace.encode() in words:
                return int(entry)
    raise Endless(f"no process of {namespace}")


@contextlib.contextmanager
def timed(times, what):
    start = time.monotonic()
    yield
    times.setdefault(what, []).append(time.monotonic() - start)


def one_round(times, workload):
    van("-n", "west", "site", "create", "west", "--enable-link-access")
    van("-n", "east", "site", "create", "east")
    with timed(times, "system start of a fresh site, to Ready"):
        van("-n", "west", "system", "start")
        until("west Ready", lambda: is_ready("west", "site"))
    van("-n", "east", "system", "start")
    token = os.path.join(os.environ["XDG_DATA_HOME"], "west.yaml")
    van("-n", "west", "token", "issue", token)
    with timed(times, "token redeem, to link Ready"):
        van("-n", "east", "token", "redeem", token)
        until("link Ready", lambda: is_ready("east", "link"))
    port = free_port()
    van("-n", "east", "listener", "create", "echo", str(port), "--host", "127.0.0.1")
    with timed(times, "connector create, to a reachable listener"):
        van("-n", "west", "connector", "create", "echo", str(workload), "--host", "127.0.0.1")
        until("a reachable listener", lambda: answers(port))
    with timed(times, "link status"):
        van("-n", "east", "link", "status")
    os.kill(process_of("east"), signal.SIGKILL)
    with timed(times, "kill -9, system start, to served again"), timed(times, "kill -9, system start, to link Ready"):
        van("-n", "east", "system", "start")
        until("link Ready again", lambda: is_ready("east", "link"))
        ready = time.monotonic()
        until("served again", lambda: answers(port))
        served = time.monotonic() - ready
    times["kill -9, system start, to link Ready"][-1] -= served


def main():
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=serve_echo, args=(server,), daemon=True).start()
    times = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as home:
            for variable in ("XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
                os.environ[variable] = os.path.join(home, variable)
                os.mkdir(os.environ[variable])
            try:
                one_round(times, server.getsockname()[1])
            except (Endless, subprocess.SubprocessError) as error:
                print(f"endless: {error}\n{getattr(error, 'stderr', '') or ''}", file=sys.stderr)
                for namespace in ("west", "east"):
                    subprocess.run([VAN, "-n", namespace, "site", "status"], check=False)
                    subprocess.run([VAN, "-n", namespace, "link", "status"], check=False)
                sys.exit(1)
            finally:
                for namespace in ("west", "east"):
                    subprocess.run([VAN, "-n", namespace, "system", "stop"], check=False, capture_output=True)
    print(f"| medians of {ROUNDS} | expected below | median | worst |\n|---|---|---|---|")
    for what, expected in EXPECTED.items():
        taken = times[what]
        print(f"| {what} | {expected * 1000:.0f} ms | {statistics.median(taken) * 1000:.0f} ms | {max(taken) * 1000:.0f} ms |")


if __name__ == "__main__":
    main()
