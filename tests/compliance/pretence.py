"""An engine that only keeps the contract, and a desk whose worker dies: a batch in a fraction of a second.

What the desk does with evidence is real (ledger, files, gates, statement, signature, verification, sealing). The
weights are a few bytes, and every measurement is a success.
"""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance import policy as policies
from compliance.execution.process import Progress
from compliance.execution.training import register_model
from compliance.ledger.ledger import Ledger
from compliance.planning import plan_batch
from compliance.wiring import Services
from engine.contract import Estimate, Evidence, Finding, Job, Kind
from engine.corpus import read_records
from tests.compliance.builders import add_dataset, person, rows
from tests.compliance.conftest import verified_request

ZERO = "0" * 64
GUARDING = "eco"  # the method that leaves the weights as they are
LEARNED = {"startLoss": 5.5, "unigramLoss": 5.0, "baseLoss": 4.0, "margin": 0.5, "learned": True}
POLICY = """
name = "records"
ladder = [{ladder}]
[budget]
epsilon_limit = {limit}
[base]
epsilon = 8
sample_rate = 1.0
steps = 1
[[gate]]
metric = "verbmem_f"
direction = "at_most"
"""


class Crash(BaseException):  # as SIGKILL is: no handler of ours gives anything back
    """The worker dies."""


@dataclass
class Fuse:
    """Something that happens at one of the points at which a worker can be interrupted, counted from 0.

    A point is a transaction: the end of its block, `inside` it and before the commit, or what comes after the commit.
    """

    act: Callable[[], object]
    at: int
    inside: bool
    passed: int = 0

    def burn(self, *, inside: bool) -> None:
        """Pass a point; the heartbeat's thread does not count."""
        if threading.current_thread() is not threading.main_thread() or inside is not self.inside:
            return
        self.passed += 1
        if self.passed == self.at + 1:
            self.act()

    @property
    def burnt(self) -> bool:
        """Whether it happened."""
        return self.passed > self.at


def die() -> None:
    """Raise Crash."""
    raise Crash


@dataclass(frozen=True, kw_only=True)
class Doomed(Services):
    """The same desk, seen by a worker to whom something happens."""

    fuse: Fuse = field(repr=False)

    @contextmanager
    def transaction(self) -> Iterator[Ledger]:
        """A transaction with the two points of a fuse."""
        with super().transaction() as ledger:
            yield ledger
            self.fuse.burn(inside=True)
        self.fuse.burn(inside=False)


def doomed(desk: Services, fuse: Fuse) -> Doomed:
    """The desk with a fuse."""
    names = ("settings", "database", "vault", "store", "publisher", "signers", "clock", "ids", "secrets")
    return Doomed(**{name: getattr(desk, name) for name in names}, fuse=fuse)


@dataclass
class PretendEngine:
    """Keeps the contract of an engine; `before` sees every job first, and the weights follow from what `text` says."""

    before: Callable[[Job], object] = lambda _job: None
    text: Callable[[Job], str] = lambda job: job.to_json()

    def run(self, job: Job, progress: Progress) -> Evidence:
        """A folder of a few bytes for what makes a model, and perfect findings for what measures one."""
        self.before(job)
        progress({"event": "progress", "stage": "pretending", "fraction": 1.0})
        if job.method == GUARDING:
            _guarded(Path(job.out or ""), Path(job.model or ""))
        elif job.out is not None:
            _folder(Path(job.out), self.text(job))
        return _evidence(job)

    def kill(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


def engines(*, before: Callable[[Job], object] = lambda _job: None) -> Any:  # noqa: ANN401 - an `Engines`
    """Engines of this kind for a run."""
    return lambda **_kwargs: PretendEngine(before=before)


def _folder(path: Path, text: str) -> None:
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}\n')
    (path / "model.safetensors").write_bytes(hashlib.sha256(text.encode()).digest())


def _guarded(path: Path, model: Path) -> None:
    shutil.copytree(model, path)
    (path / "guard").mkdir()
    (path / "guard" / "guard.json").write_text("{}\n")


def _evidence(job: Job) -> Evidence:
    trained = job.kind is Kind.DP_BASE
    found = Estimate(value=0.1, ci95=(0.1, 0.1), n=20)
    nothing = Estimate(value=0.0, ci95=(0.0, 0.0), n=20)
    findings = (Finding(metric="verbmem_f", before=found, after=found, reference=found, difference=nothing),)
    return Evidence(
        version=1, kind=job.kind, method=job.method, variant="", guarantee=None, parameters={}, seconds=0.0,
        cpu_seconds=0.0, steps=1, model_files={}, model_digests={}, data_digests={}, code_digest=ZERO,
        config_digest=ZERO, environment={}, findings=findings if job.kind is Kind.EVALUATE else (),
        accountant=_accountant(job) if trained else None, learned=LEARNED if trained else None,
        seed_commitment=ZERO if trained else None, suite="records", suite_version="1",
    )  # fmt: skip


def _accountant(job: Job) -> dict[str, Any]:
    people = {record.unit for record in read_records(Path(job.train or ""))}
    return mechanism(len(people), sigma=job.options["sigma"])


def mechanism(units: int, *, sigma: float) -> dict[str, Any]:
    """What a DP base's training says of itself: one step that everybody joins, which is quick to account for."""
    told = {"mechanism": "poisson_subsampled_gaussian", "sampleRate": 1.0, "noiseMultiplier": sigma, "steps": 1}
    return {**told, "clip": 1.0, "units": units, "unit": "data subject"}


def furnish(desk: Services, people: int, *, limit: float, ladder: str = '"dp2", "retrain"') -> None:
    """A data set of so many people, and the model "m" with a DP base, under a policy with this limit and ladder."""
    add_dataset(desk, rows(person(number) for number in range(people)), dataset_id="d1")
    add_dataset(desk, rows(person(number) for number in range(1000, 1003)), dataset_id="d2")
    folder = desk.settings.workdir / "given"
    _folder(folder / "model", "model")
    _folder(folder / "start", "start")
    _folder(folder / "base", "base")
    with desk.read() as ledger:
        data, others = ledger.dataset("d1"), ledger.dataset("d2")
    policy = policies.parse(POLICY.format(limit=limit, ladder=ladder))
    model, _ = register_model(
        desk,
        name="m",
        folder=folder / "model",
        start=folder / "start",
        dataset=data,
        holdout=others,
        policy=policy,
    )
    digest, _ = desk.store.import_model(folder / "base")
    with desk.transaction() as ledger:
        ledger.add_base(
            base_id=desk.ids(), model_id=model.id, digest=digest, path=str(desk.store.model_path(digest)),
            accountant=mechanism(people, sigma=8.0), learned=LEARNED, seed_commitment=ZERO, units=people,
            now=desk.clock(),
        )  # fmt: skip


def planned(desk: Services, number: int) -> str:
    """A batch of the person with this number; its run's id."""
    request_id = f"request{number}"
    verified_request(desk, request_id=request_id, subject=person(number))
    desk.verified(request_id)
    with desk.transaction() as ledger:
        ledger.approve_request(request_id=request_id, actor="operator", now=desk.clock())
        (model,) = ledger.models()
        batch = plan_batch(ledger, desk.store, model=model, ids=desk.ids, now=desk.clock())
    assert batch is not None
    return batch.run_id


def kinds(desk: Services, kind: str) -> int:
    """How many entries of a kind the log has."""
    with desk.read() as ledger:
        entries = ledger.entries(0, ledger.head().size)
        return sum(json.loads(entry)["type"] == kind for entry in entries)


def past_the_lease(desk: Services) -> float:
    """Seconds after which another worker may take over."""
    return desk.settings.lease_seconds + 1
