"""Streams through networks of both kinds of router, while routers are restarted and links cut.

    networks.py [--rounds 3] [--mib 1024] [--lanes 3] [--only REGEX] [--port 20000]

A network is its shape and its routers in the order of the path: v is a van-router, c a skupper-router. The first has the
tcpListeners, the last (in a ring, the third) the tcpConnectors. Prints a line for each check, and sums."""
import argparse
import collections
import os
import queue
import random
import re
import resource
import shutil
import socket
import tempfile
import threading
import time
import zlib

import rig

# Modes by their first letters; links as (who dials, who listens); who serves.
SHAPES = {
    "2-out": ("ii", [(0, 1)], 1),
    "2-in": ("ii", [(1, 0)], 1),
    "3-hub": ("iii", [(0, 1), (2, 1)], 2),
    "ring-4": ("iiii", [(0, 1), (1, 2), (2, 3), (3, 0)], 2),
    "edge-L": ("ei", [(0, 1)], 1),
    "edge-C": ("ie", [(1, 0)], 1),
    "edge-2": ("eiie", [(0, 1), (1, 2), (3, 2)], 3),
}
NETWORKS = {
    "2-out": "vv vc cv cc", "2-in": "vv vc cv cc", "3-hub": "vvv vvc vcv cvv vcc cvc ccv ccc",
    "ring-4": "cccc vvvv vcvc cvcv vvcc ccvv vccc cvvv", "edge-L": "vv vc cv cc", "edge-C": "vv vc cv cc",
    "edge-2": "cccc vvvv vccc cvcc ccvc cccv cvvv vvvc vccv cvvc vcvc cvcv",
}
SERVICES = ["echo", "http", "first", "half", "sink", "source", "refused"]
BLOCK = random.Random(7).randbytes(1 << 20)


class Wrong(Exception):
    """Something else came than was sent."""


def blocks(size):
    """So many octets, no two blocks alike."""
    number = 0
    while size:
        block = (number.to_bytes(8, "big") + BLOCK)[:size]
        size -= len(block)
        number += 1
        yield block


def checksum(size):
    crc = 0
    for block in blocks(size):
        crc = zlib.crc32(block, crc)
    return crc


def read_all(stream):
    length = crc = 0
    while octets := stream.recv(1 << 18):
        length += len(octets)
        crc = zlib.crc32(octets, crc)
    return length, crc


def read_exactly(stream, count):
    octets = b""
    while len(octets) < count:
        more = stream.recv(count - len(octets))
        if not more:
            raise Wrong(f"the end after {len(octets)} of {count} octets")
        octets += more
    return octets


def expect(found, expected):
    if found != expected:
        raise Wrong(f"{found!r:.80}, not {expected!r:.80}")


# === workloads ===


def serve(name, client):
    with client:
        try:
            if name == "first":
                client.sendall(b"hello\n")
            if name in ("echo", "first"):
                while octets := client.recv(1 << 16):
                    client.sendall(octets)
            elif name == "http":
                lines = client.makefile("rb")
                while request := lines.readline():
                    while lines.readline().strip():
                        pass
                    body = b"body of " + request.split()[1]
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            elif name == "source":
                for block in blocks(int(client.makefile("rb").readline() or b"0")):
                    client.sendall(block)
            else:
                client.sendall(b"%d %d\n" % read_all(client))
        except OSError:
            pass


def start_workloads(port):
    """In a process of their own."""
    ready, told = os.pipe()
    if child := os.fork():
        os.close(told)
        expect(os.read(ready, 1), b"x")
        return child
    listeners = {name: socket.create_server(("127.0.0.1", port + n), backlog=1024) for n, name in enumerate(SERVICES[:-1])}
    os.write(told, b"x")

    def accept(name, listener):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(name, client), daemon=True).start()

    for name, listener in listeners.items():
        threading.Thread(target=accept, args=(name, listener)).start()
    threading.Event().wait()


# === one network ===


class Network:
    def __init__(self, shape, letters, mib, port, workloads, told):
        self.shape, self.letters, self.size, self.port, self.told = shape, letters, mib << 20, port, told
        self.folder = tempfile.mkdtemp(prefix=f"{shape}-{letters}-")
        rig.make_authority(self.folder)
        modes, links, at = SHAPES[shape]
        modes = ["edge" if mode == "e" else "interior" for mode in modes]
        self.routers = [rig.Router(f"r{n}", kind, modes[n], self.folder) for n, kind in enumerate(letters)]
        for router in self.routers:
            rig.make_certificate(self.folder, router.name)
        self.relays = []
        for number, (dialler, listener) in enumerate(links):
            role = "edge" if "edge" in (modes[dialler], modes[listener]) else "inter-router"
            ports = (port + 40 + number, port + 60 + number)
            self.routers[dialler].link_to(self.routers[listener], number, role, ports)
            self.relays.append(rig.Relay(*ports))
        for number, name in enumerate(SERVICES):
            self.routers[0].add("tcpListener", name, port=port + number, address=name)
            self.routers[at].add("tcpConnector", name, port=workloads + number, address=name)

    # Clients

    def dial(self, name, timeout):
        stream = socket.create_connection(("127.0.0.1", self.port + SERVICES.index(name)), timeout)
        stream.settimeout(timeout)
        return stream

    def http(self, timeout=10):
        with self.dial("http", timeout) as stream:
            path = os.urandom(4).hex()
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            expected = f"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nbody of {path}".encode()
            expect(read_exactly(stream, len(expected)), expected)

    def echo(self, name="echo", timeout=10):
        with self.dial(name, timeout) as stream:
            if name == "first":
                expect(read_exactly(stream, 6), b"hello\n")
            said = os.urandom(1024)
            stream.sendall(said)
            expect(read_exactly(stream, len(said)), said)

    def half(self, timeout=10):
        with self.dial("half", timeout) as stream:
            said = os.urandom(20_000)
            stream.sendall(said)
            stream.shutdown(socket.SHUT_WR)
            expect(stream.makefile("rb").read(), b"%d %d\n" % (len(said), zlib.crc32(said)))

    def up(self, size, timeout=120):
        with self.dial("sink", timeout) as stream:
            for block in blocks(size):
                stream.sendall(block)
            stream.shutdown(socket.SHUT_WR)
            expect(stream.makefile("rb").read(), b"%d %d\n" % (size, checksum(size)))

    def down(self, size, timeout=120):
        with self.dial("source", timeout) as stream:
            stream.sendall(b"%d\n" % size)
            expect(read_all(stream), (size, checksum(size)))

    def refused(self):
        try:
            with self.dial("refused", 10) as stream:
                stream.sendall(b"x")
                expect(stream.recv(10), b"")
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            pass

    def first(self, count):
        """Servers that speak first, ten at a time."""
        went = []

        def one():
            try:
                with self.dial("first", 5) as stream:
                    expect(read_exactly(stream, 6), b"hello\n")
            except (OSError, Wrong) as error:
                went.append(repr(error))

        for _ in range(count // 10):
            clients = [threading.Thread(target=one) for _ in range(10)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
        self.told.count_first(self.letters, went.count("TimeoutError('timed out')"), count)
        expect(went, [])

    def parallel(self, count=500):
        streams = []
        try:
            for _ in range(count):
                streams.append((self.dial("echo", 30), os.urandom(1024)))
            for _ in range(2):
                for stream, said in streams:
                    stream.sendall(said)
                for stream, said in streams:
                    expect(read_exactly(stream, len(said)), said)
        finally:
            for stream, _ in streams:
                stream.close()

    def all_work(self, limit):
        """Waits so many seconds at most until each service works."""
        tries = {
            "http": lambda: self.http(3), "echo": lambda: self.echo("echo", 3), "first": lambda: self.echo("first", 3),
            "half": lambda: self.half(3), "up": lambda: self.up(100_000, 3), "down": lambda: self.down(100_000, 3),
        }
        end, error = time.monotonic() + limit, None
        while tries:
            for name, attempt in list(tries.items()):
                try:
                    attempt()
                    del tries[name]
                except (OSError, Wrong) as failure:
                    error = f"{name}: {failure!r}"
            if tries and time.monotonic() > end:
                raise Wrong(f"{list(tries)} still fail after {limit} s; {error}")
            time.sleep(0.2 if tries else 0)

    # Checks

    def check(self, name, run, times=1):
        begun, failure = time.monotonic(), None
        try:
            for _ in range(times):
                run()
        except Exception as error:  # whatever it is, it is told
            failure = repr(error)
        self.told.line(f"{self.shape}/{self.letters}", self.letters, name, time.monotonic() - begun, failure)
        return failure is None

    def restart(self, router):
        code = router.stop()
        router.start()
        self.all_work(60)
        if router.kind == "v":
            expect(code, 0)

    def cut(self, mode, seconds, limit):
        self.relays[0].cut(mode)
        try:
            if self.shape == "ring-4":
                self.all_work(60)  # the other way
            time.sleep(seconds)
        finally:
            self.relays[0].mend()
        self.all_work(limit)

    def end(self):
        expect([router.name for router in self.routers if router.process.poll() is not None], [])
        codes = [(router.kind, router.stop()) for router in self.routers]
        expect([code for kind, code in codes if kind == "v" and code], [])

    def run(self):
        for router in self.routers:
            router.start()
        checks = [
            ("http", self.http, 20), ("up", lambda: self.up(self.size)), ("down", lambda: self.down(self.size)),
            ("half-close", self.half, 10), ("server-first", lambda: self.first(200)), ("refused", self.refused, 5),
            ("parallel", self.parallel),
            *((f"restart-{router.name}{router.kind}", lambda router=router: self.restart(router)) for router in self.routers),
            ("cut", lambda: self.cut("reset", 3, 60)), ("silent", lambda: self.cut("silent", 8, 90)),
            ("http-after", self.http, 20), ("half-close-after", self.half, 10), ("server-first-after", lambda: self.first(20)),
        ]
        is_well = False
        try:
            if self.check("start", lambda: self.all_work(60)):
                is_well = all([self.check(*check) for check in checks])
        finally:
            is_well = self.check("end", self.end) and is_well
            for router in self.routers:
                router.process.kill()
            for relay in self.relays:
                relay.close()
            if is_well:
                shutil.rmtree(self.folder)
            else:
                print("# logs are in", self.folder, flush=True)


class Told:
    """What is told, and how many went well."""

    def __init__(self):
        self.lock, self.sums, self.stalls = threading.Lock(), collections.Counter(), collections.Counter()

    @staticmethod
    def kind(letters):
        return {"v": "all v", "c": "all c"}.get("".join(set(letters)), "mixed")

    def count_first(self, letters, stalls, count):
        with self.lock:
            self.stalls[self.kind(letters), "stalled"] += stalls
            self.stalls[self.kind(letters), "of"] += count

    def line(self, network, letters, name, seconds, failure):
        with self.lock:
            self.sums[self.kind(letters), "ok" if failure is None else "failed"] += 1
            print("FAIL" if failure else "ok", network, name, f"{seconds:.1f}s", failure or "", flush=True)


def in_lanes(count, jobs, run):
    """Runs jobs, so many at a time, each with the number of its lane."""
    waiting = queue.Queue()
    for job in jobs:
        waiting.put(job)

    def lane(number):
        while True:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            run(number, job)

    lanes = [threading.Thread(target=lane, args=(number,)) for number in range(count)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=1024, help="of the uploads and downloads")
    parser.add_argument("--lanes", type=int, default=3, help="networks at a time")
    parser.add_argument("--only", default="", help="networks that match, as 3-hub/vc")
    parser.add_argument("--port", type=int, default=20000, help="the first; each lane takes 200")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    port = lambda lane: arguments.port + 200 * lane
    workloads = [start_workloads(port(lane)) for lane in range(arguments.lanes)]
    names = [(shape, letters) for shape, all_of_it in NETWORKS.items() for letters in all_of_it.split()]
    jobs = [name for name in names if re.search(arguments.only, "/".join(name))] * arguments.rounds
    told = Told()
    run = lambda lane, job: Network(*job, arguments.mib, port(lane) + 100, port(lane), told).run()
    try:
        in_lanes(arguments.lanes, jobs, run)
    finally:
        for workload in workloads:
            os.kill(workload, 9)
    for (kind, what), count in sorted(told.sums.items()) + sorted(told.stalls.items()):
        print("#", kind, what, count)


if __name__ == "__main__":
    main()
