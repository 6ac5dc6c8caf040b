"""Certificates renewed under 200 streams, at either end of a link, between both kinds of router.

    rotation.py [--port 24000]

The first router of a pair dials. Its sslProfile, or the other's, is given a new certificate and ordinal by management: no stream
may be cut, new ones must work, and the new certificate must be in use."""
import argparse
import os
import shutil
import socket
import ssl
import sys
import tempfile
import threading
import time

import manage
import rig

STREAMS = 200


def serve(listener):
    def echo(client):
        try:
            while octets := client.recv(1 << 16):
                client.sendall(octets)
        except OSError:
            client.close()

    while True:
        client, _ = listener.accept()
        threading.Thread(target=echo, args=(client,), daemon=True).start()


def dial(port):
    stream = socket.create_connection(("127.0.0.1", port), 5)
    stream.settimeout(5)
    return stream


def lives(stream):
    said = os.urandom(1024)
    try:
        stream.sendall(said)
        heard = b""
        while len(heard) < len(said) and (more := stream.recv(len(said) - len(heard))):
            heard += more
        return heard == said
    except OSError:
        return False


def serves(port):
    try:
        with dial(port) as stream:
            return lives(stream)
    except OSError:
        return False


def wait_until(is_so, limit):
    end = time.monotonic() + limit
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def shown(folder, port):
    """The name in the certificate that is shown at a link's port."""
    context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
    context.check_hostname = False
    context.load_cert_chain(f"{folder}/r0.crt", f"{folder}/r0.key")
    with socket.create_connection(("127.0.0.1", port), 5) as stream, context.wrap_socket(stream) as secured:
        return secured.getpeercert()["subject"][0][0][1]


def rotate(kinds, end, port, workload):
    """What went wrong."""
    folder = tempfile.mkdtemp(prefix=f"rotation-{kinds}-{end}-")
    rig.make_authority(folder)
    routers = [rig.Router(f"r{n}", kind, "interior", folder) for n, kind in enumerate(kinds)]
    for number, router in enumerate(routers):
        rig.make_certificate(folder, router.name)
        router.manage_at(port + number)
    routers[0].link_to(routers[1], 0, "inter-router", (port + 2, port + 2))
    routers[0].add("tcpListener", "echo", port=port + 3, address="echo")
    routers[1].add("tcpConnector", "echo", port=workload, address="echo")
    for router in routers:
        router.start()
    wrong = []
    try:
        if not wait_until(lambda: serves(port + 3), 60):
            return ["it never served"]
        streams = [dial(port + 3) for _ in range(STREAMS)]
        before = sum(map(lives, streams))
        rig.make_certificate(folder, "renewed", file="renewed")
        files = {"certFile": f"{folder}/renewed.crt", "privateKeyFile": f"{folder}/renewed.key"}
        node = manage.Node(port + end, timeout=20)
        node.update("io.skupper.router.sslProfile", "link", ordinal=2, **files)
        if end == 1:
            is_in_use = lambda: shown(folder, port + 2) == "renewed"
        else:
            ordinals = lambda: [ordinal for ordinal, in node.query("io.skupper.router.connection", "tlsOrdinal")]
            is_in_use = lambda: 2 in ordinals()
        if not wait_until(is_in_use, 40):
            wrong.append("the new certificate is not in use")
        after = sum(map(lives, streams))
        time.sleep(5)
        later = sum(map(lives, streams))
        if (before, after, later) != (STREAMS,) * 3:
            wrong.append(f"of {STREAMS} streams {before} lived before, {after} after, {later} later")
        if not all(serves(port + 3) for _ in range(20)):
            wrong.append("new streams fail")
    finally:
        for router in routers:
            router.stop()
    if not wrong:
        shutil.rmtree(folder)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=24000, help="the first of 60")
    port = parser.parse_args().port
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    is_well = True
    for number, (kinds, end) in enumerate((kinds, end) for kinds in ("vv", "vc", "cv") for end in (0, 1)):
        wrong = rotate(kinds, end, port + 10 * (number + 1), port)
        is_well = is_well and not wrong
        print("FAIL" if wrong else "ok", kinds, f"renewed at {kinds[end]}, which", "listens:" if end else "dials:", *wrong, flush=True)
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
