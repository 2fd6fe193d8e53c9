"""Ordinary training on records, and the two methods that are nothing else: `retrain` and `dp2`.

What they may claim is decided by where they start, not by what they do. `retrain` starts from a model that never
saw the forget set; `dp2` starts from a model trained under differential privacy with the data subject as the unit,
so that what the forget set left in it is bounded (post-processing). Neither reads the forget set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.errors import EngineError
from engine.methods import Setting
from engine.options import FitOptions
from engine.ranks import processes
from engine.seeds import stream
from engine.tasks.language import Forward, label_losses
from engine.tasks.sequences import Batch, Tokens, collate, context_length, epoch_groups, in_passes, training_tokens
from engine.training import Fitted, Schedule, fit, minimise


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The rows of a step that go through the model together, and the sum of weights of the whole step's labels."""

    batch: Batch
    weight: float

    def loss(self, forward: Forward) -> Tensor:
        """What these rows add to the step's loss, which is the weighted mean cross-entropy over its labels."""
        batch = self.batch.to(forward.model.device)
        return (label_losses(forward, batch) * batch.weights).sum() / self.weight


def refit(setting: Setting[FitOptions]) -> Fitted:
    """Train on the retain records; the order and the packs of questions are drawn anew in each epoch."""
    if not setting.retain:
        raise EngineError("bad_data", "there are no records to train on")
    forward = Forward(setting.model)
    return fit(
        model=setting.model,
        batches=plan(setting),
        gradient=minimise(setting.model, lambda share: share.loss(forward)),
        schedule=_schedule(setting),
        stage="train",
        progress=setting.progress,
    )


def retrain(setting: Setting[FitOptions]) -> Fitted:
    """Train the start (`base`), which never saw the forget set, on the retain set."""
    return refit(setting)


def dp2(setting: Setting[FitOptions]) -> Fitted:
    """Train the DP base on the retain set; the deployed model, which was trained on everything, is discarded."""
    return refit(setting)


def _schedule(setting: Setting[FitOptions]) -> Schedule:
    options = setting.options
    rate, matrix_rate = options.learning_rate, options.matrix_learning_rate
    if rate is None:
        raise EngineError("bad_options", "training needs a learning_rate, or a preset in its place")
    if matrix_rate is not None and options.lora_rank:
        raise EngineError("bad_options", "adapters are stepped by AdamW; leave matrix_learning_rate out")
    return Schedule(learning_rate=rate, matrix_learning_rate=matrix_rate, precision=options.precision)


def plan(setting: Setting[FitOptions]) -> list[tuple[Share, ...]]:
    """All steps of all epochs, each in passes."""
    options, context = setting.options, context_length(setting.model.config)
    steps = []
    for epoch in range(options.epochs):
        rng = stream(setting.seed, "epoch", str(epoch))
        sequences = training_tokens(
            setting.tokenizer, setting.retain, context=context, answer_weight=options.answer_weight, rng=rng
        )
        steps += [
            shares(step, options.tokens_per_pass) for step in epoch_groups(sequences, options.tokens_per_batch, rng)
        ]
        setting.progress("tokenise", (epoch + 1) / options.epochs, None)
    return steps


def shares(sequences: Sequence[Tokens], tokens_per_pass: int) -> tuple[Share, ...]:
    """One step in passes of similar length; their losses add up to the loss of the step."""
    groups = in_passes(sequences, tokens_per_pass, processes=processes())
    batches = [collate([sequences[i] for i in group]) for group in groups]
    weight = sum(float(batch.weights.sum()) for batch in batches)
    return tuple(Share(batch=batch, weight=weight) for batch in batches)
