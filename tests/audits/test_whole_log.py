"""With a copy of the log: what an operator with every key can leave out of an excerpt is noticed all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audits import log, verify
from audits.keys import registration
from tests.audits.bundles import ORIGIN, Desk, hex_digest, signing_key, write
from tests.audits.cheating import (
    APPROVER,
    NOTHING,
    Told,
    account,
    added,
    attempt,
    entry,
    inserted,
    revoked,
    told,
    without,
)
from tests.audits.story import DECIDED, FILED, commitment


def unseen(desk: Desk, *new: bytes, report: Callable[[dict[str, Any]], None] = lambda _: None) -> Told:
    """Entries that lie before the excerpt, which an operator need not show."""
    made = told(desk, log_=inserted(3, *new), report=report)
    kept = without(
        made.files,
        lambda value: value.update(
            single=[one for one in value["single"] if one["index"] not in range(3, 3 + len(new))]
        ),
    )
    return Told(made.desk, kept, made.entries)


SECOND = Desk(second=True)
OPEN = entry("request.received", FILED, requestId="request-99", commitment=commitment("request-99"))
BEFORE: dict[str, tuple[str, Callable[[], Told]]] = {
    "a request that is open for long": ("requests, whole log", lambda: unseen(SECOND, OPEN)),
    "somebody nobody knows": (
        "requests, whole log",
        lambda: unseen(
            SECOND, NOTHING.replace(DECIDED.encode(), FILED.encode()), report=account("request-77", "approved")
        ),
    ),
    "an approver's key that is kept quiet": (
        "approvals, whole log",
        lambda: unseen(SECOND, entry(log.KEY_REGISTERED, FILED, **registration(APPROVER, "approver"))),
    ),
    "a report key that was given up": (
        "key validity, whole log",
        lambda: unseen(SECOND, revoked(SECOND.report_key, "report", FILED)),
    ),
    "an attempt of a batch that was never planned": (
        "attempts, whole log",
        lambda: told(SECOND, log_=added(*attempt(3, "batch-99"))),
    ),
}


@pytest.mark.parametrize(("step", "cheat"), BEFORE.values(), ids=BEFORE.keys())
def test_what_an_excerpt_does_not_show_the_whole_log_does(tmp_path: Path, step: str, cheat: Callable[[], Told]) -> None:
    """The bundle alone passes, and says how far it goes; with a copy of the log the cheat is noticed."""
    made = cheat()

    assert made.first_failure(tmp_path) == ""
    assert made.first_failure(tmp_path, log=made.mirror(tmp_path / "mirror")) == step


def test_a_copy_of_another_history_is_noticed(tmp_path: Path) -> None:
    """Signed by the same key, with one entry exchanged: the report's checkpoint is not of that log."""
    made = told(Desk())
    other = Told(made.desk, made.files, [*made.entries[:4], NOTHING, *made.entries[5:]])
    shorter = Told(made.desk, made.files, made.entries[:-1])

    for number, copied in enumerate((other, shorter)):
        assert made.first_failure(tmp_path, log=copied.mirror(tmp_path / str(number))) == "whole log"


def test_entries_after_the_report_are_read_too(tmp_path: Path) -> None:
    """A log that goes on is fine; not one whose later entries are dated back, are no entries, or revoke its key."""
    made = told(Desk())
    later = entry("model.checked", "2026-11-21T00:00:00Z", modelId="model-1")
    given_up = revoked(made.desk.log_key, "log")
    refused = [(one, "whole log") for one in (NOTHING, b"no entry", given_up)]
    for more, step in ((later, ""), *refused):
        grown = Told(made.desk, made.files, [*made.entries, more])

        assert made.first_failure(tmp_path, log=grown.mirror(tmp_path / hex_digest(repr(more)))) == step


def test_an_older_checkpoint_must_be_of_this_history(tmp_path: Path) -> None:
    """One of a fork, of another log, and one that a witness saw before an entry that is dated earlier are refused."""
    made = told(Desk(witnessed=True))
    mirror = made.mirror(tmp_path / "mirror")
    fork = [*made.entries[:4], NOTHING]
    older = {
        "": made.desk.sign_checkpoint(log.Log(origin=ORIGIN, entries=made.entries)),
        "a fork": log.checkpoint_of(fork, origin=ORIGIN, signer=made.desk.log_key),
        "another key": log.checkpoint_of(made.entries[:4], origin=ORIGIN, signer=signing_key("log", 9)),
        "dated back": made.desk.sign_checkpoint(log.Log(origin=ORIGIN, entries=made.entries[:4])),
        "nothing": "",
    }
    found = {name: made.first_failure(tmp_path, log=mirror, since=text) for name, text in older.items()}

    assert found.pop("") == ""
    assert set(found.values()) == {"older checkpoint"}
    assert made.first_failure(tmp_path, since=older[""]) == "older checkpoint"


def test_a_checker_says_how_far_it_could_look(tmp_path: Path) -> None:
    """What an excerpt does not show is said, so that nobody takes it for checked."""
    made = told(SECOND, report=account("request-77", "approved"))
    steps = {one.name: one.why for one in verify.verify(write(tmp_path, made.files), SECOND.policy()).steps}

    assert "as far as the excerpt shows" in steps["key validity"]
    assert "1 of them have no entry in the excerpt" in steps["requests"]
