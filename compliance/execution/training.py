"""Training a model from a registered data set: public start, DP base, the model in use.

    public data set -> start (tokenizer and a small model from public text only)
    start + data set -> DP base, when the policy has a [base]
    base or start + data set -> version 1

Without a public data set the start is a model folder the user brings.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance import policy as policies
from compliance.desk import Desk
from compliance.errors import InvalidInputError
from compliance.execution.process import EngineProcess, Progress
from compliance.execution.references import recipe_for, seed_of, train_reference
from compliance.execution.rungs import NewBase, train_base
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import DataSetView, ModelView, VersionView
from compliance.policy import Policy
from compliance.registry import check_name
from engine.contract import Evidence, Job, Kind
from engine.corpus import Record

Say = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to train."""

    name: str
    dataset: DataSetView
    holdout: DataSetView | None
    policy: Policy
    public: Path | None
    start: Path | None
    initialise: dict[str, Any]
    seed: int


def train_model(
    desk: Desk, order: Order, *, say: Say, beside: Callable[[str], None] | None = None
) -> tuple[ModelView, VersionView]:
    """Train and register a model; its version 1 and, where the policy has one, its DP base are in the ledger.

    `beside` is called with the digest of the public start as soon as that is there, for work that goes on beside
    the rest; half of the threads are then left to it.
    """
    if (order.public is None) == (order.start is None):
        message = "give either a public data set to start from, or a model folder (--public FILE or --start DIR)"
        raise InvalidInputError(message, code="no-start")
    _check(desk, order.name, order.policy, order.holdout)
    folder = desk.store.run_folder(f"train-{desk.ids()}")
    folder.mkdir(parents=True)
    with EngineProcess(log=_log(desk), threads=desk.settings.engine_threads) as process:
        trainer = _Trainer(desk, order, process, folder, say)
        start = trainer.start()
        if beside is not None:
            trainer.threads = max(1, trainer.threads // 2)
            beside(start)
        base = trainer.base(start)
        model = trainer.register(start, base)
        version = trainer.deploy(model, start)
    folder.rmdir()
    return model, version


def register_model(
    desk: Desk,
    *,
    name: str,
    folder: Path,
    start: Path,
    dataset: DataSetView,
    holdout: DataSetView | None,
    policy: Policy,
) -> tuple[ModelView, VersionView]:
    """Register a model the user trained, and the public start it came from, which references need."""
    _check(desk, name, policy, holdout)
    digest, files = desk.store.import_model(folder)
    start_digest, _ = desk.store.import_model(start)
    model_id, now = desk.ids(), desk.clock()
    with desk.transaction() as ledger:
        ledger.add_model(
            model_id=model_id,
            name=name,
            dataset_id=dataset.id,
            holdout_id=None if holdout is None else holdout.id,
            policy=policy.text,
            start=str(desk.store.model_path(start_digest)),
            start_digest=start_digest,
            now=now,
        )
        version = _first_version(desk, ledger, model_id, digest, files)
        return ledger.model(model_id), version


def _check(desk: Desk, name: str, policy: Policy, holdout: DataSetView | None) -> None:
    """Refuse now what would fail after hours of training."""
    check_name(name)
    with desk.read() as ledger:
        ledger.refuse_taken(name)
    membership = any(gate.metric == "privleak_auc" for gate in policy.gates)
    if holdout is None and (policy.base or membership):
        what = "a DP base must show that it learned on" if policy.base else "the gate on privleak_auc compares with"
        message = f"{what} people no model has seen; give a holdout data set (--holdout NAME)"
        raise InvalidInputError(message, code="no-holdout")


def _first_version(desk: Desk, ledger: Ledger, model_id: str, digest: str, files: dict[str, Any]) -> VersionView:
    return ledger.publish_version(
        version_id=desk.ids(),
        model_id=model_id,
        digest=digest,
        files=files,
        path=str(desk.store.model_path(digest)),
        guarantee="none",
        report_digest=None,
        now=desk.clock(),
    )


def train_references(
    desk: Desk, *, start_digest: str, policy: Policy, retain_sets: Sequence[Sequence[Record]], say: Say
) -> Future[None]:
    """Train references ahead of their batches, in one engine beside the caller; a batch finds them by their recipe."""
    pool = ThreadPoolExecutor(max_workers=1)

    def work() -> None:
        with EngineProcess(log=_log(desk), threads=1) as process:
            for retain in retain_sets:
                recipe = recipe_for(start_digest=start_digest, retain=retain, options=dict(policy.training))
                train_reference(
                    desk.store,
                    recipe,
                    retain,
                    process=process,
                    threads=1,
                    progress=lambda event: say("reference", dict(event)),
                )

    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


def _log(desk: Desk) -> Path:
    folder = desk.settings.workdir / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "engine-train.log"


class _Trainer:
    def __init__(self, desk: Desk, order: Order, process: EngineProcess, folder: Path, say: Say) -> None:
        self._desk = desk
        self._order = order
        self._process = process
        self._folder = folder
        self._say = say
        self.threads = desk.settings.engine_threads

    def start(self) -> str:
        """The digest of the public starting model, now in the store."""
        if self._order.start is not None:
            return self._desk.store.import_model(self._order.start)[0]
        job = Job(
            version=1,
            kind=Kind.INITIALISE,
            seed=self._order.seed,
            threads=self.threads,
            out=str(self._folder / "start"),
            train=str(self._order.public),
            options=self._order.initialise,
        )
        self._run("public model", job)
        return self._desk.store.adopt(self._folder / "start")[0]

    def base(self, start_digest: str) -> NewBase | None:
        """The DP base under the policy's settings, or None when it has none."""
        if not self._order.policy.base or self._order.holdout is None:
            return None
        return train_base(
            self._order.policy,
            self._process,
            start=self._desk.store.model_path(start_digest),
            train=self._desk.store.dataset_path(self._order.dataset.id),
            holdout=self._desk.store.dataset_path(self._order.holdout.id),
            out=self._folder / "base",
            seed=self._order.seed,
            threads=self.threads,
            progress=self._progress("DP base"),
        )

    def register(self, start_digest: str, base: NewBase | None) -> ModelView:
        """The model's row and its base's row."""
        desk, order = self._desk, self._order
        model_id = desk.ids()
        digest = None if base is None else desk.store.adopt(base.path)[0]
        with desk.transaction() as ledger:
            ledger.add_model(
                model_id=model_id,
                name=order.name,
                dataset_id=order.dataset.id,
                holdout_id=None if order.holdout is None else order.holdout.id,
                policy=order.policy.text,
                start=str(desk.store.model_path(start_digest)),
                start_digest=start_digest,
                now=desk.clock(),
            )
            if base is not None and digest is not None:
                evidence = base.evidence
                ledger.add_base(
                    base_id=desk.ids(),
                    model_id=model_id,
                    digest=digest,
                    path=str(desk.store.model_path(digest)),
                    accountant=evidence.accountant or {},
                    learned=evidence.learned or {},
                    seed_commitment=evidence.seed_commitment or "",
                    units=(evidence.accountant or {})["units"],
                    now=desk.clock(),
                )
            return ledger.model(model_id)

    def deploy(self, model: ModelView, start_digest: str) -> VersionView:
        """Version 1, fine-tuned from the base (or the start) on the whole data set."""
        desk = self._desk
        with desk.read() as ledger:
            known = ledger.base(model.id)
        start = str(desk.store.model_path(start_digest)) if known is None else known.path
        job = Job(
            version=1,
            kind=Kind.TRAIN,
            seed=seed_of("deploy", start_digest),
            threads=self.threads,
            out=str(self._folder / "model"),
            model=start,
            train=str(desk.store.dataset_path(model.dataset_id)),
            options=dict(self._order.policy.training),
        )
        self._run("model", job)
        digest, files = desk.store.adopt(self._folder / "model")
        with desk.transaction() as ledger:
            return _first_version(desk, ledger, model.id, digest, files)

    def _run(self, name: str, job: Job) -> Evidence:
        return self._process.run(job, self._progress(name))

    def _progress(self, name: str) -> Progress:
        return lambda event: self._say(name, dict(event))


def default_policy() -> Policy:
    """The policy of models that were given none."""
    return policies.parse((Path(__file__).parent / "records.toml").read_text())
