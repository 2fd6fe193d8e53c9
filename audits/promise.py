"""Was the promise of a receipt kept? What a copy of the log, and reports, say about one request.

The receipt says: in the log by `includeBy`, answered by `respondBy`. Each check below returns a sentence or raises
`VerificationError` with what is wrong. "Not yet due" is no failure: the copy of the log does not reach the day yet.

Times in entries are the operator's own. What binds them: an entry can't be dated after a witness saw it, nor after
entries that follow it, beyond `SKEW`; and the person's receipt, which the operator signed, says the same time.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from audits import checkpoint as checkpoints
from audits import log as logs
from audits import statement, verify
from audits.errors import VerificationError, require
from audits.history import FINAL, RECEIVED, SKEW, STATE
from audits.mirror import Mirror, Seen

EXTENDED = "request.extended"
_DAY_ENDS = "T23:59:59Z"
_SAME = ("requestId", "commitment", "regime", "scope")


def require_key(mirror: Mirror, *, key_id: str, index: int, checkpoint: checkpoints.Checkpoint) -> str:
    """The receipt key was registered, and not revoked up to the receipt's checkpoint.

    A receipt that is handed out again after a rotation is signed by the newer key, over its old checkpoint: then the
    key counts from its own registration.
    """
    at = max(checkpoint.size - 1, index + 1)
    mirror.register().valid(key_id, "receipt", at)
    return f"Entry {index} registered the receipt key, and no entry up to {at} revokes it."


def require_included(mirror: Mirror, value: Mapping[str, Any], *, seen: Iterable[Seen]) -> tuple[int | None, str]:
    """The index of the request's own entry (None when it is not due yet), and a sentence.

    `seen` are other checkpoints at hand, which the copy extends: the earliest that covers the entry bounds its time.
    """
    found = [(index, one) for index, one in _of(mirror, value) if one.type == RECEIVED]
    if not found:
        return None, _not_there(mirror, value)
    require(len(found) == 1, f"The log holds request {value['requestId']} {len(found)} times.")
    index, entry = found[0]
    require_same(entry, value)
    # The checkpoint was the newest at filing, so the request can only come after it.
    older = checkpoints.peek(value["checkpoint"]).size <= index
    require(older, "The log had the request before the receipt's checkpoint: the receipt is dated too late.")
    _require_in_order(mirror, index, entry.at)
    times = [one.at for one in (*seen, mirror.seen) if one.size > index and one.at is not None]
    return index, f"Entry {index} is the request, dated {entry.at}; {require_in_time(value, min(times, default=None))}"


def require_in_time(value: Mapping[str, Any], seen: datetime | None) -> str:
    """What witnesses who had seen the request's entry at `seen` say of its time; not before it is dated."""
    due, dated = logs.parse_time(value["includeBy"]), logs.parse_time(value["receivedAt"])
    if seen is None:
        return f"promised by {value['includeBy']}, and nobody but the operator vouches for the time."
    require(dated <= seen + SKEW, "The log dates the request after its witnesses saw it: it is post-dated.")
    if seen <= due:
        return f"its witnesses had seen it by {_shown(seen)}, before {value['includeBy']}, as promised."
    return (
        f"promised by {value['includeBy']}; the earliest cosignature at hand is of {_shown(seen)}, so that the date "
        "rests on the operator's clock and on the entries around it."
    )


def require_same(entry: logs.Entry, value: Mapping[str, Any]) -> None:
    """An entry of a received request says what its receipt says."""
    require(entry.type == RECEIVED, "The log entry is not about a request that was received.")
    for name in _SAME:
        require(entry.data.get(name) == value[name], f"The log and the receipt name different values of {name}.")
    respond_by = f"{entry.data.get('respondBy')}{_DAY_ENDS}"
    require(respond_by == value["respondBy"], "The log and the receipt name different days for the answer.")
    require(entry.at == value["receivedAt"], f"The log dates the request {entry.at}, the receipt another time.")
    due = logs.parse_time(entry.at) <= logs.parse_time(value["includeBy"])
    require(due, "The log dates the request later than the receipt promised it to be there.")


def require_accounted(mirror: Mirror | None, value: Mapping[str, Any], *, index: int | None, bundles: Sequence[Path],
                      policy_text: str | bytes) -> str:  # fmt: skip
    """What the log's entries and the given reports say of the request; a report that leaves it out is refused."""
    said = [] if mirror is None else [_history(mirror, value)]
    said += [_reported(mirror, value, index=index, bundle=one, policy_text=policy_text) for one in bundles]
    if mirror is not None and index is not None and not bundles:
        reports = sum(number > index for number, _ in mirror.about(b'"type":"report.logged"'))
        said.append(f"{reports} report(s) were logged after it: give their bundles to see what they say of it.")
    return " ".join(said)


def require_answered(mirror: Mirror, value: Mapping[str, Any]) -> str:
    """The request ended by the day that the receipt (or one logged extension of it) named."""
    due, ended = logs.parse_time(value["respondBy"]), None
    extended = False
    for _, entry in _of(mirror, value):
        moment = logs.parse_time(entry.at)
        if entry.type == EXTENDED and not extended and moment <= due:
            due, extended = _later(entry, due), True
        if entry.type == STATE and str(entry.data.get("state")) in FINAL:  # a liar's state may be no text
            ended = entry
    shown = f"{due:%Y-%m-%d}" + (", as extended once" if extended else "")
    if ended is not None:
        late = logs.parse_time(ended.at) > due
        require(not late, f"The request ended as {ended.data['state']} at {ended.at}, after {shown}.")
        return f"The request ended as {ended.data['state']} at {ended.at}, in time for {shown}."
    require(
        mirror.newest() <= due, f"The request was to be answered by {shown}, and the log goes on without an answer."
    )
    return f"not yet due: the answer is promised for {shown}, and this copy of the log does not reach that day."


def require_dated(value: Mapping[str, Any], at: str) -> str:
    """The receipt is not dated after the time `at` (RFC 3339, UTC) at which the person held it."""
    require(logs.is_time(at), "The time to compare with is not RFC 3339 in UTC, like 2026-11-22T10:00:00Z.")
    later = logs.parse_time(value["receivedAt"]) > logs.parse_time(at) + SKEW
    require(not later, f"The receipt is dated {value['receivedAt']}, after {at}: it is post-dated.")
    return f"The receipt is dated {value['receivedAt']}, not after {at}."


def _of(mirror: Mirror, value: Mapping[str, Any]) -> list[tuple[int, logs.Entry]]:
    words = f'"requestId":"{value["requestId"]}"'.encode()
    return [(index, one) for index, one in mirror.about(words) if one.data.get("requestId") == value["requestId"]]


def _not_there(mirror: Mirror, value: Mapping[str, Any]) -> str:
    newest = mirror.newest()
    broken = newest > logs.parse_time(value["includeBy"])
    shown = _shown(newest)
    require(
        not broken,
        f"The promise was broken: the request was to be in the log by {value['includeBy']}, and a log of {shown} with "
        f"{mirror.size} entries does not have it.",
    )
    return f"not yet due: promised by {value['includeBy']}, and this copy of the log reaches {shown} only."


def _require_in_order(mirror: Mirror, index: int, at: str) -> None:
    """Refuse an entry that is dated after entries that follow it."""
    # Keys of an entry are in order, so the bytes begin with the time: {"at":"2026-...
    later = min((raw[7:27] for raw in mirror.entries[index + 1 :] if raw.startswith(b'{"at":"')), default=b"")
    following = later.decode("ascii", "replace")
    ahead = logs.is_time(following) and logs.parse_time(at) > logs.parse_time(following) + SKEW
    require(not ahead, f"The log dates the request {at}, after an entry that follows it: it is post-dated.")


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _history(mirror: Mirror, value: Mapping[str, Any]) -> str:
    told = [
        f"{index} {one.data.get('state') or one.type.partition('.')[2]} {one.at}"
        for index, one in _of(mirror, value)
        if one.type.startswith("request.")
    ]
    return f"The log's entries about it: {', '.join(told)}." if told else "The log has no entry about it."


def _reported(mirror: Mirror | None, value: Mapping[str, Any], *, index: int | None, bundle: Path,
              policy_text: str | bytes) -> str:  # fmt: skip
    checked = verify.verify(bundle, policy_text)
    failed = next((one for one in checked.steps if not one.ok), None)
    if failed is not None or checked.payload is None:
        why = "" if failed is None else f" at step {failed.n} ({failed.name}): {failed.why}"
        raise VerificationError(f"The report in {bundle.name} does not verify{why}")
    if mirror is not None:
        _require_logged(mirror, checked.payload)
    predicate = statement.parse(checked.payload)
    batch, name = predicate["requestBatch"], predicate["reportId"]
    states = {one["requestId"]: one["state"] for one in batch["accounted"]}
    if value["requestId"] in states:
        model = f"{predicate['model']['name']} version {predicate['model']['after']['version']}"
        return f"Report {name} on {model} accounts for it as {states[value['requestId']]}."
    covers = batch["ledgerRange"]
    missing = index is not None and covers["from"] <= index < covers["to"]
    require(
        not missing, f"Report {name} covers the log's entries {covers['from']} to {covers['to']} and leaves it out."
    )
    return f"Report {name} is about other entries of the log."


def _require_logged(mirror: Mirror, payload: bytes) -> None:
    digest = hashlib.sha256(payload).hexdigest()
    logged = any(one.data.get("reportDigest") == digest for _, one in mirror.about(digest.encode()))
    require(logged, "The report is not in this copy of the log.")


def _later(entry: logs.Entry, due: datetime) -> datetime:
    named = f"{entry.data.get('respondBy')}{_DAY_ENDS}"
    require(logs.is_time(named), "An extension in the log names no day.")
    return max(due, logs.parse_time(named))
