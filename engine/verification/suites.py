"""The suites of an evaluation: which items they ask, of which models, and what they report.

`records` draws its items from the job's records; `muse` reads them from a folder in MUSE's published layout;
`membership` asks texts alone; `restor` is RESTOR's own benchmark. Numbers are cached by everything they depend on:
model, items, settings, suite version and code.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoints import load_model, load_tokenizer
from engine.contract import Finding
from engine.corpus import Record
from engine.digests import code_digest, config_digest
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.training import Progress
from engine.verification import restor
from engine.verification.findings import findings
from engine.verification.items import Items, draw, membership_texts
from engine.verification.layouts import read_muse
from engine.verification.measure import Measurements, cached, measure

SUITE_VERSION = "1"

Folders = Mapping[str, Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Findings, and the digest of what was asked."""

    findings: tuple[Finding, ...]
    items_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What an evaluation is given: the models with their digests, its settings, and where its data and cache are."""

    folders: Folders
    digests: Mapping[str, str]
    options: EvaluateOptions
    seed: int
    data: Path | None
    cache: Path | None
    progress: Progress


def evaluate(asked: Evaluation, records: Callable[[str], tuple[Record, ...]]) -> Found:
    """Measure every model of the job and compare them; `records` reads one of the job's files."""
    options, seed = asked.options, asked.seed
    if options.suite == "restor":
        benchmark = restor.read(_needed(asked.data, "restor"))
        found = restor.evaluate(benchmark, asked.folders, options=options, seed=seed, progress=asked.progress)
        return Found(findings=found, items_digest=benchmark.digest())
    items = _items(options, seed, records, asked.data)
    measured = {role: _measure(asked, role, items) for role in asked.folders}
    return Found(
        findings=findings(measured, items, resamples=options.resamples, seed=seed), items_digest=items.digest()
    )


def _items(
    options: EvaluateOptions, seed: int, records: Callable[[str], tuple[Record, ...]], data: Path | None
) -> Items:
    if options.suite == "muse":
        return read_muse(_needed(data, "muse"))
    if options.suite == "membership":
        return Items(
            forget_texts=membership_texts(records("forget")), holdout_texts=membership_texts(records("holdout"))
        )
    return draw(
        forget=records("forget"), retain=records("retain"), holdout=records("holdout"), options=options, seed=seed
    )


def _measure(asked: Evaluation, role: str, items: Items) -> Measurements:
    stage, folder, options = f"measure:{role}", asked.folders[role], asked.options

    def compute() -> Measurements:
        asked.progress(stage, 0.0, None)
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        return measure(model, tokenizer, items, options, lambda done: asked.progress(stage, done, None))

    return cached(asked.cache, _key(asked.digests[role], items, options), compute)


def _key(model: str, items: Items, options: EvaluateOptions) -> str:
    settings = {name: value for name, value in dataclasses.asdict(options).items() if name != "resamples"}
    return config_digest(
        {"model": model, "items": items.digest(), "settings": settings, "suite": SUITE_VERSION, "code": code_digest()}
    )


def _needed(data: Path | None, suite: str) -> Path:
    if data is None:
        raise EngineError("bad_job", f"the suite {suite!r} needs 'data', a folder in its published layout")
    return data
