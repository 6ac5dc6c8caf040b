"""A VanFlow collector by python-qpid-proton: counts the requests that routers tell of.

    flows.py URL ROUTERS

Prints "ready" when it listens to so many routers. For each line on its input, a number, it then waits until so many requests
are over, and two heartbeats longer, and prints a JSON object: how many requests there were in all, by "PROTOCOL METHOD RESULT".
"""

import json
import sys
import threading
from collections import Counter

from proton.handlers import MessagingHandler
from proton.reactor import ApplicationEvent, Container, EventInjector

# Record type of a request, and attributes of it.
REQUEST = 17
TYPE, IDENTITY, END, PROTOCOL, METHOD, RESULT = 0, 1, 4, 16, 27, 28


class Collector(MessagingHandler):
    def __init__(self, url, routers):
        super().__init__(prefetch=1000)
        self.url, self.routers = url, routers
        self.sources, self.heard_of = set(), set()
        self.requests, self.wanted, self.beats = {}, None, Counter()

    def on_start(self, event):
        self.injector = EventInjector()
        event.container.selectable(self.injector)
        self.connection = event.container.connect(self.url, reconnect=False)
        event.container.create_receiver(self.connection, "mc/sfe.all")

    def on_message(self, event):
        message = event.message
        properties = {str(key): value for key, value in (message.properties or {}).items()}
        if message.subject == "BEACON" and properties["id"] not in self.sources:
            self.sources.add(properties["id"])
            for address in (properties["address"], properties["address"] + ".flows"):
                event.container.create_receiver(self.connection, address)
        elif message.subject == "HEARTBEAT":
            self.beats[properties["id"]] += 1
            self.heard_of.add(properties["id"])
            self.tell()
        elif message.subject == "RECORD":
            for record in message.body:
                if record[TYPE] == REQUEST:
                    self.requests.setdefault(record[IDENTITY], {}).update(record)

    def tell(self):
        if len(self.heard_of) == self.routers and self.wanted is None:
            self.wanted = 0
            print("ready", flush=True)
            threading.Thread(target=self.read, daemon=True).start()
        over = [request for request in self.requests.values() if END in request]
        if not self.wanted or len(over) < self.wanted:
            self.beats.clear()
        elif len(self.beats) == self.routers and min(self.beats.values()) >= 2:
            self.wanted = 0
            kinds = Counter(f"{it.get(PROTOCOL)} {it.get(METHOD)} {it.get(RESULT)}" for it in over)
            print(json.dumps(kinds), flush=True)
            self.requests.clear()

    def read(self):
        for line in sys.stdin:
            self.injector.trigger(ApplicationEvent("wanted", subject=int(line)))
        self.injector.trigger(ApplicationEvent("end"))

    def on_wanted(self, event):
        self.wanted = event.subject

    def on_end(self, event):
        self.connection.close()
        self.injector.close()


Container(Collector(sys.argv[1], int(sys.argv[2]))).run()
