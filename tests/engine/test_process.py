"""The engine as a child process: JSON lines in, JSON lines out, and no orphan when its owner dies."""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from engine.contract import Evidence, Guarantee
from engine.corpus import digest, read_records, write_records
from engine.digests import model_files
from tests.engine import tiny

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0  # of a machine that is busy with other things; a healthy engine needs a few seconds
SECRET = "Zoe Quine"


class Child:
    """`python -m engine`, whose every line of output is kept."""

    def __init__(self, folder: Path) -> None:
        """Start it in `folder`."""
        self.folder, self.job = folder, -1
        self.lines: queue.Queue[bytes] = queue.Queue()
        self.seen: list[bytes] = []
        with (folder / "stderr.txt").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "engine"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, however far it got."""
        self.process.kill()
        self.process.communicate()
        self._reader.join(PATIENCE_S)

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.seen.append(line)
            self.lines.put(line)

    def event(self) -> dict[str, Any]:
        """The next line; every line must be one JSON object."""
        event: dict[str, Any] = json.loads(self.lines.get(timeout=PATIENCE_S))
        return event

    def send(self, line: bytes) -> None:
        """A line for the engine."""
        stream = self.process.stdin
        assert stream is not None
        stream.write(line + b"\n")
        stream.flush()
        self.job += 1

    def answer(self, job: dict[str, Any] | bytes) -> dict[str, Any]:
        """What a job ends with; events on the way are progress of this very job."""
        self.send(job if isinstance(job, bytes) else json.dumps(job).encode())
        while (event := self.event())["event"] == "progress":
            assert event["job"] == self.job
            assert 0 <= event["fraction"] <= 1
        assert event["job"] == self.job
        return event


def training(**changes: object) -> dict[str, Any]:
    """A job that trains the tiny model a little."""
    job = {"version": 1, "kind": "train", "seed": 7, "model": "tiny", "train": "all.jsonl", "out": "new"}
    return {**job, "options": {"epochs": 1, "tokens_per_batch": 200}, **changes}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """One engine for all tests that leave it alive."""
    folder = tmp_path_factory.mktemp("engine")
    tiny.folder(folder / "tiny")
    write_records(folder / "all.jsonl", tiny.records())
    with Child(folder) as started:
        assert started.event() == {"event": "ready", "protocol": 1}
        yield started


def test_a_job_ends_with_evidence(child: Child) -> None:
    """The evidence of a training says what was read, what was written and how."""
    answer = child.answer(training(out="trained"))
    evidence = Evidence.from_mapping(answer["evidence"])
    assert answer["event"] == "evidence"
    assert evidence.model_files == model_files(child.folder / "trained")
    assert evidence.data_digests == {"train": digest(read_records(child.folder / "all.jsonl"))}
    assert evidence.parameters["seed"] == 7
    assert evidence.parameters["answer_weight"] == 3.0
    assert evidence.environment["threads"] == 1
    assert evidence.training is not None
    assert evidence.training["steps"] == evidence.steps > 0
    assert evidence.seconds > 0
    assert evidence.guarantee is None
    assert evidence.findings == ()


def test_an_unlearning_carries_its_guarantee(child: Child) -> None:
    """The class is the catalogue's, and the forget set is not read."""
    job = training(kind="unlearn", method="retrain", base="tiny", retain="all.jsonl", out="retrained")
    evidence = Evidence.from_mapping(
        child.answer({k: v for k, v in job.items() if k not in {"model", "train"}})["evidence"]
    )
    assert evidence.guarantee is Guarantee.EXACT
    assert set(evidence.data_digests) == {"retain"}
    assert set(evidence.model_digests) == {"base"}


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (b"{", "bad_job"),
        (b"\xff\xfe\xfd", "bad_job"),
        (b"[" * 100_000, "bad_job"),
        (b'{"version":1,"kind":"\\ud800","seed":1}', "bad_job"),
        (training(speed=1), "bad_job"),
        (training(kind="unlearn", method="fly"), "bad_options"),
        (training(options={"epochs": 0}), "bad_options"),
        (training(train="none.jsonl"), "bad_data"),
        (training(model="none"), "bad_model"),
        (training(out="tiny"), "bad_job"),
        (training(kind="unlearn", method="npo", options={}), "bad_job"),
        (training(kind="evaluate", models={"before": "tiny"}, options={}), "bad_job"),
        (training(kind="evaluate", models={"after": "tiny"}, options={"suite": "muse"}), "bad_job"),
        (training(kind="evaluate", models={"after": "tiny"}, options={}), "bad_data"),
    ],
)
def test_a_bad_job_is_an_answer_and_not_an_end(child: Child, job: dict[str, Any] | bytes, code: str) -> None:
    """Each gets a code and one sentence, leaves nothing behind, and the process goes on."""
    answer = child.answer(job)
    assert answer["event"] == "error"
    assert answer["code"] == code
    assert answer["message"]
    assert "\n" not in answer["message"]
    assert not (child.folder / "new").exists()
    assert child.process.poll() is None


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "deep/inside/x.PKL"])
def test_a_folder_with_a_pickle_is_refused(child: Child, name: str, tmp_path: Path) -> None:
    """Before any of its files is opened, wherever the pickle is."""
    path = tiny.folder(tmp_path / "model") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    answer = child.answer(training(model=str(tmp_path / "model")))
    assert answer["code"] == "pickle_refused"
    assert path.name in answer["message"]
    assert not (child.folder / "ran").exists()


def test_nothing_that_was_read_is_told(child: Child) -> None:
    """A broken record is named by its line; neither events nor log quote it."""
    (child.folder / "broken.jsonl").write_text(f'{{"record_id":"{SECRET}","text":"{SECRET}"}}\n', encoding="utf-8")
    answer = child.answer(training(train="broken.jsonl"))
    assert answer["message"] == "broken.jsonl line 1 needs a unit"
    assert b"Zoe" not in b"".join(child.seen)
    assert "Zoe" not in (child.folder / "stderr.txt").read_text(encoding="utf-8")


def test_it_ends_when_its_owner_is_gone_in_the_middle_of_a_job(tmp_path: Path) -> None:
    """Within seconds, leaving no model that looks finished, and with nothing but JSON on standard output."""
    tiny.folder(tmp_path / "tiny")
    write_records(tmp_path / "all.jsonl", tiny.records())
    with Child(tmp_path) as child:
        assert child.event()["event"] == "ready"
        child.send(json.dumps(training(options={"epochs": 2000, "tokens_per_batch": 100})).encode())
        while child.event().get("stage") != "train":
            pass
        assert child.process.stdin is not None
        child.process.stdin.close()
        closed = time.monotonic()
        assert child.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - closed < 10
        assert not (tmp_path / "new").exists()
        assert all(isinstance(json.loads(line), dict) for line in child.seen)
        child.process.stdin = None


def test_it_ends_when_nobody_asks_anything(tmp_path: Path) -> None:
    """Standard input that is closed from the beginning ends it without a job and without torch."""
    done = subprocess.run(
        [sys.executable, "-m", "engine"], cwd=ROOT, input=b"", capture_output=True, check=True, timeout=PATIENCE_S
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] in ([], [{"event": "ready", "protocol": 1}])
    assert not list(tmp_path.iterdir())


def test_the_readmes_method_is_one_file_and_one_line(data: Path, tiny_folder: Path) -> None:
    """What its section shows, put where it says in a copy of the engine, is a method of that engine's process."""
    section = (ROOT / "README.md").read_text().split("## Add a method")[1].split("\n## ")[0]
    file, line = (block.split("\n", 1)[1] for block in section.split("```")[1::2])
    shutil.copytree(ROOT / "engine", data / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    (data / "engine" / "methods" / "flatten.py").write_text(file)
    entries = (data / "engine" / "catalogue.py").read_text()
    opening = "METHODS: tuple[MethodSpec, ...] = (\n"
    assert opening in entries
    (data / "engine" / "catalogue.py").write_text(entries.replace(opening, opening + line))
    with Child(data) as child:
        assert child.event()["event"] == "ready"
        job = {"version": 1, "kind": "unlearn", "method": "flatten", "seed": 1, "out": "new", "model": str(tiny_folder)}
        sets = {"forget": "forget.jsonl", "retain": "retain.jsonl"}
        evidence = child.answer({**job, **sets, "options": {"beta": 2, "steps": 5, "learning_rate": 1e-3}})["evidence"]
    assert (evidence["guarantee"], evidence["parameters"]["beta"]) == ("empirical", 2.0)
    assert evidence["training"]["last_loss"] < evidence["training"]["first_loss"]
