"""Consumes with the fedora-messaging library, validation and all, and prints what it accepted.

Configuration comes from FEDORA_MESSAGING_CONF, as for every program that uses the library.
Arguments: QUEUE ROUTING_KEY FORMAT. The queue is durable, so that it keeps what arrives while the
broker or this program is away. The first line printed says `ready` when the queue is bound. Then,
with FORMAT `json`, comes one JSON object for each message; with `text`, what the library's own
`fedora-messaging consume` prints.
"""

import json
import os
import sys

from fedora_messaging import api, config
from twisted.internet import reactor


def as_json(message):
    properties = message._properties
    return json.dumps({
        "id": message.id,
        "topic": message.topic,
        "severity": message.severity,
        "class": type(message).__name__,
        "headers": message._headers,
        "body": message.body,
        "priority": properties.priority,
        "delivery_mode": properties.delivery_mode,
        "content_type": properties.content_type,
        "content_encoding": properties.content_encoding,
        "user_id": properties.user_id,
    })


def main():
    queue, routing_key, format = sys.argv[1:]
    show = as_json if format == "json" else str

    def received(message):
        print(show(message), flush=True)

    def bound(_consumers):
        print("ready", flush=True)

    def failed(failure):
        print(failure.getErrorMessage(), file=sys.stderr, flush=True)
        os._exit(1)

    config.conf.setup_logging()
    consuming = api.twisted_consume(
        received,
        bindings=[{"exchange": "amq.topic", "queue": queue, "routing_keys": [routing_key]}],
        queues={queue: {"durable": True, "auto_delete": False, "exclusive": False, "arguments": {}}},
    )
    consuming.addCallbacks(bound, failed)
    reactor.run()


main()
