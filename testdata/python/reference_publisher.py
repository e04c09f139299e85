"""Publishes with the fedora-messaging library itself: the reference for what the operator sends.

Configuration comes from FEDORA_MESSAGING_CONF, as for every program that uses the library. Reads one
JSON object a line from standard input and answers each with one JSON line, `{"id": ...}` once the
broker confirmed, or `{"error": ...}`:

    topic, body           as in the library's Message
    headers, severity     the same; optional (severity is the integer)
    priority              optional; without it the property stays unset, as in the library
    schema, schemaPackage name of the message class and of the package that ships it; optional
    url, tls              the broker, and the library's section "tls"; optional. The message then has
                          a connection of its own

A schema that isn't installed here is registered the way the library registers those it finds among
the installed packages, so that the library's own code writes the headers.
"""

import json
import logging
import os
import sys

import crochet
from fedora_messaging import api, config, message


def message_class(schema, package):
    """The class registered under `schema`, made up if no package here ships it."""
    message.get_class("base.message")  # makes the library load its registry
    known = message._schema_name_to_class.get(schema)
    if known:
        return known
    made_up = type("MadeUp", (api.Message,), {})
    message._schema_name_to_class[schema] = made_up
    message._class_to_schema_name[made_up] = schema
    message._schema_name_to_package[schema] = package
    return made_up


def build(case):
    kind = message_class(case.get("schema", "base.message"), case.get("schemaPackage", "fedora_messaging"))
    built = kind(
        topic=case["topic"],
        body=case["body"],
        headers=case.get("headers"),
        severity=case.get("severity"),
    )
    if "priority" in case:
        built.priority = case["priority"]
    return built


@crochet.wait_for(timeout=10)
def disconnect():
    """Makes the library forget its connection."""
    service, api._twisted_service = api._twisted_service, None
    return service and service.stopService()


def publish(case):
    if "url" in case:
        config.conf["amqp_url"], config.conf["tls"] = case["url"], case["tls"]
    built = build(case)
    try:
        api.publish(built)
    finally:
        if "url" in case:
            disconnect()
    return built.id


def cases():
    """The lines of standard input, which OpenSSL can't read: it asks for passphrases there."""
    lines = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.setsid()
    return lines


def main():
    logging.disable(logging.CRITICAL)
    for line in cases():
        try:
            answer = {"id": publish(json.loads(line))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
