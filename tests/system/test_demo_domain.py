"""The domain demo: real digits in four styles, one of which leaves, the whole path with few of them."""

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from compliance import settings as settings_module
from compliance.demo.digits import SIDE
from compliance.demo.run import SEED, demo
from compliance.demo.stories import DOMAIN, Scale
from compliance.demo.styles import STYLES, write_styles
from compliance.registry import read_lines
from compliance.wiring import open_services

DIGITS = 48  # enough for one of every class
QUICK = """
name = "quick-styles"
task = "vision-language"
ladder = ["adu", "retrain"]
[training]
epochs = 1
domains = "off"
[methods.adu]
shots = 1
epochs = 1
[[gate]]
metric = "mem"
direction = "at_least"
margin = 0.9
"""


def test_every_digit_is_drawn_in_every_style(tmp_path: Path) -> None:
    """Equal seeds draw equal pictures, each a PNG of its own, and no digit is both trained on and held out."""
    first = write_styles(tmp_path / "a", seed=1, digits=8)
    again = write_styles(tmp_path / "b", seed=1, digits=8)
    lines = read_lines(first.private, subject_field="")
    held = read_lines(first.holdout, subject_field="")

    assert len(lines) == 8 * len(STYLES) == len({line.record.image for line in lines})
    assert {line.record.domain for line in (*lines, *held)} == set(STYLES)
    assert not {line.record.image for line in lines} & {line.record.image for line in held}
    assert first.private.read_bytes() == again.private.read_bytes()


def test_the_styles_are_what_they_are_called() -> None:
    """Inverted is dark where plain is light, bold has more ink, the outline of a full square is its rim."""
    square = bytes(255 if 8 <= y < 20 and 8 <= x < 20 else 0 for y in range(SIDE) for x in range(SIDE))
    drawn = {name: style(square) for name, style in STYLES.items()}

    assert all(a + b == 255 for a, b in zip(drawn["plain"], drawn["inverted"], strict=True))
    assert sum(map(bool, drawn["bold"])) == 14 * 14
    assert drawn["outlined"][14 * SIDE + 14] == 0
    assert drawn["outlined"][14 * SIDE + 8] > 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The domain demo with few digits, finished."""
    workdir = tmp_path_factory.mktemp("demo-domain") / "work"
    shape = {"channels": 1, "width": 16, "layers": 1, "patch": 7}
    printed = io.StringIO()
    with redirect_stdout(printed):
        scale = Scale(customers=DIGITS, policy=QUICK, initialise=shape)
        code = demo(workdir, task="domain", json_output=True, scale=scale)
    result: dict[str, Any] = json.loads(printed.getvalue())
    assert code == 0, result
    return result


@pytest.mark.slow
@pytest.mark.xdist_group("demo-domain")
@pytest.mark.timeout(600)
def test_suppression_is_reported_and_retraining_fulfils(finished: dict[str, Any]) -> None:
    """Two bundles of one request, both verified: prompts that fulfil nothing, then a model that never saw the style."""
    guarded, fulfilled = (batch["predicate"] for batch in finished["batches"])

    assert all(batch["verification"]["ok"] for batch in finished["batches"])
    assert (guarded["guarantee"]["class"], fulfilled["guarantee"]["class"]) == ("suppression", "exact")
    assert (guarded["method"]["rung"], fulfilled["method"]["rung"]) == ("adu", "retrain")
    assert guarded["requestBatch"]["batchId"] == fulfilled["requestBatch"]["batchId"]
    assert fulfilled["evidence"]["suite"] == "domain"
    assert finished["tampered"]["failed"]["name"] == "envelope signature"


@pytest.mark.slow
@pytest.mark.xdist_group("demo-domain")
@pytest.mark.timeout(600)
def test_the_style_is_gone(finished: dict[str, Any], tmp_path: Path) -> None:
    """None of its pictures is in any file, and the data set holds the other styles alone."""
    workdir = Path(finished["workdir"])
    corpus = write_styles(tmp_path, seed=SEED, digits=DIGITS)
    lines = read_lines(corpus.private, subject_field="")
    gone = [line.record.image or "" for line in lines if DOMAIN.wish.concerns(line.record)]
    wanted = re.compile("|".join(map(re.escape, gone)).encode())

    files = [path for path in workdir.rglob("*") if path.is_file() and "outbox" not in path.parts]
    desk = open_services(settings_module.load(workdir))
    with desk.read() as ledger:
        left = ledger.dataset_named(DOMAIN.dataset)

    assert len(gone) == DIGITS
    assert not [path.name for path in files if wanted.search(path.read_bytes())]
    assert left.records == DIGITS * (len(STYLES) - 1)
