"""The habits of the code that a machine can count."""

import ast

import pytest

from tests.house.source import PACKAGES, Source, sources

EVERYTHING = (*PACKAGES, "tests", "benchmarks")
MEANINGLESS = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "base"}
MIGRATIONS = "migrations/versions/"  # Alembic writes one function for everything that changed
LINES_OF_A_FILE = 500
LINES_OF_A_FUNCTION = 80


def test_no_module_has_a_meaningless_name() -> None:
    """A module is named after what it holds."""
    names = {part for source in sources(*EVERYTHING) for part in source.module.split(".")}

    assert not names & MEANINGLESS


def test_no_file_is_longer_than_500_lines() -> None:
    """A file that passes the limit is two."""
    long = [source.path for source in sources(*EVERYTHING) if len(source.text.splitlines()) > LINES_OF_A_FILE]

    assert not long


def test_no_function_is_longer_than_80_lines() -> None:
    """A function that passes the limit does more than one thing."""
    long = [
        f"{source.path}:{function.lineno} {function.name}"
        for source in sources(*EVERYTHING)
        if not source.path.startswith(MIGRATIONS)
        for function in source.functions()
        if (function.end_lineno or 0) - function.lineno >= LINES_OF_A_FUNCTION
    ]

    assert not long


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is(package: str) -> None:
    """Each module begins with a docstring that states its rules or its border."""
    assert not [source.path for source in sources(package) if not ast.get_docstring(source.tree)]


def test_nothing_is_patched() -> None:
    """Tests use the real thing or a real Null: no mock, no `monkeypatch.setattr`."""
    found = [source.path for source in sources("tests") if _patches(source)]

    assert not found


def _patches(source: Source) -> bool:
    mocks = any(
        name.partition(".")[0] in {"mock", "pytest_mock"} or name == "unittest.mock" for name in source.imports()
    )
    from_unittest = any(
        isinstance(node, ast.ImportFrom) and node.module == "unittest" and any(a.name == "mock" for a in node.names)
        for node in ast.walk(source.tree)
    )
    setters = {"monkeypatch.setattr", "monkeypatch.setitem", "monkeypatch.delattr"}
    return mocks or from_unittest or any(name in setters for name in source.dotted())
