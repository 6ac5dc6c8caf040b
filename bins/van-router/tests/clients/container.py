"""A small broker by python-qpid-proton, to which a router attaches by autoLinks.

    container.py HOST PORT

What is sent to a node is kept there until a consumer of the node takes it; what a consumer does not accept is kept again.
"""

import sys
from collections import defaultdict, deque

from proton import Delivery
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Node:
    def __init__(self):
        self.messages, self.consumers = deque(), []

    def pass_on(self):
        for consumer in self.consumers:
            while consumer.credit and self.messages:
                message = self.messages.popleft()
                consumer.send(message).message = message


class Broker(MessagingHandler):
    def __init__(self, address):
        super().__init__(auto_accept=True)
        self.address = address
        self.nodes = defaultdict(Node)

    def on_start(self, event):
        event.container.listen(self.address)

    def on_link_opening(self, event):
        link = event.link
        link.source.address, link.target.address = link.remote_source.address, link.remote_target.address
        if link.is_sender:
            self.nodes[link.source.address].consumers.append(link)

    def on_message(self, event):
        node = self.nodes[event.link.target.address]
        node.messages.append(event.message)
        node.pass_on()

    def on_sendable(self, event):
        self.nodes[event.link.source.address].pass_on()

    def on_settled(self, event):
        if event.link.is_sender and event.delivery.remote_state != Delivery.ACCEPTED:
            node = self.nodes[event.link.source.address]
            node.messages.appendleft(event.delivery.message)
            node.pass_on()

    def forget(self, link):
        consumers = self.nodes[link.source.address].consumers if link.is_sender else []
        if link in consumers:
            consumers.remove(link)

    def on_link_closing(self, event):
        self.forget(event.link)

    def on_disconnected(self, event):
        for node in self.nodes.values():
            node.consumers = [consumer for consumer in node.consumers if consumer.connection != event.connection]


Container(Broker(f"{sys.argv[1]}:{sys.argv[2]}"), container_id="broker").run()
