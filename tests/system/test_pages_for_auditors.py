"""The two pages that teach to verify, typed as they stand beside what a running desk handed out."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance import intake
from tests.system.cheating import ROOT, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
TOOLS = ("bash", "openssl", "jq", "sha256sum")
LACKING = [tool for tool in TOOLS if shutil.which(tool) is None]


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as the pages ask for it: what desk, person and server of the model hand out, and the policy."""
    place = tmp_path_factory.mktemp("auditor")
    with running(tmp_path_factory.mktemp("desk")) as system:
        request_id = system.file(1)
        (place / "receipt.json").write_text(json.dumps(system.desk.receipt(request_id)))
        (place / "checkpoint").write_text(system.desk.publish().checkpoint)
        (place / "opening.json").write_text(intake.opening(system.desk, request_id=request_id))
        system.approve(request_id)
        system.execute(system.plan())
        (place / "proof.json").write_text(json.dumps(intake.proof(system.desk, request_id=request_id)))
        with system.desk.read() as ledger:
            (model,) = ledger.models()
            shutil.copytree(ledger.current_version(model.id).path, place / "model")
        shutil.copytree(system.bundle(2), place / "bundle")
        shutil.copytree(system.log, place / "mirror")
        (place / "tlog-policy").write_text(system.policy)
        yield place


def typed(page: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Every block of a page in one shell, which ends at the first line that fails."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    bin_folder, script = str(Path(sys.executable).parent), "set -e\n" + "\n".join(blocks)
    return subprocess.run(
        ["bash"],
        input=script,
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PATH": f"{bin_folder}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )


def test_the_page_with_our_program_holds_as_it_is_written(handed: Path) -> None:
    """Three lines on a bundle and two on a receipt, and each verdict is witnessed."""
    done = typed("verify.md", handed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(.*VERIFIED) \(trust: (\w+)\)", done.stdout, re.MULTILINE) == [("VERIFIED", "witnessed")] * 5


@pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}")
def test_the_page_without_our_program_holds_as_it_is_written(handed: Path) -> None:
    """The same bundle with openssl, jq and sha256sum."""
    done = typed("verify-by-hand.md", handed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cosigned by w1 at " in done.stdout
    assert "model as reported" in done.stdout
