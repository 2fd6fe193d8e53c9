"""MUSE's published folder layout, unchanged (arXiv 2407.06460, repository `jaechan-repo/muse_bench`, `data/<corpus>/`).

    verbmem/forget.json            [{"prompt", "gt"}]
    knowmem/forget_qa.json         [{"question", "answer"}]     knowmem/forget_qa_icl.json   the examples in context
    knowmem/retain_qa.json         or retain2_qa.json           ... likewise
    privleak/forget.json           [text]                       privleak/holdout.json        [text]

MUSE does not say which items concern the same person, so every item is a unit of its own. An answer may be a list
of accepted ones.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import EngineError
from engine.prompts import Pair
from engine.verification.items import Items, Passage, Question, Text

T = TypeVar("T")


def read_muse(folder: Path) -> Items:
    """The items of a MUSE folder; `EngineError("bad_data")` names the file that is missing or broken."""
    retain = "retain2_qa" if (folder / "knowmem" / "retain2_qa.json").is_file() else "retain_qa"
    return Items(
        passages=_each(folder / "verbmem" / "forget.json", _passage),
        forget_questions=_each(folder / "knowmem" / "forget_qa.json", _question),
        forget_examples=_each(folder / "knowmem" / "forget_qa_icl.json", _pair),
        retain_questions=_each(folder / "knowmem" / f"{retain}.json", _question),
        retain_examples=_each(folder / "knowmem" / f"{retain}_icl.json", _pair),
        forget_texts=_each(folder / "privleak" / "forget.json", _text),
        holdout_texts=_each(folder / "privleak" / "holdout.json", _text),
    )


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON
    """A JSON file of somebody else's; `EngineError("bad_data")` when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError("bad_data", f"{path.parent.name}/{path.name} is missing or is not valid JSON") from error


def _each(path: Path, make: Callable[[str, Any], T]) -> tuple[T, ...]:
    values = read_json(path)
    if not isinstance(values, list) or not values:
        raise EngineError("bad_data", f"{path.parent.name}/{path.name} must be a list that is not empty")
    try:
        return tuple(make(f"{i:06d}", value) for i, value in enumerate(values))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise EngineError("bad_data", f"{path.parent.name}/{path.name} does not have the published fields") from error


def _passage(unit: str, value: dict[str, str]) -> Passage:
    return Passage(unit=unit, prompt=value["prompt"], truth=value["gt"])


def _question(unit: str, value: dict[str, Any]) -> Question:
    answer = value["answer"]
    return Question(
        unit=unit, question=value["question"], answers=tuple(answer) if isinstance(answer, list) else (answer,)
    )


def _pair(_unit: str, value: dict[str, Any]) -> Pair:
    answer = value["answer"]
    return value["question"], answer[0] if isinstance(answer, list) else answer


def _text(unit: str, value: Any) -> Text:  # noqa: ANN401 - a string, or an object with one
    return Text(unit=unit, text=value if isinstance(value, str) else value["text"])
