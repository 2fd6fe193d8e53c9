"""Signed notes and checkpoints: the cases of Go's reference, a production checkpoint, and strictness."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audits import checkpoint, merkle, note
from audits.errors import VerificationError
from audits.keys import SigningKey
from tests.audits.bundles import ORIGIN, VECTORS, signing_key

FOLDER = VECTORS / "signed-note"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the shared vectors are not here")


def published() -> Any:  # noqa: ANN401 - JSON
    """The transcribed cases."""
    return json.loads((FOLDER / "note_vectors.json").read_text())


def cases() -> list[Any]:
    """One parameter for each case."""
    return [pytest.param(one, id=one["name"]) for one in published()["cases"]] if FOLDER.is_dir() else []


@pytest.mark.parametrize("case", cases())
def test_vector_note(case: dict[str, Any]) -> None:
    """A published note opens exactly when it should, and names who signed it."""
    known = [note.parse_vkey(one) for one in case["vkeys"]]
    if not case["ok"]:
        with pytest.raises(VerificationError):
            note.open_note(case["note"], known)
        return
    opened = note.open_note(case["note"], known)

    assert opened.text == case["text"]
    assert [one.key.name for one in opened.verified] == case["verified"]


def test_a_note_that_is_not_utf8_is_refused() -> None:
    """A byte that is no text makes the whole note worthless."""
    good = next(one for one in published()["cases"] if one["ok"])

    with pytest.raises(VerificationError):
        note.open_note(b"\xff" + good["note"].encode(), [note.parse_vkey(one) for one in good["vkeys"]])


def test_vector_signing_is_deterministic_and_as_in_go() -> None:
    """The published key signs the published text to the published note."""
    vector = published()
    skey = vector["signing_key"]["skey"].split("+", 4)[4]
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(skey)[1:])
    expected = vector["deterministic_sign"]

    assert note.sign(expected["text"], "PeterNeumann", SigningKey("log", private)) == expected["signed"]


def test_vector_only_the_whole_verifier_key_is_one() -> None:
    """No published bad key, no proper part of a good one, and no good one with a byte raised is accepted."""
    good = next(one for one in published()["cases"] if one["ok"])["vkeys"][0]
    parts = {good[start:stop] for start in range(len(good)) for stop in range(start, len(good))}
    raised = {good[:i] + chr(ord(good[i]) + 1) + good[i + 1 :] for i in range(len(good))}

    assert note.parse_vkey(good).format() == good
    for bad in sorted((parts | raised | set(published()["bad_vkeys"][:2])) - {good}):
        with pytest.raises(VerificationError):
            note.parse_vkey(bad)


def test_vector_checkpoint_from_production() -> None:
    """The note of sum.golang.org verifies; its origin, which is not its key's name, makes it no checkpoint of ours."""
    signed = (FOLDER / "sum_golang_org_checkpoint.txt").read_text()
    key = note.parse_vkey((FOLDER / "sum_golang_org_vkey.txt").read_text().strip())

    opened = note.open_note(signed, [key])
    assert opened.verified[0].key == key
    assert opened.text.split("\n")[1] == "35225469"
    with pytest.raises(VerificationError):
        checkpoint.open_checkpoint(signed, key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log.example\n1\n",
        "log.example\n01\n{root}\n",
        "log.example\n+1\n{root}\n",
        "log.example\n\N{ARABIC-INDIC DIGIT ONE}\n{root}\n",
        "log.example\n99999999999999999999\n{root}\n",
        "log example\n1\n{root}\n",
        "\n1\n{root}\n",
        "log.example\n1\n{root}\nextension\n",
        "log.example\n1\n{root}",
        "log.example\n0\n{root}\n",
        "log.example\n1\nAAAA\n",
        "log.example\n1\n{root}=\n",
    ],
)
def test_a_checkpoint_has_one_form(text: str) -> None:
    """What is not exactly origin, size and root in their one spelling is no checkpoint."""
    root = base64.b64encode(merkle.leaf_hash(b"")).decode()

    with pytest.raises(VerificationError):
        checkpoint.parse(text.replace("{root}", root))


def test_a_checkpoint_comes_back_as_it_was_signed() -> None:
    """Signing and opening are inverse, and another log's key opens nothing."""
    signer = signing_key("log", 1)
    state = checkpoint.Checkpoint(origin=ORIGIN, size=1, root=merkle.leaf_hash(b"only"))
    signed = checkpoint.sign(state, signer)

    assert checkpoint.open_checkpoint(signed, note.format_vkey(ORIGIN, signer.public_key)) == state
    with pytest.raises(VerificationError):
        checkpoint.open_checkpoint(signed, note.format_vkey("other.example", signer.public_key))


def test_what_can_not_be_parsed_is_not_signed() -> None:
    """A malformed origin or an impossible root is the caller's mistake, before any signature."""
    signer = signing_key("log", 1)
    leaf = merkle.leaf_hash(b"")

    for origin, size, root in (("two words", 1, leaf), ("log.example", 0, leaf), ("log.example", 1, b"short")):
        with pytest.raises(ValueError, match="can't be signed"):
            checkpoint.sign(checkpoint.Checkpoint(origin=origin, size=size, root=root), signer)
