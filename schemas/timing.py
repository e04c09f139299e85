"""Prints the number of seconds that the library's `validate()` takes for a valid message.

    python timing.py CASES ROUNDS
"""

import json
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

from cases import GROUP, HEADERS, message


def main(cases, rounds):
    classes = {(entry.name, entry.dist.name): entry for entry in entry_points(group=GROUP)}
    messages = []
    for line in Path(cases).read_text().splitlines():
        case = json.loads(line)
        if case["part"] == "body" and case["valid"]:
            message_class = classes[(case["name"], case["distribution"])].load()
            messages.append(message(message_class, HEADERS, json.loads(case["json"])))
    start = time.perf_counter()
    for _ in range(rounds):
        for one in messages:
            one.validate()
    print((time.perf_counter() - start) / rounds / len(messages))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]))
