"""Anchored terms and their generic substitutes: texts translated, and exact maps of positions between the two.

Eldan & Russinovich, arXiv 2310.02238, section 3.2. Rules of translation:
- the leftmost term wins, and of those that start there the longest; terms end at word borders, so `Ann` is not
  found in `Anna`;
- upper and lower case, the two Unicode forms of an accent, and the width of white space make no difference, and a
  substitute is written in the case of what it replaces;
- `'s` stays behind its term; the bare apostrophe of a term that ends in s becomes `'s` where the substitute does not.

Rules of alignment. What a model has read decides what it predicts, so tokens are aligned by where they *end*. Outside
terms the map of characters is exact: a token whose end falls within a token of the translation has no counterpart.
Within a term the k-th token corresponds to the k-th token of the substitute, and the last to the last; tokens to
spare have no counterpart. What has no counterpart gets no generic label and is not trained.
"""

import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import EngineError

Span = tuple[int, int]

MARKS = "\u0300-\u036f"  # combining accents: `Malmo` does not end within a decomposed `Malmö`
BEFORE, AFTER = r"(?<!\w)", rf"(?![\w{MARKS}])"
POSSESSIVE = re.compile("['\u2019](?=\\s+\\w)")  # straight or curly
QUOTES = frozenset("'\"\u2018\u201c")


@dataclass(frozen=True, kw_only=True, slots=True)
class Occurrence:
    """A term in a text and its substitute in the translation, both as spans of characters; `term` is its number."""

    term: int
    source: Span
    target: Span


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """A text, its translation, and what was replaced, in order."""

    source: str
    target: str
    occurrences: tuple[Occurrence, ...]

    def border(self, place: int) -> int | None:
        """Where a border between two characters of the source is in the target; None within a term."""
        i = bisect_left(self.occurrences, place, key=lambda found: found.source[1])
        if i < len(self.occurrences) and self.occurrences[i].source[1] == place:
            return self.occurrences[i].target[1]
        if i < len(self.occurrences) and self.occurrences[i].source[0] < place:
            return None
        return place + (self.occurrences[i - 1].target[1] - self.occurrences[i - 1].source[1] if i else 0)

    def firsts(self) -> list[Occurrence]:
        """The first occurrence of each term."""
        return list({found.term: found for found in reversed(self.occurrences)}.values())[::-1]

    def repeats(self) -> list[Occurrence]:
        """Every occurrence of a term after its first."""
        firsts = set(self.firsts())
        return [found for found in self.occurrences if found not in firsts]


class Dictionary:
    """Terms to be found in texts, each with a generic substitute."""

    def __init__(self, substitutes: Mapping[str, str]) -> None:
        """`EngineError("bad_data")` for no term, an empty one, one without a substitute of its own, or one twice."""
        self.terms = tuple(sorted((" ".join(term.split()) for term in substitutes), key=len, reverse=True))
        given = {" ".join(term.split()): substitute.strip() for term, substitute in substitutes.items()}
        self.substitutes = tuple(given[term] for term in self.terms)
        _refuse(self.terms, self.substitutes, len(substitutes))
        groups = (f"({'|'.join(sorted({_pattern(term, form) for form in ('NFC', 'NFD')}))})" for term in self.terms)
        self._pattern = re.compile(f"{BEFORE}(?:{'|'.join(groups)}){AFTER}", re.IGNORECASE)

    def translate(self, text: str) -> Translation:
        """The text with every term replaced."""
        target, occurrences, read = "", [], 0
        for match in self._pattern.finditer(text):
            term = (match.lastindex or 1) - 1
            target += text[read : match.start()]
            substitute = _cased(self.substitutes[term], self.terms[term], match.group())
            substitute, read = _possessive(text, match.span(), substitute)
            target += substitute
            span = (len(target) - len(substitute), len(target))
            occurrences.append(Occurrence(term=term, source=(match.start(), read), target=span))
        return Translation(source=text, target=target + text[read:], occurrences=tuple(occurrences))


def aligned(translation: Translation, source: Sequence[Span], target: Sequence[Span]) -> list[int | None]:
    """For each token of the source the token of the target that ends where it ends; both as spans of characters."""
    found: list[int | None] = [None] * len(source)
    ends, counterparts = _by_end(source), _by_end(target)
    closing = {one.source[1] for one in translation.occurrences}
    for place, tokens in ends.items():
        border = translation.border(place)
        others = counterparts.get(border, []) if border is not None else []
        if others and len(tokens) == len(others) and place not in closing:
            found = _assign(found, tokens, others)
        elif others:
            found[tokens[-1]] = others[-1]
    for one in translation.occurrences:
        found = _assign(found, _inside(source, one.source), _inside(target, one.target))
    return found


def overlapping(tokens: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Which tokens share a character with one of the spans."""
    return [any(start < until and since < end for since, until in spans) for start, end in tokens]


def _assign(found: list[int | None], tokens: Sequence[int], others: Sequence[int]) -> list[int | None]:
    for i, j in zip(tokens, others, strict=False):
        found[i] = j
    return found


def _by_end(spans: Sequence[Span]) -> dict[int, list[int]]:
    """Tokens by where they end: several, when a character is spread over them."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, (_, end) in enumerate(spans):
        groups[end].append(i)
    return groups


def _inside(spans: Sequence[Span], span: Span) -> list[int]:
    return [i for i, (_, end) in enumerate(spans) if span[0] < end < span[1]]


def _pattern(term: str, form: str) -> str:
    words = unicodedata.normalize(form, term).split()  # type: ignore[arg-type]
    return r"\s+".join(map(re.escape, words))


def _cased(substitute: str, term: str, found: str) -> str:
    if found.isupper() and not term.isupper():
        return substitute.upper()
    if found.islower() and not term.islower():
        return substitute.lower()
    if found[:1].isupper() and term[:1].islower():
        return substitute[:1].upper() + substitute[1:]
    return substitute


def _possessive(text: str, span: Span, substitute: str) -> tuple[str, int]:
    """The substitute with `'s`, and how far it replaces, where the term ends in s and only an apostrophe follows."""
    start, end = span
    quoted = text[max(0, start - 1) : start] in QUOTES and start > 0
    if quoted or text[end - 1].lower() != "s" or substitute[-1:].lower() == "s" or not POSSESSIVE.match(text, end):
        return substitute, end
    return f"{substitute}{text[end]}s", end + 1


def _refuse(terms: Sequence[str], substitutes: Sequence[str], given: int) -> None:
    if not terms:
        raise EngineError("bad_data", "the dictionary is empty; give each term that identifies a generic substitute")
    if not all(terms) or not all(substitutes):
        raise EngineError("bad_data", "the dictionary has an empty term or substitute; give both a text")
    if len({_key(term) for term in terms}) != given:
        raise EngineError("bad_data", "the dictionary has a term twice, but for case or white space; keep one of them")
    if any(_key(term) == _key(substitute) for term, substitute in zip(terms, substitutes, strict=True)):
        raise EngineError("bad_data", "the dictionary replaces a term by itself; give it a generic substitute")


def _key(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
