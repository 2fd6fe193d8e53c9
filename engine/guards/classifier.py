"""Which prompts are about what is to be forgotten: logistic regression on character n-grams.

A text is read in windows of words, and sentence by sentence and line by line, because one question about a person may
stand behind many about others; its score is the highest of them. A window is a bag of the character n-grams of its
words (3 to 5, word borders included), whole words and pairs of words, without case and with compatible characters
made equal, so neither another case nor an ending nor a misspelling hides a name. N-grams are hashed (CRC-32),
weighted by tf-idf and normalised.

The loss weights both classes alike, and the hyper-parameters are fixed: nothing is searched. Everything is a sum in a
fixed order in float64, so equal texts give equal weights.
"""

import functools
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from engine.errors import EngineError

BUCKETS = 1 << 15
LENGTHS = (3, 4, 5)
WINDOW, STRIDE = 24, 8  # words
PENALTY = 1e-3  # of the squared weights
STEPS = 60
WORDLESS = -1e3  # the score of a text without a word
SENTENCE = 3  # words; what is shorter is judged with what is around it
WORDS = re.compile(r"\w+")
ENDS = re.compile(r"[\n.?!]+")

Floats = NDArray[np.float64]
Bag = tuple[NDArray[np.int64], Floats]


@dataclass(frozen=True, kw_only=True, slots=True)
class Classifier:
    """Weights of the n-grams, how much each counts (idf), and the bias."""

    weight: Tensor
    idf: Tensor
    bias: float

    def score(self, text: str) -> float:
        """The log-odds that the text is about what is to be forgotten."""
        weight, idf = self.weight.numpy(), self.idf.numpy()
        bags = (weighted(count(window), idf) for window in windows(text))
        scores = [float(weight[indices] @ values) for indices, values in bags]
        return max(scores, default=WORDLESS) + self.bias

    def tensors(self) -> dict[str, Tensor]:
        """What is to be kept of it."""
        return {"weight": self.weight, "idf": self.idf, "bias": torch.tensor([self.bias], dtype=torch.float64)}


def classifier_from(tensors: Mapping[str, Tensor]) -> Classifier:
    """What `tensors` gave; `EngineError("bad_model")` where something is missing."""
    try:
        weight, idf, bias = (tensors[name].double() for name in ("weight", "idf", "bias"))
    except KeyError as error:
        raise EngineError("bad_model", "the guard of this model lacks its classifier; write it again") from error
    if weight.shape != (BUCKETS,) or idf.shape != (BUCKETS,):
        raise EngineError("bad_model", "the classifier of this guard was made by another version; write it again")
    return Classifier(weight=weight, idf=idf, bias=float(bias))


def train(forget: Sequence[str], retain: Sequence[str]) -> Classifier:
    """Tell texts of two sets apart, window by window; both sets count the same however large they are."""
    bags = [count(window) for texts in (forget, retain) for text in texts for window in windows(text)]
    positive = sum(1 for text in forget for _ in windows(text))
    if not 0 < positive < len(bags):
        raise EngineError("bad_data", "prompts to forget and prompts to keep are needed, with words in them")
    idf = _inverse_frequencies(bags)
    labels = np.repeat([1.0, 0.0], [positive, len(bags) - positive])
    balance = np.where(labels > 0, 0.5 / positive, 0.5 / (len(bags) - positive))
    return _fit([weighted(bag, idf) for bag in bags], labels, balance, idf)


def windows(text: str) -> list[tuple[str, ...]]:
    """The words of a text, without case, in overlapping windows; and those of each of its sentences and lines."""
    parts = [words_of(part) for part in ENDS.split(text)]
    long = [part for part in parts if len(part) >= SENTENCE] if len(parts) > 1 else []
    return list(dict.fromkeys(window for words in (words_of(text), *long) for window in _slide(words)))


def _slide(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The last window is as long as the others, if it can be."""
    last = max(0, len(words) - WINDOW)
    for start in (*range(0, last, STRIDE), last) if words else ():
        yield tuple(words[start : start + WINDOW])


def words_of(text: str) -> list[str]:
    """The words of a text, without case and with compatible characters made equal."""
    return WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


def count(words: Sequence[str]) -> Bag:
    """Hashed n-grams of a window: which, ascending, and how often."""
    grams = [gram for word in words for gram in _grams(word)]
    grams += [_hash(f"{first} {second}") for first, second in pairwise(words)]
    indices, counts = np.unique(np.asarray(grams, dtype=np.int64), return_counts=True)
    return indices, counts.astype(np.float64)


def weighted(bag: Bag, idf: Floats) -> Bag:
    """(1 + log tf) idf, of length 1."""
    indices, counts = bag
    values = (1.0 + np.log(counts)) * idf[indices]
    return indices, values / np.sqrt(values @ values)


@functools.lru_cache(maxsize=1 << 16)
def _grams(word: str) -> tuple[int, ...]:
    padded = f" {word} "
    parts = [padded[i : i + n] for n in LENGTHS for i in range(len(padded) - n + 1)]
    return tuple(map(_hash, [word, *parts]))


def _hash(gram: str) -> int:
    return zlib.crc32(gram.encode()) % BUCKETS


def _inverse_frequencies(bags: Sequence[Bag]) -> Floats:
    seen = np.bincount(np.concatenate([indices for indices, _ in bags]), minlength=BUCKETS)
    return np.asarray(np.log((1.0 + len(bags)) / (1.0 + seen)) + 1.0, dtype=np.float64)


def _fit(bags: Sequence[Bag], labels: Floats, balance: Floats, idf: Floats) -> Classifier:
    """Minimise the balanced cross-entropy and the squared weights (L-BFGS, exact gradient)."""
    indices, values = (np.concatenate(parts) for parts in zip(*bags, strict=True))
    lengths = np.array([len(found) for found, _ in bags])
    starts = np.concatenate([[0], lengths.cumsum()[:-1]])

    def loss(point: Floats) -> tuple[float, Floats]:
        weight, bias = point[:-1], point[-1]
        scores = np.add.reduceat(values * weight[indices], starts) + bias
        errors = balance * (expit(scores) - labels)
        slope = np.bincount(indices, values * np.repeat(errors, lengths), BUCKETS) + 2 * PENALTY * weight
        entropy = balance @ (np.logaddexp(0.0, scores) - labels * scores)
        return float(entropy + PENALTY * weight @ weight), np.append(slope, errors.sum())

    found = minimize(loss, np.zeros(BUCKETS + 1), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return Classifier(weight=torch.tensor(found.x[:-1]), idf=torch.tensor(idf), bias=float(found.x[-1]))
