"""Jobs as the desk would send them, run in this process."""

from pathlib import Path
from typing import Any

from engine.contract import Evidence, Job, Kind
from engine.corpus import Record, write_records
from engine.run import run
from engine.training import Progress
from tests.engine.tiny import quiet

QUICK = {"epochs": 2, "tokens_per_batch": 200}


def do(
    folder: Path,
    kind: str,
    *,
    seed: int = 7,
    options: dict[str, Any] | None = None,
    progress: Progress = quiet,
    **fields: object,
) -> Evidence:
    """Run a job in `folder`; records among its fields are written to files there first."""
    told: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, tuple):
            write_records(folder / f"{name}.told.jsonl", _records(value))
            told[name] = f"{name}.told.jsonl"
        else:
            told[name] = {k: str(v) for k, v in value.items()} if isinstance(value, dict) else str(value)
    return run(Job(version=1, kind=Kind(kind), seed=seed, options=options or {}, **told), folder, progress)


def weights(evidence: Evidence) -> str:
    """The digest of the weights that a job wrote."""
    return evidence.model_files["model.safetensors"].sha256


def _records(values: tuple[object, ...]) -> list[Record]:
    return [value for value in values if isinstance(value, Record)]
