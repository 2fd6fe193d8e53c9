"""Whether a picture's file is all there, by its form and without decoding it. No torch, no numpy.

A PNG's chunks up to IEND with the sums of those that decoding needs (ISO/IEC 15948, 5.3); of a JPEG that it has an end
(ITU T.81, B.1.1.3); of a WebP that it is as long as it says (RFC 9649, 2.4). What passes can still be broken inside,
and decoding will say so.
"""

import struct
import zlib

PNG, JPEG, RIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF"
JPEG_END, FRAME = b"\xff\xd9", 12  # bytes around a chunk of a PNG: length, type, sum
HEADER, NEEDED, END = b"IHDR", frozenset({b"IHDR", b"PLTE", b"IDAT"}), b"IEND"


def is_whole(raw: bytes) -> bool:
    """Whether a file is all there; True for forms that are not looked into."""
    if raw.startswith(PNG):
        return _png(raw)
    if raw.startswith(JPEG):
        return JPEG_END in raw
    return not raw.startswith(RIFF) or int.from_bytes(raw[4:8], "little") + 8 <= len(raw)


def _png(raw: bytes) -> bool:
    place, seen = len(PNG), set[bytes]()
    while place < len(raw) and END not in seen:
        if place + FRAME > len(raw):
            return False
        length, kind = struct.unpack_from(">I4s", raw, place)
        end = place + FRAME + length
        if end > len(raw) or (not seen and kind != HEADER):
            return False
        if kind in NEEDED and zlib.crc32(raw[place + 4 : end - 4]) != int.from_bytes(raw[end - 4 : end], "big"):
            return False
        seen.add(kind)
        place = end
    return b"IDAT" in seen
