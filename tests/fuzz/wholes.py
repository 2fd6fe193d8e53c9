"""Whole bundles, receipts, mirrors of a log and key files, through the doors that an auditor uses."""

import json
import tempfile
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from audits import companion, keys, log, receipt, statement, tiles, verify
from audits.errors import VerificationError
from audits.protocol import Verification
from tests.audits import test_companion, test_receipt
from tests.audits.bundles import ORIGIN, Desk, signing_key, write
from tests.fuzz import archives
from tests.fuzz.mutation import Random, mutate, mutate_json
from tests.fuzz.parts import ENTRIES, SIGNED, VKEY
from tests.fuzz.target import Target

DESK = Desk(witnessed=True)
CRASHED = "could not be carried out"


@cache
def bundles() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files of an honest bundle without a certificate, and of one with."""
    return DESK.files(), DESK.files(DESK.certified())


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """A place of this process's own; it goes with the process."""
    return tempfile.TemporaryDirectory(prefix="fuzz-")


def judged(result: Verification) -> Hashable:
    """What a verification says; `VerificationError` when it refuses, an assertion when a step broke down."""
    assert [one.why for one in result.steps if CRASHED in one.why] == []
    assert all(one.why.isprintable() for one in result.steps)
    if not result.ok:
        raise VerificationError("A step failed.")
    return result.payload, result.trust


def _in_bundle(files: Mapping[str, bytes], name: str) -> Callable[[bytes], Hashable]:
    """Judge another content of one file of a bundle."""
    place = Path(folder().name) / "bundles" / f"{len(files[name])}-{name}"

    def judge(raw: bytes) -> Hashable:
        if not place.is_dir():
            write(place, files)
        (place / name).write_bytes(raw)
        return judged(verify.verify(place, DESK.policy()))

    return judge


def _zipped(raw: bytes) -> Hashable:
    path = Path(folder().name) / "bundle.zip"
    path.write_bytes(raw)
    return judged(verify.verify(path, DESK.policy()))


def _spoilt_zip(rng: Random, _raw: bytes, _others: tuple[bytes, ...]) -> bytes:
    return archives.spoil(rng, bundles()[0])


def _signed_again(raw: bytes) -> Hashable:
    """A statement that its operator signed and logged as it is: whatever it says, the verifier stays upright."""
    try:
        files = DESK.files(json.loads(raw)["predicate"], payload=raw)
    except Exception:  # noqa: BLE001 - the operator of our tests is no parser: it can't log nonsense
        files = DESK.files(payload=raw)
    place = Path(folder().name) / "signed"
    result = verify.verify(write(place, files), DESK.policy())
    try:
        judged(result)
    except VerificationError:
        return None
    return None


def _lie(rng: Random, raw: bytes, _others: tuple[bytes, ...]) -> bytes:
    """Another claim in the predicate, well-formed."""
    value = json.loads(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        part = rng.choice((value["predicate"], *_parts(value["predicate"])))
        mutate_json(rng, part, 0)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _parts(predicate: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """What deserves more lies than the rest: numbers from which the verifier computes."""
    found = predicate.get("guarantee") if isinstance(predicate, dict) else None
    certificate = found.get("certificate") if isinstance(found, dict) else None
    return [part for part in (certificate, found) if isinstance(part, dict) and part]


def _receipt(raw: bytes) -> Hashable:
    return judged(receipt.verify(raw, test_receipt.DESK.policy()))


def _mirror(name: str) -> Callable[[bytes], Hashable]:
    """Judge another content of one file of a published log."""
    place = Path(folder().name) / "mirrors" / name.replace("/", "_")

    def judge(raw: bytes) -> Hashable:
        if not place.is_dir():
            tiles.write_tiles(place, ENTRIES, SIGNED)
        (place / name).write_bytes(raw)
        return tiles.check_folder(place, log.vkey(ORIGIN, VKEY.public_key))

    return judge


def _summary(raw: bytes) -> Hashable:
    key = test_companion.DESK.report_key.public_key
    told = {"payload": test_companion.PAYLOAD, "envelope": test_companion.ENVELOPE, "public_key": key}
    return companion.verify_summary(raw, **told), raw


def _key_file(raw: bytes) -> Hashable:
    keys.from_pem(raw, "report")
    return None


def _mirrored() -> list[Target]:
    place = Path(folder().name) / "mirror"
    tiles.write_tiles(place, ENTRIES, SIGNED)
    names = [path.relative_to(place).as_posix() for path in sorted(place.rglob("*")) if path.is_file()]
    return [
        Target(name=f"mirror {name}", inputs=((place / name).read_bytes(),), judge=_mirror(name), share=15)
        for name in names
    ]


def targets() -> list[Target]:
    """All of them, with good inputs."""
    plain, certified = bundles()
    found = [
        Target(name=f"bundle {name}", inputs=(raw,), judge=_in_bundle(plain, name), share=6)
        for name, raw in plain.items()
    ]
    payloads = (statement.build(DESK.predicate()), statement.build(DESK.certified()), statement.build(DESK.certified()))
    zips = (archives.pack(plain), archives.pack(certified, "2/"))
    found += [
        Target(name="zipped bundle", inputs=zips, judge=_zipped, share=12, spoil=_spoilt_zip),
        Target(name="signed lie", inputs=payloads, judge=_signed_again, share=8, spoil=_lie),
        Target(name="receipt", inputs=(test_receipt.issued().encode(),), judge=_receipt, share=60, spoil=mutate),
        Target(name="summary", inputs=(test_companion.summary(),), judge=_summary, share=40),
        Target(name="key file", inputs=(keys.to_pem(signing_key("report", 2)),), judge=_key_file, share=20),
    ]
    return found + _mirrored()
