"""What is served against what was published: by file, at the terminal, and in the log."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audits import model, verify
from audits.errors import VerificationError
from compliance.certification.publishing import bundle_path
from compliance.execution.run import run
from compliance.settings import initialise
from compliance.wiring import Services, open_services, prepare
from tests.compliance.pretence import engines, furnish, planned
from tests.compliance.terminal import Ran, at, refusal

WEIGHTS = "model.safetensors"
AMPLE = 60.0


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A desk whose one batch has published version 2; these tests only look at it."""
    settings = initialise(tmp_path_factory.mktemp("served") / "desk")
    prepare(settings)
    opened = open_services(settings)
    furnish(opened, 4, limit=AMPLE, ladder='"retrain"')
    assert run(opened, planned(opened, 0), engines=engines())
    yield opened
    opened.database.dispose()


@pytest.fixture
def served(desk: Services, tmp_path: Path) -> Path:
    """A copy of the version that the batch published, as a server has it."""
    with desk.read() as ledger:
        (one,) = ledger.models()
        path = Path(ledger.current_version(one.id).path)
    return Path(shutil.copytree(path, tmp_path / "served"))


def statement(desk: Services) -> Any:  # noqa: ANN401 - a report's statement
    """What the newest report says, verified as an auditor does."""
    with desk.read() as ledger:
        path = bundle_path(desk, ledger.reports()[-1])
    assert verify.verify(path, desk.policy_text()).ok
    return json.loads(base64.b64decode(json.loads((path / "report.dsse.json").read_bytes())["payload"]))


def check(desk: Services, folder: Path, *arguments: object) -> Ran:
    """`expunge model check --json`."""
    return at(desk, "model", "check", folder, *arguments, "--json")


def logged(desk: Services) -> list[Any]:
    """The data of every `model.checked` entry."""
    with desk.read() as ledger:
        entries = [json.loads(entry) for entry in ledger.entries(0, ledger.head().size)]
    return [entry["data"] for entry in entries if entry["type"] == "model.checked"]


def test_what_was_published_is_what_is_served(desk: Services, served: Path) -> None:
    """Exit 0, and an entry under a checkpoint that says which version it was."""
    ran = check(desk, served)

    assert (ran.code, ran.value["ok"], ran.value["outcome"], ran.value["version"]) == (0, True, "current", 2)
    entry = logged(desk)[-1]
    assert entry["served"] == entry["digest"] == ran.value["digest"] == model.digest_folder(served)
    assert (entry["version"], entry["outcome"]) == (2, "current")
    with desk.read() as ledger:
        assert ledger.head().checkpoint_size > ran.value["log_index"]


def test_other_weights_than_reported_are_caught(desk: Services, served: Path) -> None:
    """The cheat: one bit of the served weights is changed after the report. The file is named, and it is logged."""
    raw = bytearray((served / WEIGHTS).read_bytes())
    raw[3] ^= 1
    (served / WEIGHTS).write_bytes(raw)

    ran = check(desk, served)

    assert (ran.code, ran.value["outcome"], ran.value["differing"]) == (1, "changed", {WEIGHTS: "changed"})
    assert logged(desk)[-1]["outcome"] == "changed"
    assert f"{WEIGHTS} (changed)" in at(desk, "model", "check", served).out


def test_an_older_version_is_named(desk: Services) -> None:
    """The cheat: the version from before the batch, which still holds what was forgotten, goes on being served."""
    ran = check(desk, desk.settings.workdir / "given" / "model")

    assert (ran.code, ran.value["outcome"]) == (1, "superseded")
    assert (ran.value["version"], ran.value["current"]) == (1, 2)
    assert logged(desk)[-1]["version"] == 2


def test_what_no_version_shares_is_unknown(desk: Services, tmp_path: Path) -> None:
    """A model from elsewhere is logged against the model it should be."""
    (other := tmp_path / "other").mkdir()
    (other / WEIGHTS).write_bytes(b"from elsewhere")

    ran = check(desk, other, "--model", "m")

    assert (ran.code, ran.value["outcome"], ran.value["version"]) == (1, "unknown", None)
    assert ran.value["differing"] == {WEIGHTS: "changed", "config.json": "missing", "README.md": "missing"}


def test_a_link_and_an_unknown_name_are_refused(desk: Services, served: Path) -> None:
    """What a link points to can change after it was hashed; nothing is logged."""
    before = logged(desk)
    assert refusal(at(desk, "model", "check", served, "--model", "nobody"))
    (served / "link").symlink_to(served / WEIGHTS)

    assert "symbolic link" in refusal(at(desk, "model", "check", served))
    assert logged(desk) == before


def test_a_program_compares_with_a_verified_report(desk: Services, served: Path) -> None:
    """The statement of a real bundle, or its predicate: silent for the published files and not for others."""
    model.verify(served, statement(desk))
    (served / "new").write_bytes(b"x")

    with pytest.raises(VerificationError, match=r"new \(added\)"):
        model.verify(served, statement(desk)["predicate"])
