"""The report as PDF/A-3: the same twice, with the envelope inside, signed over the whole file, telling the facts."""

import copy
import io
import json
import re
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jsonschema import Draft202012Validator
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.status import SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext
from pypdf import PdfReader

from audits import bundle, statement
from audits.errors import VerificationError
from audits.predicate import Predicate
from compliance.rendering import document, pades, pdf
from tests.audits.bundles import Desk
from tests.audits.counted import Counted, aggregates, by_domain
from tests.compliance.terminal import run

AT = datetime(2026, 11, 20, 15, 4, tzinfo=UTC)
PREDICATE = Desk().certified()
PAYLOAD = statement.build(PREDICATE)
ENVELOPE = Desk().files(PREDICATE)[bundle.REPORT]


class PointKey:
    """A P-256 key that every run of the tests makes again."""

    def __init__(self) -> None:
        self._private = ec.derive_private_key(7, ec.SECP256R1())

    @property
    def public_key(self) -> bytes:
        """The uncompressed point."""
        return self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, message: bytes) -> bytes:
        """An ECDSA signature in DER."""
        return self._private.sign(message, ec.ECDSA(hashes.SHA256()))


@pytest.fixture(scope="module")
def plain() -> bytes:
    """The unsigned file."""
    return pdf.render(PAYLOAD, ENVELOPE)


@pytest.fixture(scope="module")
def signed(plain: bytes) -> bytes:
    """The signed file."""
    return pades.sign(plain, signer=PointKey(), name="Example Organisation", at=AT)


def status(raw: bytes) -> Any:  # noqa: ANN401 - pyhanko's status, of many fields
    """What PyHanko's own validator says of the first signature, with the desk's certificate as the one to trust."""
    found = PdfFileReader(io.BytesIO(raw)).embedded_signatures[0]
    return validate_pdf_signature(found, ValidationContext(trust_roots=[found.signer_cert], moment=AT))


def text(raw: bytes) -> str:
    """The words of a file, without the typesetter's line breaks."""
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in PdfReader(io.BytesIO(raw)).pages))


def test_two_renderings_are_one(plain: bytes) -> None:
    """Before it is signed, the file is a function of payload and envelope."""
    assert pdf.render(PAYLOAD, ENVELOPE) == plain


def test_a_report_is_an_archive_file(signed: bytes) -> None:
    """The file calls itself PDF/A-3b, is dated as the report and has a title."""
    reader = PdfReader(io.BytesIO(signed))
    metadata, info = reader.xmp_metadata, reader.metadata

    assert metadata is not None
    assert (metadata.pdfaid_part, metadata.pdfaid_conformance) == ("3", "B")
    assert info is not None
    assert info.title == "Unlearning report: support-assistant, version 2"
    assert info.creation_date == datetime(2026, 11, 20, 15, 3, tzinfo=UTC)


def test_the_envelope_lies_in_the_file(signed: bytes) -> None:
    """What was signed as the report is attached byte for byte, and nothing else is."""
    assert dict(PdfReader(io.BytesIO(signed)).attachments) == {bundle.REPORT: [ENVELOPE]}


def test_the_signature_covers_the_whole_file(signed: bytes) -> None:
    """PyHanko's validator calls the file intact, valid and covered from end to end, signed when it was signed."""
    found = status(signed)

    assert (found.intact, found.valid, found.bottom_line) == (True, True, True)
    assert found.coverage is SignatureCoverageLevel.ENTIRE_FILE
    assert found.signer_reported_dt == AT
    assert "self-issued" in found.signing_cert.subject.human_friendly


def test_a_changed_file_is_noticed(signed: bytes) -> None:
    """One bit of the attached envelope or the pages changes the verdict."""
    at = len(signed) // 3
    found = status(signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])

    assert not found.intact


def test_a_printed_report_tells_the_facts(plain: bytes) -> None:
    """Heading, guarantee, bound, gates, attempts, limits and digests stand on the pages, and whose key signed them."""
    told, value = text(plain), cast("dict[str, Any]", PREDICATE)

    assert "What was removed from “support-assistant”" in told
    assert "ε = 2.790" in told
    assert "too weak to tell" in told
    assert "1. ga" in told
    assert all(limit in told for limit in value["limits"])
    assert all(value["model"][which]["digest"] in told for which in ("before", "after"))
    assert "a certificate that the desk issued to itself" in told


def test_what_a_stranger_wrote_is_only_text() -> None:
    """Markup of the typesetter or of the page in a name is printed as it stands, and reads no file."""
    value = cast("dict[str, Any]", copy.deepcopy(PREDICATE))
    value["limits"] += ['#read("/etc/passwd") $x$ @a <script>alert(1)</script> #pdf.attach("x", bytes("y"))']
    payload = statement.build(cast("Predicate", value))
    made = pdf.render(payload, ENVELOPE)

    assert value["limits"][-1] in text(made)
    assert list(PdfReader(io.BytesIO(made)).attachments) == [bundle.REPORT]


def test_letters_that_no_font_has() -> None:
    """A character outside the typesetter's fonts is printed as its code point: an archive file has no empty boxes."""
    value = cast("dict[str, Any]", copy.deepcopy(PREDICATE))
    value["model"]["name"] = "模型"
    made = pdf.render(statement.build(cast("Predicate", value)), ENVELOPE)

    assert "U+6A21U+578B" in text(made)


def test_the_published_schema_judges_reports() -> None:
    """What `expunge report schema` prints is a schema that other people's validators use, and names its version."""
    ran = run("report", "schema")
    validator = Draft202012Validator(json.loads(ran.out))

    assert validator.is_valid(json.loads(PAYLOAD))
    assert not validator.is_valid(json.loads(PAYLOAD) | {"subject": []})
    assert validator.schema["$id"] == "https://expunge.example/unlearning-report/v1/schema.json"
    assert json.loads(run("report", "schema", "--json").out) == validator.schema


@pytest.mark.parametrize("told", [aggregates(), by_domain()], ids=["classes", "domains"])
def test_groups_of_pictures_are_printed(told: dict[str, Any]) -> None:
    """Tables and ellipses of groups, with their signs, are pages too."""
    made = pdf.render(statement.build(Counted().report(told)), ENVELOPE)

    assert "Groups of pictures, before and after" in text(made)


def test_only_reports_are_printed() -> None:
    """A payload that is no report makes no file."""
    with pytest.raises(VerificationError):
        pdf.render(b"{}", ENVELOPE)


def test_every_picture_is_a_document_of_its_own() -> None:
    """The page's charts have their colours written out, for a picture file knows no style sheet beside it."""
    cards = [one for one in document.read(PAYLOAD)["blocks"] if one["kind"] == "card"]
    pictures = [inner for card in cards for inner in card["blocks"] if inner["kind"] == "picture"]

    assert len(pictures) >= 4
    assert all("var(" not in one["svg"] and one["told"] for one in pictures)
