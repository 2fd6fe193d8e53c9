"""An approver's signature over a request."""

import pytest

from audits import approval, keys
from audits.errors import VerificationError
from audits.strict import encode_base64
from tests.audits.bundles import AT, hex_digest, signing_key

APPROVER = signing_key("approver", 11)
COMMITMENT = hex_digest("what the person asked for")
ABOUT = {"request_id": "r1", "commitment": COMMITMENT}


def signed(**changes: str) -> dict[str, str]:
    """The entry's data for an honest approval, with some of the statement's words changed."""
    facts = {"approved_at": AT, **ABOUT, **changes}
    return approval.sign(approval.statement(**facts), APPROVER)


def test_an_approval_has_one_spelling() -> None:
    """The signed bytes are these, so that any program can prepare them."""
    raw = approval.statement(request_id="r1", commitment=COMMITMENT, approved_at=AT)

    assert raw == (
        b'{"approvedAt":"' + AT.encode() + b'","commitment":"' + COMMITMENT.encode() + b'",'
        b'"decision":"approved","requestId":"r1","type":"expunge-approval/v1"}'
    )


def test_an_approval_verifies() -> None:
    """The approver's own signature over this request holds."""
    approval.verify(signed(), APPROVER.public_key, **ABOUT)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (signed(request_id="r2"), "another request"),
        (signed(commitment=hex_digest("another")), "under the same id"),
        ({**signed(), "requestId": "r2"}, "another request"),
        ({**signed(), "keyId": "ab" * 32}, "another key"),
        ({**signed(), "signature": signed(request_id="r2")["signature"]}, "not this key's signature"),
        ({**signed(), "signature": 7}, "not text"),
        ({**signed(), "statement": encode_base64(b"{}")}, "other fields"),
        ({**signed(), "statement": encode_base64(b" " + b"x" * 2000)}, "larger"),
        ({**signed(), "more": ""}, "other fields"),
    ],
)
def test_what_is_not_the_approvers_word_is_refused(data: dict[str, str], why: str) -> None:
    """A moved, swapped, forged or malformed approval approves nothing."""
    with pytest.raises(VerificationError, match=why):
        approval.verify(data, APPROVER.public_key, **ABOUT)


def test_another_persons_key_does_not_approve() -> None:
    """A signature verifies under the key that made it only."""
    with pytest.raises(VerificationError, match="another key"):
        approval.verify(signed(), signing_key("approver", 12).public_key, **ABOUT)


def test_the_operators_keys_sign_no_approval() -> None:
    """A report key is refused before it signs."""
    raw = approval.statement(approved_at=AT, **ABOUT)

    with pytest.raises(ValueError, match="not by a report key"):
        approval.sign(raw, signing_key("report", 2))
    with pytest.raises(ValueError, match="can't be an approval"):
        approval.statement(request_id="a b", commitment=COMMITMENT, approved_at=AT)


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b'{"decision":"approved"}',
        approval.statement(approved_at=AT, **ABOUT).replace(b'approved"', b'denied"'),
        approval.statement(approved_at=AT, **ABOUT).replace(b"expunge-approval/v1", b"expunge-approval/v2"),
        approval.statement(approved_at=AT, **ABOUT).replace(b":", b": ", 1),
        approval.statement(approved_at=AT, **ABOUT).replace(b'"r1"', b"1"),
        approval.statement(approved_at=AT, **ABOUT).replace(AT.encode(), b"yesterday"),
    ],
)
def test_a_statement_is_read_strictly(raw: bytes) -> None:
    """Another decision, type, spelling or time is no approval, even when the approver signed it."""
    data = {
        "requestId": "r1",
        "keyId": keys.key_id(APPROVER.public_key),
        "statement": encode_base64(raw),
        "signature": encode_base64(APPROVER.sign(raw)),
    }

    with pytest.raises(VerificationError):
        approval.verify(data, APPROVER.public_key, **ABOUT)
