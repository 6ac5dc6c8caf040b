"""AMQP clients against routers, by python-qpid-proton: what `clients.rs` runs.

    suite.py CASE URL...        prints "ok", or says what is wrong and exits with 1

The URLs are of routers of one network: amqp://host:port each, or amqps://. The environment says who the clients are:
SUITE_CERTIFICATES is a folder with ca.crt, and with tls.crt and tls.key for EXTERNAL; SUITE_USER and SUITE_PASSWORD log in
by PLAIN instead, with or without TLS.
"""

import hashlib
import os
import random
import select
import sys
import threading
import time
from collections import Counter

from proton import Condition, Data, Delivery, Endpoint, Link, Message, SSLDomain, symbol
from proton.handlers import MessagingHandler
from proton.reactor import AtMostOnce, Container, LinkOption
from proton.utils import BlockingConnection, ConnectionClosed, SyncRequestResponse

PATIENCE = float(os.environ.get("PATIENCE", 120))


def check(is_so, what):
    if not is_so:
        raise AssertionError(what)


def login():
    """How a client says who it is, as options of its connection."""
    folder, user = os.environ.get("SUITE_CERTIFICATES"), os.environ.get("SUITE_USER")
    options = {"allowed_mechs": "ANONYMOUS"}
    if folder:
        domain = SSLDomain(SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(os.path.join(folder, "ca.crt"))
        domain.set_peer_authentication(SSLDomain.VERIFY_PEER)
        options = {"ssl_domain": domain, "allowed_mechs": "EXTERNAL"}
    if user:
        password = os.environ["SUITE_PASSWORD"]
        options |= {"user": user, "password": password, "allowed_mechs": "PLAIN", "allow_insecure_mechs": not folder}
    elif folder:
        domain.set_credentials(os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key"), None)
    return options


def blocking(url, **options):
    """A client that lives only while something is waited for."""
    return BlockingConnection(url, timeout=PATIENCE, **login(), **options)


def flush(connection, link):
    """Sends all that a link has to send."""
    connection.wait(lambda: not link.queued and not connection.conn.transport.pending(), msg="to send")


def passes(receiving, sending, address):
    """A message passes from one connection to another."""
    receiver, sender = receiving.create_receiver(address, credit=1), sending.create_sender(address)
    sending.wait(lambda: sender.link.credit, msg="credit")
    delivery = sender.link.send(Message(body=address))
    flush(sending, sender.link)
    check(receiver.receive().body == address, "another message")
    receiver.accept()
    flush(receiving, receiver.link)
    sending.wait(lambda: delivery.settled, msg="the outcome")
    check(delivery.remote_state == Delivery.ACCEPTED, f"{delivery.remote_state}")
    for link in (receiver, sender):
        link.close()


class Client(MessagingHandler):
    """A client of one router, on a thread of its own until it is stopped or fails."""

    def __init__(self, url, **options):
        super().__init__(auto_accept=False, prefetch=options.pop("prefetch", 100), **options)
        self.url = url
        self.error = None
        self.done = threading.Event()
        self.options = login()

    def begin(self):
        self.container = Container(self)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()
        return self

    def work(self):
        try:
            self.container.run()
        except Exception as error:  # noqa: BLE001 - told by `wait`
            self.error = error
        self.done.set()

    def on_start(self, event):
        self.connection = event.container.connect(self.url, reconnect=False, **self.options)
        self.connected(event)

    def connected(self, event):
        pass

    def finish(self):
        self.connection.close()

    def wait(self):
        check(self.done.wait(PATIENCE), f"{type(self).__name__} at {self.url} does not end: {vars(self)}")
        if self.error:
            raise self.error
        return self

    def on_transport_error(self, event):
        self.error = RuntimeError(f"{self.url}: {event.transport.condition}")
        self.done.set()

    def on_link_error(self, event):
        self.error = RuntimeError(f"{self.url}: {event.link.remote_condition}")
        event.connection.close()


class Receiver(Client):
    """Takes `count` messages of an address, and settles each as `outcome` says."""

    def __init__(self, url, address, count, outcome=lambda number: Delivery.ACCEPTED, **options):
        super().__init__(url, **options)
        self.address, self.count, self.outcome = address, count, outcome
        self.bodies = []
        self.outcomes = Counter()
        self.is_attached = threading.Event()
        self.link_options = []

    def connected(self, event):
        self.receiver = event.container.create_receiver(self.connection, self.address, options=self.link_options)

    def on_link_opened(self, event):
        self.is_attached.set()

    def begin(self):
        super().begin()
        check(self.is_attached.wait(PATIENCE), f"{self.address} at {self.url} is not attached: {self.error}")
        return self

    def on_message(self, event):
        body = event.message.body
        self.bodies.append(bytes(body) if isinstance(body, memoryview) else body)
        outcome = self.outcome(len(self.bodies) - 1)
        self.outcomes[outcome] += 1
        if outcome == Delivery.MODIFIED:
            event.delivery.local.failed = True
        event.delivery.update(outcome)
        event.delivery.settle()
        if len(self.bodies) == self.count:
            self.finish()


class Sender(Client):
    """Sends messages with these bodies to an address, and counts what becomes of them."""

    def __init__(self, url, address, bodies, link_options=(), anonymous=False, delay=0):
        super().__init__(url)
        self.delay, self.is_started = delay, not delay
        self.address, self.bodies, self.anonymous = address, iter(bodies), anonymous
        self.outcomes = Counter()
        self.link_options = list(link_options)
        self.sent = self.settled = 0
        self.is_all_sent = False

    def connected(self, event):
        target = None if self.anonymous else self.address
        self.sender = event.container.create_sender(self.connection, target, options=self.link_options)
        if self.delay:
            event.container.schedule(self.delay, self)

    def on_timer_task(self, event):
        self.is_started = True
        self.send()

    def on_sendable(self, event):
        if self.is_started:
            self.send()

    def send(self):
        while self.sender.credit and not self.is_all_sent:
            body = next(self.bodies, None)
            if body is None:
                self.is_all_sent = True
                self.end_if_done()
                return
            self.sender.send(Message(body=body, address=self.address))
            self.sent += 1

    def on_settled(self, event):
        self.outcomes[event.delivery.remote_state] += 1
        self.settled += 1
        self.send()
        self.end_if_done()

    def end_if_done(self):
        is_presettled = self.sender.snd_settle_mode == Link.SND_SETTLED
        if self.is_all_sent and (is_presettled or self.settled == self.sent):
            self.finish()


def anycast(urls):
    """From each router to each, in order, every message once."""
    for number, (to, via) in enumerate((a, b) for a in urls for b in urls):
        address = f"anycast/{number}"
        receiver = Receiver(to, address, 100).begin()
        bodies = [f"{number}.{n}" for n in range(100)]
        sender = Sender(via, address, bodies).begin().wait()
        receiver.wait()
        check(receiver.bodies == bodies, f"{via} to {to}: {receiver.bodies[:3]}")
        check(sender.outcomes == {Delivery.ACCEPTED: 100}, f"{via} to {to}: {sender.outcomes}")


def balanced(urls):
    """Receivers at one router share evenly; receivers at others get their part."""
    receivers = [Receiver(urls[0], "balanced/near", 10**9).begin() for _ in range(4)]
    Sender(urls[0], "balanced/near", [str(n) for n in range(4000)]).begin().wait()
    shares = [len(receiver.bodies) for receiver in receivers]
    check(sum(shares) == 4000 and min(shares) > 700, f"uneven: {shares}")
    for receiver in receivers:
        receiver.container.stop()
    far = [Receiver(url, "balanced/far", 10**9).begin() for url in urls]
    time.sleep(1)  # what is consumed elsewhere has to become known, and nothing tells a client
    Sender(urls[0], "balanced/far", [str(n) for n in range(3000)]).begin().wait()
    shares = [len(receiver.bodies) for receiver in far]
    check(sum(shares) == 3000 and min(shares) > 0, f"somebody got nothing: {shares}")


def multicast(urls):
    """20 subscribers over all routers get each message once; the sender hears the outcome of all."""
    address = "mc/all"
    subscribers = [Receiver(urls[n % len(urls)], address, 50).begin() for n in range(20)]
    # An edge router learns of consumers elsewhere only once somebody sends to an address.
    sender = Sender(urls[-1], address, [str(n) for n in range(50)], delay=1).begin().wait()
    for subscriber in subscribers:
        subscriber.wait()
        check(subscriber.bodies == [str(n) for n in range(50)], f"{subscriber.url}: {subscriber.bodies}")
    check(sender.outcomes == {Delivery.ACCEPTED: 50}, f"{sender.outcomes}")
    one_rejects = [
        Receiver(url, "mc/rejected", 10, lambda _, n=n: Delivery.REJECTED if n == 0 else Delivery.ACCEPTED).begin()
        for n, url in enumerate(urls)
    ]
    sender = Sender(urls[-1], "mc/rejected", [str(n) for n in range(10)], delay=1).begin().wait()
    check(sender.outcomes == {Delivery.REJECTED: 10}, f"{sender.outcomes}")
    for receiver in one_rejects:
        receiver.wait()


class Service(Client):
    """Answers each request to the address it names."""

    def __init__(self, url, address):
        super().__init__(url)
        self.address = address
        self.is_attached = threading.Event()

    def connected(self, event):
        self.receiver = event.container.create_receiver(self.connection, self.address)
        self.answers = event.container.create_sender(self.connection, None)

    def on_link_opened(self, event):
        if event.receiver:
            self.is_attached.set()

    def on_message(self, event):
        request = event.message
        answer = Message(address=request.reply_to, body=request.body.upper(), correlation_id=request.correlation_id)
        self.answers.send(answer)
        event.delivery.update(Delivery.ACCEPTED)
        event.delivery.settle()


class Asker(Client):
    """Asks, with a reply address made by its router."""

    def __init__(self, url, address, requests):
        super().__init__(url)
        self.address, self.requests = address, list(requests)
        self.answers = []

    def connected(self, event):
        self.receiver = event.container.create_receiver(self.connection, None, dynamic=True)
        self.sender = event.container.create_sender(self.connection, self.address)

    def on_link_opened(self, event):
        if event.receiver:
            self.reply_to = event.receiver.remote_source.address
            self.ask()

    def on_sendable(self, event):
        self.ask()

    def ask(self):
        if getattr(self, "reply_to", None) and self.sender.credit and len(self.answers) < len(self.requests):
            number = len(self.answers)
            if getattr(self, "asked", -1) < number:
                self.asked = number
                self.sender.send(Message(body=self.requests[number], reply_to=self.reply_to, correlation_id=number))

    def on_message(self, event):
        check(event.message.correlation_id == len(self.answers), f"{event.message.correlation_id}")
        self.answers.append(event.message.body)
        event.delivery.update(Delivery.ACCEPTED)
        event.delivery.settle()
        if len(self.answers) == len(self.requests):
            self.finish()
        else:
            self.ask()


def requests(urls):
    """Requests and answers between all routers, over reply addresses that their routers make."""
    for service_url in urls:
        address = f"service/{urls.index(service_url)}"
        service = Service(service_url, address).begin()
        check(service.is_attached.wait(PATIENCE), "the service does not start")
        askers = [Asker(url, address, [f"{n}-a" for n in range(50)]).begin() for url in urls]
        for asker in askers:
            asker.wait()
            check(asker.answers == [f"{n}-A" for n in range(50)], f"{asker.url}: {asker.answers[:5]}")
        service.container.stop()


def outcomes(urls, count=100_000):
    """Every outcome, counted at the sender; bodies hashed; receivers on every router."""
    wheel = [Delivery.ACCEPTED, Delivery.REJECTED, Delivery.RELEASED, Delivery.MODIFIED]
    digests = Counter()

    def outcome(number):
        return wheel[number % 4]

    receivers = [Receiver(url, "outcomes", 10**9, outcome, prefetch=500).begin() for url in urls]
    time.sleep(1)
    bodies = [f"{n}:{random.getrandbits(64):x}" for n in range(count)]
    sender = Sender(urls[0], "outcomes", bodies).begin().wait()
    told = Counter()
    for receiver in receivers:
        told += receiver.outcomes
        digests.update(hashlib.sha256(body.encode()).hexdigest() for body in receiver.bodies)
        check(receiver.bodies, f"{receiver.url} got nothing")
        receiver.container.stop()
    check(sender.outcomes == told, f"sender {sender.outcomes}, receivers {told}")
    check(sum(told.values()) == count, f"{told}")
    expected = Counter(hashlib.sha256(body.encode()).hexdigest() for body in bodies)
    check(digests == expected, "bodies differ")


def digests(bodies):
    """What there is, in any order: each long message goes its own way, and one may overtake another."""
    return Counter(hashlib.sha256(body).hexdigest() for body in bodies)


def long_messages(urls):
    """Messages of 10 MiB pass, whole and unchanged."""
    bodies = [random.randbytes(10 * 1024 * 1024) for _ in range(5)]
    for to, via in [(urls[0], urls[0]), (urls[-1], urls[0]), (urls[0], urls[-1])]:
        address = f"long/{urls.index(to)}{urls.index(via)}"
        receiver = Receiver(to, address, len(bodies), prefetch=2).begin()
        Sender(via, address, bodies).begin().wait()
        receiver.wait()
        check(digests(receiver.bodies) == digests(bodies), f"{via} to {to}: other octets")
    subscribers = [Receiver(url, "mc/long", 3).begin() for url in urls]
    Sender(urls[0], "mc/long", bodies[:3], delay=1).begin().wait()
    for subscriber in subscribers:
        subscriber.wait()
        check(digests(subscriber.bodies) == digests(bodies[:3]), f"{subscriber.url}: other octets")


def starved(urls):
    """Without credit nothing is sent, and as much as there is credit for, after it; drain gives it back."""
    connection = blocking(urls[-1])
    receiver = connection.create_receiver("starved", credit=0)
    sender = Sender(urls[0], "starved", [str(n) for n in range(1000)]).begin()
    time.sleep(1)
    check(0 < sender.sent <= 500 and sender.settled == 0, f"sent {sender.sent}, settled {sender.settled}")
    for n in range(1000):
        receiver.flow(1)
        message = receiver.receive(timeout=PATIENCE)
        check(message.body == str(n), f"{message.body} for {n}")
        receiver.accept()
    receiver.link.drain(10)
    connection.wait(lambda: receiver.link.credit == 0, msg="credit to come back")
    connection.close()
    sender.wait()
    check(sender.outcomes == {Delivery.ACCEPTED: 1000}, f"{sender.outcomes}")


def flooded(urls):
    """Somebody consumes and takes nothing; long messages pile up as far as they may, and then the sender waits."""
    connection = blocking(urls[-1])
    connection.create_receiver("flooded", credit=0)
    body = random.randbytes(4 * 1024 * 1024)
    senders = [Sender(url, "flooded", (body for _ in range(200)), delay=1).begin() for url in urls]
    time.sleep(8)
    for sender in senders:
        check(sender.settled == 0, f"{sender.settled} were settled")
        sender.container.stop()
    connection.close()


def unconsumed(urls):
    """A sender to nobody gets no credit, a message to nobody by an anonymous link is released."""
    sender = Sender(urls[0], "nobody/here", ["x"]).begin()
    time.sleep(1)
    check(sender.sent == 0, "there was credit")
    receiver = Receiver(urls[-1], "nobody/here", 1).begin()
    sender.wait()
    receiver.wait()
    anonymous = Sender(urls[0], "nobody/at-all", ["x"], anonymous=True).begin().wait()
    check(anonymous.outcomes == {Delivery.RELEASED: 1}, f"{anonymous.outcomes}")


class Refused(Client):
    def __init__(self, url, attach):
        super().__init__(url)
        self.attach, self.condition = attach, None

    def connected(self, event):
        self.attach(event.container, self.connection)

    def on_link_error(self, event):
        self.condition = event.link.remote_condition.name
        self.finish()


def refused(urls):
    """Links that cannot be are refused with a reason, and the connection goes on."""
    foreign = Refused(urls[0], lambda c, it: c.create_receiver(it, "amqp:/_topo/0/another/x")).begin().wait()
    check(foreign.condition == "qd:no-route-to-dest", f"{foreign.condition}")
    router = Refused(urls[0], lambda c, it: c.create_receiver(it, "x", options=RouterLink())).begin().wait()
    check(router.condition == "qd:forbidden", f"{router.condition}")
    nowhere = Refused(urls[0], lambda c, it: c.create_receiver(it, None)).begin().wait()
    check(nowhere.condition == "qd:no-route-to-dest", f"{nowhere.condition}")


class RouterLink(LinkOption):
    def apply(self, link):
        for terminus in (link.source, link.target):
            terminus.capabilities.put_array(False, Data.SYMBOL)
            terminus.capabilities.enter()
            terminus.capabilities.put_symbol(symbol("qd.router"))
            terminus.capabilities.exit()


class Turned(Client):
    def on_transport_error(self, event):
        self.condition = event.transport.condition.name
        self.done.set()

    def on_connection_opened(self, event):
        self.condition = None
        self.finish()


def turned_away(urls):
    """Whoever is not known does not get in."""
    for url in urls:
        turned = Turned(url).begin().wait()
        check(turned.condition == "amqp:unauthorized-access", f"{url}: {turned.condition}")


def many_links(urls):
    """A thousand links on one connection, each with an address of its own."""
    count = 1000

    class Many(Client):
        def __init__(self, url):
            super().__init__(url, prefetch=10)
            self.got = 0

        def connected(self, event):
            for n in range(count):
                event.container.create_receiver(self.connection, f"many/{n}")
                event.container.create_sender(self.connection, f"many/{n}")

        def on_sendable(self, event):
            if not getattr(event.sender, "is_used", False):
                event.sender.is_used = True
                event.sender.send(Message(body=event.sender.target.address))

        def on_message(self, event):
            check(event.message.body == event.receiver.source.address, f"{event.message.body}")
            event.delivery.update(Delivery.ACCEPTED)
            event.delivery.settle()
            self.got += 1
            if self.got == count:
                self.finish()

    many = Many(urls[0]).begin().wait()
    check(many.got == count, f"{many.got}")


def presettled(urls):
    """Settled messages arrive, settled."""
    receiver = Receiver(urls[-1], "presettled", 200).begin()
    Sender(urls[0], "presettled", [str(n) for n in range(200)], [AtMostOnce()]).begin().wait()
    receiver.wait()
    check(receiver.bodies == [str(n) for n in range(200)], f"{len(receiver.bodies)}")


def reconnected(urls):
    """When a receiver goes away in the middle, what it had not settled comes back modified, the rest is released or goes on."""
    first = Receiver(urls[-1], "lost", 50, prefetch=100).begin()
    sender = Sender(urls[0], "lost", [str(n) for n in range(120)]).begin()
    first.wait()
    second = Receiver(urls[-1], "lost", 10**9).begin()
    sender.wait()
    total = sum(sender.outcomes.values())
    check(total == 120, f"{sender.outcomes}")
    taken = len(first.bodies) + len(second.bodies)
    check(sender.outcomes[Delivery.ACCEPTED] <= taken, f"{sender.outcomes}, taken {taken}")
    second.container.stop()


def ended_by_client(urls):
    """A link, a session, a connection that its client ends with an error: what it had not settled comes back, and whatever it was part of goes on."""
    for url in urls:
        sending = blocking(urls[0])
        for kind in ("link", "session", "connection"):
            address = f"ended/{kind}/{urls.index(url)}"
            receiving = blocking(url)
            session = receiving.conn.session()
            session.open()
            link = session.receiver(address)
            link.source.address = address
            link.open()
            link.flow(10)
            receiving.wait(lambda: link.state & Endpoint.REMOTE_ACTIVE, msg="the link")
            sender = sending.create_sender(address)
            sending.wait(lambda: sender.link.credit >= 10, msg="credit")
            deliveries = [sender.link.send(Message(body=str(n))) for n in range(10)]
            flush(sending, sender.link)
            receiving.wait(lambda: link.queued == 10, msg="all messages")
            receiving.closing = kind == "connection"
            ended = {"link": link, "session": session, "connection": receiving.conn}[kind]
            ended.condition = Condition("amqp:internal-error", "the client has had enough")
            ended.close()
            receiving.wait(lambda: ended.state & Endpoint.REMOTE_CLOSED, msg=f"the end of the {kind}")
            check(not ended.remote_condition, f"the router answers with an error: {ended.remote_condition}")
            sending.wait(lambda: all(delivery.settled for delivery in deliveries), msg="the outcomes")
            outcomes = Counter(delivery.remote_state for delivery in deliveries)
            check(outcomes == {Delivery.MODIFIED: 10}, f"{kind}: {outcomes}")
            sender.close()
            if kind != "connection":
                passes(receiving, sending, address)
                receiving.close()
        sending.close()


def broken_off(urls):
    """A message whose sender goes in the middle of it is none, and those before and after it are not touched."""
    whole = Message(body=random.randbytes(2 * 1024 * 1024)).encode()
    receiver = Receiver(urls[-1], "broken", 2).begin()
    Sender(urls[0], "broken", ["before"]).begin().wait()
    for ends in ("link", "session", "connection"):
        sending = blocking(urls[0])
        sender = sending.create_sender("broken")
        sending.wait(lambda: sender.link.credit, msg="credit")
        sender.link.delivery("half")
        sender.link.stream(whole[: len(whole) // 2])
        sending.wait(lambda: sender.link.current.pending < 100_000 and not sending.conn.transport.pending(), msg="to send")
        sending.closing = True
        ended = {"link": sender.link, "session": sender.link.session, "connection": sending.conn}[ends]
        ended.condition = Condition("amqp:internal-error", "the client has had enough")
        ended.close()
        sending.wait(lambda: ended.state & Endpoint.REMOTE_CLOSED, msg=f"the end of the {ends}")
    Sender(urls[0], "broken", ["after"]).begin().wait()
    receiver.wait()
    check(receiver.bodies == ["before", "after"], f"{[len(body) for body in receiver.bodies]}")


def closed_by_management(urls):
    """A client whose connection is closed by management is told so, and another at the same router is not."""
    kind = "io.skupper.router.connection"
    for url in urls:
        client, manager = blocking(url), blocking(url)
        requests = SyncRequestResponse(manager, "$management")
        asked = Message(properties={"operation": "QUERY", "entityType": kind}, body={"attributeNames": ["identity", "container"]})
        connections = requests.call(asked).body["results"]
        identity = next(identity for identity, container in connections if container == client.conn.container)
        ordered = Message(properties={"operation": "UPDATE", "type": kind, "identity": identity}, body={"adminStatus": "deleted"})
        status = requests.call(ordered).properties["statusCode"]
        check(status == 200, f"{status}")
        try:
            client.wait(lambda: False, msg="to be closed")
        except ConnectionClosed as closed:
            condition = closed.condition
        check(condition == "amqp:connection:forced", f"{condition}")
        passes(manager, manager, "managed")


def kept_alive(urls):
    """A router keeps a client's connection alive that has nothing to say, and is kept alive by it."""
    for url in urls:
        client = blocking(url, heartbeat=4)
        had = client.conn.transport.frames_input
        client.wait(lambda: client.conn.transport.frames_input >= had + 3, msg="empty frames")
        passes(client, client, "alive")
        client.close()


def silent(urls):
    """A client that falls silent is told why its connection ends."""
    for url in urls:
        client = blocking(url)
        check(select.select([client.conn.transport._selectable], [], [], PATIENCE)[0], "the router says nothing")
        try:
            client.wait(lambda: False, msg="to be closed")
        except ConnectionClosed as closed:
            condition = closed.condition
        check(condition == "amqp:resource-limit-exceeded", f"{condition}")


def stored(urls):
    """What is sent to a container's address comes out of it at another, once, wherever its clients are."""
    for to, via in ((urls[0], urls[-1]), (urls[-1], urls[0])):
        receiver = Receiver(to, "out-of-container", 200).begin()
        bodies = [f"{via} {n}" for n in range(200)]
        sender = Sender(via, "into-container", bodies).begin().wait()
        receiver.wait()
        # In any order: what comes out before its consumer is known everywhere goes back, and behind others.
        check(Counter(receiver.bodies) == Counter(bodies), f"{via} to {to}: {receiver.bodies[:3]}")
        check(sender.outcomes == {Delivery.ACCEPTED: 200}, f"{via} to {to}: {sender.outcomes}")


CASES = {
    case.__name__: case
    for case in (anycast, balanced, multicast, requests, outcomes, long_messages, starved, flooded, unconsumed, refused, turned_away, many_links,
                 presettled, reconnected, ended_by_client, broken_off, closed_by_management, kept_alive, silent, stored)
}


def main():
    case, urls = sys.argv[1], sys.argv[2:]
    try:
        CASES[case](urls)
    except Exception as error:  # noqa: BLE001 - the output is the verdict
        print(f"{case}: {type(error).__name__}: {error}")
        sys.exit(1)
    print("ok")


if __name__ == "__main__":
    main()
