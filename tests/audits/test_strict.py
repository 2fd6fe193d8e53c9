"""JSON and base64 from strangers: one meaning or none, and RFC 8785 as published."""

import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audits import strict
from audits.errors import VerificationError
from tests.audits.bundles import VECTORS

JCS = VECTORS / "jcs-rfc8785"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # A surrogate is no character; hypothesis leaves them out of text() by default only in part.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(json_values)
def test_ordinary_json_is_read_as_everybody_reads_it(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """What the standard library writes comes back the same."""
    assert strict.load_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":1,"\\u0061":2}',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[1, -1E+400]",
        b'{"a":[0.1e0400]}',
        b"-9007199254740992",
        b"9007199254740993",
        b"1" * 5000,
        b"1." + b"1" * 5000,
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b"{} {}",
        b"[" * 33 + b"]" * 33,
        b"[" * 1_000_000,
        b"{'a':1}",
        b"[1,]",
        b"// comment\n1",
        b'"tab\there"',
    ],
)
def test_doubtful_json_is_refused(raw: bytes) -> None:
    """What two readers could read differently, or one could choke on, is one sentence of refusal."""
    with pytest.raises(VerificationError):
        strict.load_json(raw)


def test_size_is_limited_before_anything_is_read() -> None:
    """A text beyond its limit is not parsed."""
    with pytest.raises(VerificationError, match="larger than 3 bytes"):
        strict.load_json(b"[[[[[[", max_bytes=3)


def test_brackets_in_strings_are_no_nesting() -> None:
    """Depth counts structure, not text."""
    value = ['\\"' + "[" * 100]

    assert strict.load_json(json.dumps(value).encode()) == value


def depth(value: object) -> int:
    """How many containers lie one in another."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(json_values, st.booleans())
def test_nesting_is_counted_exactly(value: Any, indented: bool) -> None:  # noqa: ANN401, FBT001 - any JSON value; drawn
    """A text as deep as allowed is read, and refused where one level less is."""
    raw, found = json.dumps(value, indent=1 if indented else None).encode(), depth(value)

    assert strict.load_json(raw, max_depth=found) == value
    if found:
        with pytest.raises(VerificationError, match=f"deeper than {found - 1} levels"):
            strict.load_json(raw, max_depth=found - 1)


@given(st.binary())
def test_base64_comes_back(raw: bytes) -> None:
    """Encoding and decoding are inverse."""
    assert strict.decode_base64(strict.encode_base64(raw), "It") == raw


@pytest.mark.parametrize("text", ["AA", "AA=", "AB==", "AAA=\n", " AAA=", "A_-A", "AAB=", "A", "AAAA====", "ÄÄÄ="])
def test_base64_has_one_form(text: str) -> None:
    """Missing padding, stray bits, spaces and another alphabet are refused."""
    with pytest.raises(VerificationError):
        strict.decode_base64(text, "It")


@pytest.mark.parametrize("text", ["", "00", "-1", "+1", " 1", "1 ", "1.0", "1_0", "\N{ARABIC-INDIC DIGIT ONE}", "11"])
def test_a_number_has_one_form(text: str) -> None:
    """What is not ASCII digits without sign or leading zero, up to the limit, is refused."""
    with pytest.raises(VerificationError):
        strict.decode_decimal(text, "It", 10)


@pytest.mark.skipif(not JCS.is_dir(), reason="the shared vectors are not here")
@pytest.mark.parametrize("path", sorted((JCS / "input").glob("*.json")), ids=lambda path: path.stem)
def test_vector_canonical_json(path: Path) -> None:
    """Our reader and the canonical writer give the published bytes."""
    published = bytes.fromhex((JCS / "outhex" / f"{path.stem}.txt").read_text())

    assert rfc8785.dumps(strict.load_json(path.read_bytes())) == published
