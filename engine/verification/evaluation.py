"""What every suite is given and gives back, and the cache of what models said: numbers, never text.

A suite is a function of an `Evaluation` and a reader of the job's records that returns `Found`; it stands in
`suites.SUITES`. It asks a model through `Evaluation.numbers`, which loads the model only when nobody asked it the
same before: numbers are kept by everything that they depend on, which is the digests of the model, of what is asked
and of the code, the settings, and the version of the suites. How often is resampled is not among them.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from engine.checkpoints import load
from engine.contract import Finding
from engine.corpus import Record
from engine.digests import code_digest, config_digest
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.training import Progress

SUITE_VERSION = "3"

Folders = Mapping[str, Path]
Records = Callable[[str], tuple[Record, ...]]
Numbers = dict[str, tuple[float, ...]]
# Given the model, its tokenizer or pixels (which of them, its suite knows), and where to tell how far it is.
Ask = Callable[[PreTrainedModel, Any, Callable[[float], None]], Mapping[str, Sequence[float]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Findings, and the digest of what was asked; `data_digests` may say more, such as which split it was.

    `aggregates` are counts and shapes of whole groups (`aggregates`), where a suite has some.
    """

    findings: tuple[Finding, ...]
    items_digest: str
    data_digests: Mapping[str, str] = field(default_factory=dict)
    aggregates: dict[str, Any] | None = None


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
    asked: dict[str, Numbers] = field(default_factory=dict)  # in this process, also without a cache

    def numbers(self, role: str, items_digest: str, ask: Ask) -> Numbers:
        """What `ask(model, tokenizer, report)` says about the model of a role; two roles may be one model."""
        key = self._key(role, items_digest)
        if key not in self.asked:
            self.asked[key] = cached(self.cache, key, lambda: self._ask(role, ask))
        return self.asked[key]

    def needed(self) -> Path:
        """The folder of data; `EngineError("bad_job")` without one."""
        if self.data is None:
            raise EngineError(
                "bad_job", f"the suite {self.options.suite!r} needs 'data', a folder in its published layout"
            )
        return self.data

    def _ask(self, role: str, ask: Ask) -> Mapping[str, Sequence[float]]:
        stage, folder = f"measure:{role}", self.folders[role]
        self.progress(stage, 0.0, None)
        said = ask(*load(folder), lambda done: self.progress(stage, done, None))
        self.progress(stage, 1.0, 0.0)
        return said

    def _key(self, role: str, items_digest: str) -> str:
        settings = {name: value for name, value in dataclasses.asdict(self.options).items() if name != "resamples"}
        parts = {"model": self.digests[role], "items": items_digest, "settings": settings}
        return config_digest({**parts, "suite": SUITE_VERSION, "code": code_digest()})


def cached(folder: Path | None, key: str, compute: Callable[[], Mapping[str, Sequence[float]]]) -> Numbers:
    """Numbers by their key; an entry that cannot be read is computed again, and what is not finite is not kept."""
    path = folder / f"{key}.json" if folder else None
    stored = _read(path) if path else None
    if stored is not None:
        return stored
    computed = _numbers(compute())
    if path is not None:
        _keep(path, computed)
    return computed


def _numbers(said: Mapping[str, Sequence[float]]) -> Numbers:
    return {name: tuple(map(float, values)) for name, values in said.items()}


def _read(path: Path) -> Numbers | None:
    try:
        return _numbers(json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse))
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _keep(path: Path, numbers: Numbers) -> None:
    try:
        text = json.dumps(numbers, allow_nan=False)
    except ValueError:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".partial-{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _refuse(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)
