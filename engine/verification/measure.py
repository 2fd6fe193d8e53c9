"""Items in, numbers out: where the suites of passages, questions and texts touch a model. Numbers hold no text.

One teacher-forced pass over texts, answers, continuations and options, one batched greedy generation for passages
and one for questions; every metric is a function of what they return. Numbers are in the order of the items.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.prompts import Pair, cut_answer, few_shot_prompt
from engine.tasks.generation import generate, stop_at_blank_line, stop_at_end
from engine.tasks.language import TokenScores
from engine.tasks.sequences import context_length, prompt_ids
from engine.verification.items import Items, Passage, Question, Text
from engine.verification.membership import mean_log_prob, min_k, min_k_plus_plus, per_zlib
from engine.verification.memorisation import exact_memorisation, extraction_strength
from engine.verification.muse import normalised, rouge_l
from engine.verification.passes import Pass, joined

Numbers = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurements:
    """Per item numbers of one model, in the order of the items."""

    verbmem: Numbers = ()
    knowmem_f: Numbers = ()
    correct_f: Numbers = ()
    knowmem_r: Numbers = ()
    margin_f: Numbers = ()
    extraction_f: Numbers = ()
    exact_f: Numbers = ()
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
    said, space = options.answer_tokens, options.prompt_space
    verbatim = continuations(model, tokenizer, items.passages, options.continuation_tokens, space=space)
    report(0.4)
    forget = answers(model, tokenizer, items.forget_questions, items.forget_examples, said, space=space)
    retain = answers(model, tokenizer, items.retain_questions, items.retain_examples, said, space=space)
    report(0.7)
    likelihoods = score(model, tokenizer, items, options)
    generated = Measurements(
        verbmem=verbatim,
        knowmem_f=_rouges(items.forget_questions, forget),
        correct_f=tuple(float(is_correct(q, a)) for q, a in zip(items.forget_questions, forget, strict=True)),
        knowmem_r=_rouges(items.retain_questions, retain),
    )
    return asdict(generated) | likelihoods


def score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, items: Items, options: EvaluateOptions
) -> dict[str, Numbers]:
    """Everything that is a likelihood, from one pass."""
    planned = Pass(model, tokenizer)
    continued = planned.continuations(items.passages, options.continuation_tokens)
    answered = planned.answers([(q.question, q.answers[0]) for q in items.forget_questions])
    optional = planned.answers(_options(items.forget_questions))
    texts, holdout = planned.texts(items.forget_texts), planned.texts(items.holdout_texts)
    scores = planned.run(options.tokens_per_batch)
    memorised = [*scores[continued], *scores[answered]]
    return {
        "margin_f": _margins(items.forget_questions, scores[optional]),
        "extraction_f": tuple(extraction_strength(s.hits) for s in memorised),
        "exact_f": tuple(exact_memorisation(s.hits) for s in memorised),
        **membership("forget", [joined(scores[s]) for s in texts], items.forget_texts, options.min_k),
        **membership("holdout", [joined(scores[s]) for s in holdout], items.holdout_texts, options.min_k),
    }


def membership(group: str, scores: Sequence[TokenScores], texts: Sequence[Text], share: float) -> dict[str, Numbers]:
    """The membership scores of a group of texts: those of each text alone, the reference's come from two models."""
    return {
        f"{group}_min_k": tuple(min_k(s.log_probs, share) for s in scores),
        f"{group}_min_k_plus_plus": tuple(min_k_plus_plus(s.log_probs, s.means, s.deviations, share) for s in scores),
        f"{group}_zlib": tuple(per_zlib(s.log_probs, t.text) for s, t in zip(scores, texts, strict=True)),
        f"{group}_log_prob": tuple(mean_log_prob(s.log_probs) for s in scores),
    }


def continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    items: Sequence[Passage],
    limit: int,
    *,
    space: str = "joint",
) -> Numbers:
    """VerbMem of each passage."""
    if not items:
        return ()
    room = context_length(model.config) - limit
    if room < 1:
        raise EngineError(
            "bad_options", f"continuation_tokens {limit} leave no room for a prompt in the model's context"
        )
    prompts = _prompts(tokenizer, [item.prompt for item in items], room, space)
    stop = stop_at_end(tokenizer)
    outputs = tokenizer.batch_decode(
        generate(model, prompts, limits=[limit] * len(items), stop=stop), skip_special_tokens=True
    )
    start = isinstance(tokenizer.bos_token_id, int)  # counts as one of the published 128
    truths = [
        str(tokenizer.decode(ids[: limit - start], skip_special_tokens=True))
        for ids in tokenizer([i.truth for i in items], add_special_tokens=False)["input_ids"]
    ]
    return tuple(rouge_l(truth, output) for truth, output in zip(truths, outputs, strict=True))


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    items: Sequence[Question],
    examples: Sequence[Pair],
    limit: int,
    *,
    space: str = "joint",
) -> list[str]:
    """Greedy answers to the questions after the examples, cut as published."""
    if not items:
        return []
    asked = [few_shot_prompt(examples, item.question) for item in items]
    prompts = _prompts(tokenizer, asked, context_length(model.config) - limit, space)
    stop = stop_at_blank_line(tokenizer)
    outputs = generate(model, prompts, limits=[limit] * len(items), stop=stop)
    return [cut_answer(text) for text in tokenizer.batch_decode(outputs, skip_special_tokens=True)]


def _prompts(tokenizer: PreTrainedTokenizerFast, asked: Sequence[str], room: int, space: str) -> list[list[int]]:
    """Prompts without the space they end in, or (`published`) with it."""
    made = prompt_ids(tokenizer, asked, room=room)
    if space == "joint":
        return made
    start = [tokenizer.bos_token_id] if isinstance(tokenizer.bos_token_id, int) else []
    whole = tokenizer(list(asked), add_special_tokens=False)["input_ids"]
    return [[*start, *ids[-max(1, room - len(start)) :]] for ids in whole]


def is_correct(item: Question, answer: str) -> bool:
    """Whether an answer is one of the true ones after normalisation; no answer never is."""
    given = normalised(answer)
    return bool(given) and given in {normalised(truth) for truth in item.answers}


def _options(items: Sequence[Question]) -> list[Pair]:
    """The true answer and the alternatives of each question; nothing where one has none (see `_margins`)."""
    if not all(item.alternatives for item in items):
        return []
    return [(item.question, option) for item in items for option in (item.answers[0], *item.alternatives)]


def _margins(items: Sequence[Question], scores: Sequence[TokenScores]) -> Numbers:
    """RESTOR's option analysis: log-probability a token of the true answer minus the mean of the alternatives.

    Nothing where a question has no alternatives: a mean over some of the questions would be another metric.
    """
    means = iter([float(s.log_probs.mean()) for s in scores])
    if not scores:
        return ()
    return tuple(next(means) - float(np.mean([next(means) for _ in item.alternatives])) for item in items)


def _rouges(items: Sequence[Question], given: Sequence[str]) -> Numbers:
    return tuple(
        max(rouge_l(truth, answer) for truth in item.answers) for item, answer in zip(items, given, strict=True)
    )
