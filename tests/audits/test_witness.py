"""What a witness answers: published requests, one history only, and cosignatures that are checked before they count."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import checkpoint, log, note, policy, witness
from audits.errors import VerificationError
from tests.audits.bundles import AT, ORIGIN, VECTORS, signing_key

FOLDER = VECTORS / "witness-torchwood"
SIGSUM = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
SIGSUM_KEY = bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f")
NAME = "example.com/witness"
TIME = 1_795_000_000
KEY, OWN = signing_key("log", 1), signing_key("witness", 21)
VKEY = note.parse_vkey(log.vkey(ORIGIN, KEY.public_key))
MADE = [log.entry(type="test.made", at=AT, salt="0" * 32, data={"n": n}) for n in range(8)]
WHOLE = log.Log(origin=ORIGIN, entries=MADE)


class Memory:
    """A witness that keeps its newest checkpoints in memory."""

    def __init__(self, *known: note.VerifierKey) -> None:
        """A witness of these logs."""
        self.logs = {key.name: [key] for key in known}
        self.newest: dict[str, checkpoint.Checkpoint] = {}

    def answer(self, body: str | bytes) -> tuple[int, str]:
        """Status and body."""
        try:
            request = witness.parse_request(body)
            candidate = witness.authenticate(request, self.logs)
            witness.require_extended(self.newest.get(candidate.origin), candidate, request)
        except witness.RefusedError as refusal:
            return refusal.status, str(refusal) if refusal.size is None else f"{refusal.size}\n"
        self.newest[candidate.origin] = candidate
        return 200, witness.cosign(request.checkpoint, name=NAME, signer=OWN, time=TIME)


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A published request and what is to come of it."""

    body: str
    status: int
    assertion: str


def published() -> list[Published]:
    """The requests in the file, in order: each builds on those before it."""
    if not FOLDER.is_dir():
        return []
    text = (FOLDER / "add-checkpoint.hurl.txt").read_text()
    found = re.findall(
        r"^POST [^\n]+\n```\n(.*?)```\nHTTP (\d+)\n\[Asserts\]\n([^\n]+)", text, re.MULTILINE | re.DOTALL
    )
    return [Published(body=body, status=int(status), assertion=line) for body, status, line in found]


@pytest.mark.parametrize("number", range(9))
def test_a_vector_is_answered_as_published(number: int) -> None:
    """Each of the nine requests, after those before it; an unknown log is 404 since the specification says so."""
    one = published()[number]
    mine = Memory(note.VerifierKey(name=SIGSUM, algorithm=note.ED25519, public_key=SIGSUM_KEY))
    for earlier in published()[:number]:
        mine.answer(earlier.body)

    status, body = mine.answer(one.body)

    unknown = one.assertion == 'body contains "unknown log"'
    assert status == (witness.UNKNOWN_LOG if unknown else one.status)
    if status == 200:
        assert body.startswith(f"— {NAME} ")
    if status == witness.STALE:
        assert one.assertion == f'body == "{body.rstrip()}\\n"'


def test_all_published_vectors_are_there() -> None:
    """Nine requests: three cosigned, two with the wrong signer, two stale, two without a proof that holds."""
    assert [one.status for one in published()] == [200, 403, 403, 422, 422, 200, 409, 200, 409]


def request(size: int, *, old: int = 0, signed: str | None = None, proof: Sequence[bytes] | None = None) -> str:
    """A request to cosign the log at `size`."""
    hashes = WHOLE.consistency_proof(old, size) if proof is None and old else proof or ()
    return witness.Request(old=old, proof=tuple(hashes), checkpoint=signed or WHOLE.checkpoint(KEY, size)).format()


def test_a_witness_signs_one_history() -> None:
    """From its newest checkpoint it goes forward with a proof, stands still, and does not go back, aside or blindly."""
    mine = Memory(VKEY)
    fork = log.checkpoint_of([*MADE[:2], b"rewritten", *MADE[3:]], origin=ORIGIN, signer=KEY)
    short = log.checkpoint_of([*MADE[:2], b"rewritten"], origin=ORIGIN, signer=KEY)
    stranger = log.checkpoint_of(MADE, origin=ORIGIN, signer=signing_key("log", 9))
    other = log.checkpoint_of(MADE, origin="other.example", signer=KEY)

    assert mine.answer(request(8, proof=[bytes(32)]))[0] == 422
    assert mine.answer(request(3))[0] == 200
    assert mine.answer(request(3, old=3, proof=()))[0] == 200
    for refused, status in (
        (request(8), 409),
        (request(3, old=8, proof=()), 400),
        (request(8, old=3, proof=()), 422),
        (request(8, old=3, signed=fork), 422),
        (request(3, old=3, signed=short, proof=()), 422),
        (request(8, old=3, signed=stranger), 403),
        (request(8, old=3, signed=other), 404),
        (request(2), 409),
    ):
        assert mine.answer(refused)[0] == status
    assert mine.answer(request(8, old=3))[0] == 200
    assert mine.newest[ORIGIN].size == 8


def test_an_empty_log_is_the_first_checkpoint_of_any() -> None:
    """From size 0 the log goes on without a proof."""
    mine = Memory(VKEY)

    assert [mine.answer(request(size))[0] for size in (0, 0, 5)] == [200, 200, 200]


def _changed(changes: dict[str, str]) -> str:
    body = request(8, old=3)
    for old, new in changes.items():
        body = body.replace(old, new, 1)
    return body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\n\n",
        _changed({"old 3": "old 03"}),
        _changed({"old 3": "old -3"}),
        _changed({"old 3": "new 3"}),
        _changed({"old 3": "old 3 "}),
        _changed({"=\n": "\n"}),
        _changed({"\n\n": "\n"}),
        _changed({"\n\n": "\r\n\r\n"}),
        request(8, old=3, proof=[bytes(31)]),
        request(8, old=3, proof=[bytes(32)] * 64),
        request(8) + "— x " + "A" * witness.MAX_REQUEST + "\n",
    ],
)
def test_a_malformed_request_is_400(body: str | bytes) -> None:
    """Loose numbers, loose base64, lost lines, too many hashes and too many bytes."""
    assert Memory(VKEY).answer(body)[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        _changed({"\n\n": "\n\n\n"}),
        _changed({"\n8\n": "\n08\n"}),
        request(8) + "— x AAAAAAAA" + "\n" * 2,
        request(8, signed="\n".join(WHOLE.checkpoint(KEY).split("\n")[:4])),
        request(8, signed=WHOLE.checkpoint(KEY) + "— x =\n"),
    ],
)
def test_a_checkpoint_that_nobody_can_read_is_403(body: str) -> None:
    """Nobody is known to have signed it; the published requests have a loose signature that is answered so."""
    assert Memory(VKEY).answer(body)[0] == 403


@given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63))
def test_a_request_is_read_as_it_was_written(old: int, proof: list[bytes]) -> None:
    """Any size and any proof within the limits."""
    one = witness.Request(old=old, proof=tuple(proof), checkpoint=WHOLE.checkpoint(KEY))

    assert witness.parse_request(one.format()) == witness.parse_request(one.format().encode()) == one


@given(st.data())
def test_a_mutated_request_is_refused_or_the_same(data: st.DataObject) -> None:
    """A changed byte never gets another checkpoint cosigned, and never raises anything but a refusal."""
    body = bytearray(request(5).encode())
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    mine = Memory(VKEY)

    status, _ = mine.answer(bytes(body))

    assert status != 200 or mine.newest[ORIGIN] == checkpoint.peek(WHOLE.checkpoint(KEY, 5))


def test_a_line_of_a_type_nobody_knows_is_ignored() -> None:
    """An ML-DSA-44 cosignature (0x06) is neither counted nor in the way, in a request, an answer and a policy."""
    signed = WHOLE.checkpoint(KEY)
    unknown = note.Signature(name="pq.example/w", key_id=b"\x06\x01\x02\x03", blob=bytes(8 + 2420)).format()
    key = witness.parse_vkey(witness.vkey(NAME, OWN.public_key))
    mine = Memory(VKEY)

    status, line = mine.answer(request(8, signed=witness.add(signed, unknown)))
    full = witness.answered(witness.add(signed, unknown), (unknown + line).encode(), key)

    assert status == 200
    assert witness.cosigned(full, key)
    trusted = policy.parse(
        policy.format_policy(log_vkey=VKEY.format(), witnesses=[("w", key.format(), "https://w.example/")])
    )
    assert policy.evaluate(trusted, full).witnesses == ("w",)


def test_an_answer_counts_when_it_is_this_witness_over_this_checkpoint() -> None:
    """A line over another checkpoint, by another key, or that is no line at all, is refused."""
    signed, key = WHOLE.checkpoint(KEY), witness.parse_vkey(witness.vkey(NAME, OWN.public_key))
    good = witness.cosign(signed, name=NAME, signer=OWN, time=TIME).encode()
    elsewhere = witness.cosign(WHOLE.checkpoint(KEY, 3), name=NAME, signer=OWN, time=TIME).encode()
    other = witness.cosign(signed, name=NAME, signer=signing_key("witness", 22), time=TIME).encode()

    assert not witness.cosigned(signed, key)
    assert witness.cosigned(witness.answered(signed, other + good, key), key)
    for wrong in (b"", b"\n", b"\xff", elsewhere, other, elsewhere + good, good[:-20] + b"\n", b"<html>\n"):
        with pytest.raises(VerificationError):
            witness.answered(signed, wrong, key)


def test_a_log_key_is_no_witness_key() -> None:
    """A witness's verifier key is of type 4, so that a log can't cosign itself with the key it signs with."""
    with pytest.raises(VerificationError, match="type 4"):
        witness.parse_vkey(VKEY.format())
