"""PDF/A-3b (ISO 19005-3) from a verified payload, with the signed envelope as its source attached.

    blocks of the HTML page  --report.typ-->  typst  -->  PDF/A-3b

A pure function of payload and envelope: the creation time is the report's, the fonts are those inside the typesetter
and never the machine's, nothing is fetched. Two renderings are equal byte for byte until one of them is signed.

A character that none of those fonts has would be an empty box, which PDF/A forbids; it is written as its code point.
"""

import json
from datetime import datetime
from importlib import resources
from typing import Any, Literal

import typst

from audits import log, statement
from compliance.rendering import document

STANDARD: Literal["a-3b"] = "a-3b"
_COMMON = "–—‘’“”…−≤≥≈•→✓"  # noqa: RUF001 - as they are printed
_FOOT = "A picture of report.dsse.json, which is attached and alone proves something. Trust comes from the log."
_SIGNATURE = (
    "It is made with the desk's model key, under a certificate that the desk issued to itself: a reader of PDF "
    "files can tell from it that the file was not changed, and not whose it is. Whose key it is stands in the log, "
    "which the policy file names. What was signed as the report is attached as report.dsse.json."
)
_NOTE = [["strong", "About the signature of this file. "], ["", _SIGNATURE]]


def render(payload: bytes, envelope: bytes) -> bytes:
    """The unsigned PDF of a verified payload, with `envelope` embedded as it is.

    VerificationError when the payload is no report.
    """
    predicate = statement.parse(payload)
    made = log.parse_time(predicate["createdAt"])
    report = document.read(payload)
    report |= {"author": f"Unlearning report {predicate['reportId']}", "foot": _FOOT}
    _insert(report["blocks"])
    try:
        return _compile(json.dumps(report, ensure_ascii=False), envelope, made)
    except typst.TypstError:
        return _compile(_spelled(report), envelope, made)


def _compile(report: str, envelope: bytes, made: datetime) -> bytes:
    template = (resources.files("compliance.rendering") / "report.typ").read_bytes()
    return typst.compile(
        template,
        format="pdf",
        pdf_standards=STANDARD,
        sys_inputs={"report": report, "envelope": envelope.decode("ascii")},
        timestamp=made,
        ignore_system_fonts=True,
    )


def _insert(blocks: list[dict[str, Any]]) -> None:
    """The note on the file's own signature, before the technical appendix."""
    where = [index for index, one in enumerate(blocks) if one["kind"] == "h2"][-1]
    blocks.insert(where, {"kind": "p", "look": "", "runs": _NOTE})


def _spelled(report: dict[str, Any]) -> str:
    """The report with every character outside Latin, Greek and common punctuation as its code point."""
    text = json.dumps(report, ensure_ascii=False)
    return "".join(one if _is_common(one) else f"U+{ord(one):04X}" for one in text)


def _is_common(character: str) -> bool:
    latin, greek = range(0x20, 0x180), range(0x391, 0x3CA)
    return (ord(character) in latin or ord(character) in greek or character in _COMMON) and character.isprintable()
