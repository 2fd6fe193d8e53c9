"""The human page of a batch's report, as the certification rendered it from the verified payload."""

from pathlib import Path

from starlette.responses import HTMLResponse, Response

from compliance.certification.publishing import bundle_path, report_of
from compliance.errors import NotFoundError
from compliance.wiring import Services

# The page carries its own style and pictures; it may run nothing and load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


def has_report(desk: Services, batch_id: str, *, interim: bool = False) -> bool:
    """Whether there is a report page on the end of a batch, or on the guard before it (`interim`)."""
    return _page(desk, batch_id, interim=interim) is not None


def report_page(desk: Services, batch_id: str, *, interim: bool = False) -> Response:
    """The report on the end of a batch, or on its guard; NotFoundError while there is none."""
    page = _page(desk, batch_id, interim=interim)
    if page is None:
        message = "this batch has no report yet; come back when it has been published"
        raise NotFoundError(message, code="no-such-report")
    return HTMLResponse(page.read_bytes(), headers={"Content-Security-Policy": _POLICY})


def _page(desk: Services, batch_id: str, *, interim: bool) -> Path | None:
    with desk.read() as ledger:
        report = report_of(ledger, ledger.batch(batch_id), interim=interim)
    page = None if report is None else bundle_path(desk, report) / "report.html"
    return page if page is not None and page.is_file() else None
