"""Items in, numbers out: the one place where verification touches a model. Numbers hold no text and may be cached.

One teacher-forced pass over texts and options, one batched greedy generation for passages and one for questions;
every metric is a function of what they return. Numbers are in the order of the items.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.prompts import Pair, cut_answer, few_shot_prompt
from engine.tasks.generation import generate, stop_at_blank_line, stop_at_end
from engine.tasks.language import Forward, TokenScores, token_scores
from engine.tasks.sequences import Tokens, context_length, pack_tokens, passage_tokens, prompt_ids
from engine.verification.items import Items, Passage, Question, Text
from engine.verification.membership import mean_log_prob, min_k, min_k_plus_plus, per_zlib
from engine.verification.muse import normalised, rouge_l

Numbers = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurements:
    """Per item numbers of one model, in the order of the items."""

    verbmem: Numbers = ()
    knowmem_f: Numbers = ()
    correct_f: Numbers = ()
    knowmem_r: Numbers = ()
    margin_f: Numbers = ()
    forget_min_k: Numbers = ()
    holdout_min_k: Numbers = ()
    forget_min_k_plus_plus: Numbers = ()
    holdout_min_k_plus_plus: Numbers = ()
    forget_zlib: Numbers = ()
    holdout_zlib: Numbers = ()
    forget_log_prob: Numbers = ()
    holdout_log_prob: Numbers = ()


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    items: Items,
    options: EvaluateOptions,
    report: Callable[[float], None],
) -> dict[str, Numbers]:
    """Ask a model everything; the fields of `Measurements` by name. `report` is told the fraction that is done."""
    verbatim = continuations(model, tokenizer, items.passages, options.continuation_tokens)
    report(0.4)
    forget = answers(model, tokenizer, items.forget_questions, items.forget_examples, options.answer_tokens)
    retain = answers(model, tokenizer, items.retain_questions, items.retain_examples, options.answer_tokens)
    report(0.7)
    margins = option_margins(model, tokenizer, items.forget_questions, options.tokens_per_batch)
    forgotten = score_texts(model, tokenizer, items.forget_texts, options.tokens_per_batch)
    held_out = score_texts(model, tokenizer, items.holdout_texts, options.tokens_per_batch)
    report(1.0)
    found = Measurements(
        verbmem=verbatim,
        knowmem_f=_rouges(items.forget_questions, forget),
        correct_f=tuple(float(is_correct(q, a)) for q, a in zip(items.forget_questions, forget, strict=True)),
        knowmem_r=_rouges(items.retain_questions, retain),
        margin_f=margins,
        forget_min_k=tuple(min_k(s.log_probs, options.min_k) for s in forgotten),
        holdout_min_k=tuple(min_k(s.log_probs, options.min_k) for s in held_out),
        forget_min_k_plus_plus=_standardised(forgotten, options.min_k),
        holdout_min_k_plus_plus=_standardised(held_out, options.min_k),
        forget_zlib=_compressed(forgotten, items.forget_texts),
        holdout_zlib=_compressed(held_out, items.holdout_texts),
        forget_log_prob=tuple(mean_log_prob(s.log_probs) for s in forgotten),
        holdout_log_prob=tuple(mean_log_prob(s.log_probs) for s in held_out),
    )
    return asdict(found)


def continuations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, items: Sequence[Passage], limit: int
) -> Numbers:
    """VerbMem of each passage."""
    if not items:
        return ()
    room = context_length(model.config) - limit
    if room < 1:
        raise EngineError(
            "bad_options", f"continuation_tokens {limit} leave no room for a prompt in the model's context"
        )
    prompts = prompt_ids(tokenizer, [item.prompt for item in items], room=room)
    stop = stop_at_end(tokenizer)
    outputs = tokenizer.batch_decode(
        generate(model, prompts, limits=[limit] * len(items), stop=stop), skip_special_tokens=True
    )
    truths = [
        str(tokenizer.decode(ids[:limit]))
        for ids in tokenizer([i.truth for i in items], add_special_tokens=False)["input_ids"]
    ]
    return tuple(rouge_l(truth, output) for truth, output in zip(truths, outputs, strict=True))


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    items: Sequence[Question],
    examples: Sequence[Pair],
    limit: int,
) -> list[str]:
    """Greedy answers to the questions after the examples, cut as published."""
    if not items:
        return []
    asked = [few_shot_prompt(examples, item.question) for item in items]
    prompts = prompt_ids(tokenizer, asked, room=context_length(model.config) - limit)
    stop = stop_at_blank_line(tokenizer)
    outputs = generate(model, prompts, limits=[limit] * len(items), stop=stop)
    return [cut_answer(text) for text in tokenizer.batch_decode(outputs, skip_special_tokens=True)]


def is_correct(item: Question, answer: str) -> bool:
    """Whether an answer is one of the true ones after normalisation; no answer never is."""
    given = normalised(answer)
    return bool(given) and given in {normalised(truth) for truth in item.answers}


def option_margins(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, items: Sequence[Question], budget: int
) -> Numbers:
    """RESTOR's option analysis: log-probability a token of the true answer minus the mean of the alternatives.

    Nothing where a question has no alternatives: a mean over some of the questions would be another metric.
    """
    if not all(item.alternatives for item in items):
        return ()
    packs = [[(item.question, option)] for item in items for option in (item.answers[0], *item.alternatives)]
    context = context_length(model.config)
    sequences = pack_tokens(tokenizer, packs, context=context, answer_weight=1.0, prompt_weight=0.0, last_only=True)
    scores = iter([float(s.log_probs.mean()) for s in token_scores(Forward(model), sequences, tokens_per_batch=budget)])
    margins = []
    for item in items:
        true, others = next(scores), [next(scores) for _ in item.alternatives]
        margins.append(true - float(np.mean(others)))
    return tuple(margins)


def score_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, items: Sequence[Text], budget: int
) -> list[TokenScores]:
    """Every token of every text; a text longer than the context is scored in windows that are then joined."""
    windows = passage_tokens(tokenizer, [item.text for item in items], context=context_length(model.config), end=False)
    flat: list[Tokens] = [tokens for text in windows for tokens in text]
    scores = iter(token_scores(Forward(model), flat, tokens_per_batch=budget))
    return [_joined([next(scores) for _ in text]) for text in windows]


def _joined(parts: Sequence[TokenScores]) -> TokenScores:
    return TokenScores(
        log_probs=np.concatenate([part.log_probs for part in parts]),
        hits=np.concatenate([part.hits for part in parts]),
        means=np.concatenate([part.means for part in parts]),
        deviations=np.concatenate([part.deviations for part in parts]),
    )


def _rouges(items: Sequence[Question], given: Sequence[str]) -> Numbers:
    return tuple(
        max(rouge_l(truth, answer) for truth in item.answers) for item, answer in zip(items, given, strict=True)
    )


def _standardised(scores: Sequence[TokenScores], share: float) -> Numbers:
    return tuple(min_k_plus_plus(s.log_probs, s.means, s.deviations, share) for s in scores)


def _compressed(scores: Sequence[TokenScores], items: Sequence[Text]) -> Numbers:
    return tuple(per_zlib(s.log_probs, item.text) for s, item in zip(scores, items, strict=True))
