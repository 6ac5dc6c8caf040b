"""AMQP management of a router, by python-qpid-proton."""
import uuid

from proton import Message
from proton.utils import BlockingConnection, SyncRequestResponse


class Node:
    def __init__(self, port, timeout=5):
        self.connection = BlockingConnection(f"amqp://127.0.0.1:{port}", timeout=timeout, allowed_mechs="ANONYMOUS")
        self.requests = SyncRequestResponse(self.connection, "$management")

    def ask(self, body, **properties):
        request = Message(properties=properties, body=body, correlation_id=str(uuid.uuid4()))
        answer = self.requests.call(request)
        if answer.properties["statusCode"] // 100 != 2:
            raise RuntimeError(f"{properties}: {answer.properties['statusDescription']}")
        return answer.body

    def query(self, entity_type, *columns):
        asked = {"operation": "QUERY", "type": "org.amqp.management", "name": "self", "entityType": entity_type}
        return self.ask({"attributeNames": list(columns)}, **asked)["results"]

    def update(self, entity_type, name, **attributes):
        return self.ask(attributes, operation="UPDATE", type=entity_type, name=name)

    def close(self):
        self.connection.close()
