"""The verifier as one file: built the same twice, run by a Python without packages, and of the package's opinion."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from audits import bundle, companion, log, mldsa, note, oms, receipt, tiles, verify
from audits.protocol import Verification
from tests.audits import test_receipt
from tests.audits.bundles import AT, MODEL_FILES, ORIGIN, VECTORS, Desk, file_digests, write
from tests.audits.test_oms import ModelKey

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "deploy" / "verifier" / "build.py"
WYCHEPROOF = VECTORS / "ed25519" / "wycheproof_ed25519_test.json"
DESK = Desk(witnessed=True)


def build(out: Path) -> Path:
    """The file, built as `make verifier` does."""
    subprocess.run([sys.executable, str(BUILD), str(out)], cwd=ROOT, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, in a folder where nothing else lies."""
    return build(tmp_path_factory.mktemp("single") / "expunge-verify.pyz")


def alone(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python with no packages, no environment and another working folder."""
    command = [sys.executable, "-I", "-S", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, check=False)


def inside(single: Path, code: str, *arguments: object) -> str:
    """What a program prints that imports from the file and from nowhere else."""
    begin = f"import sys; sys.path.insert(0, {str(single)!r})\n"
    ran = alone("-c", begin + code, *arguments, folder=single.parent)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def said(single: Path, command: str, path: Path, policy: str, *more: object) -> tuple[int, Any]:
    """Exit code and JSON of a verification by the file."""
    trusted = path.with_name("tlog-policy")
    trusted.write_text(policy)
    ran = alone(single, command, path, "--policy", trusted, "--json", *more, folder=single.parent)
    assert ran.stderr == ""
    return ran.returncode, json.loads(ran.stdout)


def expected(result: Verification) -> tuple[int, Any]:
    """The same by the package."""
    return (0 if result.ok else 1), json.loads(json.dumps(result.to_json()))


def test_the_same_sources_give_the_same_file(tmp_path: Path, single: Path) -> None:
    """Built again, elsewhere and later, it is byte for byte the same, and a shell can start it."""
    again = build(tmp_path / "other.pyz")

    assert again.read_bytes() == single.read_bytes()
    assert again.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(again, os.X_OK)


def test_it_needs_nothing_but_python(single: Path) -> None:
    """Whatever it loads is Python's own, or lies inside it."""
    code = (
        "import audits.__main__\n"
        "print([n for n, m in sys.modules.items() if getattr(m, '__file__', None)\n"
        "       and n.partition('.')[0] not in sys.stdlib_module_names\n"
        "       and not m.__file__.startswith(sys.path[0])])"
    )

    assert inside(single, code).strip() == "[]"


def test_an_honest_bundle_verifies_step_by_step_as_in_the_package(tmp_path: Path, single: Path) -> None:
    """Same steps, same words, same trust, exit code 0, with the model, a copy of the log and a summary at hand."""
    predicate = DESK.reseeded(DESK.certified())
    files = DESK.files(predicate)
    entries = [*DESK.entries(predicate), files[bundle.REPORT_ENTRY]]
    path, mirror = write(tmp_path / "bundle", files), tmp_path / "mirror"
    tiles.write_tiles(mirror, entries, DESK.sign_checkpoint(log.Log(origin=ORIGIN, entries=entries)))
    plain = verify.verify(path, DESK.policy())
    summary = companion.summarise(
        plain, files[bundle.REPORT], verifier="https://desk.example", at=AT, signer=DESK.report_key
    )
    write(path, {companion.SUMMARY: summary})
    model = write(tmp_path / "model", MODEL_FILES)
    result = verify.verify(path, DESK.policy(), model=model, log=mirror)

    assert (plain.ok, result.ok) == (True, True)
    more = ("--model", model, "--log", mirror)
    assert said(single, "verify", path, DESK.policy(), *more) == expected(result)


@pytest.mark.parametrize("name", [bundle.REPORT, bundle.EVIDENCE])
def test_a_cheat_fails_at_the_same_step(tmp_path: Path, single: Path, name: str) -> None:
    """A bundle with one byte changed is refused with the package's own sentence, exit code 1."""
    files = DESK.files()
    changed = bytearray(files[name])
    changed[len(changed) // 2] ^= 1
    path = write(tmp_path / "bundle", {**files, name: bytes(changed)})
    result = verify.verify(path, DESK.policy())

    assert not result.ok
    assert said(single, "verify", path, DESK.policy()) == expected(result)


def test_a_receipt_verifies_as_in_the_package(tmp_path: Path, single: Path) -> None:
    """Receipts are read by the same file."""
    path = tmp_path / "receipt.json"
    path.write_text(test_receipt.issued())
    policy = test_receipt.DESK.policy()

    assert said(single, "receipt", path, policy) == expected(receipt.verify(path.read_bytes(), policy))


@pytest.mark.skipif(not WYCHEPROOF.is_file(), reason="the shared vectors are not here")
def test_vector_wycheproof_in_the_single_file(single: Path) -> None:
    """Through the door that the verifier uses, all 151 signatures are judged as published."""
    code = (
        "import json; from audits import keys; from audits.errors import VerificationError\n"
        "def holds(*a):\n"
        "    try: keys.verify(*a)\n"
        "    except VerificationError: return False\n"
        "    return True\n"
        "h = bytes.fromhex\n"
        "groups = json.load(open(sys.argv[1]))['testGroups']\n"
        "print([holds(h(g['publicKey']['pk']), h(t['sig']), h(t['msg'])) == (t['result'] == 'valid')\n"
        "       for g in groups for t in g['tests']].count(True))"
    )

    assert inside(single, code, WYCHEPROOF).strip() == "151"


def test_a_model_signature_verifies_without_openssl(tmp_path: Path, single: Path) -> None:
    """OpenSSF Model Signing over P-256 holds in the file; another signature of the same key does not."""
    key, files = ModelKey(), file_digests(MODEL_FILES)
    good = json.loads(oms.build(name="m", files=files, signer=key))
    wrong = json.loads(oms.build(name="other", files=files, signer=key))
    moved = {**good, "dsseEnvelope": {**good["dsseEnvelope"], "signatures": wrong["dsseEnvelope"]["signatures"]}}
    for name, value in (("good", good), ("moved", moved)):
        (tmp_path / name).write_bytes(rfc8785.dumps(value))
    code = (
        "import json; from audits import oms; from audits.errors import VerificationError\n"
        "files, key = json.loads(sys.argv[3]), bytes.fromhex(sys.argv[4])\n"
        "oms.verify(open(sys.argv[1], 'rb').read(), name='m', files=files, key=key)\n"
        "try: oms.verify(open(sys.argv[2], 'rb').read(), name='m', files=files, key=key)\n"
        "except VerificationError as fault: print(fault)"
    )
    told = inside(single, code, tmp_path / "good", tmp_path / "moved", json.dumps(files), key.public_key.hex())

    assert "not by the expected key" in told


def test_the_second_line_of_a_checkpoint_verifies_without_openssl(tmp_path: Path, single: Path) -> None:
    """ML-DSA-44 beside Ed25519: both lines hold in the file, and a spoilt second one rejects the note."""
    second = mldsa.generate()
    signed = mldsa.add(log.checkpoint_of([b"entry"], origin=ORIGIN, signer=DESK.log_key), second)
    head, _, last = signed.rstrip("\n").rpartition(" ")
    spoilt = bytearray(base64.b64decode(last))
    spoilt[100] ^= 1
    (tmp_path / "good").write_text(signed)
    (tmp_path / "spoilt").write_text(f"{head} {base64.b64encode(spoilt).decode()}\n")
    known = [log.vkey(ORIGIN, DESK.log_key.public_key), note.format_vkey(ORIGIN, second.public_key, note.ML_DSA_44)]
    code = (
        "from audits import note; from audits.errors import VerificationError\n"
        "known = [note.parse_vkey(one) for one in sys.argv[3:]]\n"
        "print(sorted(one.key.algorithm for one in note.open_note(open(sys.argv[1], 'rb').read(), known).verified))\n"
        "try: note.open_note(open(sys.argv[2], 'rb').read(), known)\n"
        "except VerificationError as fault: print(fault)"
    )
    told = inside(single, code, tmp_path / "good", tmp_path / "spoilt", *known)

    assert told.startswith("[1, 6]\n")
    assert "by the known key" in told


def test_it_does_not_sign(single: Path) -> None:
    """Asked for a private key, it says that it only verifies."""
    code = (
        "from audits import keys; from cryptography.exceptions import UnsupportedAlgorithm\n"
        "try: keys.generate('report')\n"
        "except UnsupportedAlgorithm as fault: print(fault)"
    )

    assert "neither signs nor reads private keys" in inside(single, code)


def test_an_import_that_nobody_answers_ends_the_build(tmp_path: Path) -> None:
    """What the stand-in does not have is found when the file is built."""
    copy = tmp_path / "tree"
    for folder in ("audits", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (copy / "audits" / "newer.py").write_text("from cryptography.hazmat.primitives.ciphers import Cipher\n")
    ran = subprocess.run(
        [sys.executable, str(copy / "deploy/verifier/build.py"), str(tmp_path / "out.pyz")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 1
    assert "plain.py has no Cipher" in ran.stderr
    assert not (tmp_path / "out.pyz").exists()
