"""`expunge demo`: the whole path on one machine, with people who do not exist and everything else real.

A corpus, a model trained on it, requests through the API and the form, codes from the mails, an operator who approves,
batches that run by themselves on a Celery worker, signed reports, and an offline verification in a fresh process that
knows nothing but the bundle and the policy. At the end one byte of a copy is flipped. Whether it is about texts or
pictures, `stories` says.
"""

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from rich.console import Console

from compliance import policy as policies
from compliance import settings as settings_module
from compliance.demo import table
from compliance.demo.budget import budget_of
from compliance.demo.corpus import Corpus
from compliance.demo.progress import Journey
from compliance.demo.stack import Stack, free_port
from compliance.demo.stories import Scale, Story, story_of
from compliance.demo.visitor import Visitor
from compliance.errors import InvalidInputError, UnavailableError
from compliance.execution.training import Order, train_model, train_references
from compliance.ledger.lifecycle import RunState
from compliance.ledger.views import BatchView, DataSetView, ModelView
from compliance.planning import split_by_subjects
from compliance.registry import add_dataset, read_lines
from compliance.wiring import Services, open_services, prepare
from engine.corpus import Record

SEED = 20261121
MARKER = ".expunge-demo"
POLL = 0.5
EVERY_SECONDS = 5
BATCH_SECONDS = 1800.0
LETTER_SECONDS = 30.0


def demo(workdir: Path, *, task: str, json_output: bool, scale: Scale | None = None) -> int:
    """Run the demo in `workdir`; 0 when every bundle verified and the tampered one did not, else 1."""
    story = story_of(task)
    begun = time.monotonic()
    workdir = _fresh(workdir)
    with Journey(story.phases) as journey:
        result = _Demo(workdir, journey, story, scale or story.scale).run()
    result["seconds"] = round(time.monotonic() - begun, 1)
    if json_output:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        _tell(result)
    return 0 if result["ok"] else 1


def _fresh(workdir: Path) -> Path:
    """An empty folder; an earlier demo is replaced, anything else is not touched."""
    workdir = workdir.resolve()
    if workdir.exists() and any(workdir.iterdir()):
        if not (workdir / MARKER).exists():
            message = "the folder of --workdir is not empty and holds no earlier demo; choose another one"
            raise InvalidInputError(message, code="workdir-not-empty")
        shutil.rmtree(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / MARKER).touch()
    return workdir


class _Demo:
    def __init__(self, workdir: Path, journey: Journey, story: Story, scale: Scale) -> None:
        self._workdir = workdir
        self._journey = journey
        self._story = story
        self._policy = policies.parse(scale.policy)
        self._scale = scale

    def run(self) -> dict[str, Any]:
        """Everything, in the order in which it would happen."""
        web, broker = free_port(), free_port()
        settings = settings_module.initialise(
            self._workdir,
            broker_url=f"redis://127.0.0.1:{broker}/0",
            public_url=f"http://127.0.0.1:{web}",
            beat_seconds="1",
            heartbeat_seconds="1",
            lease_seconds="30",
        )
        prepare(settings)
        with Stack(settings, web_port=web, broker_port=broker) as stack:
            settings = stack.settings
            services = open_services(settings)
            self._journey.reach("start", 1.0)
            model, corpus = self._train(services)
            stack.start_workers()
            visitor = Visitor(settings.public_url, settings.outbox)
            self._serve_people(services, stack, visitor, model, corpus)
            visitor.close()
        return self._finish(services, model)

    def _train(self, services: Services) -> tuple[ModelView, Corpus]:
        story = self._story
        with tempfile.TemporaryDirectory(dir=self._workdir) as folder:
            corpus = story.write(Path(folder), SEED, self._scale.customers)
            data = self._register(services, corpus)
        words = {"people": self._scale.customers, "by_agent": story.by_agent, "by_form": story.by_form}
        self._journey.say(story.opening.format(**words))
        order = Order(
            name=story.model,
            dataset=data[story.dataset],
            holdout=data["holdout"],
            policy=self._policy,
            public=services.store.dataset_path(data["public"].id) if "public" in data else None,
            start=None,
            initialise=dict(self._scale.initialise),
            seed=SEED,
        )
        references: list[Future[None]] = []

        def beside(start_digest: str) -> None:
            records = services.store.records(data[story.dataset].id)
            retained = retained_sets(services, records, story, corpus)
            references.append(
                train_references(
                    services,
                    start_digest=start_digest,
                    policy=self._policy,
                    retain_sets=retained,
                    say=self._journey.engine,
                )
            )

        model, _ = train_model(services, order, say=self._journey.engine, beside=beside)
        self._journey.reach("model", 1.0, "references")
        for reference in references:
            reference.result()
        return model, corpus

    def _serve_people(
        self, services: Services, stack: Stack, visitor: Visitor, model: ModelView, corpus: Corpus
    ) -> None:
        settings, people, story = services.settings, corpus.people, self._story
        visitor.sign_in(settings.operator_token.get_secret_value())
        ((_, token),) = settings.agents.items()
        if story.by_agent:
            by_agent = visitor.file_as_agent(token.get_secret_value(), people[: story.by_agent])
            for request_id in by_agent:
                visitor.confirm_by_api(request_id)
            for request_id in by_agent:
                visitor.approve(request_id)
        self._journey.reach("requests", 0.6, "requests of the agent")
        with services.transaction() as ledger:
            ledger.schedule(model_id=model.id, every_seconds=EVERY_SECONDS, now=services.clock())
        if story.by_agent:
            self._await(services, stack, model, number=1, ended=False)
        for person in people[story.by_agent : story.by_agent + story.by_form]:
            status = visitor.file_by_form(person, scope=story.wish.scope, target=story.wish.target)
            receipt = visitor.receipt(status)
            (self._workdir / "receipts").mkdir(exist_ok=True)
            request_id = visitor.confirm_by_form(person)
            (self._workdir / "receipts" / f"{request_id}.json").write_text(json.dumps(receipt))
            visitor.approve(request_id)
        self._journey.reach("requests", 1.0)
        for number in range(1, story.batches + 1):
            self._await(services, stack, model, number=number, ended=True)
        self._await_letters(services, stack)

    def _await(self, services: Services, stack: Stack, model: ModelView, *, number: int, ended: bool) -> BatchView:
        """Wait until the model's n-th batch is planned or has ended; UnavailableError when it is stuck."""
        until = time.monotonic() + BATCH_SECONDS
        while time.monotonic() < until:
            stack.check()
            with services.read() as ledger:
                batches = ledger.batches(model.id)
            if len(batches) >= number:
                batch = batches[number - 1]
                self._show(batch, number)
                if batch.run_state is RunState.STUCK:
                    message = f"batch {number} is stuck; see logs/work.log"
                    raise UnavailableError(message, code="batch-stuck")
                if not ended or batch.run_state is RunState.DONE:
                    return batch
            time.sleep(POLL)
        message = f"batch {number} did not end; see logs/work.log and logs/beat.log"
        raise UnavailableError(message, code="batch-slow")

    def _await_letters(self, services: Services, stack: Stack) -> None:
        """The people hear of it: the beat sends what is in the outbox table."""
        until = time.monotonic() + LETTER_SECONDS
        while time.monotonic() < until:
            stack.check()
            with services.read() as ledger:
                if not ledger.pending_notices(limit=1):
                    return
            time.sleep(POLL)
        message = "the last letters were not sent; see logs/beat.log"
        raise UnavailableError(message, code="letters-waiting")

    def _show(self, batch: BatchView, number: int) -> None:
        rungs = [entry["rung"] for entry in batch.plan["rungs"] if entry["refused"] is None]
        rung, stage = batch.progress.get("rung"), batch.progress.get("stage")
        if rung in rungs:
            fraction = (rungs.index(rung) + float(batch.progress.get("fraction") or 0.0) * 0.9) / len(rungs)
            self._journey.reach(f"batch {number}", fraction, f"batch {number}: {rung}, {stage}")

    def _finish(self, services: Services, model: ModelView) -> dict[str, Any]:
        trust = self._workdir / "trust"
        trust.mkdir()
        policy = trust / "tlog-policy"
        policy.write_text(services.policy_text())
        self._journey.reach("verify", 0.1)
        bundles = sorted((self._workdir / "bundles").glob(f"{model.name}-v*"))
        results = [_verified(bundle, policy) for bundle in bundles]
        tampered = _tampered(bundles[-1], policy, self._workdir / "tampered")
        self._journey.reach("verify", 1.0)
        below = [r["predicate"]["method"]["rung"] for r in results if r["predicate"]["method"]["rung"] != "retrain"]
        budget = _budget(results) if self._story.shows_budget else None
        return {
            "ok": bool(results) and all(r["verification"]["ok"] for r in results) and not tampered["ok"],
            "workdir": str(self._workdir),
            "policy": str(policy),
            "batches": results,
            "publishedBelowRetrain": len(below),
            "tampered": tampered,
            **({} if budget is None else {"budget": budget}),
        }

    def _register(self, services: Services, corpus: Corpus) -> dict[str, DataSetView]:
        files = {self._story.dataset: corpus.private, "holdout": corpus.holdout, "public": corpus.public}
        field = self._story.subject_field
        return {name: _register(services, name, file, field) for name, file in files.items() if file is not None}


def retained_sets(
    services: Services, records: Sequence[Record], story: Story, corpus: Corpus
) -> list[tuple[Record, ...]]:
    """What stays after each batch, so that its reference can be trained ahead."""
    leaving = [person.email for person in corpus.people]
    if story.wish.scope == "records":
        counts = [story.by_agent, story.by_agent + story.by_form][: story.batches]
        return [split_by_subjects(services.vault, records, leaving[:count]).retain for count in counts]
    left = split_by_subjects(services.vault, records, leaving[: story.by_agent]).retain
    without = tuple(record for record in left if not story.wish.concerns(record))
    return [left, without] if story.by_agent else [without]


def _register(services: Services, name: str, file: Path, subject_field: str) -> DataSetView:
    lines = read_lines(file, subject_field=subject_field)
    dataset_id = services.ids()
    with services.transaction() as ledger:
        add_dataset(
            ledger,
            services.store,
            services.vault,
            dataset_id=dataset_id,
            name=name,
            lines=lines,
            subject_field=subject_field,
            now=services.clock(),
        )
        return ledger.dataset(dataset_id)


def _budget(results: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What the newest certificate left for those who asked next, and of which version it is; None without one."""
    for result in reversed(results):
        certificate = result["predicate"]["guarantee"]["certificate"]
        found = None if certificate is None else budget_of(certificate)
        if found is not None:
            return {**found, "version": result["predicate"]["model"]["after"]["version"]}
    return None


def _verify(bundle: Path, policy: Path) -> dict[str, Any]:
    """The auditor's own command, in a fresh process."""
    command = [sys.executable, "-m", "audits", "verify", str(bundle), "--policy", str(policy), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own verifier
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _verified(bundle: Path, policy: Path) -> dict[str, Any]:
    verification = _verify(bundle, policy)
    envelope = json.loads((bundle / "report.dsse.json").read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))  # just verified, in the line before last
    return {"bundle": str(bundle), "verification": verification, "predicate": statement["predicate"]}


def _tampered(bundle: Path, policy: Path, copy: Path) -> dict[str, Any]:
    """Flip one bit in the middle of the signed report of a copy, and say which step notices."""
    shutil.copytree(bundle, copy)
    report = copy / "report.dsse.json"
    raw = bytearray(report.read_bytes())
    raw[len(raw) // 2] ^= 1
    report.write_bytes(bytes(raw))
    verdict = _verify(copy, policy)
    failed = next((step for step in verdict["steps"] if not step["ok"]), None)
    return {"bundle": str(copy), "ok": verdict["ok"], "failed": failed}


def _tell(result: dict[str, Any]) -> None:
    console = Console()
    table.show(console, result["batches"])
    if "budget" in result:
        table.show_budget(console, result["budget"])
    for batch in result["batches"]:
        verdict = batch["verification"]
        word = "verified" if verdict["ok"] else "NOT verified"
        console.print(f"{word} offline (trust: {verdict['trust']}): {batch['bundle']}", soft_wrap=True)
    failed = result["tampered"]["failed"]
    if failed is not None:
        console.print(
            f"one byte flipped in a copy: step {failed['n']} ({failed['name']}) fails: {failed['why']}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"policy: {result['policy']}", soft_wrap=True)
    console.print(
        f"took {result['seconds']:.0f} s; 'expunge up --workdir {result['workdir']}' shows it in a browser",
        highlight=False,
        soft_wrap=True,
    )
