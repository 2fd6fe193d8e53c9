"""The suites of an evaluation: which items they ask, of which models, and what they report.

`records` draws its items from the job's records; `muse` reads them from a folder in MUSE's published layout; `membership` asks texts alone;
`restor` is RESTOR's own benchmark. Numbers are cached by everything they depend on: model, items, settings, suite version and code.
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


def evaluate(
    *,
    options: EvaluateOptions,
    seed: int,
    folders: Folders,
    digests: Mapping[str, str],
    records: Callable[[str], tuple[Record, ...]],
    data: Path | None,
    cache: Path | None,
    progress: Progress,
) -> Found:
    """Measure every model of the job and compare them."""
    if options.suite == "restor":
        benchmark = restor.read(_needed(data, "restor"))
        found = restor.evaluate(benchmark, folders, options=options, seed=seed, progress=progress)
        return Found(findings=found, items_digest=benchmark.digest())
    items = _items(options, seed, records, data)
    measured = {
        role: _measure(role, folder, items, options, _key(digests[role], items, options), cache, progress)
        for role, folder in folders.items()
    }
    return Found(findings=findings(measured, items, resamples=options.resamples, seed=seed), items_digest=items.digest())


def _items(options: EvaluateOptions, seed: int, records: Callable[[str], tuple[Record, ...]], data: Path | None) -> Items:
    if options.suite == "muse":
        return read_muse(_needed(data, "muse"))
    if options.suite == "membership":
        return Items(forget_texts=membership_texts(records("forget")), holdout_texts=membership_texts(records("holdout")))
    return draw(
        forget=records("forget"), retain=records("retain"), holdout=records("holdout"), options=options, seed=seed
    )


def _measure(
    role: str, folder: Path, items: Items, options: EvaluateOptions, key: str, cache: Path | None, progress: Progress
) -> Measurements:
    stage = f"measure:{role}"

    def compute() -> Measurements:
        progress(stage, 0.0, None)
        return measure(load_model(folder), load_tokenizer(folder), items, options, lambda done: progress(stage, done, None))

    return cached(cache, key, compute)


def _key(model: str, items: Items, options: EvaluateOptions) -> str:
    settings = {name: value for name, value in dataclasses.asdict(options).items() if name != "resamples"}
    return config_digest(
        {"model": model, "items": items.digest(), "settings": settings, "suite": SUITE_VERSION, "code": code_digest()}
    )


def _needed(data: Path | None, suite: str) -> Path:
    if data is None:
        raise EngineError("bad_job", f"the suite {suite!r} needs 'data', a folder in its published layout")
    return data
