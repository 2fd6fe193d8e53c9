"""`expunge report reproduce`: a reported run once more, from its sealed inputs, for an auditor at the desk.

The steps are those of `compliance.execution.reproduction`. Exit 0: the run was repeated and led to the same; 1: it did
not, or its key was destroyed when the challenge period ended, and the log entry is named; 2: bad input.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from compliance.cli.desk import open_desk
from compliance.cli.inputs import read_text, writing
from compliance.cli.options import CURRENT, Json, TrustPolicy, Workdir
from compliance.cli.output import answer, plain, table
from compliance.cli.progress import progress
from compliance.errors import InvalidInputError
from compliance.execution.reproduction import Challenge, Reproduction
from compliance.execution.reproduction import reproduce as repeat
from compliance.wiring import Services

EXAMPLES = (
    "expunge report reproduce bundles/assistant-v2 --policy trust/tlog-policy",
    "expunge report reproduce bundles/assistant-v2 --suite attacks --seed 20270114",
)
SEED_BYTES, SEED_MOST = 8, 2**63 - 1
RESULT, WEIGHTS = "reproduction.json", "model"
_STEPS = {"n": "", "ok": "Holds", "name": "Step", "why": "Why"}
_EVIDENCE = {"metric": "Metric", "report": "Report", "published": "Published, now", "repeated": "Repeated"}
_CHOSEN = {"metric": "Metric", "report": "Report", "measured": "Published, now", "agrees": "Agrees"}


def reproduce(
    *,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", exists=True, help="A bundle's folder or zip file.")],
    policy: TrustPolicy = None,
    suite: Annotated[
        str | None, typer.Option("--suite", metavar="SUITE", help="Also ask the published weights this suite, now.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=SEED_MOST, help="The seed of that test; else one is drawn.", metavar="N"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A new folder for the repeated weights and the answer.")
    ] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> int:
    """Repeat the run of a report from its sealed inputs, on a CPU, and compare; exit 1 unless it led to the same.

    Deterministic methods must make the published weights, byte for byte. Methods that add noise are run with a fresh
    secret, and their weights must measure as reported; so must the published ones, measured again. What was found is
    logged. After the challenge period the inputs cannot be opened any more: the answer is no, and names the log entry
    of their destruction.

    --suite or --seed asks the published weights a test that nobody could prepare for; its findings stand beside the
    report's, and do not change the answer.
    """
    if out is not None:
        _make(out)
    with open_desk(workdir) as desk:
        challenge = None
        if suite is not None or seed is not None:
            challenge = Challenge(suite=suite, seed=_drawn(desk) if seed is None else seed)
        try:
            with progress() as say:
                found = repeat(
                    desk,
                    bundle,
                    policy_text=None if policy is None else read_text(policy),
                    say=lambda event: say("report", event),
                    challenge=challenge,
                    out=None if out is None else out / WEIGHTS,
                )
            value = value_of(found, challenge)
            if out is not None and found.outcome is not None:
                (out / RESULT).write_text(json.dumps(plain(value), indent=1) + "\n", encoding="utf-8")
        finally:
            if out is not None:
                with suppress(OSError):  # it stays when there is something in it
                    out.rmdir()
    answer(value, as_json=as_json, people=shown)
    return int(not found.ok)


def _make(out: Path) -> None:
    if out.exists():
        raise InvalidInputError("the folder of --out exists already; name a new one", code="out-exists")
    with writing(out):
        out.mkdir(parents=True)


def _drawn(desk: Services) -> int:
    return int.from_bytes(desk.secrets(SEED_BYTES), "big") >> 1


def value_of(found: Reproduction, challenge: Challenge | None) -> dict[str, Any]:
    """What `--json` prints."""
    chosen = None
    if challenge is not None:
        chosen = {"suite": challenge.suite, "seed": str(challenge.seed), "findings": list(found.chosen)}
    return found.steps.to_json() | {
        "ok": found.ok,
        "report_id": found.report_id,
        "outcome": found.outcome,
        "weights_digest": found.weights_digest,
        "conditions": found.conditions,
        "published": found.published,
        "repeated": found.repeated,
        "chosen": chosen,
        "log_index": found.log_index,
    }


def shown(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    """The steps, the evidence where there is some, and the answer below them."""
    yield table(_STEPS, value["steps"])
    if value["published"]:
        repeated = {one["metric"]: one["measured"] for one in value["repeated"]}
        rows = [{**_row(one), "repeated": _interval(repeated.get(one["metric"]))} for one in value["published"]]
        yield table(_EVIDENCE, [{**row, "published": row["measured"]} for row in rows])
    if value["chosen"] is not None:
        yield Text(
            f"\nChosen now: the suite {value['chosen']['suite'] or 'of the report'}, seed {value['chosen']['seed']}."
        )
        yield table(_CHOSEN, _rows(value["chosen"]["findings"]))
    entry = "" if value["log_index"] is None else f" (log entry {value['log_index']})"
    yield Text(f"{'REPRODUCED' if value['ok'] else 'NOT REPRODUCED'}{entry}", style="bold")


def _rows(findings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [_row(one) for one in findings]


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    """A `Compared` as a line."""
    told = {"report": _interval(one["reported"]), "measured": _interval(one["measured"])}
    return {"metric": one["metric"], "agrees": one["agrees"], **told}


def _interval(one: Mapping[str, Any] | None) -> str | None:
    return None if one is None else f"{one['value']:.3g} [{one['ci95'][0]:.3g}, {one['ci95'][1]:.3g}] n={one['n']}"
