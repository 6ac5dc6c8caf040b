"""Rings of both kinds of router, in all of which the same links are cut at the same moments; how long until their tables are right.

    rings.py [--seed 8] [--steps 150] [--port 27000] [RING...]      # CCCC CCCC VCVC VVCC

V is a van-router, C a skupper-router; each dials the next. A table is right if it has all routers within reach, at the costs
and by one of the next hops of a shortest path, and if all their addresses are known. The first rings, all C, are the measure:
it is told how often another one is later than the slowest of them by more than a second."""
import argparse
import random
import statistics
import sys
import tempfile
import threading
import time

import manage
import rig

NODES, ADDRESSES = "io.skupper.router.router.node", "io.skupper.router.router.address"
PATIENCE = 60


class Watch(threading.Thread):
    """Reads the tables of a router, again and again."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.asked_at, self.nodes, self.addresses = port, 0, {}, set()
        self.start()

    def run(self):
        while True:
            try:
                node = manage.Node(self.port)
                while True:
                    asked_at = time.monotonic()
                    nodes = node.query(NODES, "id", "nextHop", "cost")
                    addresses = node.query(ADDRESSES, "name", "remoteCount", "subscriberCount")
                    self.nodes = {router: (hop, cost) for router, hop, cost in nodes}
                    self.addresses = {name[1:] for name, *counts in addresses if name.startswith("Ms-") and any(counts)}
                    self.asked_at = asked_at
                    time.sleep(0.15)
            except Exception:  # whatever it is, it is tried again
                time.sleep(0.3)


class Ring:
    def __init__(self, letters, port):
        self.letters, self.count = letters, len(letters)
        folder = tempfile.mkdtemp(prefix=f"{letters}-")
        rig.make_authority(folder)
        self.routers = [rig.Router(f"r{n}", kind.lower(), "interior", folder) for n, kind in enumerate(letters)]
        self.relays, self.is_up = [], [True] * self.count
        for number, router in enumerate(self.routers):
            rig.make_certificate(folder, router.name)
            ports = (port + 20 + number, port + 10 + number)
            router.link_to(self.routers[(number + 1) % self.count], number, "inter-router", ports)
            self.relays.append(rig.Relay(*ports))
            router.manage_at(port + number)
            router.add("tcpConnector", f"s-{number}", port=9, address=f"s-{number}")
        for router in self.routers:
            router.start()
        self.watches = [Watch(port + number) for number in range(self.count)]

    def distances(self):
        near = {n: set() for n in range(self.count)}
        for link in range(self.count):
            if self.is_up[link]:
                other = (link + 1) % self.count
                near[link].add(other)
                near[other].add(link)
        distances = {}
        for root in range(self.count):
            distances[root], line = {root: 0}, [root]
            for here in line:
                for there in near[here] - distances[root].keys():
                    distances[root][there] = distances[root][here] + 1
                    line.append(there)
        return distances, near

    def wrong(self, since):
        """Routers whose tables, as asked for since then, are not right."""
        distances, near = self.distances()
        return [n for n, watch in enumerate(self.watches) if watch.asked_at < since or not self.is_right(n, distances, near)]

    def is_right(self, here, distances, near):
        watch = self.watches[here]
        if set(watch.nodes) != {f"r{n}" for n in distances[here]}:
            return False
        for there in distances[here].keys() - {here}:
            hop, cost = watch.nodes[f"r{there}"]
            hop = hop or f"r{there}"
            hops = {f"r{n}" for n in near[here] if distances[n][there] == distances[here][there] - 1}
            if hop not in hops or cost != distances[here][there]:
                return False
        return watch.addresses == {f"s-{n}" for n in distances[here]}


def settle(rings, begun):
    """How many seconds each took until its tables were right; None if they were not in time."""
    took = [None] * len(rings)
    while None in took and time.monotonic() < begun + PATIENCE:
        for n, ring in enumerate(rings):
            if took[n] is None and not ring.wrong(begun):
                took[n] = time.monotonic() - begun
        time.sleep(0.05)
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--steps", type=int, default=150, help="a cut is a step, and so is its mending")
    parser.add_argument("--port", type=int, default=27000, help="the first; each ring takes 100")
    parser.add_argument("rings", nargs="*", default=["CCCC", "CCCC", "VCVC", "VVCC"])
    arguments = parser.parse_args()
    rings = [Ring(letters, arguments.port + 100 * n) for n, letters in enumerate(arguments.rings)]
    chance, steps, is_well = random.Random(arguments.seed), [], True
    try:
        print("start", settle(rings, time.monotonic()), flush=True)
        for step in range(arguments.steps):
            is_cut = step % 2 == 0
            if is_cut:
                link, mode = chance.randrange(rings[0].count), chance.choice(["reset", "silent"])
            begun = time.monotonic()
            for ring in rings:
                ring.is_up[link] = not is_cut
                ring.relays[link].cut(mode) if is_cut else ring.relays[link].mend()
            took = settle(rings, begun)
            steps.append((mode if is_cut else f"{mode} mended", took))
            print(step, *steps[-1], link, flush=True)
            time.sleep(chance.random())
        left = [[ring.letters[n] for n in ring.wrong(0)] for ring in rings]
    finally:
        for ring in rings:
            for router in ring.routers:
                router.stop()
    measures = [n for n, ring in enumerate(rings) if set(ring.letters) == {"C"}]
    for n, ring in enumerate(rings):
        for what in sorted({what for what, _ in steps}):
            seconds = [took[n] for other, took in steps if other == what]
            known = sorted(one for one in seconds if one is not None)
            worst = f"{statistics.median(known):.2f} s in the median, {known[-1]:.2f} at most, " if known else ""
            print(f"# {n} {ring.letters} {what}: {worst}{seconds.count(None)} of {len(seconds)} not in {PATIENCE} s")
        late = 0
        for _, took in steps:
            others = [took[m] or PATIENCE + 1 for m in measures if m != n]
            late += bool(others) and (took[n] or PATIENCE + 2) > max(others) + 1
        print(f"# {n} {ring.letters}: {late} of {len(steps)} later than the slowest C by more than 1 s; wrong at the end: {left[n]}")
        is_well = is_well and "V" not in left[n]
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
