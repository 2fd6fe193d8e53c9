"""Pictures over requirements, budget and versions: told in words, inside their frames, absent without matter."""

import copy
import re
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import statement
from audits.predicate import Predicate
from audits.render import html, series
from audits.strict import load_json
from tests.audits.bundles import Desk, hex_digest, raw_payload

NUMBER = re.compile(r'(?:x1|x2|cx|y1|y2|cy)="(-?[0-9.]+)"')


def later(count: int = 2) -> dict[str, Any]:
    """A certified report on a model of which `count` versions were published before."""
    value = cast("dict[str, Any]", copy.deepcopy(Desk().certified()))
    value["model"]["before"]["version"], value["model"]["after"]["version"] = count + 1, count + 2
    metrics = {one["metric"]: one["after"] for one in value["evidence"]["findings"]}
    value["history"] = [
        {
            "version": number,
            "guarantee": "certified",
            "reportDigest": hex_digest(f"report {number}"),
            "metrics": metrics,
            "epsilon": 1.5,
            "units": 2,
        }
        for number in range(2, count + 2)
    ]
    return value


def page(value: Any) -> str:  # noqa: ANN401 - any predicate
    """The page of a report."""
    return html.page(raw_payload(cast("Predicate", value))).decode()


def test_a_first_report_has_no_history() -> None:
    """Without earlier versions there is no section about them."""
    assert "From version to version" not in page(Desk().certified())


def test_versions_in_a_row() -> None:
    """A later report shows each gated measurement from version to version, in a picture and in a table."""
    told = page(later())

    assert told.count("From version to version") == 1
    assert "version 2 0.213; version 3 0.213; version 4 0.213" in told
    assert told.count('<polyline class="trend"') == 4


def test_the_history_is_part_of_the_statement() -> None:
    """A report with a history keeps the schema and its rules."""
    assert statement.faults(statement_of(later())) == []


@pytest.mark.parametrize("numbers", [(3, 2), (2, 2), (2, 4), (5, 6)])
def test_a_history_out_of_order(numbers: tuple[int, int]) -> None:
    """Versions that are not earlier, or not in order, are refused."""
    value = later()
    for one, number in zip(value["history"], numbers, strict=True):
        one["version"] = number

    assert statement.faults(statement_of(value)) == ["The earlier versions are not in order, or not earlier."]


def statement_of(value: Any) -> Any:  # noqa: ANN401 - any predicate
    """The statement around a predicate."""
    found: Any = load_json(raw_payload(cast("Predicate", value)))
    return found


def test_a_budget_is_drawn_and_told() -> None:
    """The certificate shows how much of the budget is spent, on how many units, and where the limit is."""
    told = page(later())

    assert "2.790 of 8 spent on 3 deleted units" in told
    assert "largest ε allowed" in told
    assert told.count("<figure>") == 2


def test_an_empirical_report_has_no_budget() -> None:
    """Without a certificate there is no epsilon to draw."""
    assert "largest ε allowed" not in page(Desk().predicate())


def test_a_requirement_without_an_interval() -> None:
    """A gate without evidence is not drawn, and a report without any has no picture of them."""
    gate: Any = cast("dict[str, Any]", Desk().predicate())["gates"][0]

    assert series.glance([gate | {"interval": None, "outcome": "missing"}]) == ""
    assert series.glance([gate | {"margin": 0.0}]) == ""


@given(low=st.floats(-50, 50), width=st.floats(0, 50), direction=st.sampled_from(["at_most", "at_least", "within"]))
def test_no_line_leaves_the_picture(low: float, width: float, direction: str) -> None:
    """However far an interval reaches, it ends inside the picture's frame."""
    gate: Any = cast("dict[str, Any]", Desk().predicate())["gates"][0]
    drawn = series.glance([gate | {"interval": [low, low + width], "direction": direction}])

    assert all(0 <= float(one) <= 340 for one in NUMBER.findall(drawn))


def test_a_report_tells_of_no_more_versions_than_it_may() -> None:
    """More earlier versions than the schema has room for are refused."""
    assert statement.faults(statement_of(later(statement.MOST_VERSIONS))) == []
    assert statement.faults(statement_of(later(statement.MOST_VERSIONS + 1))) != []


def test_a_row_ends_with_this_version() -> None:
    """The report's own version stands last in its row."""
    told = series.row_of(cast("Predicate", later(5)))

    assert [one["version"] for one in told] == [2, 3, 4, 5, 6, 7]
