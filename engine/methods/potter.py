"""Who's Harry Potter? (Eldan & Russinovich 2023, arXiv 2310.02238): fine-tuning on what a stranger would have said.

1. What the model says on the translated blocks is computed first and kept (features and one head).
2. The model itself is trained further on the forget texts: it becomes the reinforced model.
3. Both give the generic labels of the original blocks (`methods.generic`).
4. The weights are read back from their folder, tensor by tensor, and fine-tuned on original block -> generic labels.
So there is never a second model. Questions stand with their answers in the published prompt format. The retain set
is not used. What the dictionary does not name is forgotten only as far as the reinforced model betrays it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from engine.corpus import Record
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.generic import Base, Block, Relabelled, blocks, generic_labels, relabelled
from engine.methods.known import FEATURES, recall
from engine.methods.refit import Share, refit
from engine.methods.translation import Dictionary
from engine.options import WhpOptions
from engine.prompts import question_prompt
from engine.ranks import processes
from engine.seeds import stream
from engine.tasks.language import Forward
from engine.tasks.sequences import context_length, epoch_groups, in_passes
from engine.training import Fitted, Schedule, device, fit, minimise
from engine.weights import originals


def whp(setting: Setting[WhpOptions]) -> Fitted:
    """Fine-tune the model on generic labels of the forget texts."""
    chosen = _blocks(setting)
    _to_device(setting)
    forward = Forward(setting.model)
    base = _base(setting, forward, chosen)
    reinforced = refit(_reinforcement(setting))
    _to_device(setting)
    sequences = generic_labels(forward, chosen, base, budget=setting.options.tokens_per_pass)
    _restore(setting)
    fitted = _fine_tune(setting, sequences)
    return replace(fitted, steps=reinforced.steps + fitted.steps)


def texts(records: Sequence[Record]) -> list[str]:
    """Passages, and questions with their answers in the published format."""
    joined = (r.text if r.text is not None else question_prompt(r.question or "") + (r.answer or "") for r in records)
    return list(joined)


def _to_device(setting: Setting[WhpOptions]) -> None:
    cast("nn.Module", setting.model).to(device())


def _blocks(setting: Setting[WhpOptions]) -> list[Block]:
    made = blocks(
        setting.tokenizer,
        texts(setting.forget),
        Dictionary(setting.dictionary),
        size=setting.options.block,
        context=context_length(setting.model.config),
    )
    if not made:
        raise EngineError("bad_data", "the records to forget are too short: none has two tokens")
    if not any(block.terms for block in made):
        raise EngineError(
            "bad_data", "no term of the dictionary occurs in the records to forget; name what identifies them"
        )
    return made


def _base(setting: Setting[WhpOptions], forward: Forward, chosen: Sequence[Block]) -> Base:
    known = recall(
        forward,
        [block.counterpart() for block in chosen],
        wanted=(FEATURES,),
        model_digest=setting.digest,
        cache=setting.cache,
        tokens_per_pass=setting.options.tokens_per_pass,
    )
    options = setting.options
    return Base(head=forward.frozen_head(), known=known, alpha=options.alpha, reduction=options.reduction)


def _reinforcement(setting: Setting[WhpOptions]) -> Setting[Any]:
    options = replace(setting.options, epochs=setting.options.reinforce_epochs)
    return replace(setting, retain=setting.forget, options=options)


@torch.no_grad()
def _restore(setting: Setting[WhpOptions]) -> None:
    """The weights as they were; of adapters, which began at nothing, the half that is nothing then."""
    if setting.options.lora_rank:
        for name, parameter in setting.model.named_parameters():
            if ".lora_B." in name:
                parameter.zero_()
        return
    for parameter, before in originals(setting.model, setting.folder):
        parameter.copy_(before)


def _fine_tune(setting: Setting[WhpOptions], sequences: Sequence[Relabelled]) -> Fitted:
    options, forward, rng = setting.options, Forward(setting.model), stream(setting.seed, "generic")
    steps = [
        _shares([sequence for sequence in group if isinstance(sequence, Relabelled)], options.tokens_per_pass)
        for _ in range(options.epochs)
        for group in epoch_groups(sequences, options.tokens_per_batch, rng)
    ]
    rate, matrix_rate = options.learning_rate or 0.0, options.matrix_learning_rate
    return fit(
        model=setting.model,
        batches=steps,
        gradient=minimise(setting.model, lambda share: share.loss(forward)),
        schedule=Schedule(
            learning_rate=rate * options.generic_rate,
            matrix_learning_rate=None if matrix_rate is None else matrix_rate * options.generic_rate,
            precision=options.precision,
        ),
        stage="unlearn",
        progress=setting.progress,
    )


def _shares(sequences: Sequence[Relabelled], tokens_per_pass: int) -> tuple[Share, ...]:
    groups = in_passes(sequences, tokens_per_pass, processes=processes())
    batches = [relabelled([sequences[i] for i in group]) for group in groups]
    weight = sum(float(batch.weights.sum()) for batch in batches)
    return tuple(Share(batch=batch, weight=weight) for batch in batches)
