"""Documents that a machine can hold to their word."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from typing import Any

import pytest

from audits import verify
from tests.house.source import ROOT

DECISIONS = sorted((ROOT / "docs" / "adr").glob("*.md"))
PARTS = ("Context", "Decision", "Consequences", "Enforced by")
PATH = re.compile(r"`((?:audits|engine|compliance|migrations|tests|\.ci)/[\w./-]+|pyproject\.toml|Makefile)`")


@cache
def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _requirements() -> list[str]:
    extras = _project()["optional-dependencies"].values()
    return [*_project()["dependencies"], *(one for extra in extras for one in extra)]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def test_every_third_party_import_is_declared() -> None:
    """Nothing is imported that is not declared, and nothing declared that is not used (deptry)."""
    ran = subprocess.run(
        [f"{sys.prefix}/bin/deptry", ".", "--no-ansi"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr


def test_direct_dependencies_are_pinned_as_tested() -> None:
    """constraints.txt names each direct dependency once, in the version that these tests run with."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)

    assert set(pinned) == {_name(requirement) for requirement in _requirements()}
    assert pinned == {name: metadata.version(name).partition("+")[0] for name in pinned}


def test_decisions_are_numbered_without_gaps() -> None:
    """Each decision has the next number."""
    assert [path.name[:4] for path in DECISIONS] == [f"{n:04}" for n in range(1, len(DECISIONS) + 1)]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decision_says_what_enforces_it(path: Any) -> None:  # noqa: ANN401 - a path
    """A decision has its four parts, fits half a page, and names files that exist and guard it."""
    text = path.read_text()
    headings = tuple(re.findall(r"^## (.+)$", text, flags=re.MULTILINE))
    enforced = PATH.findall(text.partition("## Enforced by")[2])

    assert headings == PARTS
    assert len(text.split()) < 400
    assert enforced
    assert not [name for name in enforced if not (ROOT / name).exists()]


def test_changelog_keeps_its_form() -> None:
    """The changelog has a section for what is not released, with the kinds of Keep a Changelog."""
    text = (ROOT / "CHANGELOG.md").read_text()
    kinds = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))

    assert "## [Unreleased]" in text
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_commands_of_the_readme_exist() -> None:
    """Every `make …` of the README and the documents is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for path in documents for name in re.findall(r"(?:^|`)make ([a-z]+)", path.read_text(), re.MULTILINE)}

    assert named <= targets
    assert {"demo", "test", "check", "soak", "bench", "serve", "lint", "clean"} <= targets


def test_every_step_of_the_verifier_is_explained() -> None:
    """The table for auditors has the numbered steps of the protocol, by their names and in their order."""
    steps = re.findall(r"^ +(\d+)  ([a-z ]+?)  ", verify.__doc__ or "", flags=re.MULTILINE)
    rows = re.findall(r"^\| (\d+) ([a-z ]+) \|", (ROOT / "docs" / "verify.md").read_text(), flags=re.MULTILINE)

    assert len(steps) == 20
    assert steps == rows
