"""Training a model from a registered data set: public start, DP base, the model in use.

    public data set -> start (tokenizer and a small model from public text only)
    start + data set -> DP base, when the policy has a [base]
    base or start + data set -> version 1

Without a public data set the start is a model folder the user brings. A classifier of pictures, or a CLIP, may also
start from nothing: its network has random weights, and a class for each label of the data set. Their names, and those
of the domains, stand in the model's files, so they count as known to everybody.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audits.statement import GUARD
from compliance import policy as policies
from compliance.desk import Desk
from compliance.errors import InvalidInputError
from compliance.execution.looking import blank_sets, check_domains, domains
from compliance.execution.process import EngineFailedError, EngineProcess, Progress
from compliance.execution.references import recipe_for, seed_of, train_reference
from compliance.execution.rungs import NewBase, train_base
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import DataSetView, ModelView, VersionView
from compliance.policy import Policy
from compliance.registry import check_name, refuse_erased
from compliance.store import check_model, task_in
from engine.contract import TASKS, Evidence, Job, Kind
from engine.corpus import Record

Say = Callable[[str, dict[str, Any]], None]
LANGUAGE, IMAGE, DOMAINS = TASKS
BAD_DATA = "bad_data"
DEFAULTS = {LANGUAGE: "records.toml", IMAGE: "images.toml", DOMAINS: "domains.toml"}


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
    nothing = order.public is None and order.start is None and order.policy.task == LANGUAGE
    if nothing or (order.public is not None and order.start is not None):
        message = "give either a public data set to start from, or a model folder (--public FILE or --start DIR)"
        raise InvalidInputError(message, code="no-start")
    _check(desk, order.name, order.policy, order.dataset, order.holdout)
    if order.start is not None:
        _refuse_other_task(order.start, order.policy)
        _refuse_guarded(order.start)
    folder = desk.store.run_folder(f"train-{desk.ids()}")
    folder.mkdir(parents=True)
    with EngineProcess(log=_log(desk), threads=desk.settings.engine_threads) as process:
        trainer = _Trainer(desk, order, process, folder, say)
        start = trainer.start()
        trainer.look(start)
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
    _check(desk, name, policy, dataset, holdout)
    for one in (folder, start):
        _refuse_other_task(one, policy)
    _refuse_guarded(start)
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


def _refuse_other_task(folder: Path, policy: Policy) -> None:
    """InvalidInputError unless the model of a user's folder is of the family that the policy is for."""
    check_model(folder)
    found = task_in(folder)
    if found != policy.task:
        message = f"{folder.name} is a model of the task {found}, and the policy is for {policy.task}; use another one"
        raise InvalidInputError(message, code="wrong-task")


def _refuse_guarded(start: Path) -> None:
    """InvalidInputError for a start with a guard: references and retrained versions begin with it."""
    if (start / GUARD).exists():
        message = f"{start.name} is guarded and cannot be trained; give it without its folder {GUARD}"
        raise InvalidInputError(message, code="guarded-start")


def _check(desk: Desk, name: str, policy: Policy, dataset: DataSetView, holdout: DataSetView | None) -> None:
    """Refuse now what would fail after hours of training."""
    check_name(name)
    for one in (dataset, holdout):
        if one is not None and not desk.store.serves(one.id, policy.task):
            found = desk.store.task(one.id)
            held = "has no record left" if found is None else f"is for models of the task {found}"
            message = f"the data set '{one.name}' {held}, and the policy is for {policy.task}; use another one"
            raise InvalidInputError(message, code="wrong-task")
    with desk.read() as ledger:
        ledger.refuse_taken(name)
        refuse_erased(ledger, desk.store, desk.vault, dataset)
    pictures = policy.task != LANGUAGE
    compared = pictures or any(gate.metric == "privleak_auc" for gate in policy.gates)
    if holdout is None and (policy.base or compared):
        gate = "its measurements compare" if pictures else "the gate on privleak_auc compares"
        what = "a DP base must show that it learned on" if policy.base else f"{gate} with"
        message = f"{what} people no model has seen; give a holdout data set (--holdout NAME)"
        raise InvalidInputError(message, code="no-holdout")
    if policy.task == DOMAINS and holdout is not None:
        check_domains(desk.store, dataset, holdout)


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


@contextmanager
def _placing(where: str) -> Iterator[None]:
    """Say in which data the engine found a fault: it knows them by their position only."""
    try:
        yield
    except EngineFailedError as error:
        message = f"{where} {error}" if error.code == BAD_DATA else str(error)
        raise EngineFailedError(message, code=error.code) from None


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
        public = self._order.public
        job = Job(
            version=1,
            kind=Kind.INITIALISE,
            task=self._order.policy.task,
            seed=self._order.seed,
            threads=self.threads,
            out=str(self._folder / "start"),
            train=None if public is None else str(public),
            options={**self._classes(), **self._order.initialise},
        )
        with nullcontext() if public is None else _placing(f"in the public data {public.name}"):
            self._run("network" if public is None else "public model", job)
        return self._desk.store.adopt(self._folder / "start")[0]

    def _classes(self) -> dict[str, Any]:
        """The classes of a network that is made for the data set; a language model has none."""
        if self._order.policy.task == LANGUAGE:
            return {}
        records = self._desk.store.records(self._order.dataset.id)
        told = {"labels": sorted({record.label for record in records if record.label is not None})}
        return told if self._order.policy.task == IMAGE else {**told, "names": domains(records)}

    def look(self, start_digest: str) -> None:
        """Ask the start about every picture, so that one that is broken or of no class is found before training."""
        for one in (self._order.dataset, self._order.holdout):
            if one is None or self._order.policy.task == LANGUAGE:
                continue
            path = self._desk.store.dataset_path(one.id)
            with _placing(f"in the data set '{one.name}'"):
                if self._order.policy.task == IMAGE:
                    self._ask(start_digest, path, path, path)
                    continue
                with blank_sets(self._desk.store.records(one.id), self._folder) as (forget, retain):
                    self._ask(start_digest, forget, retain, path)

    def _ask(self, start_digest: str, forget: Path, retain: Path, holdout: Path) -> None:
        task = self._order.policy.task
        job = Job(
            version=1,
            kind=Kind.EVALUATE,
            task=task,
            seed=0,
            threads=self.threads,
            models={"after": str(self._desk.store.model_path(start_digest))},
            forget=str(forget),
            retain=str(retain),
            holdout=str(holdout),
            # A classifier is asked about a whole forget set: one picture of the others is enough. 0 is every blank.
            options={"suite": policies.SUITES[task], "pictures": int(task == IMAGE), "resamples": 100},
        )
        self._run("pictures", job)

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
            task=self._order.policy.task,
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


def default_policy(task: str = LANGUAGE) -> Policy:
    """The policy of models that were given none."""
    return policies.parse((Path(__file__).parent / DEFAULTS[task]).read_text())
