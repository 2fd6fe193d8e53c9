"""The same question in other words: rules, and the user's own paraphrases. Pure text, drawn with a seed.

The rules keep what is asked and change how: phrases around it, another order, no capitals, typing errors. The phrases
are English; for other languages bring paraphrases.jsonl, one a line:

    {"record_id": ..., "question": ...}   the question of a record, put otherwise; asked in the usual format
    {"record_id": ..., "prompt": ...}     a prompt as it stands, for a question or for a passage
"""

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError

CARRIERS = (
    "Could you tell me the following? {}",
    "I am looking for some information. {}",
    "{} Please answer in a few words.",
    "A friend of mine would like to know: {}",
)
TURNED = re.compile(r"^(?P<head>.+?) (?P<tail>(?:at|by|during|for|from|in|on|with) [^,?]+)\?$")
TYPO_LENGTH = 4  # letters of a word that may be mistyped
KEYS = frozenset({"record_id", "question", "prompt"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Paraphrase:
    """What a user says about one record: a question or a prompt, exactly one of the two."""

    record_id: str
    question: str | None = None
    prompt: str | None = None


def variants(question: str, rng: random.Random) -> tuple[str, ...]:
    """Every rewording that changes the question, without repetition."""
    made = (
        *(carrier.format(question) for carrier in CARRIERS),
        turned(question),
        question.lower(),
        mistyped(question, rng),
        mistyped(question.lower(), rng),
    )
    return tuple(dict.fromkeys(text for text in made if text != question))


def turned(question: str) -> str:
    """The last phrase with a preposition in front: "What happened in Oslo?" becomes "In Oslo, what happened?"."""
    found = TURNED.match(question)
    if found is None:
        return question
    head, tail = found["head"], found["tail"]
    return f"{tail[0].upper()}{tail[1:]}, {head[0].lower()}{head[1:]}?"


def mistyped(question: str, rng: random.Random) -> str:
    """Two neighbouring letters of one longer word exchanged; its first letter stays, equal letters do not count."""
    tokens = re.split(r"(\W+)", question)
    places = [
        (i, j)
        for i, token in enumerate(tokens)
        if len(token) >= TYPO_LENGTH and token.isalpha()
        for j in range(1, len(token) - 1)
        if token[j] != token[j + 1]
    ]
    if not places:
        return question
    i, j = rng.choice(places)
    tokens[i] = tokens[i][:j] + tokens[i][j + 1] + tokens[i][j] + tokens[i][j + 2 :]
    return "".join(tokens)


def read_paraphrases(folder: Path | None) -> tuple[Paraphrase, ...]:
    """The user's paraphrases in a folder; none without the file. `EngineError("bad_data")` names the broken line."""
    path = folder / "paraphrases.jsonl" if folder is not None else None
    if path is None or not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError("bad_data", "paraphrases.jsonl cannot be read as UTF-8") from error
    return tuple(_paraphrase(line, i) for i, line in enumerate(lines, start=1) if line.strip())


def _paraphrase(line: str, number: int) -> Paraphrase:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EngineError("bad_data", f"paraphrases.jsonl line {number} is not valid JSON") from error
    if not _is_paraphrase(value):
        raise EngineError(
            "bad_data", f"paraphrases.jsonl line {number} needs a record_id, and a question or a prompt, all texts"
        )
    return Paraphrase(**value)


def _is_paraphrase(value: Any) -> bool:  # noqa: ANN401 - any JSON
    if not isinstance(value, dict) or not set(value) <= KEYS or "record_id" not in value or len(value) != len(KEYS) - 1:
        return False
    return all(isinstance(text, str) and text.strip() for text in value.values())
