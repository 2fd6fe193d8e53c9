"""Entries, the log over them, its proofs, and the policies that say which checkpoints to believe."""

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audits import checkpoint, log, merkle, note, policy, proof, witness
from audits.errors import VerificationError
from tests.audits.bundles import AT, ORIGIN, signing_key

KEY = signing_key("log", 1)
VKEY = log.vkey(ORIGIN, KEY.public_key)
OTHER_VKEY = log.vkey("other.example", signing_key("log", 7).public_key)
SALT = "0" * 32
TIME = 1_795_000_000


def entries(number: int) -> list[bytes]:
    """Entries that differ."""
    return [log.entry(type="test.made", at=AT, salt=SALT, data={"n": n}) for n in range(number)]


def witness_vkey(number: int) -> str:
    """The verifier key of witness `number`."""
    return witness.vkey(f"witness.example/w{number}", signing_key("witness", 20 + number).public_key)


def cosigned(signed: str, *numbers: int) -> str:
    """The checkpoint with the cosignatures of these witnesses."""
    for number in numbers:
        signer = signing_key("witness", 20 + number)
        line = witness.cosign(signed, name=f"witness.example/w{number}", signer=signer, time=TIME)
        signed = witness.add(signed, line)
    return signed


class Stored:
    """A head over a list, as a database would be."""

    def __init__(self, stored: list[bytes]) -> None:
        self.stored = stored

    def size(self) -> int:
        """The number of entries."""
        return len(self.stored)

    def entries(self, start: int, stop: int) -> Iterable[bytes]:
        """Some of them."""
        return self.stored[start:stop]


@given(st.integers(1, 40), st.data())
def test_every_entry_can_be_proved(size: int, data: st.DataObject) -> None:
    """A proof for any index and any checkpoint of the log verifies under a policy that names the log."""
    made = entries(size)
    whole = log.Log.read(ORIGIN, Stored(made))
    at = data.draw(st.integers(1, size))
    index = data.draw(st.integers(0, at - 1))
    text = whole.proof(index, whole.checkpoint(KEY, at))

    found, trust = proof.verify(policy.parse(policy.format_policy(log_vkey=VKEY)), text, made[index])
    assert (found.index, trust.checkpoint.size, trust.level) == (index, at, "unwitnessed")
    with pytest.raises(VerificationError):
        proof.verify(policy.parse(policy.format_policy(log_vkey=VKEY)), text, b"another entry")


def test_the_short_hands_are_the_log() -> None:
    """A checkpoint and a proof made in one call are those of the log object."""
    made = entries(5)
    signed = log.checkpoint_of(made, origin=ORIGIN, signer=KEY)
    whole = log.Log(origin=ORIGIN, entries=made)

    assert signed == whole.checkpoint(KEY)
    assert log.proof_of(made, 2, signed) == whole.proof(2, signed)
    assert whole.consistency_proof(2) == merkle.consistency_proof([merkle.leaf_hash(one) for one in made], 2)


def test_no_proof_is_made_for_a_fork() -> None:
    """A checkpoint over other entries, or of another log, is noticed before it is handed out."""
    whole = log.Log(origin=ORIGIN, entries=entries(3))
    fork = log.checkpoint_of([b"x", b"y"], origin=ORIGIN, signer=KEY)
    other = log.checkpoint_of(entries(3), origin="other.example", signer=KEY)

    for signed in (fork, other):
        with pytest.raises(ValueError, match="not"):
            whole.proof(0, signed)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Report"},
        {"type": "report"},
        {"at": "2026-11-20 15:04:05Z"},
        {"at": "2026-11-20T15:04:05+00:00"},
        {"at": "2026-02-30T15:04:05Z"},
        {"salt": "0" * 31},
        {"salt": "G" * 32},
        {"data": {"n": float("nan")}},
        {"data": {"n": 2**53}},
        {"data": {"text": "x" * 70_000}},
    ],
)
def test_what_can_not_be_read_back_is_not_logged(changes: dict[str, Any]) -> None:
    """An entry with a malformed type, time, salt or content is refused before it is written."""
    good: dict[str, Any] = {"type": "test.made", "at": AT, "salt": SALT, "data": {}}

    with pytest.raises(ValueError, match="can't be a log entry"):
        log.entry(**(good | changes))


def test_an_entry_has_one_form() -> None:
    """The same content in another order or spacing, or with another field, is no entry."""
    raw = log.entry(type="test.made", at=AT, salt=SALT, data={"a": 1})

    assert log.parse_entry(raw).data == {"a": 1}
    for other in (raw + b"\n", raw.replace(b":", b": "), raw.replace(b'"salt"', b'"more":1,"salt"'), b"[]"):
        with pytest.raises(VerificationError):
            log.parse_entry(other)


_PLAIN = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text()
_DATA = st.dictionaries(st.text(), _PLAIN | st.floats(-1e15, 1e15) | st.lists(_PLAIN))


@given(_DATA)
def test_that_form_is_the_one_of_rfc_8785(data: dict[str, Any]) -> None:
    """Whatever an entry says, it is read back in the form that the library writes, and in no other that Python does."""
    value: Any = {"type": "test.made", "at": AT, "salt": SALT, "data": data}
    raw = rfc8785.dumps(value)
    other = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    assert rfc8785.dumps({"data": log.parse_entry(raw).data}) == rfc8785.dumps({"data": data})
    if other != raw:
        with pytest.raises(VerificationError):
            log.parse_entry(other)


def test_a_proof_is_written_in_one_form() -> None:
    """Leading zeros, lost lines, other headers and loose base64 are refused."""
    made = entries(5)
    text = log.proof_of(made, 1, log.checkpoint_of(made, origin=ORIGIN, signer=KEY))
    lines = text.split("\n")

    assert proof.parse(text).format() == text
    assert proof.parse(text.replace("index", "extra QUJD\nindex")).extra == b"ABC"
    for other in (
        "",
        text.replace("@v1", "@v2"),
        text.replace("index 1", "index 01"),
        text.replace("index 1", "index -1"),
        text.replace("index 1\n", ""),
        text.replace("\n\n", "\n", 1),
        text.replace(lines[2], lines[2] + " "),
        text.replace(lines[2], lines[2][:-1]),
        text.replace(lines[2], "\n".join([lines[2]] * 64)),
    ):
        with pytest.raises(VerificationError):
            policy.evaluate(policy.parse(policy.format_policy(log_vkey=VKEY)), proof.parse(other).checkpoint)


def test_a_seed_follows_from_the_checkpoint_alone() -> None:
    """The evaluation's seed is the published function of size and root, and a different one for each."""
    root = merkle.leaf_hash(b"")

    assert log.evaluation_seed(size=1, root=root) == 446_886_294_800_106_355
    assert len({log.evaluation_seed(size=size, root=root) for size in range(1, 100)}) == 99


def test_a_commitment_root_does_not_depend_on_the_order() -> None:
    """Commitments are sorted, so the root says nothing about who asked first."""
    commitments = [bytes([n]) * 32 for n in range(9)]
    shuffled = random.Random(1).sample(commitments, 9)  # noqa: S311 - a shuffle, no secret

    assert log.commitment_root(shuffled) == log.commitment_root(commitments)


QUORUM = f"""# two organisations
log {VKEY} https://log.example/
witness X1 {witness_vkey(1)}
\twitness  X2\t{witness_vkey(2)}  https://witness.example/
witness X3 {witness_vkey(3)}
group X 2 X1 X2 X3

witness Y1 {witness_vkey(4)}
witness Y2 {witness_vkey(5)}
group Y any Y1 Y2
group X-and-Y all X Y
quorum X-and-Y
"""


@pytest.mark.parametrize(
    ("who", "enough"),
    [
        ((), False),
        ((1, 2), False),
        ((1, 2, 3), False),
        ((4, 5), False),
        ((1, 4), False),
        ((1, 3, 5), True),
        ((2, 3, 4), True),
        ((1, 2, 3, 4, 5), True),
    ],
)
def test_a_quorum_of_groups(who: tuple[int, ...], enough: bool) -> None:  # noqa: FBT001 - a table's column
    """Two of three here and one of two there is what the policy asks for, whoever they are."""
    signed = cosigned(log.checkpoint_of(entries(3), origin=ORIGIN, signer=KEY), *who)
    parsed = policy.parse(QUORUM)
    if not enough:
        with pytest.raises(VerificationError, match="quorum"):
            policy.evaluate(parsed, signed)
        return

    assert policy.evaluate(parsed, signed).level == "witnessed"
    assert len(policy.evaluate(parsed, signed).witnesses) == len(who)


def test_a_witness_counts_for_what_it_signed() -> None:
    """A cosignature moved to another checkpoint, or to another time, rejects the note."""
    signed = log.checkpoint_of(entries(3), origin=ORIGIN, signer=KEY)
    other = log.checkpoint_of(entries(4), origin=ORIGIN, signer=KEY)
    line = witness.cosign(signed, name="witness.example/w1", signer=signing_key("witness", 21), time=TIME)
    parsed = policy.parse(policy.format_policy(log_vkey=VKEY, witnesses=[("w1", witness_vkey(1))]))
    found = note.parse(line_note := witness.add(signed, line)).signatures[-1]
    late = note.Signature(name=found.name, key_id=found.key_id, blob=bytes(8) + found.blob[8:]).format()

    assert policy.evaluate(parsed, line_note).witnesses == ("w1",)
    for forged in (witness.add(other, line), witness.add(signed, late)):
        with pytest.raises(VerificationError, match="wrong"):
            policy.evaluate(parsed, forged)


def test_a_witness_can_not_stand_in_for_the_log() -> None:
    """A checkpoint that only witnesses signed is nobody's checkpoint."""
    mine = cosigned(log.checkpoint_of(entries(3), origin=ORIGIN, signer=signing_key("log", 9)), 1)
    parsed = policy.parse(policy.format_policy(log_vkey=VKEY, witnesses=[("w1", witness_vkey(1))]))

    with pytest.raises(VerificationError, match="No log"):
        policy.evaluate(parsed, mine)


def test_a_log_is_known_by_its_origin_too() -> None:
    """A key of the policy that signs under another log's name is not believed."""
    state = checkpoint.Checkpoint(origin="other.example", size=1, root=merkle.leaf_hash(b""))
    signed = note.sign(state.format(), ORIGIN, KEY)

    with pytest.raises(VerificationError, match="No log"):
        policy.evaluate(policy.parse(policy.format_policy(log_vkey=VKEY)), signed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quorum none\n",
        f"log {VKEY}\n",
        f"log {VKEY}\nquorum none\nquorum none\n",
        f"log {VKEY}\nlog {VKEY}\nquorum none\n",
        f"log {witness_vkey(1)}\nquorum none\n",
        f"log {VKEY}\nwitness none {witness_vkey(1)}\nquorum none\n",
        f"log {VKEY}\nwitness w {VKEY}\nquorum w\n",
        f"log {VKEY}\nwitness w {witness_vkey(1)}\nwitness v {witness_vkey(1)}\nquorum w\n",
        f"log {VKEY}\nwitness w {witness_vkey(1)}\nwitness w {witness_vkey(2)}\nquorum w\n",
        f"log {VKEY}\nquorum w\nwitness w {witness_vkey(1)}\n",
        f"log {VKEY}\nwitness w {witness_vkey(1)}\ngroup g 2 w\nquorum g\n",
        f"log {VKEY}\nwitness w {witness_vkey(1)}\ngroup g 0 w\nquorum g\n",
        f"log {VKEY}\nwitness w {witness_vkey(1)}\ngroup g any w w\nquorum g\n",
        f"log {VKEY}\nwitness w {witness_vkey(1)}\ngroup g any w\ngroup h any w\nquorum g\n",
        f"log {VKEY}\ngroup g any\nquorum g\n",
        f"log {VKEY}\ngroup g any none\nquorum g\n",
        f"log {VKEY}\ngroup g any g\nquorum g\n",
        f"log {VKEY}\nwitness g {witness_vkey(1)}\ngroup g any g\nquorum g\n",
        f"log {VKEY}\nquorum none # trailing\n",
        f"log {VKEY} url more\nquorum none\n",
        f"log {VKEY}\r\nquorum none\r\n",
        f"log {VKEY[:-1]}\nquorum none\n",
        f"log {VKEY}\nlogs\nquorum none\n",
    ],
)
def test_a_doubtful_policy_is_refused(text: str) -> None:
    """Unknown names, doubles, wrong key types, loops and stray words are refused with the line they are in."""
    with pytest.raises(VerificationError, match="trust policy"):
        policy.parse(text)


def test_a_policy_that_is_not_text_is_refused() -> None:
    """Bytes that are no UTF-8, and too many of them, are refused."""
    for raw in (b"\xff", b"#\n" * 200_000, b"#" * 2000 + b"\n" * 2000):
        with pytest.raises(VerificationError, match="trust policy"):
            policy.parse(raw)


def test_a_policy_that_makes_no_sense_is_not_written() -> None:
    """Writing a policy reads it first."""
    assert "quorum none" in policy.format_policy(log_vkey=VKEY)
    assert "group witnesses 1 " in policy.format_policy(log_vkey=VKEY, witnesses=[("w", witness_vkey(1))], quorum=1)
    with pytest.raises(ValueError, match="can't be written"):
        policy.format_policy(log_vkey=VKEY, witnesses=[("w", witness_vkey(1))], quorum=2)
