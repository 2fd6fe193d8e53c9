"""Zip files that a stranger may send: honest ones, and those that lie about what is in them."""

import io
import stat
import struct
import zipfile
from collections.abc import Mapping

from tests.fuzz.mutation import Random, mutate

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_NAMES = (
    "../report.html",
    "/report.html",
    "a/report.dsse.json",
    "report.html/",
    "tlog-policy",
    "Report.html",
    "r\x1b[2J",
)


def pack(files: Mapping[str, bytes], prefix: str = "") -> bytes:
    """The honest zip file of a bundle."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(prefix + name, raw)
    return packed.getvalue()


def spoil(rng: Random, files: Mapping[str, bytes]) -> bytes:
    """A zip file of the bundle with one of a zip file's own lies in it."""
    kind = rng.randrange(6)
    if kind == 0:
        return mutate(rng, pack(files, rng.choice(("", "2/", "a/b/"))))
    if kind == 1:
        return _headers(rng, pack(files))
    return _members(rng, files, kind)


def _members(rng: Random, files: Mapping[str, bytes], kind: int) -> bytes:
    packed, name = io.BytesIO(), rng.choice(list(files))
    with zipfile.ZipFile(
        packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    ) as archive:
        for one, raw in files.items():
            archive.writestr(one, mutate(rng, raw) if kind == 2 and one == name else raw)
        if kind == 3:
            archive.writestr(rng.choice(_NAMES), files[name])
        elif kind == 4:
            link = zipfile.ZipInfo(name + rng.choice(("", ".link")))
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(_unlike(link, files), b"/etc/passwd")
        elif kind == 5:
            archive.writestr("others.bin", bytes(1024 * 1024), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _unlike(link: zipfile.ZipInfo, files: Mapping[str, bytes]) -> zipfile.ZipInfo:
    """Python's writer warns of a name that is there already; a link takes another one then."""
    if link.filename in files:
        link.filename = f"x/{link.filename}"
    return link


def _headers(rng: Random, raw: bytes) -> bytes:
    """Another number in one of the headers: sizes, offsets, method, flags, counts."""
    changed = bytearray(raw)
    mark = rng.choice((_LOCAL, _CENTRAL, _CENTRAL, _END))
    places = [at for at in range(len(raw) - 30) if raw[at : at + 4] == mark] or [raw.rfind(_END)]
    at = rng.choice(places) + rng.randrange(4, 30)
    width, value = rng.choice(((2, rng.randrange(2**16)), (4, rng.choice((0, 1, 2**31, 2**32 - 1, len(raw))))))
    changed[at : at + width] = struct.pack("<H" if width == 2 else "<I", value)
    return bytes(changed)
