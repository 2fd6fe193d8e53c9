"""Did a DP base learn? Without that question an epsilon is empty: a model that learned nothing leaks nothing.

The base must beat, by the margin and on people it never saw, both its own starting point and the best model that
ignores context: the unigram distribution of the held-out tokens themselves, which no fitted unigram model can beat.
All in nats a token. The held-out people are no part of the training set and the base is the output of the
mechanism, so asking costs no privacy.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """Mean held-out losses in nats a token."""

    start_loss: float
    unigram_loss: float
    base_loss: float
    margin: float

    @property
    def learned(self) -> bool:
        """True when the base is better than both by the margin; a loss that is not finite is never better."""
        losses = (self.start_loss, self.unigram_loss, self.base_loss)
        return (
            all(map(math.isfinite, losses)) and self.base_loss <= min(self.start_loss, self.unigram_loss) - self.margin
        )

    def to_mapping(self) -> dict[str, Any]:
        """The JSON object that stands under `learned` in evidence."""
        return {
            "startLoss": self.start_loss,
            "unigramLoss": self.unigram_loss,
            "baseLoss": self.base_loss,
            "margin": self.margin,
            "learned": self.learned,
        }


def unigram_loss(tokens: Iterable[int]) -> float:
    """Entropy of the tokens' own distribution in nats: the least loss without context. NaN for no tokens."""
    counts = Counter(tokens)
    total = sum(counts.values())
    if not total:
        return math.nan
    return -sum(count / total * math.log(count / total) for count in counts.values())
