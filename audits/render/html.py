"""The report as one self-contained page."""

from audits import statement


def page(payload: bytes) -> bytes:
    """The page for a verified payload."""
    predicate = statement.parse(payload)
    return f"<!doctype html><title>{predicate['reportId']}</title>\n".encode()
