"""Serves TLS with certificates that rustls can't serve: old, weak or unusual ones.

Reads one JSON object a line from standard input, and answers each with one JSON line:

    cert, key   paths of two files. The answer is the port of a new server: `{"port": ...}`
    port        a port. The answer is the number of its clients that began AMQP, so accepted the
                certificate: `{"accepted": ...}`

A server takes connections on 127.0.0.1 one after the other, and closes each after the client's first
bytes.
"""

import json
import socket
import ssl
import sys
import threading

accepted = {}


def serve(listener, context):
    port = listener.getsockname()[1]
    while True:
        client, _ = listener.accept()
        client.settimeout(20)
        try:
            with context.wrap_socket(client, server_side=True) as stream:
                if stream.recv(8).startswith(b"AMQP"):
                    accepted[port] += 1
        except OSError:
            client.close()


def start(files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(files["cert"], files["key"])
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    accepted[port] = 0
    threading.Thread(target=serve, args=(listener, context), daemon=True).start()
    return {"port": port}


for line in sys.stdin:
    request = json.loads(line)
    if "port" in request:
        answer = {"accepted": accepted[request["port"]]}
    else:
        try:
            answer = start(request)
        except (OSError, ValueError) as error:
            answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
