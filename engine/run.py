"""`run(job, workdir, progress) -> Evidence`: the one door into the engine.

A folder that a job writes appears whole or not at all: it is built beside its place and renamed. Evidence is made
here and only here, so every kind of job reports the same things: settings with their defaults, digests of
everything read and written, time, environment.
"""

import dataclasses
import importlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine import catalogue, checkpoints, determinism
from engine.contract import VERSION, Evidence, FileDigest, Finding, Guarantee, Job, Kind, Options, check_options
from engine.corpus import Record, digest, read_records
from engine.digests import code_digest, config_digest, model_digest, model_files
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.pretraining import build_model, build_tokenizer, fit_options
from engine.methods.refit import refit
from engine.options import EvaluateOptions, FitOptions, InitialiseOptions, PrivateOptions
from engine.training import Fitted, Progress
from engine.verification.suites import SUITE_VERSION, Evaluation, Folders, evaluate

Maker = Callable[["Work"], "Made"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a job made: a model to be saved, or findings."""

    model: PreTrainedModel | None = None
    tokenizer: PreTrainedTokenizerFast | None = None
    fitted: Fitted | None = None
    losses: bool = True  # False where the losses of training are private
    findings: tuple[Finding, ...] = ()
    accountant: dict[str, Any] | None = None
    learned: dict[str, Any] | None = None
    seed_commitment: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A job on its way; what it reads is entered in the digests as it is read."""

    job: Job
    workdir: Path
    options: Options
    progress: Progress
    data_digests: dict[str, str] = dataclasses.field(default_factory=dict)
    model_digests: dict[str, str] = dataclasses.field(default_factory=dict)

    def records(self, role: str) -> tuple[Record, ...]:
        """The records of one of the job's files; none where the job names no such file."""
        name = getattr(self.job, role)
        if not name:
            return ()
        records = read_records(self.workdir / name)
        self.data_digests[role] = digest(records)
        return records

    def folder(self, role: str, name: str | None) -> Path:
        """One of the job's model folders, checked."""
        if not name:
            raise EngineError("bad_job", f"this job needs {role!r}")
        folder = self.workdir / name
        checkpoints.check(folder)
        self.model_digests[role] = model_digest(model_files(folder))
        return folder

    def setting(self, folder: Path, options: Any, *, train: str = "retain") -> Setting[Any]:  # noqa: ANN401 - the method knows its options
        """The model of a folder and the records to work on."""
        self.progress("load", 0.0, None)
        return Setting(
            model=checkpoints.load_model(folder),
            tokenizer=checkpoints.load_tokenizer(folder),
            forget=self.records("forget"),
            retain=self.records(train),
            options=options,
            seed=self.job.seed,
            progress=self.progress,
        )


def run(job: Job, workdir: Path, progress: Progress) -> Evidence:
    """Do a job. Relative paths are below `workdir`.

    Raises:
        EngineError: with a code and one sentence; nothing was left at the job's `out`.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    options = check_options(job.kind, job.method, job.options)
    work = Work(job=job, workdir=workdir, options=options, progress=progress)
    out = _place(job, workdir)
    determinism.begin(seed=job.seed, threads=job.threads)
    made = MAKERS[job.kind](work)
    files = _save(made, out, progress) if out is not None else {}
    return _evidence(work, made, files, time.monotonic() - started, time.process_time() - cpu_started)


def _initialise(work: Work) -> Made:
    options = cast("InitialiseOptions", work.options)
    records = work.records("train")
    if not records:
        raise EngineError("bad_data", "there are no public records to start from")
    work.progress("tokenise", 0.0, None)
    tokenizer = build_tokenizer(records, vocabulary=options.vocabulary, context=options.context)
    model = build_model(tokenizer, options)
    setting: Setting[FitOptions] = Setting(
        model=model,
        tokenizer=tokenizer,
        forget=(),
        retain=records,
        options=fit_options(options),
        seed=work.job.seed,
        progress=work.progress,
    )
    return Made(model=model, tokenizer=tokenizer, fitted=refit(setting))


def _train(work: Work) -> Made:
    setting = work.setting(work.folder("model", work.job.model), work.options, train="train")
    return Made(model=setting.model, tokenizer=setting.tokenizer, fitted=refit(setting))


def _dp_base(work: Work) -> Made:
    from engine.methods import private, secret  # noqa: PLC0415 - opacus is loaded by DP training alone

    options = cast("PrivateOptions", work.options)
    setting = work.setting(work.folder("model", work.job.model), options, train="train")
    hidden = secret.fresh_secret()
    outcome = private.train_base(setting, holdout=work.records("holdout"), secret=hidden)
    return Made(
        model=setting.model,
        tokenizer=setting.tokenizer,
        fitted=outcome.fitted,
        losses=False,
        accountant=outcome.mechanism.to_mapping(),
        learned=outcome.learned.to_mapping(),
        seed_commitment=secret.commitment(hidden),
    )


def _unlearn(work: Work) -> Made:
    spec = catalogue.method(work.job.method or "")
    for need in spec.needs:
        if not getattr(work.job, need):
            raise EngineError("bad_job", f"the method {spec.name!r} needs {need!r}")
    role = "base" if "base" in spec.needs else "model"
    setting = work.setting(work.folder(role, getattr(work.job, role)), work.options)
    unlearn = getattr(importlib.import_module(spec.module), spec.name)
    return Made(model=setting.model, tokenizer=setting.tokenizer, fitted=unlearn(setting))


def _evaluate(work: Work) -> Made:
    if "after" not in work.job.models:
        raise EngineError("bad_job", "an evaluation needs models.after")
    folders: Folders = {role: work.folder(role, name) for role, name in sorted(work.job.models.items())}
    asked = Evaluation(
        folders=folders,
        digests=work.model_digests,
        options=cast("EvaluateOptions", work.options),
        seed=work.job.seed,
        data=work.workdir / work.job.data if work.job.data else None,
        cache=work.workdir / work.job.cache if work.job.cache else None,
        progress=work.progress,
    )
    found = evaluate(asked, work.records)
    work.data_digests["items"] = found.items_digest
    return Made(findings=found.findings)


MAKERS: dict[Kind, Maker] = {
    Kind.INITIALISE: _initialise,
    Kind.TRAIN: _train,
    Kind.DP_BASE: _dp_base,
    Kind.UNLEARN: _unlearn,
    Kind.EVALUATE: _evaluate,
}


def _place(job: Job, workdir: Path) -> Path | None:
    if job.kind is Kind.EVALUATE:
        return None
    out = workdir / (job.out or "")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EngineError("bad_job", f"the output folder {out.name!r} exists already and is not empty")
    return out


def _save(made: Made, out: Path, progress: Progress) -> dict[str, FileDigest]:
    progress("save", 0.0, None)
    if made.model is None or made.tokenizer is None:
        raise EngineError("internal", "this job made no model")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    checkpoints.save(partial, made.model, made.tokenizer)
    files = model_files(partial)
    if out.exists():
        out.rmdir()
    partial.rename(out)
    progress("save", 1.0, 0.0)
    return files


def _evidence(work: Work, made: Made, files: dict[str, FileDigest], seconds: float, cpu_seconds: float) -> Evidence:
    job, parameters = work.job, {**dataclasses.asdict(work.options), "seed": work.job.seed}
    evaluating = job.kind is Kind.EVALUATE
    return Evidence(
        version=VERSION,
        kind=job.kind,
        method=job.method if job.kind is Kind.UNLEARN else None,
        variant=str(parameters.get("retain_term", "")),
        guarantee=_guarantee(job),
        parameters=parameters,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        steps=made.fitted.steps if made.fitted else 0,
        model_files=files,
        model_digests=work.model_digests,
        data_digests=work.data_digests,
        code_digest=code_digest(),
        config_digest=config_digest(
            {"kind": job.kind, "method": job.method, "threads": job.threads, "parameters": parameters}
        ),
        environment=determinism.environment(job.threads),
        findings=made.findings,
        accountant=made.accountant,
        learned=made.learned,
        seed_commitment=made.seed_commitment,
        training=_training(made),
        suite=str(parameters["suite"]) if evaluating else None,
        suite_version=SUITE_VERSION if evaluating else None,
    )


def _guarantee(job: Job) -> Guarantee | None:
    return catalogue.method(job.method or "").guarantee if job.kind is Kind.UNLEARN else None


def _training(made: Made) -> dict[str, Any] | None:
    if made.fitted is None or not made.losses:
        return None
    return {"first_loss": made.fitted.first_loss, "last_loss": made.fitted.last_loss, "steps": made.fitted.steps}
