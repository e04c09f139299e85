"""Writes bodies and headers for each schema of a catalog, with the library's result for them.

    python cases.py CATALOG CASES

CASES gets one JSON object a line: the class, `part` (`body` or `headers`), the JSON as text, and
`valid`, the result of the library's `validate()`. About half match the schema. The others are made by
small changes. Only the library decides which of them match. The seed is fixed, so the same packages
give the same cases. Bodies from the packages' own tests come first, if there are any.
"""

import importlib
import json
import pkgutil
import random
import sys
from importlib.metadata import entry_points
from pathlib import Path

from fedora_messaging.message import Message
from jsonschema.exceptions import ValidationError
from jsonschema.validators import validator_for
from pika import BasicProperties

GROUP = "fedora.messages"
# The number of valid and of invalid cases for the body and for the headers of each class.
WANTED = 22
TRIES = 4000
HEADERS = {
    "fedora_messaging_schema": "a.schema",
    "fedora_messaging_schema_package": "a_package",
    "fedora_messaging_severity": 20,
    "sent-at": "2026-11-25T09:00:00+00:00",
    "priority": 0,
}
# Values of all types, and at their limits, for which validators may differ.
ODD = [
    None, True, False, 0, 1, -1, 20, 30, 1.0, 0.5, -0.0, 1e20, 1e300, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**30,
    "", "a", "20", "é", "\U0001f600", "a\nb", "\u2028", "\x00", "http://[", "not a date", "2026-11-25T09:00:00Z",
    [], [None], [1, "a"], ["a", "a"], [[]], {}, {"a": None}, {"id": 1}, {"": ""}, {"é": {}},
]


class Maker:
    """Makes values that match a schema, or almost match it."""

    def __init__(self, schema, chance):
        self.root, self.chance = schema, chance

    def make(self, schema, depth=0):
        chance = self.chance
        if not isinstance(schema, dict):
            return chance.choice(ODD)
        if "$ref" in schema:
            schema = self.find(schema["$ref"])
        for word in ("oneOf", "anyOf", "allOf"):
            if word in schema:
                rest = {key: value for key, value in schema.items() if key != word}
                chosen = chance.choice(schema[word])
                return self.make({**rest, **chosen} if isinstance(chosen, dict) else rest, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return chance.choice(schema["enum"])
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = chance.choice(kind)
        return getattr(self, f"make_{kind}", lambda *_: chance.choice(ODD))(schema, depth)

    def find(self, reference):
        if reference.startswith("#/"):
            found = self.root
            for step in reference[2:].split("/"):
                found = found[step.replace("~1", "/").replace("~0", "~")]
            return found
        return next((part for part in self.parts(self.root) if reference in (part.get("id"), part.get("$id"), f"#{part.get('$anchor')}")), {})

    def parts(self, value):
        if isinstance(value, dict):
            yield value
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from self.parts(part)

    def make_object(self, schema, depth):
        chance, made = self.chance, {}
        required = schema.get("required", [])
        for key, value in schema.get("properties", {}).items():
            if (isinstance(required, list) and key in required) or (depth < 6 and chance.random() < 0.7):
                made[key] = self.make(value, depth + 1)
        for key in required if isinstance(required, list) else []:
            made.setdefault(key, chance.choice(ODD))
        for value in schema.get("patternProperties", {}).values():
            made[f"file{chance.randrange(9)}"] = self.make(value, depth + 1)
        if isinstance(schema.get("additionalProperties"), dict):
            made["another"] = self.make(schema["additionalProperties"], depth + 1)
        return made

    def make_array(self, schema, depth):
        items = schema.get("items", {})
        if isinstance(items, list):
            return [self.make(item, depth + 1) for item in items]
        most = min(schema.get("maxItems", 3), 3)
        count = max(schema.get("minItems", 0), self.chance.randint(0, most if depth < 6 else 0))
        return [self.make(items, depth + 1) if items else self.chance.choice(ODD) for _ in range(count)]

    def make_string(self, schema, _depth):
        texts = ["a", "kernel", "2026-11-25T09:00:00Z", "https://fedoraproject.org/", "é", "a b\n", "x" * 70]
        return self.chance.choice(texts).ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength", 99)]

    def make_integer(self, schema, _depth):
        least = schema.get("minimum", 0)
        return int(self.chance.choice([least, least + 1, least + 7, schema.get("maximum", 2**40)]))

    def make_number(self, schema, depth):
        return self.chance.choice([self.make_integer(schema, depth), 1.5, 0.0])

    def make_boolean(self, _schema, _depth):
        return self.chance.random() < 0.5

    def make_null(self, _schema, _depth):
        return None


def places(value):
    """Yields all containers within a value, with their keys."""
    if isinstance(value, dict):
        yield from ((value, key) for key in value)
        for part in value.values():
            yield from places(part)
    elif isinstance(value, list):
        yield from ((value, index) for index in range(len(value)))
        for part in value:
            yield from places(part)


def changed(value, chance):
    """Returns a copy with one small change: a member removed, added, or replaced by an odd value."""
    copy = json.loads(json.dumps(value))
    found = list(places(copy))
    way = chance.random()
    if not found or way < 0.15:
        if isinstance(copy, dict):
            copy[chance.choice(["unexpected", "", "id", "é", "$ref"])] = chance.choice(ODD)
            return copy
        return chance.choice(ODD)
    container, key = chance.choice(found)
    if way < 0.5:
        del container[key]
    else:
        container[key] = chance.choice(ODD)
    return copy


def message(message_class, headers, body):
    """Makes a message without its class's own constructor, because some constructors read the body and fail."""
    made = message_class.__new__(message_class)
    Message.__init__(made, topic="a.topic", properties=BasicProperties(headers=headers))
    made.body = body
    return made


def accepts(message_class, headers, body):
    """Returns true if the library accepts a message."""
    try:
        message(message_class, headers, body).validate()
    except ValidationError:
        return False
    return True


def wanted(schema, base, chance, examples, kinds=object):
    """Returns texts of these types that match a schema, and texts that do not."""
    validators = [validator_for(part)(part) for part in (schema, base)]
    maker, found = Maker(schema, chance), {True: [], False: []}
    pool = list(examples)
    for number in range(TRIES):
        if number < len(examples):
            value = examples[number]
        elif chance.random() < 0.05:
            value = chance.choice(ODD)
        elif not pool or chance.random() < 0.4:
            value = maker.make(schema)
        else:
            value = changed(chance.choice(pool[-8:]), chance)
        if not isinstance(value, kinds):
            continue
        text = json.dumps(value)
        valid = all(validator.is_valid(json.loads(text)) for validator in validators)
        if valid and isinstance(value, dict):
            pool.append(value)
        if text not in found[valid] and len(found[valid]) < WANTED:
            found[valid].append(text)
        if min(map(len, found.values())) == WANTED:
            break
    return found[True] + found[False]


def shipped(distribution):
    """Returns all objects in the tests that a package ships, because they may be bodies of its messages."""
    modules = {Path(file).parts[0] for file in distribution.files or [] if str(file).endswith(".py")}
    bodies = []
    for name in sorted(modules):
        try:
            tests = importlib.import_module(f"{name}.tests")
            found = [importlib.import_module(module.name) for module in pkgutil.walk_packages(tests.__path__, f"{name}.tests.")]
        except Exception:  # there are no tests, or they need other packages
            continue
        for module in found:
            for value in vars(module).values():
                if isinstance(value, dict) and value and "__name__" not in value:
                    try:
                        bodies.append(json.loads(json.dumps(value)))
                    except (TypeError, ValueError):
                        pass
    return bodies


def main(catalog, cases):
    content = json.loads(Path(catalog).read_text())
    classes = {(entry.name, entry.dist.name): entry for entry in entry_points(group=GROUP)}
    examples = {}
    with open(cases, "w") as out:
        for schema in content["schemas"]:
            name, distribution = schema["name"], schema["distribution"]
            entry = classes[(name, distribution)]
            message_class = entry.load()
            if distribution not in examples:
                examples[distribution] = shipped(entry.dist)
            headers = schema["headers"] or content["base"]["headers"]
            parts = {
                "body": wanted(schema["body"], content["base"]["body"], random.Random(f"body {name}"), examples[distribution]),
                "headers": wanted(headers, content["base"]["headers"], random.Random(f"headers {name}"), [HEADERS], dict),
            }
            fitting = json.loads(parts["body"][0])
            for part, texts in parts.items():
                for text in texts:
                    value = json.loads(text)
                    valid = accepts(message_class, *((HEADERS, value) if part == "body" else (value, fitting)))
                    case = {"name": name, "distribution": distribution, "part": part, "json": text, "valid": valid}
                    if part == "headers":
                        case["body"] = parts["body"][0]
                    print(json.dumps(case), file=out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
