"""The vectors of other people: each set has tests with `vector` in their names, none of which is skipped.

What the sets hold and where they come from is in their own README beside this project. Where they are not at hand,
their tests are skipped, and so are these.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.house.source import Source, sources

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"
# Each set and how many files it has, so that a shrunken copy is noticed.
SETS = {
    "dsse": 2,
    "dsse-intoto-model-signing": 6,
    "ed25519": 4,
    "intoto-statement": 2,
    "jcs-rfc8785": 19,
    "merkle-transparency-dev": 198,
    "oms-v1.0": 13,
    "rfc3161": 16,
    "signed-note": 4,
    "tlog-tiles-tessera": 49,
    "witness-torchwood": 2,
}
_NAMED = re.compile(r"^def test\w*vector", re.MULTILINE)
STRUCTURE_ONLY = {"cose-receipts"}  # unsigned examples of a format that we do not speak

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared vectors are not here")


def test_every_set_of_vectors_is_known() -> None:
    """A set that is added has to be used, or said to be unused, here; and each is whole."""
    found = {path.name: sum(one.is_file() for one in path.rglob("*")) for path in VECTORS.iterdir() if path.is_dir()}

    assert set(found) == set(SETS) | STRUCTURE_ONLY
    assert {name: found[name] for name in SETS} == SETS


@pytest.mark.parametrize("name", SETS)
def test_vectors_are_used_and_not_skipped(name: str) -> None:
    """Some test file reads the set, its tests that do are called `vector`, and on this machine they run."""
    tests = [test for source in sources("tests") if _reads(source, name) for test in _vector_tests(source)]

    assert tests
    assert [test for test, marks in tests if any(map(_keeps_from_running, marks))] == []


def _reads(source: Source, name: str) -> bool:
    """Whether a file other than this one holds the set's name as a part of a path."""
    if name not in source.text or not _NAMED.search(source.text) or source.path == "tests/house/test_vectors.py":
        return False
    texts = (node.value for node in ast.walk(source.tree) if isinstance(node, ast.Constant))
    return any(isinstance(text, str) and name in text.split("/") for text in texts)


def _vector_tests(source: Source) -> Iterator[tuple[str, list[Any]]]:
    """Name and marks of each test of the file with `vector` in its name."""
    module = importlib.import_module(source.module)
    own = getattr(module, "pytestmark", [])
    for name, function in vars(module).items():
        if name.startswith("test") and "vector" in name:
            marks = list(getattr(function, "pytestmark", []))
            yield f"{source.path}::{name}", marks + (own if isinstance(own, list) else [own])


def _keeps_from_running(mark: Any) -> bool:  # noqa: ANN401 - a mark or what makes one
    """A skip that applies here, an expected failure, or a table without a row."""
    mark = getattr(mark, "mark", mark)
    if mark.name == "parametrize":
        return not list(mark.args[1])
    return mark.name in {"skip", "xfail", "slow", "soak"} or (mark.name == "skipif" and bool(mark.args[0]))
