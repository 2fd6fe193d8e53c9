"""The whole path on data nobody here wrote: two of TOFU's authors ask to be forgotten, by name.

    .venv/bin/python benchmarks/tofu_path.py --data ../shared/data/tofu

TOFU (arXiv 2401.06121, MIT) has 200 fictitious authors with 20 questions each. Forty of them are the customers of a
model trained from scratch here; 110 others are the public text it starts from; 20 more are never seen. An author's
passages are the answers about them, five at a time. The two requests go through intake, matching, approval, planning,
the engine, certification and the offline verifier as any request does; only the queue is left out. What is printed is
what the report says.
"""

import argparse
import collections
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from audits import verify
from compliance import intake, policy
from compliance import settings as settings_module
from compliance.certification.publishing import bundle_path
from compliance.demo import table
from compliance.execution.run import run
from compliance.execution.training import Order, train_model
from compliance.ledger.views import DataSetView, ModelView
from compliance.planning import plan_batch
from compliance.registry import add_dataset, read_lines
from compliance.wiring import Services, open_services, prepare

PAIRS = 20
CUSTOMERS, STRANGERS = 40, 20
PUBLIC = 110
PASSAGE = 5
LEAVING = 2
_NAME = re.compile(r"\b[A-Z][\w\u2019-]+(?: (?:[A-Z][\w\u2019-]+|bin|al|de|van|von|da|ibn))+")
_OPENINGS = {"Has", "Is", "Was", "Did", "Does", "Are", "Could", "Can", "What", "Who", "How", "In", "The", "Yes"}
POLICY = """
name = "tofu-records"
ladder = ["npo", "dp2", "retrain"]
[budget]
epsilon_limit = 20.0
[training]
epochs = 16
[base]
epsilon = 1.0
sample_rate = 0.25
steps = 24
[[gate]]
metric = "verbmem_f"
direction = "at_most"
[[gate]]
metric = "knowmem_f"
direction = "at_most"
[[gate]]
metric = "knowmem_r"
direction = "at_least"
[[gate]]
metric = "privleak_auc"
direction = "within"
"""


def authors(data: Path) -> list[tuple[str, list[dict[str, str]]]]:
    """(name, rows) of every author whose name the rows make plain, in TOFU's order."""
    rows = [json.loads(line) for line in (data / "full.json").read_text().splitlines()]
    groups = [rows[start : start + PAIRS] for start in range(0, len(rows), PAIRS)]
    named = [(name_of(group), group) for group in groups]
    return [(name, group) for name, group in named if name is not None]


def name_of(rows: Sequence[dict[str, str]]) -> str | None:
    """The name most of an author's rows mention; None when less than a third do."""
    counts: collections.Counter[str] = collections.Counter()
    for row in rows:
        found = _NAME.findall(f"{row['question']} {row['answer']}")
        counts.update({re.sub(r"[\u2019']s$", "", _trimmed(name)) for name in found})
    name, count = max(counts.items(), key=lambda pair: (pair[1], len(pair[0])), default=("", 0))
    return name if count * 3 >= len(rows) and " " in name else None


def _trimmed(name: str) -> str:
    first, _, rest = name.partition(" ")
    return rest if first in _OPENINGS else name


def write(path: Path, people: Sequence[tuple[str, list[dict[str, str]]]]) -> Path:
    """A user's data set: questions as they are, and passages of five answers; the subject is the author's name."""
    with path.open("w") as out:
        for name, rows in people:
            passages = [
                " ".join(row["answer"] for row in rows[start : start + PASSAGE]) for start in range(0, PAIRS, PASSAGE)
            ]
            for content in [*({"text": text} for text in passages), *rows]:
                out.write(json.dumps({"subject": name, **content}) + "\n")
    return path


def register(desk: Services, name: str, path: Path) -> DataSetView:
    """Add a data set as `expunge dataset add` does."""
    dataset_id = desk.ids()
    with desk.transaction() as ledger:
        add_dataset(ledger, desk.store, desk.vault, dataset_id=dataset_id, name=name, now=desk.clock(),
                    lines=read_lines(path, subject_field="subject"), subject_field="subject")  # fmt: skip
        return ledger.dataset(dataset_id)


def ask(desk: Services, name: str, number: int) -> str:
    """File, confirm (with the code out of the vault) and approve a request by name."""
    one = intake.submission(regime="gdpr", name=name, email=f"author{number}@tofu.example")
    (filed,) = intake.file(desk, [one], caller=intake.Caller(door="api"))
    with desk.read() as ledger:
        code = ledger.open_secret(request_id=filed.request.id, purpose="code").decode()
    intake.confirm(desk, request_id=filed.request.id, code=code)
    intake.approve(desk, request_id=filed.request.id, actor="operator")
    return filed.request.id


def unlearn(desk: Services, model: ModelView) -> dict[str, Any]:
    """Plan and run the batch here; the verified report."""
    with desk.transaction() as ledger:
        batch = plan_batch(ledger, desk.store, model=model, ids=desk.ids, now=desk.clock())
    if batch is None:
        message = "no record matched a request; is this TOFU's full.json?"
        raise SystemExit(message)
    run(desk, batch.run_id)
    bundle = bundle_path(desk, batch)
    verdict = verify.verify(bundle, desk.policy_text())
    if verdict.payload is None:
        message = "the report did not verify"
        raise SystemExit(message)
    statement = json.loads(verdict.payload)
    return {"bundle": str(bundle), "verification": verdict.to_json(), "predicate": statement["predicate"]}


def main() -> int:
    """Run the benchmark; 0 when the report verified."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with TOFU's full.json")
    parser.add_argument("--workdir", type=Path, help="keep the desk's work folder here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return path(arguments.data, arguments.workdir or Path(folder) / "desk")


def path(data: Path, workdir: Path) -> int:
    """The whole path in `workdir`."""
    begun, console = time.monotonic(), Console()
    people = authors(data)
    settings = settings_module.initialise(workdir)
    prepare(settings)
    desk = open_services(settings)
    with tempfile.TemporaryDirectory() as folder:
        inbox = Path(folder)
        end = CUSTOMERS + STRANGERS
        customers = register(desk, "authors", write(inbox / "customers.jsonl", people[:CUSTOMERS]))
        strangers = register(desk, "strangers", write(inbox / "strangers.jsonl", people[CUSTOMERS:end]))
        public = register(desk, "public", write(inbox / "public.jsonl", people[end : end + PUBLIC]))
    order = Order(name="tofu", dataset=customers, holdout=strangers, policy=policy.parse(POLICY), seed=1, start=None,
                  public=desk.store.dataset_path(public.id), initialise={})  # fmt: skip
    model, _ = train_model(desk, order, say=lambda _name, _event: None)
    trained = time.monotonic()
    requests = [ask(desk, name, number) for number, (name, _) in enumerate(people[:LEAVING])]
    result = unlearn(desk, model)
    with desk.read() as ledger:
        states = [ledger.request(request_id).state.value for request_id in requests]
        base = ledger.base(model.id)
    table.show(console, [result])
    console.print(f"requests: {', '.join(states)}; verified: {result['verification']['ok']}")
    console.print(f"DP base of the model in use: {json.dumps(base.learned if base else None)}", soft_wrap=True)
    console.print(f"training {trained - begun:.0f} s, requests to verified report {time.monotonic() - trained:.0f} s")
    return 0 if result["verification"]["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
