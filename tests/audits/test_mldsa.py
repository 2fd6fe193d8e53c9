"""A log's second signature: ML-DSA-44 over a checkpoint, as c2sp.org/tlog-cosignature has it."""

import hashlib
from pathlib import Path

import pytest

from audits import checkpoint, keys, mldsa, note, policy
from audits.errors import VerificationError
from tests.audits.bundles import ORIGIN, signing_key

STATE = checkpoint.Checkpoint(origin=ORIGIN, size=1234, root=hashlib.sha256(b"root").digest())
LOG = signing_key("log", 1)
SECOND = mldsa.generate()
SIGNED = mldsa.add(checkpoint.sign(STATE, LOG), SECOND)
FIRST_LINE = note.format_vkey(ORIGIN, LOG.public_key)
SECOND_LINE = note.format_vkey(ORIGIN, SECOND.public_key, note.ML_DSA_44)


def trust(*vkeys: str) -> policy.Policy:
    """A policy that names these keys of the log."""
    return policy.parse("".join(f"log {one}\n" for one in vkeys) + "quorum none\n")


def test_the_signed_message_is_that_of_the_specification() -> None:
    """Label, names behind their lengths, numbers of eight bytes, root: written out here by hand."""
    state = checkpoint.Checkpoint(origin="log.test", size=258, root=bytes(range(32)))

    assert (
        mldsa.message(state, name="w", time=3).hex()
        == (
            "737562747265652f76310a00"  # subtree/v1, newline, nul
            "0177" + "0000000000000003"  # the name, the time
            "086c6f672e74657374"  # the origin
            "0000000000000000" + "0000000000000102"  # from 0 to 258
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        )
    )


def test_who_does_not_know_the_second_key_skips_its_line() -> None:
    """An older reader sees the checkpoint as it was."""
    assert checkpoint.open_checkpoint(SIGNED, FIRST_LINE) == STATE
    assert policy.verify_log(trust(FIRST_LINE), SIGNED).log.public_key == LOG.public_key


def test_a_policy_may_ask_for_the_second_key_alone_or_know_both() -> None:
    """The line stands for the log like the first one; without it a policy that names it alone is not met."""
    assert policy.verify_log(trust(SECOND_LINE), SIGNED).checkpoint == STATE
    assert policy.verify_log(trust(FIRST_LINE, SECOND_LINE), SIGNED).checkpoint == STATE
    with pytest.raises(VerificationError, match="No known key"):
        policy.verify_log(trust(SECOND_LINE), checkpoint.sign(STATE, LOG))


def test_a_wrong_second_line_rejects_the_checkpoint() -> None:
    """Who knows the key refuses a line over another root, by another key, or of another length."""
    other = checkpoint.Checkpoint(origin=ORIGIN, size=1234, root=bytes(32))
    line = SIGNED.splitlines(keepends=True)[-1]
    moved = checkpoint.sign(other, LOG) + line
    name, blob = note.parse(SIGNED).signatures[1].name, note.parse(SIGNED).signatures[1]
    short = note.Signature(name=name, key_id=blob.key_id, blob=blob.blob[:-1]).format()
    late = note.Signature(name=name, key_id=blob.key_id, blob=b"\xff" * 8 + blob.blob[8:]).format()

    for bad in (moved, checkpoint.sign(STATE, LOG) + short, checkpoint.sign(STATE, LOG) + late):
        with pytest.raises(VerificationError, match="is wrong"):
            policy.verify_log(trust(FIRST_LINE, SECOND_LINE), bad)
        policy.verify_log(trust(FIRST_LINE), bad)


def test_the_second_key_is_kept_and_registered_like_any_key(tmp_path: Path) -> None:
    """Its file has the log's role and may be encrypted; its registration names its algorithm."""
    path, secret = tmp_path / "second.pem", "correct horse battery"
    keys.save(SECOND, path, secret)

    assert keys.load(path, "log", secret, make=mldsa.SecondKey).public_key == SECOND.public_key
    assert keys.read_registration(keys.registration(SECOND, "log")).algorithm == "ml-dsa-44"
    with pytest.raises(VerificationError):
        keys.load(path, "log", secret)
    with pytest.raises(VerificationError):
        keys.from_pem(keys.to_pem(LOG), "log", make=mldsa.SecondKey)
