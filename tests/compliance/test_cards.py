"""The model card of an unlearned version: what was there is kept, ours is said once, and no score is in it."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compliance import cards
from compliance.errors import UnavailableError

DIGEST = "ab" * 32
TOLD = cards.Told(
    model="support-assistant", method="npo", guarantee="empirical", requests=3, before=DIGEST, batch="batch-41"
)
CARD = """---
license: apache-2.0
tags:
- chat
---

# Support assistant

Answers questions.
"""


def front(card: str) -> dict[str, object]:
    """The front matter as YAML readers see it."""
    found: dict[str, object] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_a_model_without_a_card_gets_one() -> None:
    """The new card names method, class, requests, base and batch, as metadata and in words."""
    card = cards.write("", TOLD)

    assert front(card) == {
        "unlearning": {
            "method": "npo",
            "guarantee": "empirical",
            "requests": 3,
            "base_model_sha256": DIGEST,
            "report_batch": "batch-41",
        }
    }
    assert "# support-assistant" in card
    assert "Guarantee class: empirical" in card
    assert "signed report of batch `batch-41`" in card


def test_what_a_card_said_is_kept() -> None:
    """Front matter and text of the card before stay as they were."""
    card = cards.write(CARD, TOLD)

    assert front(card) | {"unlearning": None} == {"license": "apache-2.0", "tags": ["chat"], "unlearning": None}
    assert "# Support assistant\n\nAnswers questions.\n" in card


def test_a_later_version_replaces_only_its_own_words() -> None:
    """A second unlearning says its own things once, and nothing of the first stays but what was there before both."""
    later = cards.Told(model="x", method="retrain", guarantee="exact", requests=1, before="cd" * 32, batch="batch-42")
    card = cards.write(cards.write(CARD, TOLD), later)

    assert card == cards.write(CARD, later)
    assert card.count("## Unlearning") == 1
    assert "batch-41" not in card
    assert "1 request concerned" in card


@given(st.text(max_size=200))
def test_any_text_is_carried_on(text: str) -> None:
    """Whatever the card before says, writing is a function of it, and a second time changes nothing more."""
    once = cards.write(text, TOLD)

    assert cards.write(once, TOLD) == once
    assert once.count(cards.BEGIN) >= 1


def folder(path: Path, **files: str) -> Path:
    """A model's folder."""
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


def test_a_changed_model_has_its_card(tmp_path: Path) -> None:
    """The finished folder gets its card from that of the version before."""
    before = folder(tmp_path / "before", config_json="{}", README_md=CARD)
    made = folder(tmp_path / "made", config_json='{"new": 1}')
    cards.carry(made, before, TOLD)

    assert (made / "README.md").read_text() == cards.write(CARD, TOLD)


@pytest.mark.parametrize("card", [None, CARD], ids=["no card", "card"])
def test_an_unchanged_model_stays_the_same(tmp_path: Path, card: str | None) -> None:
    """A run that left every file as it was is not dressed up as a new version by its card."""
    extra = {} if card is None else {"README_md": card}
    before = folder(tmp_path / "before", config_json="{}", **extra)
    made = folder(tmp_path / "made", config_json="{}")
    cards.carry(made, before, TOLD)

    assert {path.name: path.read_text() for path in made.iterdir()} == {
        path.name: path.read_text() for path in before.iterdir()
    }


def test_a_card_that_is_no_text(tmp_path: Path) -> None:
    """A card before that nobody can read stops the run with what to mend."""
    before = folder(tmp_path / "before", config_json="{}")
    (before / "README.md").write_bytes(b"\xff\xfe")
    made = folder(tmp_path / "made", config_json="[]")

    with pytest.raises(UnavailableError, match=r"README\.md"):
        cards.carry(made, before, TOLD)
