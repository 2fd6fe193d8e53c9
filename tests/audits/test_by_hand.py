"""The page for auditors who use no program of ours, typed as it stands: openssl, jq, sha256sum and a shell."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from audits import bundle
from tests.audits.bundles import Desk, write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verify-by-hand.md"
TOOLS = ("bash", "openssl", "jq", "sha256sum")
LACKING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}")
ESTABLISHED = [
    "ready",
    "checkpoint signed",
    "key registered",
    "report logged",
    "report signed and logged",
    "evidence as reported",
    "model as reported",
]


def typed(folder: Path, desk: Desk, files: dict[str, bytes]) -> subprocess.CompletedProcess[str]:
    """The page's blocks in one shell, in a folder as the page asks for it."""
    write(folder / "bundle", files)
    write(folder / "model", desk.model_files)
    (folder / "tlog-policy").write_text(desk.policy(), encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return subprocess.run(
        ["bash"], input="\n".join(blocks), cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("witnessed", [False, True])
def test_the_page_verifies_an_honest_bundle_as_it_is_written(tmp_path: Path, *, witnessed: bool) -> None:
    """Every block ends with its line, and the shell with success."""
    desk = Desk(witnessed=witnessed)
    done = typed(tmp_path, desk, desk.files())
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line in ESTABLISHED] == ESTABLISHED
    assert any(line.startswith("cosigned by w1 at ") for line in said) is witnessed


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        (bundle.REPORT_PROOF, 1),
        (bundle.KEY_ENTRY, 2),
        (bundle.REPORT_ENTRY, 3),
        (bundle.REPORT, 4),
        (bundle.EVIDENCE, 5),
    ],
)
def test_the_page_stops_where_a_file_was_changed(tmp_path: Path, name: str, reached: int) -> None:
    """One letter changed in a file, and the shell ends before the line that rests on it."""
    desk = Desk()
    files = desk.files()
    raw = files[name]
    place = raw.index(b'payload":"') + 40 if name == bundle.REPORT else len(raw) // 2
    files[name] = raw[:place] + (b"A" if raw[place : place + 1] != b"A" else b"B") + raw[place + 1 :]
    done = typed(tmp_path, desk, files)
    assert done.returncode != 0
    assert [line for line in done.stdout.splitlines() if line in ESTABLISHED] == ESTABLISHED[:reached]


def test_the_page_stops_at_another_model(tmp_path: Path) -> None:
    """A file more than was reported on, and the last line is not said."""
    desk = Desk()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "more.bin").write_bytes(b"unreported")
    done = typed(tmp_path, desk, desk.files())
    assert done.returncode != 0
    assert "model as reported" not in done.stdout
