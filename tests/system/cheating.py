"""A running desk whose operator has every right: database, files, code and the desk's keys.

What is somebody else's: the witness (a process with its own key and folder), the approver's key, the receipt in the
person's hand, and the trust policy, bundle and checkpoint that the auditor keeps from before the cheat. The engine only
keeps its contract (`pretence`); everything that proves something is real.
"""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from audits import approval, keys, log
from audits.keys import SigningKey
from audits.protocol import Verification
from audits.verify import verify
from compliance import settings as settings_module
from compliance.execution.run import run
from compliance.ledger.entries import rfc3339
from compliance.planning import plan_batch
from compliance.wiring import Services, open_services, prepare, system_clock
from tests.compliance.builders import person
from tests.compliance.pretence import engines, furnish

PEOPLE = 12
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("audits", "compliance", "engine", "migrations", "tests")
PUBLISHING, KEYS = "compliance/certification/publishing.py", "compliance/ledger/keys.py"
UNCHECKED = (
    (PUBLISHING, "    if not verdict.ok:\n", "    if False:\n"),
    (PUBLISHING, "    _write(partial, summary(", "    False and _write(partial, summary("),
    (PUBLISHING, "    if desk.settings.witnesses and not desk.witnessed(", "    if False and not desk.witnessed("),
)
"""A desk that publishes what its own verifier rejects, and what no witness has seen."""


def reporting(edit: str) -> tuple[str, str, str]:
    """An edit of every report before it is signed; `predicate` is its name in the code."""
    build = "        payload = statement.build(predicate)\n"
    return (PUBLISHING, build, f"        {edit}\n{build}")


@dataclass(frozen=True, kw_only=True)
class System:
    """The desk as its operator holds it, and what others have."""

    desk: Services
    approver: SigningKey
    policy: str

    @property
    def log(self) -> Path:
        """The published log, as any web server hands it out."""
        return self.desk.publisher.folder

    def bundle(self, number: int) -> Path:
        """The bundle of a version."""
        return self.desk.settings.workdir / "bundles" / f"m-v{number}"

    def file(self, number: int, *, promise: timedelta = timedelta(days=1)) -> str:
        """A person asks and proves who they are; the request's id."""
        request_id, now = f"request{number}", self.desk.clock()
        with self.desk.transaction() as ledger:
            ledger.create_request(
                request_id=request_id,
                regime="gdpr",
                scope="records",
                door="web",
                received_at=now,
                acknowledge_by=None,
                respond_by=now.date() + timedelta(days=30),
                subject=person(number),
                status_digest=request_id * 8,
                include_by=now + promise,
            )
            ledger.issue_code(
                request_id=request_id, digest="0", expires_at=now + timedelta(hours=1), attempts=5, now=now
            )
            ledger.confirm_identity(request_id=request_id, now=now)
        self.desk.verified(request_id)
        return request_id

    def approve(self, request_id: str) -> None:
        """The approver agrees, with their own key."""
        now = self.desk.clock()
        with self.desk.transaction() as ledger:
            said = approval.statement(
                request_id=request_id, commitment=ledger.request(request_id).commitment, approved_at=rfc3339(now)
            )
            ledger.approve_request(
                request_id=request_id, actor="operator", approval=approval.sign(said, self.approver), now=now
            )

    def plan(self) -> str:
        """The next batch of the approved requests; its run's id."""
        with self.desk.transaction() as ledger:
            (model,) = ledger.models()
            batch = plan_batch(ledger, self.desk.store, model=model, ids=self.desk.ids, now=self.desk.clock())
        assert batch is not None
        return batch.run_id

    def execute(self, run_id: str) -> None:
        """A worker executes it."""
        run(self.desk, run_id, engines=engines())

    def remove(self, number: int) -> Path:
        """A person's way from the request to the published report; the bundle."""
        self.approve(self.file(number))
        self.execute(self.plan())
        with self.desk.read() as ledger:
            (model,) = ledger.models()
            return self.bundle(ledger.current_version(model.id).number)

    def crooked(self, build: "Build", *arguments: str) -> None:
        """Work done by another build of the desk, in a process of its own."""
        command = [sys.executable, "-m", "tests.system.crooked", str(self.desk.settings.workdir), *arguments]
        done = subprocess.run(command, cwd=build.folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]

    def sql(self, *statements: str) -> None:
        """What a database administrator types, guard rails taken down first."""
        with contextlib.closing(sqlite3.connect(self.desk.settings.workdir / "ledger.db")) as database:
            triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                database.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                database.execute(statement)
            for _, statement in triggers:
                database.execute(statement)
            database.commit()

    def judge(self, bundle: Path, **more: Any) -> Verification:  # noqa: ANN401 - options of `verify`
        """The auditor's verdict, under the policy that they kept."""
        return verify(bundle, self.policy, **more)

    def entries(self) -> list[dict[str, Any]]:
        """The log as it stands in the database."""
        with self.desk.read() as ledger:
            return [json.loads(one) for one in ledger.entries(0, ledger.head().size)]


@dataclass(frozen=True, kw_only=True)
class Build:
    """A copy of the source that the operator has edited."""

    folder: Path

    @classmethod
    def of(cls, folder: Path, *edits: tuple[str, str, str]) -> "Build":
        """The source in a new `folder`, with edits: a file, words in it, and what the operator writes instead."""
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for name, words, instead in edits:
            file = folder / name
            text = file.read_text(encoding="utf-8")
            assert words in text, f"{name} has changed: {words}"
            file.write_text(text.replace(words, instead), encoding="utf-8")
        return cls(folder=folder)


@contextmanager
def running(
    folder: Path, *, clock: Callable[[], datetime] = system_clock, ladder: str = '"dp2", "retrain"'
) -> Iterator[System]:
    """A desk in `folder` with a witness, an approver and a model."""
    settings = settings_module.initialise(folder / "desk")
    prepare(settings, clock=clock)
    plain = open_services(settings, clock=clock)
    vkey = log.vkey(settings.origin, plain.signers["log"].public_key)
    with witness(folder / "witness", vkey) as told:
        settings_module.remember(settings, witnesses=json.dumps([told | {"name": "w1"}]))
        desk = open_services(settings_module.load(folder / "desk"), clock=clock)
        furnish(desk, PEOPLE, limit=60.0, ladder=ladder)
        approver = keys.generate("approver")
        with desk.transaction() as ledger:
            ledger.register_key(
                key_id=approver.key_id,
                role="approver",
                public_key=approver.public_key,
                data=keys.registration(approver, "approver"),
                now=clock(),
            )
        desk.publish()
        try:
            yield System(desk=desk, approver=approver, policy=desk.policy_text())
        finally:
            desk.database.dispose()
            plain.database.dispose()


@contextmanager
def witness(folder: Path, log_vkey: str) -> Iterator[dict[str, str]]:
    """A second party's witness, in a process of its own; its vkey and address."""
    command = [sys.executable, "-m", "compliance.cli", "witness", "serve", "--folder", str(folder), "--log", log_vkey]
    with subprocess.Popen(
        [*command, "--port", "0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        text = ""
        try:
            while True:
                line = process.stdout.readline()
                assert line, "the witness ended"
                text += line
                with contextlib.suppress(json.JSONDecodeError):
                    said = json.loads(text)
                    break
            yield {"vkey": said["vkey"], "url": said["url"]}
        finally:
            process.terminate()


def failed(verdict: Verification) -> str:
    """The name of the first step that does not hold; empty when all do."""
    return next((step.name for step in verdict.steps if not step.ok), "")


def copy_of(bundle: Path, target: Path) -> Path:
    """A bundle to tamper with."""
    shutil.copytree(bundle, target)
    return target
