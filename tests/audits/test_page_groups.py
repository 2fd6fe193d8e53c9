"""Groups of pictures on the report's page: tables and ellipses that need no colour, no name and no script."""

import copy
import re
from typing import Any, cast

import pytest

from audits import statement
from audits.predicate import Predicate
from audits.render import groups, html, words
from tests.audits.bundles import Desk
from tests.audits.counted import CLASSES, Counted, aggregates, by_domain
from tests.audits.test_page import read


def page(told: dict[str, Any]) -> bytes:
    """The page of a report with these groups."""
    return html.page(statement.build(Counted().report(told)))


def text(told: dict[str, Any]) -> str:
    """Its words."""
    return " ".join(read(page(told)).words)


@pytest.mark.parametrize("told", [aggregates(), by_domain()])
def test_a_page_with_groups_needs_nothing_and_runs_nothing(told: dict[str, Any]) -> None:
    """As every page: no script, no remote address, no style of its own in an element."""
    reader = read(page(told))

    assert not {"script", "link", "img", "a"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in ("href", "src", "style")]


def test_tables_of_classes_hold_their_counts() -> None:
    """Three of removed pictures with one row, three of strangers' with all; withheld cells are dots."""
    drawn = groups.section(Counted().report(aggregates())["evidence"])
    tables = re.findall(r"<table.*?</table>", drawn)
    rows = [re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", table) for table in tables]

    assert [len(found) for found in rows] == [1] * 3 + [CLASSES] * 3
    assert rows[0][0][1].count("·") == CLASSES - 1
    assert '<td class="right heat5">40</td>' in rows[0][0][1]
    assert '<td class="right empty">0</td>' in rows[4][6][1]


def test_a_forget_set_of_few_people_has_no_table() -> None:
    """It says why."""
    told = copy.deepcopy(aggregates())
    for one in told["confusions"][::2]:
        one["counts"] = [[None] * CLASSES] * CLASSES

    assert "In no cell are there five people or more, so none is shown" in text(told)


def test_ellipses_have_their_numbers_as_text() -> None:
    """In the label of the picture, and in the appendix."""
    said, raw = text(aggregates()), page(aggregates()).decode()

    assert raw.count("<ellipse") == 2 * CLASSES
    assert raw.count('<ellipse class="gone"') == 2
    assert 'aria-label="After: ' in raw
    assert "to be forgotten 7 at 1.600, −0.400" in raw  # noqa: RUF001 - a real minus sign
    assert "after, to be forgotten, class 7" in said
    assert "these hold 81 % of how much features differ before and 74 % of how much they differ after" in said


def test_every_label_has_a_place_of_its_own() -> None:
    """Groups in one spot are told apart, and lines lead from their numbers to it."""
    told = copy.deepcopy(aggregates())
    for one in told["representation"]["groups"]:
        one["centre"] = [0.0, 0.0]
    drawn = groups.section(Counted().report(told)["evidence"])
    panel = drawn.split("<svg")[1]
    spots = re.findall(r'<text class="of \w+" x="([\d.]+)" y="([\d.]+)"', panel)

    assert len(set(spots)) == CLASSES
    assert panel.count("leader") == CLASSES - 1
    assert all(0 <= float(x) <= 340 and 0 <= float(y) <= 300 for x, y in spots)


def test_directions_that_say_little_are_called_so() -> None:
    """Of a model that was trained anew."""
    told = copy.deepcopy(aggregates())
    told["representation"]["explained"][1]["share"] = 0.2

    assert "the second picture says little" in text(told)
    assert "the second picture says little" not in text(aggregates())


def test_tables_of_domains_are_in_per_cent() -> None:
    """With the forgotten ones marked by a sign, the classes together in the last row, and those that share one."""
    said = text(by_domain())
    drawn = groups.section(Counted().report(by_domain())["evidence"])

    assert '<th scope="col" class="gone">2 ✕</th>' in drawn
    assert '<td class="heat1">15</td>' in drawn
    assert drawn.count('<th scope="row">all</th>') == 2
    assert "The sign + stands for the other 5 classes together" in said


def test_what_was_left_out_is_said_beside_the_accuracy() -> None:
    """And nowhere in a report without groups, whose page is as it was."""
    said, plain = text(aggregates()), html.page(statement.build(Desk().predicate()))

    assert said.count(words.left_out(1)) == 2
    assert "2 classes" in words.left_out(2)
    assert b"heat" not in plain
    assert groups.section(Desk().predicate()["evidence"]) == ""
    assert groups.numbers(Desk().predicate()["evidence"]) == []


def test_the_run_is_timed_beside_training_anew() -> None:
    """Both as people say it; what was not noted is not claimed."""
    value = cast("dict[str, Any]", Counted().report(aggregates()))
    said = text(aggregates())
    value["evidence"]["runTime"]["reference"] = None

    assert "the published method took 2 min 31 s (5 min 1 s of processor time)" in said
    assert "and training the reference 43 min 14 s" in said
    assert "was not noted" in " ".join(read(html.page(statement.build(cast("Predicate", value)))).words)
