"""What `expunge evaluate restor` can do beside measuring: write the answers down, and show them to a judge.

The engine leaves the answers in its cache, by digest; it has no network, so the desk's side asks the judge, leaves
the verdicts there, and lets the engine score them with the same resampling as everything else. A judge that fails
costs the judge's own numbers, which are null with the reason, and nothing else.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compliance.cli.inputs import writing
from compliance.cli.judging import Judge, NoVerdictError, prompt_digest
from compliance.errors import InvalidInputError
from compliance.settings import judge_key
from engine.contract import Evidence, Job

SUITE = "restor"
FOLDER = "restor"  # of the engine's cache
METRICS = ("judge_accuracy", "judge_recovery")

Run = Callable[[Job], Evidence]


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What was asked for beside the numbers."""

    answers_out: Path | None = None
    judge: Judge | None = None

    @property
    def wanted(self) -> bool:
        """Whether anything was."""
        return self.answers_out is not None or self.judge is not None


def beside(suite: str, answers_out: Path | None, url: str | None, model: str | None) -> Beside:
    """The options of the command line, checked; only RESTOR's facts are public and may be written down or sent."""
    if suite != SUITE and (answers_out or url or model):
        message = f"--answers-out and --judge are for {SUITE} alone; the answers of '{suite}' may be about anybody"
        raise InvalidInputError(message, code="private-answers")
    if (url is None) != (model is None):
        raise InvalidInputError("--judge URL and --judge-model NAME go together", code="missing-input")
    if answers_out is not None and answers_out.exists():
        raise InvalidInputError(f"{answers_out} exists already; choose another --answers-out", code="exists")
    judge = Judge(url=url, model=model, key=judge_key()) if url and model else None
    return Beside(answers_out=answers_out, judge=judge)


@contextmanager
def cache(given: Path | None, *, wanted: bool) -> Iterator[Path | None]:
    """The cache that was named, or one for this command alone where the answers are wanted."""
    if given is not None or not wanted:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="expunge-answers-") as folder:
        yield Path(folder)


def finish(asked: Beside, job: Job, evidence: Evidence, run: Run) -> dict[str, Any]:
    """Write the answers, ask the judge; what the command's value gets besides."""
    if not asked.wanted:
        return {}
    answers = {role: _answers(job, evidence, role) for role in evidence.model_digests}
    if asked.answers_out is not None:
        _write(asked.answers_out, evidence, answers)
    return {} if asked.judge is None else {"judge": _judged(asked.judge, job, evidence, answers, run)}


def judged(value: Mapping[str, Any]) -> Iterator[str]:
    """The judge's numbers for people, or why there are none."""
    if value["reason"] is not None:
        yield f"The judge {value['model']} has no say: {value['reason']}."
    for name, one in value["metrics"].items():
        if one is not None:
            yield f"{name} by {value['model']}: {one['value']:.4g} [{one['ci95'][0]:.4g} {one['ci95'][1]:.4g}]"


def _judged(
    judge: Judge, job: Job, evidence: Evidence, answers: Mapping[str, list[dict[str, Any]]], run: Run
) -> dict[str, Any]:
    known = {"model": judge.model, "prompt_digest": prompt_digest()}
    try:
        for role, given in answers.items():
            _place(job, evidence, role, "verdicts").write_text(json.dumps({"verdicts": judge.verdicts(given)}))
    except NoVerdictError as error:
        return {**known, "metrics": dict.fromkeys(METRICS), "reason": str(error)}
    scored = run(replace(job, options={**job.options, "judged": True}))
    found = {finding.metric: finding.after for finding in scored.findings if finding.metric in METRICS}
    metrics = {
        name: None if one is None else {"value": one.value, "ci95": list(one.ci95), "n": one.n}
        for name, one in found.items()
    }
    return {**known, "metrics": metrics, "reason": None}


def _write(path: Path, evidence: Evidence, answers: Mapping[str, list[dict[str, Any]]]) -> None:
    models = {role: {"digest": evidence.model_digests[role], "answers": given} for role, given in answers.items()}
    value = {"suite": SUITE, "data_digest": evidence.data_digests["items"], "models": models}
    with writing(path):
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _answers(job: Job, evidence: Evidence, role: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_place(job, evidence, role, "answers").read_text(encoding="utf-8"))[
        "answers"
    ]
    return found


def _place(job: Job, evidence: Evidence, role: str, what: str) -> Path:
    name = f"{what}-{evidence.data_digests['items']}-{evidence.model_digests[role]}.json"
    return Path(job.cache or "") / FOLDER / name
