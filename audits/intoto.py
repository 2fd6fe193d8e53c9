"""The in-toto Statement v1 layer: whatever is claimed, of which artifacts, under which type.

Subjects are matched by digest alone. Unknown fields are ignored and the predicate is optional, as the specification
says; what a predicate means is another module's business.
"""

from dataclasses import dataclass
from typing import Any

from audits.errors import require
from audits.strict import load_json

TYPE = "https://in-toto.io/Statement/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One artifact: a name for people, and digests by algorithm."""

    name: str | None
    digest: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """A claim about subjects; `predicate` is None when it is absent."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: dict[str, Any] | None


def parse(payload: bytes) -> Statement:
    """The statement in a verified payload."""
    value = load_json(payload, what="The statement")
    require(isinstance(value, dict) and value.get("_type") == TYPE, "The payload is no in-toto Statement v1.")
    subjects, kind, predicate = value.get("subject"), value.get("predicateType"), value.get("predicate")
    require(isinstance(subjects, list) and subjects, "The statement has no subject.")
    require(isinstance(kind, str) and kind, "The statement does not name its predicate's type.")
    require(predicate is None or isinstance(predicate, dict), "The statement's predicate is not a JSON object.")
    return Statement(subjects=tuple(_subject(one) for one in subjects), predicate_type=kind, predicate=predicate)


def _subject(value: Any) -> Subject:  # noqa: ANN401 - any JSON value
    require(isinstance(value, dict), "A subject of the statement is not a JSON object.")
    name, digest = value.get("name"), value.get("digest")
    require(name is None or isinstance(name, str), "A subject's name is not text.")
    require(isinstance(digest, dict) and digest, "A subject of the statement has no digest.")
    require(all(isinstance(one, str) and one for one in digest.values()), "A subject's digest is not text.")
    return Subject(name=name, digest=digest)
