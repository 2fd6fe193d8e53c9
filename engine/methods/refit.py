"""Ordinary training on records, and the two methods that are nothing else: `retrain` and `dp2`.

What they may claim is decided by where they start, not by what they do. `retrain` starts from a model that never
saw the forget set; `dp2` starts from a model trained under differential privacy with the data subject as the unit,
so that what the forget set left in it is bounded (post-processing). Neither reads the forget set.
"""

from engine.errors import EngineError
from engine.methods import Setting
from engine.options import FitOptions
from engine.seeds import stream
from engine.tasks.language import Forward, weighted_loss
from engine.tasks.sequences import Batch, context_length, epoch_batches, training_tokens
from engine.training import Fitted, Schedule, fit, minimise


def refit(setting: Setting[FitOptions]) -> Fitted:
    """Train on the retain records; the order and the packs of questions are drawn anew in each epoch."""
    if not setting.retain:
        raise EngineError("bad_data", "there are no records to train on")
    options = setting.options
    forward = Forward(setting.model)
    return fit(
        model=setting.model,
        batches=_plan(setting),
        gradient=minimise(lambda batch: weighted_loss(forward, batch)),
        schedule=Schedule(learning_rate=options.learning_rate, matrix_learning_rate=options.matrix_learning_rate),
        stage="train",
        progress=setting.progress,
    )


def retrain(setting: Setting[FitOptions]) -> Fitted:
    """Train the start (`base`), which never saw the forget set, on the retain set."""
    return refit(setting)


def dp2(setting: Setting[FitOptions]) -> Fitted:
    """Train the DP base on the retain set; the deployed model, which was trained on everything, is discarded."""
    return refit(setting)


def _plan(setting: Setting[FitOptions]) -> list[Batch]:
    options, context = setting.options, context_length(setting.model.config)
    batches = []
    for epoch in range(options.epochs):
        rng = stream(setting.seed, "epoch", str(epoch))
        sequences = training_tokens(
            setting.tokenizer, setting.retain, context=context, answer_weight=options.answer_weight, rng=rng
        )
        batches += epoch_batches(sequences, options.tokens_per_batch, rng)
        setting.progress("tokenise", (epoch + 1) / options.epochs, None)
    return batches
