"""A PAdES signature (ETSI EN 319 142-1, level B-B) with the desk's P-256 key, under a certificate of its own.

Readers of PDF files want an X.509 certificate. The desk issues one to itself for the key that the log registers; it
says so in its name. It makes visible that a file was changed, and nothing more: whose key it is, and whether it is
still valid, stands in the log (`docs/adr/0032`).

The certificate is a function of key and name, so that a report's file has the same one whenever it is made; it is
valid from the report's time on, for as long as such evidence is kept.
"""

import hashlib
import io
from datetime import UTC, datetime, timedelta
from typing import Any

from asn1crypto import algos, keys, x509
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import signers
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko_certvalidator.registry import SimpleCertificateStore

from audits.keys import Signer

FIELD = "Report"
REASON = "Integrity of this file; the report itself is the attached envelope."
YEARS = 30
_CONTENTS = 8192  # bytes kept free for the signature; one of P-256 with its certificate takes about 1,500
_MECHANISM = {"algorithm": "sha256_ecdsa"}


def sign(pdf: bytes, *, signer: Signer, name: str, at: datetime) -> bytes:
    """`pdf` with an invisible signature field over the whole file, made at `at` (aware) by the desk called `name`."""
    known = certificate(signer, name=name, since=at)
    metadata = signers.PdfSignatureMetadata(
        field_name=FIELD, subfilter=SigSeedSubFilter.PADES, md_algorithm="sha256", reason=REASON, name=name
    )
    writer, signed = IncrementalPdfFileWriter(io.BytesIO(pdf)), io.BytesIO()
    _PdfSigner(metadata, _CmsSigner(signer, known), at=at).sign_pdf(writer, output=signed, bytes_reserved=_CONTENTS)
    return signed.getvalue()


def certificate(signer: Signer, *, name: str, since: datetime) -> x509.Certificate:
    """The desk's own certificate for the key of `signer`."""
    since = since.astimezone(UTC).replace(microsecond=0)
    subject = x509.Name.build(
        {"common_name": f"{name[:40]} (self-issued)", "organizational_unit_name": "Unlearning reports"}
    )
    public = keys.PublicKeyInfo(
        {
            "algorithm": {"algorithm": "ec", "parameters": keys.ECDomainParameters("named", "secp256r1")},
            "public_key": signer.public_key,
        }
    )
    tbs = x509.TbsCertificate(
        {
            "version": "v3",
            "serial_number": int.from_bytes(hashlib.sha256(signer.public_key).digest()[:16]) >> 1,
            "signature": _MECHANISM,
            "issuer": subject,
            "validity": {
                "not_before": x509.Time({"general_time": since - timedelta(minutes=5)}),
                "not_after": x509.Time({"general_time": since + timedelta(days=365 * YEARS)}),
            },
            "subject": subject,
            "subject_public_key_info": public,
            "extensions": _extensions(),
        }
    )
    return x509.Certificate(
        {"tbs_certificate": tbs, "signature_algorithm": _MECHANISM, "signature_value": signer.sign(tbs.dump())}
    )


def _extensions() -> list[dict[str, Any]]:
    return [
        {"extn_id": "basic_constraints", "critical": True, "extn_value": {"ca": False}},
        {"extn_id": "key_usage", "critical": True, "extn_value": {"digital_signature", "non_repudiation"}},
    ]


class _CmsSigner(signers.Signer):
    """PyHanko's signer over ours."""

    def __init__(self, signer: Signer, known: x509.Certificate) -> None:
        super().__init__(
            signing_cert=known,
            cert_registry=SimpleCertificateStore.from_certs([known]),
            signature_mechanism=algos.SignedDigestAlgorithm(_MECHANISM),
        )
        self._signer = signer

    async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:  # noqa: ARG002, FBT001, FBT002 - pyhanko's signature
        return self._signer.sign(data)


class _PdfSigner(signers.PdfSigner):
    """PyHanko's, told the time instead of asking the machine."""

    def __init__(self, metadata: signers.PdfSignatureMetadata, signer: signers.Signer, *, at: datetime) -> None:
        super().__init__(metadata, signer)
        self._at = at

    def init_signing_session(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - pyhanko's signature
        session = super().init_signing_session(*args, **kwargs)
        session.system_time = self._at
        return session
