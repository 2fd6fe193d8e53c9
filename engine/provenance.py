"""What a public start was made of: the tokenizer and the first weights, by digests of the records.

A theorem about private records starts from a tokenizer and weights that do not depend on them. `initialise` writes
beside its model a digest of every record that it read, and DP training hands the list on; private training, and
unlearning from such a start, refuse records that are on it. The digest is of what a record says and not of whose it is,
for the same words teach a tokenizer the same from anybody. Records are public where the list is made: one of private
records would tell who is among them, so ordinary training writes none.

A folder without a list says nothing, and that its start is public stays a condition in words. Only equal records are
found, not what was copied with changes. Standard library only.
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path

from engine.corpus import Record
from engine.errors import EngineError

FILE = "public-records.json"
LENGTH = 32  # hexadecimal digits of a digest: 128 bits


def digests(records: Iterable[Record]) -> frozenset[str]:
    """One for each different content."""
    return frozenset(_digest(record) for record in records)


def write(folder: Path, public: Collection[str]) -> None:
    """Put the list beside a model; equal lists give equal bytes."""
    (folder / FILE).write_text(json.dumps({"sha256": sorted(public)}, indent=0) + "\n", encoding="utf-8")


def read(folder: Path) -> frozenset[str] | None:
    """The list of a model folder, None where there is none.

    Raises:
        EngineError: `bad_model` for a file that is no such list.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["sha256"]
        valid = isinstance(found, list) and all(isinstance(one, str) and len(one) == LENGTH for one in found)
    except (OSError, ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise EngineError("bad_model", f"the {FILE} of {folder.name!r} is no list of digests; make the start anew")
    return frozenset(found)


def refuse(public: frozenset[str] | None, records: Iterable[Record], what: str) -> None:
    """Refuse private records that the public start was made of; the sentence says how many and not which.

    Raises:
        EngineError: `bad_data`.
    """
    shared = len(digests(records) & (public or frozenset()))
    if shared:
        message = (
            f"{shared} of the {what} stand in the public data that the tokenizer and the starting weights were fitted "
            "on: the theorem needs a start that does not depend on private records; take them out of one of the two"
        )
        raise EngineError("bad_data", message)


def _digest(record: Record) -> str:
    said = {key: value for key, value in record.to_mapping().items() if key not in {"record_id", "unit"}}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:LENGTH]
