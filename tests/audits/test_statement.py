"""The report's statement: the in-toto layer as published, the schema, and the rules beyond a shape."""

import copy
import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from audits import intoto, predicate, statement
from audits.errors import VerificationError
from audits.schema import Schema
from audits.strict import load_json
from tests.audits.bundles import VECTORS, Desk, raw_payload

CASES = VECTORS / "intoto-statement" / "statement_v1_cases.json"
SCHEMAS = Path(statement.__file__).parent / "schema"


def cases() -> list[Any]:
    """The transcribed cases; where bindings and specification differ, the specification counts."""
    if not CASES.is_file():
        return []
    read = json.loads(CASES.read_text())["cases"]
    good = (True, "spec: true; python and go bindings: false")
    return [pytest.param(one["json"].encode(), one["ok"] in good, id=one["name"]) for one in read]


@pytest.mark.skipif(not CASES.is_file(), reason="the shared vectors are not here")
@pytest.mark.parametrize(("payload", "good"), cases())
def test_vector_statement(payload: bytes, good: bool) -> None:  # noqa: FBT001 - a table's column
    """An in-toto statement is accepted exactly when the specification says so."""
    if good:
        assert intoto.parse(payload).predicate_type == "thePredicate"
        return
    with pytest.raises(VerificationError):
        intoto.parse(payload)


@pytest.mark.parametrize("certified", [False, True])
def test_a_report_comes_back_as_it_was_built(*, certified: bool) -> None:
    """What is built parses to the same predicate, and is an in-toto statement about the model's files."""
    made = Desk().certified() if certified else Desk().predicate()
    payload = statement.build(made)

    assert statement.parse(payload) == made
    found = intoto.parse(payload)
    assert found.predicate_type == statement.PREDICATE_TYPE
    assert {one.name: one.digest["sha256"] for one in found.subjects} == {
        name: one["sha256"] for name, one in made["model"]["after"]["files"].items()
    }


def test_building_says_everything_that_is_wrong() -> None:
    """A report with several faults is refused with a sentence for each."""
    wrong = cast("dict[str, Any]", Desk().predicate())
    wrong["createdAt"] = "yesterday"
    wrong["limits"] = []

    with pytest.raises(ValueError, match=r"predicate\.createdAt .* predicate\.limits "):
        statement.build(cast("predicate.Predicate", wrong))


def paths(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:  # noqa: ANN401 - JSON
    """The path of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from paths(item, (*at, key))


WHOLE: Any = load_json(statement.build(Desk().certified()))


def changed(at: tuple[str | int, ...], to: object) -> dict[str, Any]:
    """A certified report's statement with one value replaced (or removed, when `to` is ...)."""
    value: Any = copy.deepcopy(WHOLE)
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = to
    return cast("dict[str, Any]", value)


FREE = ["environment", "parameters"]


def fields() -> list[tuple[str | int, ...]]:
    """The path of every field whose shape the schema fixes."""
    return [path for path in paths(WHOLE) if not set(FREE) & set(path[:-1])]


def test_every_field_is_needed() -> None:
    """A statement that lacks any one of its fields is refused."""
    named = [path for path in fields() if isinstance(path[-1], str)]
    kept = [path for path in named if not statement.faults(changed(path, ...))]

    assert len(named) > 150
    assert kept == []


def test_every_field_has_a_type() -> None:
    """A statement with an object of nowhere in place of any value is refused."""
    loose = [path for path in fields() if not statement.faults(changed(path, {"from": "nowhere", "to": [None]}))]

    assert sorted(str(path[-1]) for path in loose) == FREE


def test_no_field_may_be_added() -> None:
    """Every object of the predicate is closed, but for the settings that the engine names."""
    objects = [path for path in fields() if isinstance(_at(path), dict)]
    open_ones = [path for path in objects if not statement.faults(changed((*path, "stranger"), 1))]

    assert sorted(str(path[-1]) for path in open_ones) == FREE


def _at(path: tuple[str | int, ...]) -> object:
    value: Any = WHOLE
    for key in path:
        value = value[key]
    return value


def test_no_field_may_end_in_a_line_break() -> None:
    """A digest, id or time with something behind it is another text, here as in every other validator."""
    for path in (("predicate", "reportId"), ("predicate", "createdAt"), ("predicate", "plan", "digest")):
        assert statement.faults(changed(path, f"{_at(path)}\n"))


@pytest.mark.parametrize("value", [None, [], "text", 7, {}, {"_type": "https://in-toto.io/Statement/v0"}])
def test_what_is_no_statement_is_refused(value: object) -> None:
    """Any JSON value gets sentences, never an exception."""
    assert statement.faults(value)


@pytest.mark.parametrize("name", ["../up", "/root", "a/../b", ".", "a\\b", "line\nbreak", "", "x" * 501])
def test_a_file_name_stays_in_its_folder(name: str) -> None:
    """A subject's name can't leave the model's folder when somebody joins it to a path."""
    value = copy.deepcopy(cast("dict[str, Any]", Desk().predicate()))
    value["model"]["after"]["files"][name] = {"sha256": "0" * 64, "size": 0}

    with pytest.raises(VerificationError):
        statement.parse(raw_payload(cast("predicate.Predicate", value)))


def test_the_published_schema_is_the_one_in_force() -> None:
    """The schema file is loaded as it is published, and each of its keywords is enforced."""
    for path in sorted(SCHEMAS.glob("*.json")):
        document = json.loads(path.read_text())

        assert Schema(document).document == document
        assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_keyword_that_is_not_enforced_is_refused() -> None:
    """A schema with a rule that nobody checks does not load."""
    documents: list[dict[str, Any]] = [
        {"uniqueItems": True},
        {"items": {"oneOf": []}},
        {"$ref": "https://elsewhere.example"},
    ]
    for document in documents:
        with pytest.raises(ValueError, match="schema"):
            Schema(document)


@pytest.mark.parametrize("certified", [False, True])
def test_another_validator_agrees(*, certified: bool) -> None:
    """Where the jsonschema package is at hand, it accepts what we accept and refuses what the schema refuses."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    other = jsonschema.Draft202012Validator(statement.SCHEMA.document)
    good = load_json(statement.build(Desk().certified() if certified else Desk().predicate()))

    assert other.is_valid(good)
    for path in fields()[::7]:
        others: list[object] = [..., None, 7, "text", [], {}]
        for to in others:
            value = changed(path, to)
            assert other.is_valid(value) == (not statement.SCHEMA.faults(value)), path


def _keys(kind: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - any annotation
    """The fields of each TypedDict inside an annotation; a union has several."""
    known = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.NotRequired else kind
    found = [one for one in (known, *typing.get_args(known)) if typing.is_typeddict(one)]
    return [typing.get_type_hints(one, include_extras=True) for one in found]


def _disagreements(kind: Any, node: Mapping[str, Any], at: str) -> Iterator[str]:  # noqa: ANN401 - any annotation
    """Where the types for the type checker and the published schema name different fields."""
    found = _keys(kind)
    options = _options(node)
    if len(found) > 1:
        if len(found) != len(options):
            yield at
        for hints, option in zip(found, options, strict=False):
            yield from _fields_differ(hints, option, at)
        return
    for hints in found:
        node = options[0]
        if node.get("type") == "array":
            node = _options(node["items"])[0]
        elif typing.get_origin(kind) is dict:
            node = _options(node["additionalProperties"])[0]
        yield from _fields_differ(hints, node, at)


def _fields_differ(hints: Mapping[str, Any], node: Mapping[str, Any], at: str) -> Iterator[str]:
    wanted = {name for name, hint in hints.items() if typing.get_origin(hint) is not typing.NotRequired}
    if set(hints) != set(node["properties"]) or set(node["required"]) != wanted:
        yield at
    for name, hint in hints.items():
        yield from _disagreements(hint, node["properties"].get(name, {}), f"{at}.{name}")


def _options(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a node may be, besides null, with references followed."""
    while "$ref" in node:
        node = statement.SCHEMA.document["$defs"][node["$ref"].removeprefix("#/$defs/")]
    if "anyOf" not in node:
        return [node]
    return [option for one in node["anyOf"] if one.get("type") != "null" for option in _options(one)]


def test_types_and_schema_name_the_same_fields() -> None:
    """What mypy checks and what the schema enforces can't drift apart."""
    whole = {"$ref": "#/$defs/predicate"}

    assert list(_disagreements(predicate.Predicate, whole, "predicate")) == []
