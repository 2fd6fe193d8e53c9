"""The per-example audit: shadow models by engine jobs, then every attack on the audited models.

`audit` is what a job of kind `audit` does. It refuses what cannot end in an honest number before anything is trained.
What leaves are findings, counts and digests; what a single example scored stays in the folder of numbers, without
its id. A finding is what this attack could see with so many shadows and examples, and proves nothing beyond it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine import catalogue, checkpoints
from engine.catalogue import check_options
from engine.contract import Finding, Job, Kind
from engine.corpus import by_unit
from engine.digests import code_digest, config_digest
from engine.errors import EngineError
from engine.options import ShadowOptions
from engine.training import Progress
from engine.verification.evaluation import Numbers, Records, cached
from engine.verification.privacy.asking import LOG_PROBS, ask
from engine.verification.privacy.assignment import Casting, assign
from engine.verification.privacy.scoring import ROLES, Answers, score
from engine.verification.privacy.trials import Recipe, Run, Told, alone_in, told, trials

PERMITTED = frozenset({"model", "base", "forget", "retain"})  # what a shadow has for a method


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What an audit is given: its job, the models with their digests (the start as `model`), where numbers are kept."""

    job: Job
    options: ShadowOptions
    start: Path
    audited: Mapping[str, Path]
    digests: Mapping[str, str]
    folder: Path
    progress: Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Audited:
    """What came of it: findings, what they rest on, and the digest of who was asked about."""

    findings: tuple[Finding, ...]
    rests_on: dict[str, Any] = field(default_factory=dict)
    items_digest: str = ""


def audit(asked: Asked, records: Records, run: Run) -> Audited:
    """Train or find the shadows, ask everybody, score. `records` reads one of the job's files, `run` does a job.

    Raises:
        EngineError: with what is missing, before a shadow is trained.
    """
    check(asked.job, asked.options)
    options, job = asked.options, asked.job
    casting = assign(
        train=records("train"),
        forget=records("forget"),
        holdout=records("holdout"),
        shadows=options.shadows,
        unlearning=job.method is not None,
        outsiders=options.outsiders,
        seed=job.seed,
    )
    with alone_in(asked.folder):
        audited = {role: _numbers(asked, role, casting) for role in ROLES if role in asked.audited}
        planned = trials(_recipe(asked), casting)
        shadows = told(planned, run=run, processes=options.processes, progress=asked.progress)
    asked.progress("score", 0.0, None)
    answers = Answers(casting=casting, audited=audited, shadows=[one.numbers for one in shadows])
    scored = score(answers, resamples=options.resamples, seed=job.seed)
    rests_on = {"method": job.method, **_rests_on(casting, answers, shadows), "rmia_slope": scored.slope}
    return Audited(findings=scored.findings, rests_on=rests_on, items_digest=casting.digest)


def check(job: Job, options: ShadowOptions) -> None:
    """Refuse a job whose shadows could not be made as the audited models were."""
    if "before" not in job.models:
        raise EngineError("bad_job", "an audit needs models.before, the model that was trained on the training set")
    check_options(Kind.TRAIN, None, options.training, job.task)
    if job.method is None:
        if options.method_options:
            raise EngineError("bad_options", "options.method_options are for a method, and the audit has none")
        return
    if "after" not in job.models:
        raise EngineError("bad_job", f"an audit of {job.method!r} needs models.after, the model that it made")
    _check_method(job.method)
    check_options(Kind.UNLEARN, job.method, options.method_options, job.task)


def _check_method(name: str) -> None:
    if name == "dp2":
        message = (
            "'dp2' starts from a DP base, and every shadow would need a base of its own; "
            "audit its model without a method, as the model after"
        )
        raise EngineError("bad_job", message)
    more = sorted(set(catalogue.method(name).needs) - PERMITTED)
    if more:
        raise EngineError("bad_job", f"the method {name!r} needs {more[0]!r}, which shadows do not have")


def _recipe(asked: Asked) -> Recipe:
    return Recipe(
        task=asked.job.task,
        start=asked.start,
        start_digest=asked.digests["model"],
        training=asked.options.training,
        method=asked.job.method,
        method_options=asked.options.method_options,
        seed=asked.job.seed,
        threads=asked.job.threads,
        folder=asked.folder,
    )


def _numbers(asked: Asked, role: str, casting: Casting) -> Numbers:
    """What an audited model says, or said before."""
    asked.progress(f"measure:{role}", 0.0, None)
    key = config_digest({"model": asked.digests[role], "asked": casting.digest, "code": code_digest()})
    return cached(asked.folder, key, lambda: ask(*checkpoints.load(asked.audited[role]), casting.asked))


def _rests_on(casting: Casting, answers: Answers, shadows: list[Told]) -> dict[str, Any]:
    """How many of whom, and whether audited models are like their shadows about people whom none of them held."""
    strangers = answers.table(LOG_PROBS)[1].mean(1)
    return {
        "shadows": len(shadows),
        "trained_now": sum(one.trained for one in shadows),
        **{name: _counts(getattr(casting, name)) for name in ("members", "outsiders", "strangers", "stays")},
        "strangers_log_prob": {
            "shadows": [float(np.min(strangers)), float(np.max(strangers))],
            **{role: float(answers.of(role, LOG_PROBS)[1].mean()) for role in answers.audited},
        },
    }


def _counts(records: tuple[Any, ...]) -> dict[str, int]:
    return {"records": len(records), "units": len(by_unit(records))}
