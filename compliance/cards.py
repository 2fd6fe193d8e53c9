"""The model card: README.md of a model's folder, with what was unlearned, by which method, under which guarantee.

A card is a file of the model, and the report binds its digest. So it is written before that digest is taken, and says
only what is known by then: the method, its guarantee class, how many requests, the version it started from, and the
batch whose report tells the rest. Never a score: a card that praised the model could not be the one that was measured.

Rules:

* What the card of the version before says is kept, word for word: its YAML front matter but for our own key, and its
  text but for our own section, which stands between two comments.
* The same run writes the same card (no time, nothing random), so that a repeated run makes the same folder.
* A guard's version has the card of the version before: suppression adds files below `guard/` and changes none.
"""

import filecmp
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from audits.gates import GuaranteeClass
from audits.render import words
from compliance.errors import UnavailableError

NAME = "README.md"
KEY = "unlearning"
BEGIN, END = "<!-- unlearning: begin -->", "<!-- unlearning: end -->"
_LARGEST = 1024 * 1024
_FRONT = re.compile(r"\A---\r?\n(.*?)^---[ \t]*\r?\n?", re.DOTALL | re.MULTILINE)
_OWN_KEY = re.compile(rf"^{KEY}:.*\n(?:[ \t]+.*\n|[ \t]*\n(?=[ \t]))*", re.MULTILINE)
_OWN_SECTION = re.compile(rf"\n*{re.escape(BEGIN)}.*?{re.escape(END)}\n?", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a card says of the version it lies in."""

    model: str
    method: str
    guarantee: GuaranteeClass
    requests: int
    before: str
    batch: str


def carry(made: Path, before: Path, told: Told) -> None:
    """Give the finished folder `made` its card, from that of the version `before`.

    A folder that has otherwise the files of `before`, byte for byte, gets that card as it is, and so stays the same
    model. UnavailableError when the card of the version before is no text, or larger than a card.
    """
    if unchanged(made, before):
        if (before / NAME).exists():
            shutil.copyfile(before / NAME, made / NAME)
        return
    (made / NAME).write_text(write(_read(before / NAME), told), encoding="utf-8", newline="")


def unchanged(made: Path, before: Path) -> bool:
    """Whether two folders hold the same files, cards aside."""
    names = _names(made)
    return names == _names(before) and all(filecmp.cmp(made / one, before / one, shallow=False) for one in names)


def write(earlier: str, told: Told) -> str:
    """The card after `earlier`, the card before ("" where there was none)."""
    found = _FRONT.match(earlier)
    front, body = (found[1], earlier[found.end() :]) if found else ("", earlier)
    kept = _OWN_KEY.sub("", front if front.endswith("\n") or not front else front + "\n")
    text = _OWN_SECTION.sub("\n", body).strip("\n")
    heading = text or f"# {_plain(told.model)}"
    return f"---\n{kept}{_metadata(told)}---\n\n{heading}\n\n{BEGIN}\n{_section(told)}{END}\n"


def _metadata(told: Told) -> str:
    values = {
        "method": told.method,
        "guarantee": told.guarantee,
        "requests": told.requests,
        "base_model_sha256": told.before,
        "report_batch": told.batch,
    }
    # A JSON value is a YAML value, and needs no library that knows how YAML quotes.
    return f"{KEY}:\n" + "".join(f"  {name}: {json.dumps(value)}\n" for name, value in values.items())


def _section(told: Told) -> str:
    title, meaning = words.CLASSES[told.guarantee]
    return (
        "## Unlearning\n\n"
        f"Training records that {words.count(told.requests, 'request')} concerned were removed from this model with "
        f"the method `{told.method}`, starting from the version whose digest is `{told.before}`.\n\n"
        f"**Guarantee class: {title.lower()}.** {meaning}\n\n"
        f"What was measured, against which requirements, and what is not claimed stands in the signed report of batch "
        f"`{told.batch}`. This file is one of those whose digests the report binds.\n"
    )


def _plain(name: str) -> str:
    """A name as a heading: no line break, and no markup of its own."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(name.split()))


def _read(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        if path.stat().st_size <= _LARGEST:
            return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    message = "the model card of the version before is no text of at most 1 MiB; mend README.md in the model's folder"
    raise UnavailableError(message, code="model-card")


def _names(folder: Path) -> set[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if name != NAME}
