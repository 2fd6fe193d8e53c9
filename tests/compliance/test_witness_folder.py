"""What a witness keeps: one history of each log, whoever asks at the same time and whatever dies in between."""

import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audits import checkpoint, log, note, witness
from compliance.errors import InvalidInputError, UnavailableError
from compliance.witnessing.folder import FORK, NEWEST, WitnessFolder, open_folder
from tests.audits.bundles import AT, ORIGIN, signing_key
from tests.compliance.terminal import refusal, run

KEY = signing_key("log", 1)
VKEY = log.vkey(ORIGIN, KEY.public_key)
TIME = 1_795_000_000
MADE = [log.entry(type="test.made", at=AT, salt="0" * 32, data={"n": n}) for n in range(8)]
OTHER = [*MADE[:2], b"rewritten", *MADE[3:]]
WHOLE, FORKED = (log.Log(origin=ORIGIN, entries=made) for made in (MADE, OTHER))


def body(size: int, *, old: int = 0, of: log.Log = WHOLE) -> bytes:
    """A request to cosign a log at `size`, going on from `old`."""
    proof = of.consistency_proof(old, size) if 0 < old < size else []
    return witness.Request(old=old, proof=tuple(proof), checkpoint=of.checkpoint(KEY, size)).format().encode()


@pytest.fixture
def folder(tmp_path: Path) -> WitnessFolder:
    """A witness of the log."""
    return open_folder(tmp_path / "witness", name="witness.example/w1", logs=[VKEY])


def status(one: WitnessFolder, request: bytes) -> int:
    """The status of the answer to a request."""
    try:
        one.cosign(request, time=TIME)
    except witness.RefusedError as refused:
        return refused.status
    return 200


def newest(one: WitnessFolder) -> int:
    """The size of the newest checkpoint on the disk; 0 without one."""
    file = one.place(ORIGIN) / NEWEST
    return checkpoint.peek(file.read_bytes()).size if file.exists() else 0


def test_the_first_start_makes_the_key_and_later_ones_keep_it(folder: WitnessFolder) -> None:
    """The key is readable by its owner only, and the logs are remembered."""
    again = open_folder(folder.path)

    assert stat.S_IMODE((folder.path / "witness.pem").stat().st_mode) == 0o600
    assert again.vkey == folder.vkey
    assert again.vkey.algorithm == note.COSIGNATURE
    assert again.logs == folder.logs == {ORIGIN: [note.parse_vkey(VKEY)]}


def test_what_is_cosigned_lies_on_the_disk(folder: WitnessFolder) -> None:
    """The newest checkpoint, with the log's signature and the witness's, and with nobody else's line."""
    stranger = note.Signature(name="stranger.example", key_id=b"\x01\x02\x03\x04", blob=bytes(64)).format()
    line = folder.cosign(body(3) + stranger.encode(), time=TIME)

    stored = (folder.place(ORIGIN) / NEWEST).read_text()
    assert stored.endswith(line)
    assert "stranger" not in stored
    opened = note.open_note(stored, [folder.vkey, *folder.logs[ORIGIN]])
    assert [one.time for one in opened.verified] == [None, TIME]


def test_of_two_histories_at_one_time_one_is_cosigned(folder: WitnessFolder) -> None:
    """Sixteen requests go on from the same size at once, half of them on a fork: only one history has cosignatures."""
    folder.cosign(body(2), time=TIME)
    begin = threading.Barrier(16)

    def ask(of: log.Log) -> tuple[log.Log, int]:
        begin.wait()
        return of, status(folder, body(8, old=2, of=of))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, [WHOLE, FORKED] * 8))

    assert sorted(code for _, code in answers) == [200] + [409] * 15
    (winner,) = [of for of, code in answers if code == 200]
    assert checkpoint.peek((folder.place(ORIGIN) / NEWEST).read_bytes()).root == winner.root(8)


def test_a_fork_of_a_cosigned_size_is_kept_as_evidence(folder: WitnessFolder) -> None:
    """Two roots of one size, both signed by the log, prove what its operator did; the first such is kept."""
    assert status(folder, body(8)) == 200
    assert status(folder, body(8, old=8, of=FORKED)) == 422
    assert status(folder, body(8, of=FORKED)) == 409

    both = [checkpoint.open_checkpoint((folder.place(ORIGIN) / name).read_bytes(), VKEY) for name in (NEWEST, FORK)]
    assert [one.size for one in both] == [8, 8]
    assert both[0].root != both[1].root


CHILD = """
import os, resource, signal, sys
from pathlib import Path
from compliance.witnessing.folder import open_folder
folder, request, fault = open_folder(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes(), sys.argv[3]
real, calls = os.fsync, []
def fsync(descriptor):
    calls.append(descriptor)
    if fault == f"before {len(calls)}":
        os._exit(9)
    real(descriptor)
os.fsync = fsync
if fault == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    folder.cosign(request, time=1)
except OSError:
    os._exit(8)
os._exit(9 if fault == "answer" else 0)
"""


@pytest.mark.parametrize(
    ("fault", "code", "stored"),
    [("before 1", 9, 3), ("before 2", 9, 8), ("before 3", 9, 8), ("answer", 9, 8), ("full", 8, 3)],
)
def test_a_crash_is_harmless(folder: WitnessFolder, tmp_path: Path, fault: str, code: int, stored: int) -> None:
    """Died at each step of storing, before the answer left, or with a full disk: the log asks again and goes on."""
    folder.cosign(body(3), time=TIME)
    request = tmp_path / "request"
    request.write_bytes(body(8, old=3))

    child = subprocess.run([sys.executable, "-c", CHILD, folder.path, request, fault], check=False)
    again = open_folder(folder.path)

    assert child.returncode == code
    assert newest(again) == stored
    assert status(again, body(8, old=3)) == (200 if stored == 3 else 409)
    assert status(again, body(8, old=8)) == 200
    assert status(again, body(8, old=3, of=FORKED)) == 409


DAMAGES: dict[str, Callable[[str], str]] = {
    "emptied": lambda _: "",
    "torn": lambda text: text[:-20],
    "unsigned by us": lambda _: WHOLE.checkpoint(KEY, 1),
    "edited": lambda text: text.replace("\n3\n", "\n2\n"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_stops_the_witness(folder: WitnessFolder, damage: str) -> None:
    """A torn, foreign or edited checkpoint is never taken for one that we cosigned, nor for none."""
    folder.cosign(body(3), time=TIME)
    file = folder.place(ORIGIN) / NEWEST
    file.write_text(DAMAGES[damage](file.read_text()))

    with pytest.raises(UnavailableError, match="damaged"):
        folder.cosign(body(8, old=3), time=TIME)


def test_what_a_witness_can_not_use_is_one_line(folder: WitnessFolder, tmp_path: Path) -> None:
    """A key that is no log's, a name that does not fit or changes, another's key, and no log at all."""
    for arguments, word in (
        (["--log", folder.vkey.format()], "type 1"),
        (["--log", "nonsense"], "--log"),
        (["--name", "witness.example/w2"], "--name"),
    ):
        assert word in refusal(run("witness", "serve", "--folder", folder.path, "--port", "0", *arguments))
    assert "--log" in refusal(run("witness", "serve", "--folder", tmp_path / "new", "--port", "0"))
    assert "--name" in refusal(run("witness", "key", "--folder", tmp_path / "named", "--name", "two words"))
    (tmp_path / "file").touch()
    assert "--folder" in refusal(run("witness", "key", "--folder", tmp_path / "file"))
    (folder.path / "witness.pem").unlink()
    with pytest.raises(InvalidInputError, match="belongs"):
        open_folder(folder.path)


def test_a_new_key_of_a_known_log_counts_at_once(folder: WitnessFolder) -> None:
    """After a rotation the log signs with another key, and the history goes on."""
    newer = signing_key("log", 2)
    folder.cosign(body(3), time=TIME)
    proof = tuple(WHOLE.consistency_proof(3))
    request = witness.Request(old=3, proof=proof, checkpoint=WHOLE.checkpoint(newer)).format().encode()
    assert status(folder, request) == 403

    ran = run("witness", "trust", "--folder", folder.path, "--log", log.vkey(ORIGIN, newer.public_key), "--json")

    assert [one["log"] for one in ran.value] == [ORIGIN, ORIGIN]
    assert status(folder, request) == 200


def test_the_key_is_printed_for_policies(folder: WitnessFolder) -> None:
    """The name, the verifier key and the line, and nothing that is private."""
    ran = run("witness", "key", "--folder", folder.path)

    assert f"witness witness.example/w1 {folder.vkey.format()}\n" in ran.out
    assert run("witness", "key", "--folder", folder.path, "--json").value == {
        "name": "witness.example/w1",
        "vkey": folder.vkey.format(),
    }
    assert "PRIVATE" not in ran.out
