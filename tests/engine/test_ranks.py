"""Two processes make the model of one."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from engine.checkpoints import load_model
from engine.contract import Job, Kind
from engine.errors import EngineError
from engine.ranks import processes, together
from engine.run import run
from tests.engine import tiny

STEPS = {"steps": 3, "forget_batch": 4, "retain_batch": 6, "learning_rate": 1e-3}
JOBS: dict[str, dict[str, Any]] = {
    "refit": {"kind": Kind.TRAIN, "train": "all.jsonl", "options": {"epochs": 3, "tokens_per_batch": 400}},
    "npo": {"kind": Kind.UNLEARN, "method": "npo", "options": {**STEPS, "retain_term": "kl"}},
    "gru": {"kind": Kind.UNLEARN, "method": "gru", "options": {**STEPS, "lora_rank": 2}},
}
pytestmark = pytest.mark.xdist_group("ranks")


def job(folder: Path, name: str, number: int) -> Job:
    """One of the jobs, for some processes."""
    told = {"forget": "forget.jsonl", "retain": "retain.jsonl"} if JOBS[name]["kind"] is Kind.UNLEARN else {}
    fields = {**told, **JOBS[name]}
    return Job(version=1, seed=1, out=f"{name}-{number}", model=str(folder), processes=number, **fields)


def weights(folder: Path) -> Tensor:
    """All weights of a saved model in one vector."""
    return torch.cat([p.detach().flatten() for p in load_model(folder).parameters()])


def children() -> list[psutil.Process]:
    """The other processes of a job that this one started and that still run."""
    return [child for child in psutil.Process().children() if _of_a_job(child)]


def _of_a_job(child: psutil.Process) -> bool:
    """Not what a pool of an earlier test left to watch over shared memory, nor what has just ended."""
    try:
        return child.status() != psutil.STATUS_ZOMBIE and "engine.ranks" in child.cmdline()
    except psutil.Error:
        return False


@pytest.mark.parametrize("name", sorted(JOBS))
def test_two_processes_make_the_model_of_one(data: Path, tiny_folder: Path, name: str) -> None:
    """Within 1e-6 of each weight, and with the same losses.

    Not bit for bit: float32 sums depend on their order, and each process adds up its own passes before the two sums
    are added.
    """
    one, two = (run(job(tiny_folder, name, number), data, tiny.quiet) for number in (1, 2))
    first, second = weights(data / f"{name}-1"), weights(data / f"{name}-2")
    assert (first - weights(tiny_folder)).abs().max() > 1e-4
    assert (first - second).abs().max() < 1e-6
    assert one.training is not None
    assert two.training == pytest.approx(one.training, rel=1e-5)
    assert not children()
    assert sorted(path.name for path in data.glob(f".{name}*")) == []
    assert processes() == 1


def test_a_job_that_cannot_be_shared_is_refused(data: Path, tiny_folder: Path) -> None:
    """An evaluation has no steps, and the noise of DP training is known to one process alone."""
    for kind, fields in ((Kind.EVALUATE, {"models": {"after": "m"}}), (Kind.DP_BASE, {"out": "new"})):
        asked = Job(version=1, kind=kind, seed=1, processes=2, model=str(tiny_folder), train="a", holdout="b", **fields)
        with pytest.raises(EngineError, match="set processes to 1"), together(asked, data):
            pytest.fail("nothing may be started")


def test_a_job_that_is_wrong_leaves_no_process(data: Path, tiny_folder: Path) -> None:
    """All processes find the same fault; the first one tells it."""
    (data / "all.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(EngineError, match="no records to train on"):
        run(job(tiny_folder, "refit", 2), data, tiny.quiet)
    assert not children()
    assert not (data / "refit-2").exists()


def test_when_a_process_dies_the_job_ends(data: Path, tiny_folder: Path) -> None:
    """With one sentence, and nothing at the job's place."""

    def progress(stage: str, _fraction: float, _eta_s: float | None) -> None:
        if stage == "train":
            for child in children():
                child.kill()

    with pytest.raises(EngineError, match="a process of this job ended early"):
        run(job(tiny_folder, "refit", 2), data, progress)
    assert not (data / "refit-2").exists()
    assert processes() == 1


def test_when_the_engine_dies_the_others_do(data: Path, tiny_folder: Path) -> None:
    """However it dies."""
    asked = job(tiny_folder, "refit", 2)
    line = asked.to_json().replace('"epochs":3', '"epochs":1000')
    with subprocess.Popen(
        [sys.executable, "-m", "engine"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=data, env=dict(os.environ)
    ) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        engine.stdin.write(line.encode() + b"\n")
        engine.stdin.flush()
        while b'"train"' not in engine.stdout.readline():
            pass
        others = psutil.Process(engine.pid).children()
        engine.kill()
        engine.wait()
    assert others
    deadline = time.monotonic() + 20
    while any(other.is_running() and other.status() != psutil.STATUS_ZOMBIE for other in others):
        assert time.monotonic() < deadline
        time.sleep(0.05)
