"""Counts and shapes of groups in a report: what a statement must keep, and that the evidence file says the same."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from audits import bundle, statement, verify
from audits.predicate import Predicate
from audits.strict import load_json
from tests.audits.bundles import Desk, write
from tests.audits.counted import GONE, Counted, aggregates, by_domain

Change = Callable[[dict[str, Any]], object]


def report(groups: dict[str, Any]) -> Predicate:
    """A report with these groups."""
    return Counted().report(groups)


@pytest.mark.parametrize("groups", [aggregates(), by_domain()])
def test_a_report_with_groups_comes_back(groups: dict[str, Any]) -> None:
    """What is built parses to the same, and so does a report without them."""
    made = report(groups)

    assert statement.parse(statement.build(made)) == made
    assert "aggregates" not in Desk().predicate()["evidence"]


def counts(value: dict[str, Any], table: int) -> Any:  # noqa: ANN401 - a table
    """One table of classes; even ones are of removed pictures."""
    return value["confusions"][table]["counts"]


CHEATS: list[tuple[str, Change]] = [
    ("shows a cell of fewer than 5", lambda v: counts(v, 2)[GONE].__setitem__(1, 4)),
    ("hides one cell of a row alone", lambda v: counts(v, 0).__setitem__(0, [None] + [5] * 9)),
    ("counts more than the batch concerns", lambda v: counts(v, 0)[GONE].__setitem__(GONE, 42)),
    ("hides a cell", lambda v: counts(v, 1)[0].__setitem__(0, None)),
    ("not of the same pictures", lambda v: counts(v, 1)[0].__setitem__(0, 37)),
    ("other rows or columns than the classes", lambda v: counts(v, 3).pop()),
    ("table of classes is there twice", lambda v: v["confusions"].append(v["confusions"].pop(0) | {"model": "after"})),
    ("not counted in their order", lambda v: v["classes"].update(shown=[2, 1, *range(3, 11)])),
    ("none of them stays", lambda v: v.update(excluded=10)),
    (
        "of the representation is there twice",
        lambda v: v["representation"]["groups"].append(v["representation"]["groups"][0]),
    ),
    ("a group that is not shown", lambda v: v["representation"]["groups"][0].update(group=11)),
    ("whose share is not said", lambda v: v["representation"]["explained"].pop()),
    ("not that of any pictures", lambda v: v["representation"]["groups"][0].update(spread=[0.1, 0.2, 0.1])),
    ("of other groups than the tables", lambda v: v["representation"].update(of="domains")),
    ("pictures is below 5", lambda v: v["representation"]["groups"][0].update(pictures=4)),
    ("is not a known field", lambda v: v["classes"].update(names=["zero"])),
]


@pytest.mark.parametrize(("sentence", "change"), CHEATS, ids=[sentence for sentence, _ in CHEATS])
def test_groups_that_contradict_themselves_are_refused(sentence: str, change: Change) -> None:
    """Whoever signs them: each rule has its sentence."""
    groups = copy.deepcopy(aggregates())
    change(groups)

    with pytest.raises(ValueError, match=sentence):
        statement.build(report(groups))


@pytest.mark.parametrize(
    ("sentence", "change"),
    [
        ("reads more pictures rightly", lambda v: v["domains"]["right"][0]["counts"][0].__setitem__(0, 21)),
        ("other rows or columns", lambda v: v["domains"]["pictures"].pop()),
        ("or there twice", lambda v: v["domains"]["right"][0].update(model="after")),
    ],
)
def test_tables_of_domains_that_contradict_themselves_are_refused(sentence: str, change: Change) -> None:
    """As those of classes are."""
    groups = copy.deepcopy(by_domain())
    change(groups)

    with pytest.raises(ValueError, match=sentence):
        statement.build(report(groups))


def test_the_evidence_file_holds_the_same_groups(tmp_path: Path) -> None:
    """A bundle with them verifies; one whose signed report has others than its evidence file does not."""
    desk, honest = Counted(), report(aggregates())
    other = copy.deepcopy(aggregates())
    other["excluded"] = 2
    verdicts = [
        verify.verify(write(tmp_path / name, desk.files(made)), desk.policy())
        for name, made in {"honest": honest, "cheat": report(other)}.items()
    ]
    failed = next(step for step in verdicts[1].steps if not step.ok)

    assert verdicts[0].ok
    assert (failed.name, failed.why) == (
        "evidence",
        "The evidence file and the report state different counts of groups.",
    )
    assert "aggregates" in cast("dict[str, Any]", load_json(desk.files(honest)[bundle.EVIDENCE]))
