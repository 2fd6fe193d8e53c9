"""Domains of pictures at the desk: kept from every form a user brings, all or none, and for whom such a data set is."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compliance.wiring import Services
from engine.corpus import read_records
from engine.errors import EngineError
from tests.compliance.builders import write_lines
from tests.compliance.terminal import answer, at, refusal
from tests.engine import styled

DRAWN = styled.records(range(2), ("photo", "tinted"))


def _line(number: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    record = DRAWN[number]
    told = {"record_id": record.record_id, "image": record.image, "label": record.label, "domain": record.domain}
    return {name: value for name, value in {**told, **changes}.items() if value is not None}


def _folder(place: Path) -> Path:
    for record in DRAWN:
        path = place / str(record.domain) / str(record.label) / f"{record.record_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(record.image or ""))
    return place


def _lines(place: Path) -> Path:
    return write_lines(place / "all.jsonl", [_line(i) for i in range(len(DRAWN))])


def _arrays(place: Path) -> Path:
    images = np.stack([styled.drawn(str(one.label), str(one.domain), i % 2) for i, one in enumerate(DRAWN)])
    labels, domains = (np.array([getattr(one, name) for one in DRAWN]) for name in ("label", "domain"))
    np.savez(place / "all.npz", images=images, labels=labels, domains=domains)
    return place / "all.npz"


@pytest.mark.parametrize("make", [_folder, _lines, _arrays])
def test_a_data_set_keeps_the_domains_it_came_with(services: Services, tmp_path: Path, make: Any) -> None:  # noqa: ANN401 - a function
    """Folders of two levels, lines and arrays: what the store gives back names label and domain of every picture."""
    (tmp_path / "home").mkdir()
    value = answer(services, "dataset", "add", "home", make(tmp_path / "home"))
    path = services.store.dataset_path(value["id"])

    kept = {(one.label, one.domain) for one in services.store.records(value["id"])}

    assert (value["task"], value["records"]) == ("vision-language", 4)
    assert kept == {(one.label, one.domain) for one in DRAWN}
    assert read_records(path) == services.store.records(value["id"])
    assert answer(services, "dataset", "show", "home")["digest"] == value["digest"]


def test_who_can_be_trained_on_what(services: Services, tmp_path: Path) -> None:
    """Pictures with domains are for a CLIP and for classifiers, which mind none; those without are for classifiers."""
    rows = {"domains": [_line(0)], "plain": [_line(0, domain=None)], "words": [{"text": "x"}]}
    found = {}
    for name, lines in rows.items():
        added = answer(services, "dataset", "add", name, write_lines(tmp_path / f"{name}.jsonl", lines))
        tasks = ("language", "image", "vision-language")
        found[name] = [task for task in tasks if services.store.serves(added["id"], task)]

    assert found == {"domains": ["image", "vision-language"], "plain": ["image"], "words": ["language"]}


UNNAMED: tuple[tuple[list[dict[str, Any]], str], ...] = (
    ([_line(0), _line(1, domain=None)], "line 1 has a domain and line 2 has none"),
    ([_line(0, domain=None), _line(1, domain=None), _line(2)], "line 3 has a domain and line 1 has none"),
    ([_line(0, domain="")], "the 'domain' of line 1 is no text, or empty"),
    ([_line(0, domain=7)], "the 'domain' of line 1 is no text, or empty"),
    ([_line(0, domain="\ud800")], "line 1 has a character that cannot be stored"),
)


def test_a_domain_is_named_for_every_picture_or_for_none(services: Services, tmp_path: Path) -> None:
    """One sentence, exit 2, and nothing stored."""
    for lines, sentence in UNNAMED:
        assert sentence in refusal(at(services, "dataset", "add", "home", write_lines(tmp_path / "all.jsonl", lines)))
    assert answer(services, "dataset", "list") == []


def test_a_domain_is_no_way_back_for_a_forgotten_picture(services: Services, tmp_path: Path) -> None:
    """A forgotten picture is refused under another domain and another label too."""
    first = answer(services, "dataset", "add", "first", write_lines(tmp_path / "first.jsonl", [_line(0), _line(1)]))
    with services.transaction() as ledger:
        ledger.forget_records(
            dataset_id=first["id"], record_ids=["photo-0"], digest="0" * 64, batch_id="b1", now=services.clock()
        )
    again = write_lines(tmp_path / "again.jsonl", [_line(0, record_id="new", label="left", domain="sketch")])

    assert "1 records were erased on request" in refusal(at(services, "dataset", "add", "again", again))


def test_the_engine_refuses_a_domain_without_a_name(tmp_path: Path) -> None:
    """Its own reader names the line."""
    path = write_lines(tmp_path / "all.jsonl", [{"unit": "u", **_line(0, domain="x"), "domain": ""}])

    with pytest.raises(EngineError, match="line 1: a domain has a name"):
        read_records(path)
