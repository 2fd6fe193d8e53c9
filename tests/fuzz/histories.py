"""Logs that lie: every entry is signed for, proved and cosigned, and one of them says something that it must not.

The operator writes the log, so no signature stands between a lie in an entry and the steps that read entries. What
they may do with it is refuse.
"""

import copy
import json
import shutil
import tempfile
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any, cast

from audits import log, receipt, tiles, verify
from audits.errors import VerificationError
from audits.predicate import Predicate
from audits.protocol import Verification
from tests.audits import test_receipt
from tests.audits.bundles import ORIGIN, Desk, raw_payload, signing_key, write
from tests.fuzz.mutation import Random, mutate_json
from tests.fuzz.target import Target

DESK = Desk(witnessed=True, second=True, approver_key=signing_key("approver", 5))
REQUEST = "request-01"
RECEIPTED = 4  # how many entries the log had when the receipt was given
CRASHED = "could not be carried out"


@cache
def _place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz-")


@cache
def _predicate() -> Predicate:
    return DESK.reseeded(DESK.predicate())


@cache
def _good() -> list[bytes]:
    """The honest log."""
    return DESK.entries(_predicate())


def upright(result: Verification) -> None:
    """No step broke down, and none says what a terminal would obey."""
    assert [one.why for one in result.steps if CRASHED in one.why] == []
    assert all(one.why.isprintable() for one in result.steps)


def _mirrored(entries: list[bytes], signed: str) -> Path:
    place = Path(_place().name) / "mirror"
    shutil.rmtree(place, ignore_errors=True)
    tiles.write_tiles(place, entries, signed)
    return place


def _entries(raw: bytes) -> list[bytes]:
    """The log; without keys, or with an entry that no log takes, there is nothing to verify."""
    entries = raw.split(b"\n")
    if len(entries) <= RECEIPTED or not all(0 < len(one) < tiles.MAX_ENTRY for one in entries):
        raise VerificationError("This is no log.")
    return entries


def _reported(raw: bytes) -> Hashable:
    """A report on what such a log says, its seed drawn from this very log, verified with a copy of the log."""
    entries = _entries(raw)
    value = cast("dict[str, Any]", copy.deepcopy(_predicate()))
    origin = value["evidence"]["seedCheckpoint"]
    size = min(origin["size"], len(entries))
    root = log.Log(origin=ORIGIN, entries=entries).root(size)
    value["evidence"] |= {"seedCheckpoint": {"size": size, "root": root.hex()}}
    value["evidence"]["seed"] = str(log.evaluation_seed(size=size, root=root))
    predicate = cast("Predicate", value)
    payload = raw_payload(predicate)
    entries = [*entries, DESK.logged(predicate, payload)]
    try:
        files = DESK.assemble(predicate, payload, entries=entries, report=len(entries) - 1, key=0)
    except ValueError as fault:  # an excerpt of this log can't be written: too short, or no text
        raise VerificationError("This is no log.") from fault
    mirror = _mirrored(entries, DESK.sign_checkpoint(log.Log(origin=ORIGIN, entries=entries)))
    upright(verify.verify(write(Path(_place().name) / "bundle", files), DESK.policy(), log=mirror))
    return None


def _receipted(raw: bytes) -> Hashable:
    """A receipt from the log's beginnings, held against all of it."""
    entries = _entries(raw)
    old, now = (DESK.sign_checkpoint(log.Log(origin=ORIGIN, entries=some)) for some in (entries[:RECEIPTED], entries))
    try:
        text = receipt.issue(
            _promised(old),
            signer=DESK.receipt_key,
            key_entry=entries[1],
            key_proof=log.proof_of(entries[:RECEIPTED], 1, old),
        )
    except ValueError as fault:
        raise VerificationError("This log registers another key.") from fault
    upright(receipt.verify(text, DESK.policy(), log=_mirrored(entries, now), at="2026-11-21T00:00:00Z"))
    return None


def _promised(checkpoint: str) -> bytes:
    """The payload of a receipt for one of the log's requests."""
    told = next(one for one in map(log.parse_entry, _good()) if one.data.get("requestId") == REQUEST)
    return test_receipt.payload(
        request_id=REQUEST,
        commitment=told.data["commitment"],
        received_at=told.at,
        respond_by=f"{told.data['respondBy']}T23:59:59Z",
        include_by=told.at,
        checkpoint=checkpoint,
    )


def _lie(rng: Random, raw: bytes, _others: tuple[bytes, ...]) -> bytes:
    """Another meaning for one entry or two, or entries in another order."""
    entries = raw.split(b"\n")
    for _ in range(rng.choice((1, 1, 1, 2))):
        at = rng.randrange(len(entries))
        kind = rng.randrange(8)
        if kind == 0:
            entries.insert(rng.randrange(len(entries)), entries[at])
        elif kind == 1:
            entries[at], entries[-1] = entries[-1], entries[at]
        else:
            entries[at] = _another(rng, entries[at])
    return b"\n".join(entries)


def _another(rng: Random, entry: bytes) -> bytes:
    try:
        value = json.loads(entry)
    except ValueError:
        return b"{}"
    mutate_json(rng, value["data"] if rng.random() < 0.8 and value.get("data") else value, 1)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def targets() -> list[Target]:
    """All of them, with good inputs."""
    good = (b"\n".join(_good()),)
    return [
        Target(name="lying log, report", inputs=good, judge=_reported, share=6, spoil=_lie),
        Target(name="lying log, receipt", inputs=good, judge=_receipted, share=6, spoil=_lie),
    ]
