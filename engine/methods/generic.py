"""Generic labels for a text: what a model that never read it would say next (arXiv 2310.02238, section 3).

    v_generic = v_base - alpha * relu(v_reinforced - v_base)        label = argmax v_generic

`v_base` is what the model says on the *translated* block, `v_reinforced` what it says on the *original* block after
more training on it, both after having read the same (`methods.translation`). Two rules keep labels consistent with
the original that the model reads while it is trained:
(a) where the next token belongs to an occurrence of a term after its first in the block, there is no label: the text
    has said the term already, and to answer with its substitute would contradict it;
(b) from the end of a term's first occurrence on, the logits of the tokens with which its substitute begins are
    reduced by a fixed amount. Tokens with which the term begins as well are left alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from engine.guards.contrast import contrasted
from engine.methods.known import FEATURES, Known
from engine.methods.translation import Dictionary, Occurrence, Span, Translation, aligned, overlapping
from engine.tasks.language import Forward, Head, label_features
from engine.tasks.sequences import Batch, Tokens, by_budget, collate

FILLER = 0  # a token after the last one: what is predicted by the last token needs a place


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A piece of a text and its translation, both as token ids from the start token on.

    `places` are the positions that get a label, each with its counterpart in the translation, both ascending;
    `reduced` are the token ids whose logits are reduced there.
    """

    ids: tuple[int, ...]
    translated: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    reduced: tuple[frozenset[int], ...]
    terms: int

    def original(self) -> Tokens:
        """The block, with a weight on the token after each position that gets a label."""
        return _labelled(self.ids, [place for place, _ in self.places])

    def counterpart(self) -> Tokens:
        """The same of its translation."""
        return _labelled((*self.translated, FILLER), [place for _, place in self.places])


@dataclass(frozen=True, kw_only=True, slots=True)
class Relabelled(Tokens):
    """A sequence whose labels are not its own tokens; one of `labels` for each weight that is not 0."""

    labels: tuple[int, ...]


def blocks(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], dictionary: Dictionary, *, size: int, context: int
) -> list[Block]:
    """The texts in blocks of at most `size` tokens that end at word borders and cut no term."""
    maker = _Maker(tokenizer, dictionary, min(size, context - 1), context)
    made = chain.from_iterable(maker.of(text) for text in texts)
    return [block for block in made if block.places]


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What the model said on the translated blocks, and how it is turned into labels."""

    head: Head
    known: Known
    alpha: float
    reduction: float


def generic_labels(forward: Forward, chosen: Sequence[Block], base: Base, *, budget: int) -> list[Relabelled]:
    """The blocks with their generic labels; `forward` is the reinforced model."""
    made: dict[int, Relabelled] = {}
    originals = [block.original() for block in chosen]
    for group in by_budget(originals, budget):
        batch = collate([originals[i] for i in group]).to(forward.model.device)
        labels = _argmax(forward, batch, base, base.known.of(FEATURES, group), [chosen[i] for i in group])
        for i, found in zip(group, labels.split([len(chosen[i].places) for i in group]), strict=True):
            made[i] = Relabelled(ids=originals[i].ids, weights=originals[i].weights, labels=tuple(found.tolist()))
    return [made[i] for i in range(len(chosen))]


@torch.no_grad()
def _argmax(forward: Forward, batch: Batch, base: Base, features: Tensor, group: Sequence[Block]) -> Tensor:
    before = base.head.logits(features.to(batch.ids.device)).float()
    reinforced = forward.logits(label_features(forward, batch)).float()
    reduced = [tokens for block in group for tokens in block.reduced]
    return generic_logits(before, reinforced, reduced, alpha=base.alpha, reduction=base.reduction).argmax(-1).cpu()


def generic_logits(
    base: Tensor, reinforced: Tensor, reduced: Sequence[frozenset[int]], *, alpha: float, reduction: float
) -> Tensor:
    """v_generic (labels x vocabulary), with rule (b): `reduced` are token ids for each label."""
    generic = contrasted(base, reinforced, alpha)
    rows = [row for row, tokens in enumerate(reduced) for _ in tokens]
    columns = [token for tokens in reduced for token in sorted(tokens)]
    generic[rows, columns] -= reduction
    return generic


def relabelled(sequences: Sequence[Relabelled]) -> Batch:
    """One batch with the labels of the sequences as targets."""
    labels = [label for sequence in sequences for label in sequence.labels]
    return replace(collate(sequences), targets=torch.tensor(labels))


def _labelled(ids: Sequence[int], places: Sequence[int]) -> Tokens:
    weights = [0.0] * len(ids)
    for place in places:
        weights[place + 1] = 1.0
    return Tokens(ids=tuple(ids), weights=tuple(weights))


class _Maker:
    """Cuts texts into blocks and pairs each with its translation."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, dictionary: Dictionary, size: int, context: int) -> None:
        self.tokenizer, self.dictionary, self.context = tokenizer, dictionary, context
        self.start = [tokenizer.bos_token_id] if isinstance(tokenizer.bos_token_id, int) else []
        self.room = max(1, size - len(self.start))
        self.begins = [_begins(tokenizer, term) for term in dictionary.terms]
        self.substitutes = [_begins(tokenizer, substitute) for substitute in dictionary.substitutes]

    def of(self, text: str) -> Iterator[Block]:
        """The blocks of one text."""
        ids, spans = self._read(text)
        found = self.dictionary.translate(text).occurrences
        begin = 0
        while begin < len(ids):
            end = _end(text, spans, found, begin, begin + self.room)
            yield self._block(text[spans[begin][0] : spans[end - 1][1]], ids[begin:end], spans[begin:end])
            begin = end

    def _block(self, text: str, ids: list[int], spans: list[Span]) -> Block:
        translation, first = self.dictionary.translate(text), spans[0][0]
        here = [(start - first, end - first) for start, end in spans]
        translated, there = self._read(translation.target)
        shift = len(self.start)
        counterparts = {p + shift: q + shift for p, q in enumerate(aligned(translation, here, there)) if q is not None}
        if shift:
            counterparts[shift - 1] = shift - 1
        repeated = overlapping(here, [found.source for found in translation.repeats()])
        room = self.context - 1  # the filler takes a place
        places = [
            (place, counterparts[place])
            for place in range(len(ids) + shift - 1)
            if place in counterparts and counterparts[place] < room and not repeated[place + 1 - shift]
        ]
        ends = [0] * shift + [end for _, end in here]
        return Block(
            ids=(*self.start, *ids),
            translated=(*self.start, *translated)[:room],
            places=tuple(places),
            reduced=tuple(self._reduced(translation, ends[place]) for place, _ in places),
            terms=len(translation.occurrences),
        )

    def _reduced(self, translation: Translation, read: int) -> frozenset[int]:
        """Rule (b), for a reader of that many characters."""
        seen = {found.term for found in translation.occurrences if found.source[1] <= read}
        return frozenset(token for term in seen for token in self.substitutes[term] - self.begins[term])

    def _read(self, text: str) -> tuple[list[int], list[Span]]:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["input_ids"], [(start, end) for start, end in encoded["offset_mapping"]]


def _begins(tokenizer: PreTrainedTokenizerFast, words: str) -> frozenset[int]:
    """The tokens with which words begin, after a space and without one; a lone space is not one of them."""
    forms = [" " + words, words, words.upper(), " " + words.upper(), words.lower(), " " + words.lower()]
    firsts = {ids[0] for ids in tokenizer(forms, add_special_tokens=False)["input_ids"] if ids}
    return frozenset(token for token in firsts if str(tokenizer.decode([token])).strip())


def _end(text: str, spans: Sequence[Span], found: Sequence[Occurrence], begin: int, limit: int) -> int:
    """Where a block that begins at token `begin` ends: the last good border, if it leaves at least half of it."""
    if limit >= len(spans):
        return len(spans)
    for end in range(limit, begin + max(1, (limit - begin) // 2), -1):
        border = spans[end][0]
        word = text[border - 1 : border].isalnum() and text[border : border + 1].isalnum()
        if not word and not any(one.source[0] < border < one.source[1] for one in found):
            return end
    return limit
