"""What the reports on a model's earlier versions say of them, for the next report to show them in a row.

Read from the envelopes in the ledger, each by the digest that its log entry has. It is told again, not judged again:
whoever wants to hold it against something takes the earlier report, which is named by its digest.
"""

import hashlib
from typing import Any

from audits import dsse, statement
from audits.errors import VerificationError
from audits.strict import load_json
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import ReportView


def earlier_versions(ledger: Ledger, model_id: str) -> list[dict[str, Any]]:
    """The newest versions of a model that came out with a report, oldest of them first; at most `MOST_VERSIONS`."""
    reports = {report.digest: report for report in ledger.reports()}
    known = [
        (one.number, reports[one.report_digest])
        for one in ledger.versions(model_id)
        if one.report_digest is not None and one.report_digest in reports
    ]
    told = [_told(*one) for one in known[-statement.MOST_VERSIONS :]]
    return [one for one in told if one is not None]


def _told(number: int, report: ReportView) -> dict[str, Any] | None:
    try:
        _, payload, _ = dsse.parse(report.envelope)
        predicate = load_json(payload, max_bytes=statement.MAX_BYTES)["predicate"]
    except VerificationError:
        return None
    if hashlib.sha256(payload).hexdigest() != report.digest:
        return None  # `expunge log verify` finds it; a report on another version need not fail by it
    certificate = predicate["guarantee"]["certificate"]
    return {
        "version": number,
        "guarantee": predicate["guarantee"]["class"],
        "reportDigest": report.digest,
        "metrics": {one["metric"]: one["after"] for one in predicate["evidence"]["findings"]},
        "epsilon": None if certificate is None else certificate["epsilon"],
        "units": None if certificate is None else certificate["unitsDeletedSinceBase"],
    }
