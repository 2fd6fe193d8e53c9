"""The human page of a batch's report, as the certification rendered it from the verified payload."""

from starlette.responses import HTMLResponse, Response

from compliance.certification.publishing import bundle_path
from compliance.errors import NotFoundError
from compliance.wiring import Services

# The page carries its own style and pictures; it may run nothing and load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


def has_report(desk: Services, batch_id: str) -> bool:
    """Whether the batch has been published with a report page."""
    with desk.read() as ledger:
        batch = ledger.batch(batch_id)
    return (bundle_path(desk, batch) / "report.html").is_file()


def report_page(desk: Services, batch_id: str) -> Response:
    """The report of a batch; NotFoundError while there is none."""
    with desk.read() as ledger:
        batch = ledger.batch(batch_id)
    page = bundle_path(desk, batch) / "report.html"
    if not page.is_file():
        message = "this batch has no report yet; come back when it has been published"
        raise NotFoundError(message, code="no-such-report")
    return HTMLResponse(page.read_bytes(), headers={"Content-Security-Policy": _POLICY})
