"""TOFU's published folder, unchanged (JSON lines; arXiv 2401.06121): what is asked, and of whom.

    forgetNN_perturbed.json, retain_perturbed.json    {"question", "answer", "paraphrased_answer", "perturbed_answer"}
    real_authors_perturbed.json, world_facts_perturbed.json   likewise, without a paraphrase: the answer stands in
    holdoutNN.json                                    optional {"question", "answer"}: nobody was trained on them

Twenty rows in order are one author, who is a unit; each real author and each fact is one of its own.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.options import SPLITS

AUTHOR = 20  # questions about each author


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question with its true answer, another wording of it, and wrong answers."""

    unit: str
    question: str
    answer: str
    paraphrase: str = ""
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tofu:
    """All that the suite asks. `split` is the forget split that was found or chosen."""

    split: str
    groups: dict[str, tuple[Asked, ...]]
    holdout: tuple[Asked, ...] = ()

    def digest(self) -> str:
        """SHA-256 (hex) of everything that is asked."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def read(folder: Path, *, split: str = "auto", items: int = 0) -> Tofu:
    """The first `items` rows (0: all) of each file; `EngineError("bad_data")` names what is missing or broken.

    `auto` takes the largest forget split whose wrong answers are there.
    """
    found = _split(folder) if split == SPLITS[0] else split
    files = {"forget": f"{found}_perturbed", "retain": "retain_perturbed"}
    files |= {name: f"{name}_perturbed" for name in ("real_authors", "world_facts")}
    groups = {group: _rows(folder / f"{name}.json", group, items, wrong=True) for group, name in files.items()}
    holdout = folder / f"{found.replace('forget', 'holdout')}.json"
    return Tofu(
        split=found,
        groups=groups,
        holdout=_rows(holdout, "holdout", items, wrong=False) if holdout.is_file() else (),
    )


def _split(folder: Path) -> str:
    there = [split for split in SPLITS[1:] if (folder / f"{split}_perturbed.json").is_file()]
    if not there:
        raise EngineError("bad_data", "the folder holds none of TOFU's files forgetNN_perturbed.json")
    return max(there)


def _rows(path: Path, group: str, items: int, *, wrong: bool) -> tuple[Asked, ...]:
    authors = group in {"forget", "retain", "holdout"}
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        rows = [json.loads(line) for line in lines[: items or None]]
        asked = tuple(_asked(row, f"{group}-{i // AUTHOR if authors else i:05d}") for i, row in enumerate(rows))
    except (OSError, ValueError) as error:
        raise EngineError("bad_data", f"{path.name} is missing or is not JSON lines") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise EngineError("bad_data", f"{path.name} does not have TOFU's published fields") from error
    if not asked or len({len(row.wrong) for row in asked}) > 1 or (wrong and not asked[0].wrong):
        raise EngineError("bad_data", f"{path.name} must hold questions that have equally many wrong answers each")
    return asked


def _asked(row: Mapping[str, Any], unit: str) -> Asked:
    question, answer = row["question"], row["answer"]
    made = Asked(
        unit=unit,
        question=question,
        answer=answer,
        paraphrase=row.get("paraphrased_answer") or answer,
        wrong=tuple(row.get("perturbed_answer", ())),
    )
    if not all(isinstance(text, str) and text for text in (question, answer, made.paraphrase, *made.wrong)):
        message = "an empty text"
        raise TypeError(message)
    return made
