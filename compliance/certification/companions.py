"""Files that lie beside a report for other people's tools; none of them is needed to verify it (`docs/adr/0032`).

| file | for | rests on |
|---|---|---|
| `model.oms.sigstore.json` | OpenSSF Model Signing | the report's own digests, under the model key |
| `report.pdf` | people, archives | the payload alone; the envelope is attached, PAdES under the model key |
| `timestamp.tsr` | who trusts a timestamping authority | the envelope; only where an authority is configured |
| `report.vsa.dsse.json` | tools that read SLSA summaries | our verifier's verdict, so it is made last |

What can't be had (an authority that is silent, a text that can't be typeset, a desk without the extra `render`) is left
out, with a line in the program's log. A wrong companion would be worse than none: the verifier holds each that it can
read against the report.
"""

import structlog

from audits import companion, oms, statement
from audits.keys import Signer
from audits.protocol import Verification
from compliance import timestamps
from compliance.desk import Desk
from compliance.errors import InvalidInputError
from compliance.ledger.entries import rfc3339

_log = structlog.get_logger("expunge.companions")


def companions(desk: Desk, *, payload: bytes, envelope: bytes, signer: Signer) -> dict[str, bytes]:
    """The companions of the report in `payload`, by name, but for the summary; `signer` has the model key."""
    predicate = statement.parse(payload)
    files = predicate["model"]["after"]["files"]
    made = {
        companion.MODEL: oms.build(name=companion.model_name(predicate), files=files, signer=signer),
        companion.PRINT: _print(desk, payload, envelope, signer),
        companion.STAMP: _stamp(desk, envelope),
    }
    return {name: raw for name, raw in made.items() if raw is not None}


def summary(desk: Desk, verdict: Verification, envelope: bytes, *, signer: Signer) -> dict[str, bytes]:
    """The summary of our own verification, which passed, of the report in `envelope`, under that report's own key."""
    raw = companion.summarise(
        verdict,
        envelope,
        verifier=f"https://{desk.settings.origin}",
        at=rfc3339(desk.clock()),
        signer=signer,
    )
    return {companion.SUMMARY: raw}


def _print(desk: Desk, payload: bytes, envelope: bytes, signer: Signer) -> bytes | None:
    try:  # the pages and the worker ask for a bundle's place, and must start where no typesetter is installed
        import typst  # noqa: PLC0415

        from compliance.rendering import pades, pdf  # noqa: PLC0415
    except ModuleNotFoundError as fault:
        why = f"{fault.name} is not installed; install expunge with the extra 'render'"
        _log.warning("the report goes out without a PDF", why=why)
        return None
    try:
        plain = pdf.render(payload, envelope)
    except typst.TypstError as fault:
        _log.warning("the report goes out without a PDF", why=fault.message)
        return None
    return pades.sign(plain, signer=signer, name=desk.settings.organisation, at=desk.clock())


def _stamp(desk: Desk, envelope: bytes) -> bytes | None:
    url, certificate = desk.settings.tsa_url, desk.settings.tsa_certificate
    if certificate is None:
        return None
    try:
        authority = timestamps.Authority(url=url, chain=timestamps.load_chain(certificate))
    except InvalidInputError as fault:
        _log.warning("the report goes out without a timestamp", why=str(fault))
        return None
    return timestamps.stamp(authority, envelope, now=desk.clock())
