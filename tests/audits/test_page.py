"""The report's page: self-contained, escaped, in plain words, and the same for ever."""

import copy
import hashlib
import re
from html.parser import HTMLParser
from typing import Any, cast

import pytest

from audits import statement
from audits.errors import VerificationError
from audits.predicate import Predicate
from audits.render import charts, html, words
from tests.audits.bundles import Desk, estimate, raw_payload

VOID = {"meta", "line", "circle", "rect"}


class Reader(HTMLParser):
    """Tags and attributes of a page, whose elements must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that was opened last."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text outside the style sheet."""
        if "style" not in self.open:
            self.words.append(data)


def read(page: bytes) -> Reader:
    """The page, read to its end."""
    reader = Reader()
    reader.feed(page.decode())
    reader.close()
    assert reader.open == []
    return reader


def page(*, certified: bool = False, **changes: Any) -> bytes:  # noqa: ANN401 - any field
    """The page of a report with some fields changed."""
    value = cast("dict[str, Any]", Desk().certified() if certified else Desk().predicate())
    return html.page(raw_payload(cast("Predicate", value | changes)))


@pytest.mark.parametrize("certified", [False, True])
def test_a_page_needs_nothing_and_runs_nothing(*, certified: bool) -> None:
    """No script, no remote address, no form, no image file: what is signed is all there is."""
    raw = page(certified=certified)
    reader = read(raw)

    assert not {"script", "link", "img", "iframe", "object", "form", "base", "a"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in ("href", "src", "style")]
    assert b"url(" not in raw
    assert b"@import" not in raw
    assert re.findall(rb"https?://", raw) == []
    assert b"default-src &#x27;none&#x27;" in raw


@pytest.mark.parametrize("certified", [False, True])
def test_a_page_says_the_five_things_in_order(*, certified: bool) -> None:
    """What was asked, what was done, under which guarantee, what was measured, and what is not claimed."""
    text = " ".join(read(page(certified=certified)).words)
    order = [
        "What was asked",
        "What was done",
        "Under which guarantee",
        "What the measurements say",
        "What this report does not claim",
        "Measurements against their requirements",
        "What happened, failures included",
        "How to check this report",
        "Technical appendix",
    ]

    assert sorted(order, key=text.index) == order
    assert "the data is gone" not in text.lower()


def test_what_a_report_says_is_never_markup() -> None:
    """Names and sentences of the report appear as text wherever they appear."""
    hostile = "</title><script>alert(1)</script>\"'&"
    value = copy.deepcopy(cast("dict[str, Any]", Desk().certified()))
    value["model"]["name"] = value["dataset"]["name"] = value["policy"]["name"] = hostile
    value["guarantee"]["statement"] = value["attempts"][0]["why"] = hostile
    value["guarantee"]["conditions"] = [hostile]
    value["limits"] = [hostile, statement.UNSIGNED]
    value["method"]["parameters"] = {hostile: hostile}
    value["method"]["name"] = value["method"]["variant"] = hostile
    value["requestBatch"]["accounted"][0]["state"] = hostile
    value["evidence"]["suite"] = hostile
    value["guarantee"]["certificate"]["theorem"] = hostile
    raw = html.page(raw_payload(cast("Predicate", value)))

    assert "script" not in read(raw).tags
    assert "".join(read(raw).words).count(hostile) >= 12


def test_a_name_reads_as_it_is_written() -> None:
    """Signs that turn letters round, or that nobody sees, are shown in their place."""
    predicate = Desk().predicate()
    predicate["model"]["name"] = "a\u202eledom\u200b"
    shown = html.page(statement.build(predicate)).decode()
    assert "a\ufffdledom\ufffd" in shown
    assert not {"\u202e", "\u200b"} & set(shown)


def test_what_is_no_report_has_no_page() -> None:
    """A page is only made of a statement that keeps all its rules."""
    with pytest.raises(VerificationError):
        page(limits=[])


def test_a_certified_page_explains_its_bound() -> None:
    """Epsilon and delta are said in words, and the weak finding is not called a success."""
    text = " ".join(read(page(certified=True)).words)

    assert "ε = 2.790 at δ = 0.00001" in text
    assert "at most 16.3 times" in text
    assert "2 of 3 requirements held; for 1 the evidence was too weak to tell" in text


def test_too_few_people_are_named_as_the_reason() -> None:
    """An interval that looks fine over too few people is not called evidence."""
    value = cast("dict[str, Any]", Desk().certified())
    value["evidence"]["findings"][0]["difference"] = estimate(0.0, -0.01, 0.01, n=2)
    text = " ".join(read(html.page(raw_payload(Desk().rejudged(cast("Predicate", value))))).words)

    assert "but only 2 people were measured and 10 are needed: the evidence settles nothing" in text


def test_a_refused_certificate_says_why() -> None:
    """A report without the certificate that was hoped for names the reason."""
    guarantee = {**Desk().predicate()["guarantee"], "refused": "The base did not learn."}

    text = "".join(read(page(guarantee=guarantee)).words)

    assert "Why there is no certificate: The base did not learn." in text


def test_charts_draw_only_what_was_measured() -> None:
    """Without before, reference or difference there is neither a row nor a claim for them."""
    finding: Any = {
        "metric": "unheard_of",
        "before": None,
        "after": estimate(12.5, 11.0, 14.0),
        "reference": None,
        "difference": None,
    }

    assert charts.values(finding).count("<circle") == 1
    assert charts.difference(finding, None) == ""
    assert words.metric("unheard_of").label == "unheard_of"


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-12, 5e8])
def test_charts_hold_any_scale(value: float) -> None:
    """Equal, negative, tiny and huge values are drawn inside the picture."""
    one = estimate(value, value, value)
    finding: Any = {"metric": "m", "before": one, "after": one, "reference": one, "difference": one}
    drawn = charts.values(finding) + charts.difference(finding, None)

    assert "nan" not in drawn
    assert all(0 <= float(x) <= 340 for x in re.findall(r'(?:x1|x2|cx)="([^"]+)"', drawn))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.0314, "0.031"),
        (-0.5, "−0.500"),  # noqa: RUF001 - a real minus sign
        (12.345, "12.35"),
        (123.456, "123.5"),
        (0.000537, "0.00054"),
        (0.0000123, "0.000012"),
        (1.23e-9, "1.2e-09"),
    ],
)
def test_numbers_are_written_for_people(value: float, text: str) -> None:
    """Three places where it is small, and a real minus sign."""
    assert words.number(value) == text


def test_a_released_page_never_changes() -> None:
    """Bundles hold the page of their day: whoever changes this digest raises `html.VERSION` and keeps the old one."""
    digest = hashlib.sha256(html.page(statement.build(Desk().certified()))).hexdigest()

    assert (html.VERSION, digest) == (1, "7ad8a66dd44202c45138112b6aa8eede96f3b5a0baf802d3a5efe2ece0e19586")
