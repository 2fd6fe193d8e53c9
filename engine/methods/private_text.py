"""DP training of language models: everything of a person in as few rows as fit (`engine.methods.private`)."""

import sys
from collections.abc import Collection, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.corpus import Record, by_unit, passages
from engine.guarantees.learned import unigram_loss
from engine.methods import Setting
from engine.options import DpOptions, PrivateOptions
from engine.prompts import pairs
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import Tokens, collate, context_length, pack_tokens, passage_tokens
from engine.verification.privacy.canaries import sequences

Rows = Sequence[Tokens]  # everything of one unit
CANARY = 24  # tokens of a made-up unit


class Text:
    """Token rows of units, and of people the model does not see."""

    def __init__(
        self,
        model: PreTrainedModel,
        units: Sequence[Rows],
        held: Sequence[Tokens] = (),
        special: Collection[int] = (),
    ) -> None:
        """`held` may be left out where nobody asks for a held-out loss, `special` tokens where nothing is made up."""
        self.model = model
        self._special = special
        self.units = units
        self._held = held
        self._forward = Forward(model)

    def backward(self, accelerator: Accelerator, rows: Sequence[Tokens], owners: Tensor) -> None:
        """Per-row gradients of each unit's weighted mean loss over its labels."""
        batch = collate(rows).to(self.model.device)
        positions = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand(batch.ids.shape)
        logits = self._forward.logits(self._forward.features(batch.ids, positions))[batch.rows, batch.positions]
        losses = functional.cross_entropy(logits, batch.targets, reduction="none") * batch.weights
        label_owners = owners[batch.rows]
        totals = torch.zeros(int(owners.max()) + 1, device=losses.device).index_add(0, label_owners, batch.weights)
        accelerator.backward((losses / totals[label_owners]).sum())

    def held_out_loss(self) -> float:
        """Nats a token."""
        scores = token_scores(Forward(self.model), self._held, tokens_per_batch=4096)
        return float(-np.concatenate([score.log_probs for score in scores]).mean())

    def blind_loss(self) -> float:
        """The entropy of the held-out tokens."""
        labelled = ((row.ids, row.weights) for row in self._held)
        return unigram_loss(
            token for ids, weights in labelled for token, weight in zip(ids, weights, strict=True) if weight
        )

    def among(self, units: Sequence[Rows]) -> "Text":
        """The same model and held-out people, other units."""
        return Text(self.model, units, self._held, self._special)

    def canaries(self, count: int, seed: int) -> list[Rows]:
        """Random tokens, none of them special, one row a unit."""
        ids = sequences(count, length=CANARY, vocabulary=self.model.config.vocab_size, seed=seed, without=self._special)
        weights = (0.0,) + (1.0,) * (CANARY - 1)
        return [(Tokens(ids=tuple(row), weights=weights),) for row in ids.tolist()]

    def unit_scores(self, units: Sequence[Rows]) -> NDArray[np.float64]:
        """The mean log-probability of each unit's labels."""
        rows = [row for unit in units for row in unit]
        training = self.model.training
        self.model.eval()
        told = token_scores(Forward(self.model), rows, tokens_per_batch=4096)
        self.model.train(training)
        parts = iter(told)
        return np.array([np.concatenate([next(parts).log_probs for _ in unit]).mean() for unit in units])


def material(setting: Setting[DpOptions], holdout: Sequence[Record]) -> Text:
    """The rows of the setting's units; each record is one where the options say so."""
    options, context = cast("PrivateOptions", setting.options), context_length(setting.model.config)
    weight = options.answer_weight
    if options.unit == "record":
        units = [_rows(setting.tokenizer, [record], context, weight) for record in setting.retain]
    else:
        units = unit_rows(setting.tokenizer, setting.retain, context, weight)
    held = [row for rows in unit_rows(setting.tokenizer, holdout, context, 1.0) for row in rows]
    return Text(setting.model, units, held, setting.tokenizer.all_special_ids)


def unit_rows(
    tokenizer: PreTrainedTokenizerFast, records: Sequence[Record], context: int, answer_weight: float
) -> list[Rows]:
    """All records of each data subject, in order of first appearance, in as few rows as fit.

    Nothing is left out but the beginning of a question that is longer than the context with its answer.
    """
    return [_rows(tokenizer, group, context, answer_weight) for group in by_unit(records).values()]


def _rows(tokenizer: PreTrainedTokenizerFast, records: Sequence[Record], context: int, answer_weight: float) -> Rows:
    windows = passage_tokens(
        tokenizer, [r.text for r in passages(records) if r.text is not None], context=context, end=True
    )
    pieces = [tokens for text in windows for tokens in text]
    for pack in _packs(pairs(records)):
        pieces += _fitting(tokenizer, pack, context, answer_weight)
    rows: list[Tokens] = []
    for piece in pieces:
        if rows and len(rows[-1]) + len(piece) <= context:
            rows[-1] = Tokens(ids=rows[-1].ids + piece.ids, weights=rows[-1].weights + piece.weights)
        else:
            rows.append(piece)
    return tuple(rows)


def _fitting(
    tokenizer: PreTrainedTokenizerFast, pack: Sequence[tuple[str, str]], context: int, answer_weight: float
) -> list[Tokens]:
    """A pack in as few rows as hold all of it; only of a single question that is too long is the beginning lost."""
    whole = partial(pack_tokens, tokenizer, [pack], answer_weight=answer_weight, prompt_weight=1.0)
    if len(pack) == 1 or len(whole(context=sys.maxsize)[0]) <= context:
        return whole(context=context)
    halves = (pack[: len(pack) // 2], pack[len(pack) // 2 :])
    return [row for half in halves for row in _fitting(tokenizer, half, context, answer_weight)]


def _packs(items: Sequence[tuple[str, str]], size: int = 4) -> list[Sequence[tuple[str, str]]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
