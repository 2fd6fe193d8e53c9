"""Go's sumdb/note and sumdb/tlog read our log: checkpoint, tiles, inclusion and consistency proofs.

The program is in `golog`; it is built from Debian's golang-go and golang-golang-x-mod-dev, without a network.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from audits import checkpoint, log, merkle, note, tiles, witness
from audits.errors import VerificationError
from audits.strict import encode_base64
from tests.audits.bundles import AT, ORIGIN, signing_key

PROGRAM = Path(__file__).parent / "golog" / "main.go"
GOPATH = Path("/usr/share/gocode")
KEY, WITNESS = signing_key("log", 1), signing_key("witness", 4)
ENTRIES = [log.entry(type="request.received", at=AT, salt=f"{n:032x}", data={"n": n}) for n in range(600)]
LOG = log.Log(origin=ORIGIN, entries=ENTRIES)
VKEY = log.vkey(ORIGIN, KEY.public_key)
OLDER = (1, 2, 3, 255, 256, 257, 511, 512, 599, 600)
PROVED = (0, 1, 255, 256, 511, 512, 598, 599)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed (golang-go)"),
    pytest.mark.skipif(
        not (GOPATH / "src/golang.org/x/mod/sumdb/note").is_dir(),
        reason="Go's packages for logs are not installed (golang-golang-x-mod-dev)",
    ),
]


def cosigned(size: int | None = None) -> str:
    """Our checkpoint, with a witness's line that Go does not know."""
    signed = LOG.checkpoint(KEY, size)
    return witness.add(signed, witness.cosign(signed, name="w.example/1", signer=WITNESS, time=1_795_000_000))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built in a place of its own."""
    place = tmp_path_factory.mktemp("golog")
    settings = {
        "GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(place / "cache"), "GOFLAGS": "", "HOME": str(place),
    }  # fmt: skip
    command = ["go", "build", "-o", str(place / "golog"), str(PROGRAM)]
    built = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return place / "golog"


def ask(program: Path, **question: Any) -> Any:  # noqa: ANN401 - JSON
    """The program's answer; `VerificationError` with its sentence when it refuses."""
    ran = subprocess.run([program], input=json.dumps(question), capture_output=True, text=True, check=False)
    if ran.returncode:
        raise VerificationError(ran.stderr)
    return json.loads(ran.stdout)


def published(folder: Path) -> Path:
    """The log as static files."""
    tiles.write_tiles(folder, ENTRIES, cosigned())
    return folder


def encoded(hashes: list[bytes]) -> list[str]:
    """Hashes as Go's JSON reads bytes."""
    return [encode_base64(one) for one in hashes]


def test_go_reads_the_log_as_we_do(tmp_path: Path, program: Path) -> None:
    """Checkpoint, every entry from its tiles, our proofs and every consistency proof hold for Go."""
    said = ask(
        program,
        folder=str(published(tmp_path)),
        vkey=VKEY,
        proofs=[LOG.proof(n, cosigned()) for n in PROVED] + [LOG.proof(7, cosigned(300))],
        entries=encoded([ENTRIES[n] for n in PROVED] + [ENTRIES[7]]),
        consistency=[{"checkpoint": cosigned(size), "hashes": encoded(LOG.consistency_proof(size))} for size in OLDER],
    )

    assert (said["origin"], said["size"], said["verified"], said["unverified"]) == (ORIGIN, 600, [ORIGIN], 1)
    assert (said["records"], said["proofs"], said["consistent"]) == (600, len(PROVED) + 1, len(OLDER))


def spoil(path: Path) -> None:
    """One bit of a file turned."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["checkpoint", "tile/0/001", "tile/1/000.p/2", "tile/entries/002.p/88"])
def test_go_refuses_a_changed_log(tmp_path: Path, program: Path, name: str) -> None:
    """A bit turned in checkpoint, hashes or entries is refused by both readers."""
    folder = published(tmp_path)
    spoil(folder / name)

    with pytest.raises(VerificationError):
        ask(program, folder=str(folder), vkey=VKEY)
    with pytest.raises(VerificationError):
        tiles.check_folder(folder, VKEY)


def test_go_refuses_proofs_of_something_else(tmp_path: Path, program: Path) -> None:
    """A proof of another entry, and a consistency proof from another history, are refused."""
    folder = str(published(tmp_path))
    other = log.Log(origin=ORIGIN, entries=[*ENTRIES[:10], b"another", *ENTRIES[11:300]])

    with pytest.raises(VerificationError, match="proof 0"):
        ask(program, folder=folder, vkey=VKEY, proofs=[LOG.proof(3, cosigned())], entries=encoded([ENTRIES[4]]))
    with pytest.raises(VerificationError, match="consistency from 300"):
        forked = {"checkpoint": other.checkpoint(KEY), "hashes": encoded(LOG.consistency_proof(300))}
        ask(program, folder=folder, vkey=VKEY, consistency=[forked])


def test_we_read_what_go_signed(program: Path) -> None:
    """A checkpoint signed by Go under a key of its own opens here, and under no other key."""
    state = checkpoint.Checkpoint(origin="go.example/log", size=2, root=merkle.root([merkle.leaf_hash(b"x")] * 2))
    said = ask(program, sign=state.format())

    assert checkpoint.open_checkpoint(said["signed"], said["vkey"]) == state
    assert note.parse_vkey(said["vkey"]).format() == said["vkey"]
    with pytest.raises(VerificationError):
        checkpoint.open_checkpoint(said["signed"], log.vkey("go.example/log", KEY.public_key))
