"""The part of JSON Schema (2020-12) that this package's published schemas use, as a validator.

The schema file is the validator's only source, so what is published and what is enforced can't drift apart. A
keyword that is not known here is an error when the schema is loaded, never a rule that is silently skipped.
"""

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sized
from importlib.resources import files
from typing import Any

from audits.errors import expect

_SILENT = frozenset({"$schema", "$id", "$defs", "title", "description"})
_KEYWORDS = frozenset(
    {
        "$ref", "anyOf", "const", "enum", "type", "pattern", "minLength", "maxLength",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "items", "minItems", "maxItems",
        "required", "properties", "additionalProperties", "propertyNames", "minProperties", "maxProperties",
    },
)  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
_LIMITS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "minimum": (operator.ge, "is below"),
    "maximum": (operator.le, "is above"),
    "exclusiveMinimum": (operator.gt, "is not above"),
    "exclusiveMaximum": (operator.lt, "is not below"),
}
_SIZES = (("Length", str, "characters"), ("Items", list, "items"), ("Properties", dict, "keys"))


class Schema:
    """One loaded schema."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Check that every keyword of `document` is enforced here."""
        self.document = document
        self._check(document)

    @classmethod
    def load(cls, name: str) -> "Schema":
        """The schema of this package called `name`."""
        path = files("audits") / "schema" / f"{name}.json"  # the package may lie in a zip file
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def faults(self, value: object) -> list[str]:
        """One sentence for each way in which `value` breaks the schema; none when it keeps it."""
        return list(self._walk(self.document, value, ""))

    def _check(self, node: Mapping[str, Any]) -> None:
        unknown = set(node) - _KEYWORDS - _SILENT
        expect(not unknown, f"The schema uses keywords that are not enforced: {sorted(unknown)}.")
        if "$ref" in node:
            self._resolve(node["$ref"])
        children = [*node.get("$defs", {}).values(), *node.get("properties", {}).values(), *node.get("anyOf", ())]
        children += [node[key] for key in ("items", "additionalProperties", "propertyNames") if key in node]
        for child in children:
            if not isinstance(child, bool):
                self._check(child)

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        expect(reference.startswith("#/$defs/"), f"The schema refers to {reference}, outside its definitions.")
        found: Mapping[str, Any] = self.document["$defs"][reference.removeprefix("#/$defs/")]
        return found

    def _walk(self, node: Mapping[str, Any], value: object, at: str) -> Iterator[str]:
        if "$ref" in node:
            yield from self._walk(self._resolve(node["$ref"]), value, at)
        if "anyOf" in node:
            yield from self._any_of(node["anyOf"], value, at)
        where = at or "The statement"
        if "const" in node and not _same(value, node["const"]):
            yield f"{where} is not {json.dumps(node['const'])}."
        if "enum" in node and not any(_same(value, one) for one in node["enum"]):
            yield f"{where} is not one of {', '.join(map(json.dumps, node['enum']))}."
        if "type" in node and not _is(value, node["type"]):
            yield f"{where} is not of the type {node['type']}."
            return
        yield from _scalar(node, value, where)
        yield from self._array(node, value, at)
        yield from self._object(node, value, at)

    def _any_of(self, options: list[Mapping[str, Any]], value: object, at: str) -> Iterator[str]:
        """Report on the option that the value comes closest to: the one of its own type."""
        found = [list(self._walk(option, value, at)) for option in options]
        if all(found):
            yield from next((one for one in reversed(found) if one), [])

    def _array(self, node: Mapping[str, Any], value: object, at: str) -> Iterator[str]:
        if isinstance(value, list) and "items" in node:
            for index, item in enumerate(value):
                yield from self._walk(node["items"], item, f"{at}[{index}]")

    def _object(self, node: Mapping[str, Any], value: object, at: str) -> Iterator[str]:
        if not isinstance(value, dict):
            return
        prefix = f"{at}." if at else ""
        properties, extra = node.get("properties", {}), node.get("additionalProperties", True)
        for name in node.get("required", ()):
            if name not in value:
                yield f"{prefix}{name} is missing."
        for name, item in value.items():
            shown = f"{prefix}{name}" if str(name).isprintable() else f"{prefix}?"
            if "propertyNames" in node and any(self._walk(node["propertyNames"], name, shown)):
                yield f"{shown} is not an allowed name."
            if name in properties:
                yield from self._walk(properties[name], item, shown)
            elif extra is False:
                yield f"{shown} is not a known field."
            elif extra is not True:
                yield from self._walk(extra, item, shown)


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _same(value: object, other: object) -> bool:
    return type(value) is type(other) and value == other


def _scalar(node: Mapping[str, Any], value: object, where: str) -> Iterator[str]:
    if isinstance(value, str) and "pattern" in node and re.search(_pattern(node["pattern"]), value) is None:
        yield f"{where} is not written as it must be."
    if isinstance(value, int | float) and not isinstance(value, bool):
        for keyword, (holds, words) in _LIMITS.items():
            if keyword in node and not holds(value, node[keyword]):
                yield f"{where} {words} {node[keyword]}."
    for suffix, kind, unit in _SIZES:
        if isinstance(value, kind) and isinstance(value, Sized):
            size = len(value)
            if size < node.get(f"min{suffix}", 0):
                yield f"{where} has fewer than {node[f'min{suffix}']} {unit}."
            if size > node.get(f"max{suffix}", size):
                yield f"{where} has more than {node[f'max{suffix}']} {unit}."


def _pattern(text: str) -> str:
    """A pattern of JSON Schema for Python, whose `$` would also stand before a line break at the end."""
    return text.replace("$", r"\Z")
