"""Writes the schemas of all installed packages with message classes to one JSON file, the catalog.

    python export.py CATALOG            writes the catalog
    python export.py --table CATALOG    prints a catalog as a Markdown table

Classes are found by the entry point group `fedora.messages`, as the library fedora-messaging does. A
class that can't be exported is reported on standard error and in the file.
"""

import json
import re
import sys
from importlib.metadata import entry_points, metadata, version
from pathlib import Path

from jsonschema.validators import validator_for

GROUP = "fedora.messages"
# Incremented if older readers would misunderstand a newer file.
FORMAT = 1
BASE = "base.message"


class CannotExport(Exception):
    """The reason why the schema of a class can't be exported."""


def normal(name):
    """Returns a distribution's name as the library writes it into headers."""
    return re.sub(r"[-_.]+", "_", name).lower()


def plain(schema, what):
    """Returns the schema if it is plain JSON of a draft that the library's validator knows."""
    if isinstance(schema, property):
        raise CannotExport(f"its {what} is not fixed: code makes one for each message")
    if not isinstance(schema, dict):
        raise CannotExport(f"its {what} is a {type(schema).__name__}, not an object")
    if "$schema" in schema and validator_for(schema, default=None) is None:
        raise CannotExport(f"its {what} is of a draft that jsonschema does not know: {schema['$schema']}")
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CannotExport(f"its {what} is no JSON: {error}") from error
    return schema


def exported(entry, package, base):
    """Returns the catalog's entry for one class."""
    try:
        message = entry.load()
    except Exception as error:  # the package's code may raise anything
        raise CannotExport(f"its class can't be loaded: {error!r}") from error
    headers = plain(message.headers_schema, "schema of headers")
    return {
        "name": entry.name,
        "package": package,
        "distribution": entry.dist.name,
        "version": entry.dist.version,
        "severity": message.severity,
        "deprecated": bool(message.deprecated),
        "headers": None if headers == base.headers_schema else headers,
        "body": plain(message.body_schema, "schema of the body"),
    }


def catalog():
    """Returns the catalog of all classes, ordered by name."""
    from fedora_messaging import message

    message.load_message_classes()
    schemas, left_out = [], []
    found = sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.dist.name))
    for entry in found:
        # None if the module is not named after its package. The library then omits the header.
        package = message._get_distribution_from_module(entry.module)
        try:
            schemas.append(exported(entry, package, message.Message))
        except CannotExport as why:
            print(f"left out: {entry.name} of {entry.dist.name}: {why}", file=sys.stderr)
            left_out.append(
                {
                    "name": entry.name,
                    "package": package,
                    "distribution": entry.dist.name,
                    "version": entry.dist.version,
                    "why": str(why),
                }
            )
    return {
        "format": FORMAT,
        "library": version("fedora_messaging"),
        "base": {"headers": message.Message.headers_schema, "body": message.Message.body_schema},
        "schemas": schemas,
        "left_out": left_out,
    }


def text(content):
    """Returns JSON with one line for each class, so that two catalogs can be compared by lines."""

    def lines(values):
        return "[\n" + ",\n".join(json.dumps(value, sort_keys=True) for value in values) + "\n]"

    members = {
        key: lines(value) if isinstance(value, list) else json.dumps(value, sort_keys=True)
        for key, value in content.items()
    }
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {value}" for key, value in members.items()) + "\n}\n"


def license_of(package):
    """Returns the license of an installed package, as its metadata has it."""
    about = metadata(package)
    return about["License-Expression"] or about["License"] or "unknown"


def table(content):
    """Returns the catalog as a table with one row for each package."""
    packages = {}
    for schema in content["schemas"]:
        packages.setdefault((schema["distribution"], schema["version"]), []).append(schema)
    rows = ["| package | version | license | schemas |", "|---|---|---|---|"]
    for (name, number), schemas in sorted(packages.items(), key=lambda item: normal(item[0][0])):
        names = ", ".join(f"`{schema['name']}`" + (" (deprecated)" if schema["deprecated"] else "") for schema in schemas)
        rows.append(f"| {name} | {number} | {license_of(name)} | {names} |")
    rows.append("")
    rows += [f"Left out: `{left['name']}` of {left['distribution']} {left['version']}: {left['why']}." for left in content["left_out"]]
    return "\n".join(rows) + "\n"


def main(arguments):
    match arguments:
        case ["--table", file]:
            print(table(json.loads(Path(file).read_text())), end="")
        case [file]:
            content = catalog()
            Path(file).write_text(text(content))
            packages = {schema["distribution"] for schema in content["schemas"]}
            print(f"{len(content['schemas'])} schemas of {len(packages)} packages", file=sys.stderr)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
