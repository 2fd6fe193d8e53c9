"""Names found in a text without being written down: keyed digests of their words, as a guard may hold them.

The key stands beside the digests, so whoever has the guard can test a guess; nobody can read a name out of it.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Span = tuple[int, int]

WORDS = re.compile("[\\w\u0300-\u036f]+")  # a decomposed accent belongs to its word
SIZE = 7  # bytes of a digest: fits a tensor of 64-bit integers


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """Digests of names, and the words of the longest of them."""

    digests: frozenset[int]
    longest: int
    key: bytes

    def spans(self, text: str) -> list[Span]:
        """Where a name stands, longest first at each word; as characters of the text."""
        words = list(WORDS.finditer(text))
        found, i = [], 0
        while i < len(words):
            length = next((n for n in range(self.longest, 0, -1) if self._known(words[i : i + n], n)), 0)
            if length:
                found.append((words[i].start(), words[i + length - 1].end()))
            i += length or 1
        return found

    def _known(self, words: Sequence[re.Match[str]], length: int) -> bool:
        return len(words) == length and _digest([word.group() for word in words], self.key) in self.digests


def digested(names: Iterable[str], key: bytes) -> Names:
    """The names as digests."""
    words = [found for name in names if (found := WORDS.findall(name))]
    digests = frozenset(_digest(found, key) for found in words)
    return Names(digests=digests, longest=max(map(len, words), default=0), key=key)


def _digest(words: Sequence[str], key: bytes) -> int:
    text = unicodedata.normalize("NFKC", " ".join(words)).casefold()
    return int.from_bytes(hashlib.blake2b(text.encode(), key=key, digest_size=SIZE).digest())
