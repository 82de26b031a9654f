"""How commands print what they found: YAML that people read and Envoy takes, and tables."""

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence

import yaml


class _Dumper(yaml.SafeDumper):
    """Certificates as blocks, and fields in the order of their messages."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(document: object) -> str:
    """One YAML document."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def readable(value: object) -> object:
    """The same with certificates as text: Envoy takes `inline_string` as it does the bytes."""
    match value:
        case {"inline_bytes": str() as encoded, **rest} if not rest:
            return {"inline_string": b64decode(encoded).decode()}
        case Mapping():
            return {key: readable(child) for key, child in value.items()}
        case list():
            return [readable(child) for child in value]
        case _:
            return value


def whole(value: object) -> object:
    """The same with whole numbers as such: in a google.protobuf.Struct all are doubles."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case Mapping():
            return {key: whole(child) for key, child in value.items()}
        case list():
            return [whole(child) for child in value]
        case _:
            return value


def to_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with aligned columns; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
