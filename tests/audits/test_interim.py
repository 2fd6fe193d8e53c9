"""Reports on a guard: what suppression may say of itself, and how the report that follows tells of it."""

import copy
from pathlib import Path
from typing import Any, cast

import pytest

from audits import statement
from audits.predicate import Predicate
from audits.render import html
from audits.verify import verify
from tests.audits.bundles import MODEL_FILES, Desk, hex_digest, raw_payload, write

BEFORE = {**MODEL_FILES, "model.safetensors": b"older weights"}
GUARDED = {**BEFORE, "guard/guard.json": b"{}\n", "guard/guard.safetensors": b"prompts"}
INTERIM = {"attemptId": "attempt-0", "rung": "eco", "outcome": "interim", "code": None, "why": None, "logIndex": 2}


def guarded(**model_files: bytes) -> dict[str, Any]:
    """A report on a guard that held after a failed attempt."""
    value = cast("dict[str, Any]", Desk(model_files={**GUARDED, **model_files}).predicate())
    value["guarantee"] |= {"class": "suppression", "statement": "A guard beside weights that still hold the data."}
    value["policy"]["ladder"] = ["ga", "eco", "retrain"]
    value["method"] |= {"rung": "eco", "name": "eco", "variant": None}
    value["attempts"][-1] |= {"rung": "eco", "outcome": "interim"}
    value["dataset"] |= {"removed": 0, "afterDigest": value["dataset"]["beforeDigest"]}
    return value


def followed() -> dict[str, Any]:
    """The report of the same batch's end, which tells of the guard."""
    value = cast("dict[str, Any]", Desk().predicate())
    gates, weights = value["gates"], hex_digest("guarded")
    interim = {**INTERIM, "logIndex": 18, "weightsDigest": weights, "gates": gates, "seconds": 12.5}
    value["attempts"] = [value["attempts"][0], interim, value["attempts"][1]]
    value["policy"]["ladder"] = ["ga", "eco", "npo"]
    value["model"]["after"]["version"] = 3
    return value


def faults(value: dict[str, Any]) -> list[str]:
    """What is wrong with a report."""
    try:
        statement.build(cast("Predicate", value))
    except ValueError as error:
        return str(error).split(". ")
    return []


def text(value: dict[str, Any]) -> str:
    """The page of a report."""
    return html.page(raw_payload(cast("Predicate", value))).decode()


def test_both_reports_keep_all_rules_and_come_back_as_they_were() -> None:
    """A report on a guard, and the one after it, two versions on from the one the batch was planned on."""
    for value in (guarded(), followed()):
        assert statement.parse(statement.build(cast("Predicate", value))) == value


def test_the_verifier_takes_a_bundle_on_a_guard_and_its_folder(tmp_path: Path) -> None:
    """Every step holds, the last one over the folder with the guard; another guard, or none, is another model."""
    desk = Desk(model_files=GUARDED)
    bundle = write(tmp_path / "bundle", desk.files(cast("Predicate", guarded())))
    folder = write(tmp_path / "model", GUARDED)

    found = verify(bundle, desk.policy(), model=folder)

    assert found.ok, [step.why for step in found.steps if not step.ok]
    assert (len(found.steps), found.steps[-1].why) == (
        21,
        f"All {len(GUARDED)} files of the model are those reported on.",
    )
    (folder / "guard" / "guard.safetensors").write_bytes(b"others")
    assert not verify(bundle, desk.policy(), model=folder).ok
    assert not verify(bundle, desk.policy(), model=write(tmp_path / "plain", BEFORE)).ok


def edited(value: dict[str, Any], *path: str | int, to: object) -> dict[str, Any]:
    """A copy of a report with one value replaced."""
    value = copy.deepcopy(value)
    inner: Any = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return value


MADE_OF = "The model after is not the model before with a guard beside it"
ONE_LAST = "Not exactly one attempt, the last one, was published"
COUNTED = "The number of the model after is not that of the model before"
WRONG: list[Any] = [
    (guarded(**{"model.safetensors": b"newer weights"}), MADE_OF),
    (edited(guarded(), "guarantee", "class", to="empirical"), ONE_LAST),
    (edited(guarded(), "guarantee", "class", to="exact"), "The model after is guarded, which is suppression"),
    (edited(guarded(), "attempts", 1, "outcome", to="published"), "A report on a guard ends with its interim attempt"),
    (edited(guarded(), "attempts", 0, "outcome", to="published"), "A report on a guard ends with its interim attempt"),
    (edited(guarded(), "dataset", "removed", to=1), "A guard removes no record"),
    (edited(guarded(), "dataset", "afterDigest", to=hex_digest("fewer")), "A guard removes no record"),
    (edited(guarded(), "model", "after", "version", to=3), COUNTED),
    (edited(followed(), "model", "after", "version", to=2), COUNTED),
    (edited(followed(), "dataset", "removed", to=0), "No record left the data set"),
    (edited(followed(), "attempts", 0, "outcome", to="interim"), "More than one interim attempt is named"),
    (edited(followed(), "attempts", 1, "gates", to=[]), "An interim attempt has no gates, or one that did not hold"),
    (
        edited(followed(), "attempts", 1, "gates", 0, "outcome", to="underpowered"),
        "An interim attempt has no gates, or one that did not hold",
    ),
    (
        edited(followed(), "attempts", 2, "outcome", to="interim"),
        ONE_LAST,
    ),
]


@pytest.mark.parametrize(("value", "sentence"), WRONG)
def test_what_a_guard_may_not_say_gets_a_sentence(value: dict[str, Any], sentence: str) -> None:
    """Suppression that changed weights, removed records or claims a removal is no report, nor is a hidden version."""
    assert any(fault.startswith(sentence) for fault in faults(value)), faults(value)


def test_a_weak_gate_keeps_a_guard_from_publication(tmp_path: Path) -> None:
    """Suppression is judged as evidence alone is: too weak to tell is not enough, and the statement says so."""
    desk = Desk(model_files=GUARDED)
    value = guarded()
    value["evidence"]["findings"][2]["difference"]["ci95"] = [-0.19, 0.24]
    value = desk.rejudged(cast("Predicate", value))  # type: ignore[assignment]

    found = verify(write(tmp_path / "b", desk.files(cast("Predicate", value), raw=True)), desk.policy())

    first = next(step for step in found.steps if not step.ok)
    assert (first.n, first.why) == (8, "An interim attempt has no gates, or one that did not hold.")


def test_the_page_on_a_guard_says_that_nothing_was_removed() -> None:
    """In its first lines, with what undoes it; the word for what did not happen is nowhere."""
    page = text(guarded())

    assert "Interim report: a guard, nothing removed" in page
    assert "Nothing was removed; the requests are open. Published under the guarantee class “suppression”" in page
    assert "the model is version 1 again, bit for bit" in page
    assert "1 replaced by 2 (the same weights, guarded)" in page
    assert "The model&#x27;s weights still hold the data." in page
    assert "was published as a guard until the data are removed" in page
    assert "unlearn" not in page.lower().replace("unlearning-report", "")


def test_the_page_after_it_tells_of_the_guard() -> None:
    """The guard is no failed attempt, and its version is named as what it was."""
    page = text(followed())

    assert "version 1 of the model was replaced by version 3" in page
    assert "Version 2, in use while this was worked on, was a guard that removed nothing." in page
    assert "1 earlier attempt did not pass and is listed below." in page


def test_a_request_for_many_is_not_called_many_people_who_asked() -> None:
    """One for a whole class concerns many, and one person asked."""
    many = {**Desk().predicate()["requestBatch"], "requests": 1}
    page = text(cast("dict[str, Any]", Desk().predicate()) | {"requestBatch": many})

    assert "1 request asked that data be removed" in page
    assert "counted as 3 people" in page
