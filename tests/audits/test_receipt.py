"""Receipts: issued once, verified for years, and worth nothing without a policy from outside."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import log, receipt
from tests.audits.bundles import AT, ORIGIN, Desk, hex_digest, signing_key

DESK = Desk()
ENTRIES = DESK.entries()
CHECKPOINT = log.checkpoint_of(ENTRIES, origin=ORIGIN, signer=DESK.log_key)


def payload(**changes: str) -> bytes:
    """A receipt's payload."""
    fields = {
        "request_id": "request-01",
        "commitment": hex_digest("commitment"),
        "regime": "gdpr",
        "scope": "records",
        "received_at": AT,
        "respond_by": "2026-12-21T23:59:59Z",
        "checkpoint": CHECKPOINT,
        "include_by": "2026-11-21T15:04:05Z",
    }
    return receipt.build(**(fields | changes))


def issued(raw: bytes | None = None, **changes: Any) -> str:  # noqa: ANN401 - what `issue` takes
    """A receipt file."""
    given_: dict[str, Any] = {
        "signer": DESK.receipt_key,
        "key_entry": ENTRIES[1],
        "key_proof": log.proof_of(ENTRIES, 1, CHECKPOINT),
    }
    return receipt.issue(payload() if raw is None else raw, **(given_ | changes))


def failed_step(text: str | bytes, policy: str | None) -> int | None:
    """The number of the first failed step."""
    result = receipt.verify(text, policy)
    first = next((one.n for one in result.steps if not one.ok), None)

    assert result.ok == (first is None)
    assert (result.payload is None) == (not result.ok)
    return first


def test_an_honest_receipt_verifies() -> None:
    """Seven steps hold, and the last one says what was promised."""
    result = receipt.verify(issued(), DESK.policy())

    assert failed_step(issued(), DESK.policy()) is None
    assert (result.trust, result.payload, len(result.steps)) == ("unwitnessed", payload(), 7)
    assert "to be answered by 2026-12-21T23:59:59Z" in result.steps[-1].why


def test_without_a_policy_a_receipt_proves_nothing() -> None:
    """The trust is none."""
    assert failed_step(issued(), None) == 2
    assert receipt.verify(issued(), None).trust == "none"


def test_another_log_and_a_missing_witness_are_noticed() -> None:
    """A receipt is of the log and the witnesses of the policy."""
    assert failed_step(issued(), Desk(log_key=signing_key("log", 9)).policy()) == 3
    assert failed_step(issued(), Desk(witnessed=True).policy()) == 4


def test_a_key_of_another_role_signs_no_receipt() -> None:
    """A report key, registered as one, is refused when a receipt is issued and when it is verified."""
    with pytest.raises(Exception, match="not a receipt key"):
        issued(signer=DESK.report_key, key_entry=ENTRIES[0], key_proof=log.proof_of(ENTRIES, 0, CHECKPOINT))
    value = json.loads(issued())
    value["keyEntry"] = ENTRIES[0].decode()
    value["keyProof"] = log.proof_of(ENTRIES, 0, CHECKPOINT)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert failed_step(text, DESK.policy()) == 5


def test_a_receipt_that_a_program_wrote_anew_still_verifies() -> None:
    """Spaces and the order of fields are nobody's signature: the envelope's payload is."""
    value = json.loads(issued())

    for text in (json.dumps(value), json.dumps(value, indent=1), json.dumps(dict(reversed(value.items()))) + "\n "):
        assert failed_step(text, DESK.policy()) is None


def test_a_receipt_in_another_form_is_refused() -> None:
    """Further fields and other files are not receipts."""
    value = json.loads(issued())

    for text in ("", "[]", "{}", json.dumps({**value, "more": 1}), issued() + "{}"):
        assert failed_step(text, DESK.policy()) == 1


def test_a_checkpoint_of_another_log_is_no_checkpoint() -> None:
    """The newest checkpoint in the receipt must be the policy's log's, too."""
    other = log.checkpoint_of(ENTRIES, origin=ORIGIN, signer=signing_key("log", 9))

    assert failed_step(issued(payload(checkpoint=other)), DESK.policy()) == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "two words"},
        {"commitment": "short"},
        {"regime": "GDPR!"},
        {"received_at": "today"},
        {"respond_by": "2026-11-19T00:00:00Z"},
        {"include_by": "2026-02-30T00:00:00Z"},
    ],
)
def test_a_receipt_that_promises_nonsense_is_not_issued(changes: dict[str, str]) -> None:
    """Malformed ids and codes, and promises for the past, are the caller's mistakes."""
    with pytest.raises(ValueError, match=r"\."):
        payload(**changes)


RAW = issued().encode()


@given(st.integers(0, len(RAW) - 2), st.integers(1, 255))
def test_no_byte_of_a_receipt_can_be_changed(position: int, mask: int) -> None:
    """Changing any one byte fails the verification; only the last line break is nobody's."""
    changed = bytearray(RAW)
    changed[position] ^= mask

    assert failed_step(bytes(changed), DESK.policy()) is not None
