"""Files that lie beside a report for other people's tools; none of them is needed to verify it."""

from pathlib import Path

from compliance.desk import Desk


def companions(desk: Desk, *, payload: bytes, envelope: bytes, folder: Path) -> dict[str, bytes]:  # noqa: ARG001
    """The companions of the report in `payload` on the model in `folder`, by name."""
    return {}
