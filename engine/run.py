"""`run(job, workdir, progress) -> Evidence`: the one door into the engine.

A folder that a job writes appears whole or not at all: it is built beside its place and renamed. Evidence is made
here and only here, so every kind of job reports the same things: settings with their defaults, digests of
everything read and written, time, environment.
"""

import contextlib
import dataclasses
import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel

from engine import adapters, catalogue, checkpoints, determinism, guards, presets, provenance
from engine.catalogue import check_options
from engine.contract import FROM_NOTHING, VERSION, Evidence, FileDigest, Finding, Guarantee, Job, Kind, Options
from engine.corpus import Record, digest, read_mapping, read_set, refuse_overlap, write_records
from engine.digests import code_digest, config_digest, model_digest, model_files
from engine.errors import EngineError
from engine.guarantees import secrecy
from engine.guarantees.unread import Unread
from engine.methods import Setting, domains_fit, images, secret, sparse_training
from engine.methods.label_agnostic_records import pictures_alone
from engine.methods.pretraining import build_model, build_tokenizer, fit_options
from engine.methods.refit import refit
from engine.options import (
    ComputeOptions,
    DpOptions,
    EvaluateOptions,
    FitOptions,
    InitialiseOptions,
    PrivateOptions,
    ShadowOptions,
    SisaOptions,
)
from engine.ranks import together
from engine.training import Fitted, Progress
from engine.tuning import tune
from engine.verification.privacy import per_example
from engine.verification.suites import SUITE_VERSION, Evaluation, Folders, evaluate, refuse_other
from engine.verification.worst_case.search import search

Maker = Callable[["Work"], "Made"]
FITS: dict[str, Callable[[Setting[Any]], Fitted]] = {  # ordinary training, by family of models
    "language": refit,
    "image": sparse_training.refit,
    "vision-language": domains_fit.refit,
}
SWEEPERS = ("sisa",)  # removes adapters that saw the forget set, and has to know whose; it trains on none of it


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a job made: a model to be saved, sets of records, or findings."""

    model: PreTrainedModel | None = None
    reader: checkpoints.Reader | None = None
    fitted: Fitted | None = None
    losses: bool = True  # False where the losses of training are private
    findings: tuple[Finding, ...] = ()
    accountant: dict[str, Any] | None = None
    learned: dict[str, Any] | None = None
    seed_commitment: str | None = None
    options: Options | None = None  # as they were used: with presets in the place of what was not given
    tuning: dict[str, Any] | None = None
    public: frozenset[str] | None = None  # what its start was made of (`engine.provenance`)
    rests_on: dict[str, Any] | None = None
    aggregates: dict[str, Any] | None = None
    records: Mapping[str, Sequence[Record]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A job on its way; what it reads is entered in the digests as it is read."""

    job: Job
    workdir: Path
    scratch: Path
    options: Options
    progress: Progress
    data_digests: dict[str, str] = dataclasses.field(default_factory=dict)
    model_digests: dict[str, str] = dataclasses.field(default_factory=dict)
    secrets: list[bytes] = dataclasses.field(default_factory=list, repr=False)

    def records(self, role: str) -> tuple[Record, ...]:
        """The records of one of the job's files; none where the job names no such file."""
        name = getattr(self.job, role)
        if not name:
            return ()
        records = read_set(self.workdir / name, training=role != "holdout")
        self.data_digests[role] = digest(records)
        return records

    def folder(self, role: str, name: str | None) -> Path:
        """One of the job's model folders, checked."""
        if not name:
            raise EngineError("bad_job", f"this job needs {role!r}")
        folder = self.workdir / name
        found = checkpoints.task(folder)
        if found != self.job.task:
            message = f"the model folder {folder.name!r} is of the task {found!r}, and the job of {self.job.task!r}"
            raise EngineError("bad_job", message)
        self.model_digests[role] = model_digest(model_files(folder))
        return folder

    def mapping(self, role: str) -> dict[str, str]:
        """One of the job's files of texts by name: the dictionary or the alternatives."""
        name = getattr(self.job, role)
        if not name:
            return {}
        found = read_mapping(self.workdir / name)
        self.data_digests[role] = config_digest(found)
        return found

    def setting(self, role: str, options: Options, *, train: str = "retain", rate: float | None = None) -> Setting[Any]:
        """The model of one of the job's folders, the records to work on, and options with their presets."""
        self.progress("load", 0.0, None)
        folder = self.folder(role, getattr(self.job, role))
        guards.refuse(folder)
        model, reader = checkpoints.load(folder)
        self.secrets.append(secret.fresh_secret())
        return Setting(
            model=model,
            reader=reader,
            forget=self.records("forget"),
            retain=self.records(train),
            holdout=self.records("holdout"),
            options=presets.resolved(options, rate, model.num_parameters()),
            seed=self.job.seed,
            progress=self.progress,
            folder=folder,
            digest=self.model_digests[role],
            cache=self.workdir / self.job.cache if self.job.cache else self.scratch,
            durable=bool(self.job.cache),
            dictionary=self.mapping("dictionary"),
            alternatives=self.mapping("alternatives"),
            secret=self.secrets[-1],
        )


def run(job: Job, workdir: Path, progress: Progress, *, makers: Mapping[Kind, Maker] | None = None) -> Evidence:
    """Do a job. Relative paths are below `workdir`; `makers` are those of this module unless some are given.

    Raises:
        EngineError: with a code and one sentence; nothing was left at the job's `out`.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    options = check_options(job.kind, job.method, job.options, job.task)
    out = _place(job, workdir)
    determinism.begin(seed=job.seed, threads=job.threads)
    secrets: list[bytes] = []
    progress = secrecy.discreet(progress, secrets)
    with together(job, workdir), _scratch(out) as scratch, secrecy.kept(secrets):
        work = Work(job=job, workdir=workdir, scratch=scratch, options=options, progress=progress, secrets=secrets)
        made = (makers or MAKERS)[job.kind](work)
        secrecy.refuse(secrets, repr(dataclasses.replace(made, model=None, reader=None)).encode(), "the evidence")
        files = _save(made, out, work) if out is not None else {}
    return _evidence(work, made, files, time.monotonic() - started, time.process_time() - cpu_started)


def _initialise(work: Work) -> Made:
    if work.job.task in FROM_NOTHING:
        return _initialise_images(work)
    options = cast("InitialiseOptions", work.options)
    records = work.records("train")
    if not records:
        raise EngineError("bad_data", "there are no public records to start from")
    work.progress("tokenise", 0.0, None)
    tokenizer = build_tokenizer(records, vocabulary=options.vocabulary, context=options.context)
    model = build_model(tokenizer, options)
    setting: Setting[FitOptions] = Setting(
        model=model,
        reader=tokenizer,
        forget=(),
        retain=records,
        options=fit_options(options),
        seed=work.job.seed,
        progress=work.progress,
        folder=work.scratch,
        digest="",
        cache=work.scratch,
    )
    return Made(model=model, reader=tokenizer, fitted=refit(setting), public=provenance.digests(records))


def _initialise_images(work: Work) -> Made:
    """Random weights; trained on public pictures where there are any."""
    maker: Any = domains_fit if work.job.task == "vision-language" else images
    model, pixels = maker.build(work.options)
    setting: Setting[Any] = Setting(
        model=model,
        reader=pixels,
        forget=(),
        retain=work.records("train"),
        options=maker.fit_options(work.options),
        seed=work.job.seed,
        progress=work.progress,
        folder=work.scratch,
        digest="",
        cache=work.scratch,
    )
    public = provenance.digests(setting.retain)
    return Made(model=model, reader=pixels, fitted=maker.refit(setting) if setting.retain else None, public=public)


def _train(work: Work) -> Made:
    setting = work.setting("model", work.options, train="train")
    return _made(setting, _adapted(setting, method=FITS[work.job.task]))


def _adapted(setting: Setting[Any], *, method: Callable[[Setting[Any]], Fitted]) -> Fitted:
    """Run a method on the model's weights, or on adapters that are merged into them afterwards; SISA has its own."""
    if not isinstance(setting.options, ComputeOptions) or isinstance(setting.options, SisaOptions):
        return method(setting)
    attached = adapters.attach(setting.model, setting.options, seed=setting.seed, folder=setting.folder)
    fitted = method(setting)
    adapters.merge(setting.model, attached)
    return fitted


def _made(setting: Setting[Any], fitted: Fitted) -> Made:
    return Made(
        model=setting.model,
        reader=setting.reader,
        fitted=fitted,
        options=setting.options,
        accountant=None if fitted.accountant is None else dict(fitted.accountant),
        seed_commitment=fitted.seed_commitment,
    )


def _dp_base(work: Work) -> Made:
    from engine.methods import private  # noqa: PLC0415 - opacus is loaded by DP training alone

    options = cast("DpOptions", work.options)
    setting = work.setting("model", options, train="train")
    public = provenance.read(setting.folder)
    provenance.refuse(public, setting.retain, "records to be trained on")
    attached = _attached(setting) if isinstance(options, PrivateOptions) else None
    outcome = private.train_base(setting, holdout=setting.holdout, secret=setting.secret)
    adapters.merge(setting.model, attached)  # what DP training made of them is public, and so is their sum with W
    return Made(
        model=setting.model,
        reader=setting.reader,
        fitted=outcome.fitted,
        losses=False,
        accountant=outcome.to_mapping(),
        learned=outcome.learned.to_mapping(),
        seed_commitment=secret.commitment(setting.secret),
        public=public,
    )


def _attached(setting: Setting[PrivateOptions]) -> adapters.Adapters | None:
    """DP-LoRA (Yu et al. 2022, arXiv 2110.06500): adapters are clipped and noised in place of the weights."""
    low = ComputeOptions(lora_rank=setting.options.lora_rank, lora_alpha=setting.options.lora_alpha)
    return adapters.attach(setting.model, low, seed=setting.seed)


def _unlearn(work: Work, method: Callable[[Setting[Any]], Fitted] | None = None) -> Made:
    """By the catalogue's function of the job's method, unless one is given in its place."""
    spec = catalogue.method(work.job.method or "")
    for need in spec.needs:
        if not getattr(work.job, need):
            raise EngineError("bad_job", f"the method {spec.name!r} needs {need!r}")
    role = "base" if "base" in spec.needs else "model"
    setting = work.setting(role, work.options, rate=spec.rate)
    for need in ("forget", "retain"):
        if need in spec.needs and not getattr(setting, need):
            raise EngineError("bad_data", f"the {need} set is empty; {spec.name!r} needs at least one record in it")
    refuse_overlap({name: getattr(setting, name) for name in ("forget", "retain", "holdout")})
    if role == "base":
        provenance.refuse(provenance.read(setting.folder), setting.forget, "records to be forgotten")
    if spec.guarantee in (Guarantee.EXACT, Guarantee.CERTIFIED) and spec.name not in SWEEPERS:
        setting = dataclasses.replace(setting, forget=Unread(spec.name))
    seen: dict[str, Any] = {name: pictures_alone(getattr(setting, name)) for name in spec.blind}
    setting = dataclasses.replace(setting, **seen)
    found = method or getattr(importlib.import_module(spec.form(work.job.task).module), spec.name.replace("-", "_"))
    unlearn = partial(_adapted, method=found)
    tuning = None
    if work.job.tune:
        setting, tuning = tune(setting, unlearn, work.job.tune)
    return dataclasses.replace(_made(setting, unlearn(setting)), tuning=tuning)


def _evaluate(work: Work) -> Made:
    if "after" not in work.job.models:
        raise EngineError("bad_job", "an evaluation needs models.after")
    folders: Folders = {role: work.folder(role, name) for role, name in sorted(work.job.models.items())}
    for folder in folders.values():
        told = f"{folder.name!r} ({checkpoints.architecture(folder)})"
        refuse_other(cast("EvaluateOptions", work.options).suite, work.job.task, told)
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
    work.data_digests.update(found.data_digests)
    return Made(findings=found.findings, aggregates=found.aggregates)


def _audit(work: Work) -> Made:
    start = work.folder("model", work.job.model)
    asked = per_example.Asked(
        job=work.job,
        options=cast("ShadowOptions", work.options),
        start=start,
        audited={role: work.folder(role, name) for role, name in sorted(work.job.models.items())},
        digests=work.model_digests,
        folder=work.workdir / work.job.cache if work.job.cache else work.scratch,
        progress=work.progress,
    )
    found = per_example.audit(asked, work.records, run)
    work.data_digests["items"] = found.items_digest
    return Made(findings=found.findings, rests_on=found.rests_on)


def _worst_case(work: Work) -> Made:
    """The records of the training set that the model would find hardest to forget, and the others."""
    found = search(work.setting("model", work.options, train="train"))
    records = {"forget": found.forget, "retain": found.retain}
    work.data_digests.update({name: digest(chosen) for name, chosen in records.items()})
    return Made(records=records, fitted=found.fitted)


MAKERS: dict[Kind, Maker] = {
    Kind.INITIALISE: _initialise,
    Kind.TRAIN: _train,
    Kind.DP_BASE: _dp_base,
    Kind.UNLEARN: _unlearn,
    Kind.EVALUATE: _evaluate,
    Kind.AUDIT: _audit,
    Kind.WORST_CASE: _worst_case,
}


def _place(job: Job, workdir: Path) -> Path | None:
    if job.kind in (Kind.EVALUATE, Kind.AUDIT):
        return None
    out = workdir / (job.out or "")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EngineError("bad_job", f"the output folder {out.name!r} exists already and is not empty")
    return out


@contextlib.contextmanager
def _scratch(out: Path | None) -> Iterator[Path]:
    """A folder beside the output for what must not outlive the job: it is made of records."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="expunge-") as name:
            yield Path(name)
        return
    folder = out.with_name(f".{out.name}.scratch-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save(made: Made, out: Path, work: Work) -> dict[str, FileDigest]:
    progress = work.progress
    progress("save", 0.0, None)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(made, partial)
        if made.public is not None:
            provenance.write(partial, made.public)
        secrecy.refuse_files(work.secrets, partial)
    except EngineError:
        shutil.rmtree(partial)
        raise
    files = model_files(partial)
    if out.exists():
        out.rmdir()
    partial.rename(out)
    progress("save", 1.0, 0.0)
    return files


def _write(made: Made, folder: Path) -> None:
    """Sets of records as JSON lines, a guarded model, or a model."""
    if made.records is not None:
        for name, records in made.records.items():
            write_records(folder / f"{name}.jsonl", records)
    elif made.fitted is not None and made.fitted.guard is not None:
        made.fitted.guard.save(folder)
    elif made.model is not None and made.reader is not None:
        checkpoints.save(folder, made.model, made.reader)
    else:
        raise EngineError("internal", "this job made no model")


def _evidence(work: Work, made: Made, files: dict[str, FileDigest], seconds: float, cpu_seconds: float) -> Evidence:
    job, parameters = work.job, {**dataclasses.asdict(made.options or work.options), "seed": work.job.seed}
    evaluating = job.kind is Kind.EVALUATE
    return Evidence(
        version=VERSION,
        kind=job.kind,
        method=job.method if job.kind is Kind.UNLEARN else None,
        variant=_variant(job, parameters),
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
            {
                "kind": job.kind,
                "method": job.method,
                "task": job.task,
                "threads": job.threads,
                "processes": job.processes,
                "parameters": parameters,
            }
        ),
        environment=determinism.environment(job.threads),
        findings=made.findings,
        accountant=made.accountant,
        learned=made.learned,
        seed_commitment=made.seed_commitment,
        training=_training(made),
        suite=str(parameters["suite"]) if evaluating else None,
        suite_version=SUITE_VERSION if evaluating else None,
        tuning=made.tuning,
        rests_on=made.rests_on,
        aggregates=made.aggregates,
    )


def _variant(job: Job, parameters: dict[str, Any]) -> str:
    """Which form of a method ran: `npo + gd`, or `npo + kl, published` where it is the benchmark's faulty one."""
    if job.kind is not Kind.UNLEARN or not {"retain_term", "variant"} & set(parameters):
        return ""
    name, term, variant = job.method or "", parameters.get("retain_term", "none"), parameters.get("variant", "correct")
    return name + (f" + {term}" if term != "none" else "") + (f", {variant}" if variant != "correct" else "")


def _guarantee(job: Job) -> Guarantee | None:
    return catalogue.method(job.method or "").guarantee if job.kind is Kind.UNLEARN else None


def _training(made: Made) -> dict[str, Any] | None:
    if made.fitted is None or not made.losses:
        return None
    fitted = made.fitted
    losses = {"first_loss": fitted.first_loss, "last_loss": fitted.last_loss}
    return {**losses, "steps": fitted.steps, **fitted.details}
