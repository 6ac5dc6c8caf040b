"""Networks of van-router (v) and skupper-router (c) on loopback, whose links can be cut.

VAN_ROUTER and SKROUTERD name the programs."""
import json
import os
import signal
import socket
import struct
import subprocess
import threading

PROGRAMS = {"v": os.environ.get("VAN_ROUTER", "van-router"), "c": os.environ.get("SKROUTERD", "skrouterd")}


def reset(*sockets):
    for end in sockets:
        try:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()


class Relay:
    """What a link goes through. Octets are spliced, by two threads for each connection."""

    def __init__(self, port, target):
        self.port, self.target = port, target
        self.lock, self.mode = threading.Lock(), "open"
        self.pairs, self.half_closed, self.held = {}, set(), []
        self.listen()

    def listen(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                if self.mode == "silent":
                    self.held.append(client)
                    continue
            threading.Thread(target=self.join, args=(client,), daemon=True).start()

    def join(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            return reset(client)
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair, silenced = (client, server), threading.Event()
        with self.lock:
            if self.mode != "open":
                return reset(*pair)
            self.pairs[pair] = silenced
        for one, other in (pair, pair[::-1]):
            threading.Thread(target=self.carry, args=(one, other, pair, silenced), daemon=True).start()

    def carry(self, one, other, pair, silenced):
        into, out = os.pipe()
        try:
            while octets := os.splice(one.fileno(), out, 1 << 16):
                if silenced.is_set():
                    return
                while octets:
                    octets -= os.splice(into, other.fileno(), octets)
            other.shutdown(socket.SHUT_WR)
            with self.lock:
                is_last = pair in self.half_closed
                self.half_closed ^= {pair}
                if is_last:
                    self.pairs.pop(pair, None)
            if is_last:
                one.close(), other.close()
        except (OSError, ValueError):
            if not silenced.is_set():
                with self.lock:
                    self.pairs.pop(pair, None)
                reset(*pair)
        finally:
            os.close(into), os.close(out)

    def cut(self, mode):
        """`reset`: connections are broken, and nobody listens. `silent`: nothing gets through, and nobody is told."""
        with self.lock:
            self.mode = mode
            pairs = dict(self.pairs)
            if mode == "reset":
                self.pairs.clear()
        if mode == "silent":
            return [silenced.set() for silenced in pairs.values()]
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for pair in pairs:
            reset(*pair)

    def mend(self):
        """What was silent is reset, as by a peer that has given it up; what came meanwhile goes on, as by SYNs sent again."""
        with self.lock:
            was, self.mode = self.mode, "open"
            held, self.held = self.held, []
            old = list(self.pairs) if was == "silent" else []
            if old:
                self.pairs.clear()
        if was == "reset":
            self.listen()
        for pair in old:
            reset(*pair)
        for client in held:
            threading.Thread(target=self.join, args=(client,), daemon=True).start()

    def close(self):
        reset(self.listener)
        with self.lock:
            ends = [end for pair in self.pairs for end in pair] + self.held
        reset(*ends)


class Router:
    def __init__(self, name, kind, mode, folder):
        self.name, self.kind, self.folder, self.process = name, kind, folder, None
        credentials = {"caCertFile": "ca.crt", "certFile": f"{name}.crt", "privateKeyFile": f"{name}.key"}
        credentials = {attribute: f"{folder}/{file}" for attribute, file in credentials.items()}
        self.entities = [
            ["router", {"id": name, "mode": mode, "helloMaxAgeSeconds": 3}],
            ["log", {"module": "DEFAULT", "enable": "info+", "outputFile": f"{folder}/{name}.log"}],
            ["sslProfile", {"name": "link", "ordinal": 1, **credentials}],
        ]

    def add(self, kind, name, **attributes):
        self.entities.append([kind, {"name": name, "host": "127.0.0.1", **attributes}])

    def manage_at(self, port):
        self.add("listener", "amqp", port=port, role="normal", saslMechanisms="ANONYMOUS", authenticatePeer=False)

    def link_to(self, other, number, role, ports):
        """Dials another one, by way of the first port to the second."""
        other.add("listener", f"in-{number}", port=ports[1], role=role, sslProfile="link", saslMechanisms="EXTERNAL",
                  authenticatePeer=True, requireSsl=True)
        self.add("connector", f"out-{number}", port=ports[0], role=role, cost=1, sslProfile="link", verifyHostname=False)

    def start(self):
        path = f"{self.folder}/{self.name}.json"
        with open(path, "w") as file:
            json.dump(self.entities, file, indent=1)
        with open(f"{self.folder}/{self.name}.out", "ab") as out:
            self.process = subprocess.Popen([PROGRAMS[self.kind], "-c", path], stdout=out, stderr=out)

    def stop(self):
        """Its exit code. A skupper-router may end by SIGABRT, of its own accord."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_authority(folder):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            f"{folder}/ca.key", "-out", f"{folder}/ca.crt", "-subj", "/CN=ca", "-days", "30",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")


def make_certificate(folder, name, file=None):
    file = f"{folder}/{file or name}"
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{file}.key",
            "-out", f"{file}.csr", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    openssl("x509", "-req", "-in", f"{file}.csr", "-CA", f"{folder}/ca.crt", "-CAkey", f"{folder}/ca.key",
            "-out", f"{file}.crt", "-days", "30", "-copy_extensions", "copy")
