"""The one-run audit up to its counts (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, algorithm 1).

Each of m canaries is in the training set by a fair coin of its own. After training (or unlearning) each gets a score,
high when it looks like a member; the k+ highest are guessed in, the k- lowest out, nothing is said about the rest.
The theorem counts the guesses that are right; it needs the coins independent of everything else, and k+ and k- fixed
before a score is seen (a search over them, as in published tools, inflates the bound). So the coins, and the order
that breaks ties, come from a 256-bit secret, and the plan is an object that exists before the scores do.

What leaves is a `Counts`: canaries m, guesses r, correct v. The lower bound on epsilon and its ceiling are computed
by whoever verifies the evidence.

Canaries are made here too: pictures and texts that no data set holds, so that only training can have taught them.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.methods.secret import SECRET_BYTES, commitment, gaussians, joins
from engine.seeds import derive
from engine.verification.privacy.shadows import Bools
from engine.verification.statistics import Floats, Ints

GUESSED_IN, ABSTAINED, GUESSED_OUT = 1, 0, -1
Guesses = NDArray[np.int8]
Pictures = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How many canaries there are, and how many are guessed in and out, whatever the scores will be."""

    canaries: int
    guess_in: int
    guess_out: int

    def __post_init__(self) -> None:
        """Refuse a plan that guesses a canary twice, or nothing."""
        if min(self.guess_in, self.guess_out) < 0 or not 1 <= self.guess_in + self.guess_out <= self.canaries:
            raise EngineError("bad_options", "an audit guesses at least one canary, and none of them twice")


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """The coins (canaries,) and the order that breaks ties (canaries,); neither is ever shown."""

    included: Bools = field(repr=False)
    order: Ints = field(repr=False)
    commitment: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What the bound is computed from, with the plan that fixed the guesses and a commitment to the coins."""

    canaries: int
    guesses: int
    correct: int
    guess_in: int
    guess_out: int
    commitment: str

    def to_mapping(self) -> dict[str, Any]:
        """The JSON object that goes into evidence."""
        return {
            "canaries": self.canaries,
            "guesses": self.guesses,
            "correct": self.correct,
            "guessedIn": self.guess_in,
            "guessedOut": self.guess_out,
            "coinsSha256": self.commitment,
        }


def draw(secret: bytes, *, canaries: int) -> Draw:
    """Toss the coins of an audit; its key is derived, so that no stream of DP training is used a second time."""
    if len(secret) != SECRET_BYTES or canaries < 1:
        raise EngineError("bad_options", "an audit needs a 256-bit secret and at least one canary")
    key = hashlib.sha256(b"one-run audit\x00" + secret).digest()
    return Draw(
        included=joins(key, round_=0, units=canaries, sample_rate=0.5),
        order=np.argsort(gaussians(key, round_=0, count=canaries), kind="stable"),
        commitment=commitment(key),
    )


def guesses(plan: Plan, scores: Floats, order: Ints) -> Guesses:
    """GUESSED_IN, GUESSED_OUT or ABSTAINED for each canary (canaries,); equal scores go by the drawn order.

    Raises:
        EngineError: `bad_data` when a score is missing or not finite: an audit has no default guess.
    """
    if scores.shape != (plan.canaries,) or order.shape != scores.shape or not np.isfinite(scores).all():
        raise EngineError("bad_data", "an audit needs one finite score for each canary")
    ranked = np.lexsort((order, scores))
    made = np.full(plan.canaries, ABSTAINED, dtype=np.int8)
    made[ranked[: plan.guess_out]] = GUESSED_OUT
    made[ranked[plan.canaries - plan.guess_in :]] = GUESSED_IN
    return made


def count(plan: Plan, scores: Floats, coins: Draw) -> Counts:
    """Guess, then look at the coins."""
    made = guesses(plan, scores, coins.order)
    right = ((made == GUESSED_IN) & coins.included) | ((made == GUESSED_OUT) & ~coins.included)
    return Counts(
        canaries=plan.canaries,
        guesses=plan.guess_in + plan.guess_out,
        correct=int(right.sum()),
        guess_in=plan.guess_in,
        guess_out=plan.guess_out,
        commitment=coins.commitment,
    )


def wrong_labels(labels: Ints, *, classes: int, seed: int) -> Ints:
    """A label for each given picture (pictures,), uniform over the classes that it is not of."""
    if classes < 2 or (len(labels) and not 0 <= labels.min() <= labels.max() < classes):  # noqa: PLR2004 - one is wrong
        raise EngineError("bad_data", "a wrong label needs two classes, and a right one among them")
    shift = _generator(seed, "labels").integers(1, classes, size=labels.shape)
    return (labels + shift) % classes


def patterns(count_: int, *, shape: tuple[int, ...], classes: int, seed: int) -> tuple[Pictures, Ints]:
    """Random black and white pictures (count, *shape) of 0 and 1, each with a uniform label (count,)."""
    if count_ < 1 or classes < 1 or min(shape, default=0) < 1:
        raise EngineError("bad_options", "canaries need a number, a shape and classes, all above 0")
    generator = _generator(seed, "patterns")
    pictures = generator.integers(0, 2, size=(count_, *shape)).astype(np.float32)
    return pictures, generator.integers(0, classes, size=count_)


def sequences(count_: int, *, length: int, vocabulary: int, seed: int, without: Collection[int] = ()) -> Ints:
    """Uniform random token ids (count, length), none of them in `without` (the tokenizer's special tokens)."""
    allowed = np.setdiff1d(np.arange(vocabulary), np.asarray(sorted(without), dtype=np.int64))
    if count_ < 1 or length < 1 or not len(allowed):
        raise EngineError("bad_options", "canaries need a number, a length and a vocabulary, all above 0")
    return _generator(seed, "sequences").choice(allowed, size=(count_, length))


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng(derive(seed, "canaries", purpose))
