r"""Prefill: does the answer go on once its first tokens are given?

The prompt is the question alone, followed by the first k tokens of its true answer; the rest is generated greedily,
cut as answers are, and compared with the true rest by ROUGE-L F1. Where only passages are forgotten their true
continuations are prefilled in the same way. An item whose answer has no more than k tokens is not asked.

Relation to extraction strength: with L answer tokens of which at least k must be given until all others are what
the model finds most likely, ES = 1 - k / L. So the prefilled rest is exact, and scores 1, for every k >= (1 - ES) L,
and prefilling is the curve of which ES is one point: it also counts a rest that is nearly right. (Two conditions: the
model ends its answer where the truth ends, and the rest is within `answer_tokens`.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.prompts import cut_answer
from engine.tasks.generation import generate, stop_at_end
from engine.tasks.sequences import context_length, pack_tokens, prompt_ids
from engine.verification.attacks.subject import Numbers, Scores, Subject, placed
from engine.verification.muse import rouge_l


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Token ids of a prompt and of its true answer."""

    prompt: tuple[int, ...]
    truth: tuple[int, ...]


def attack(subject: Subject) -> Scores:
    """`prefill_{k}.rouge_f` of the questions; `prefill_{k}.verbmem_f` of the passages where there are no questions."""
    lengths = sorted(set(subject.options.attack_prefill))
    if subject.items.questions:
        answers = asked(subject)
        return {f"prefill_{k}.rouge_f": _rests(subject, answers, k) for k in lengths}
    passages = continued(subject)
    return {f"prefill_{k}.verbmem_f": _rests(subject, passages, k) for k in lengths if passages}


def asked(subject: Subject) -> list[Answer]:
    """The forgotten questions with their first answers, tokenised jointly as in training."""
    packs = [[(question.question, question.answers[0])] for question in subject.items.questions]
    tokens = pack_tokens(
        subject.tokenizer,
        packs,
        context=context_length(subject.model.config),
        answer_weight=1.0,
        prompt_weight=0.0,
        last_only=True,
    )
    return [_split(t.ids, [weight > 0 for weight in t.weights]) for t in tokens]


def continued(subject: Subject) -> list[Answer]:
    """The forgotten passages from where their prompt ends; the prompt is tokenised as VerbMem does."""
    items, room = subject.items.passages, context_length(subject.model.config)
    heads = prompt_ids(subject.tokenizer, [passage.prompt for passage in items], room=room)
    texts = [f"{passage.prompt} {passage.truth}" for passage in items]
    whole = subject.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    result = []
    for passage, head, ids, offsets in zip(items, heads, whole["input_ids"], whole["offset_mapping"], strict=True):
        rest = [token for token, (_, end) in zip(ids, offsets, strict=True) if end > len(passage.prompt)]
        result.append(Answer(prompt=tuple(head), truth=tuple(rest)))
    return result


def _split(ids: Sequence[int], is_answer: Sequence[bool]) -> Answer:
    """At the first token of the answer; whatever follows the answer (the end token) is dropped."""
    start = is_answer.index(True) if any(is_answer) else len(ids)
    return Answer(prompt=tuple(ids[:start]), truth=tuple(i for i, a in zip(ids, is_answer, strict=True) if a))


def _rests(subject: Subject, answers: Sequence[Answer], given: int) -> Numbers:
    """The score of each rest after `given` tokens."""
    questions = bool(subject.items.questions)
    limit = subject.options.answer_tokens if questions else subject.options.continuation_tokens
    room = subject.room(limit)
    chosen = [i for i, answer in enumerate(answers) if len(answer.truth) > given]
    prompts = [[*answers[i].prompt, *answers[i].truth[:given]][-room:] for i in chosen]
    stop = subject.stop if questions else stop_at_end(subject.tokenizer)
    outputs = subject.decoded(generate(subject.model, prompts, limits=[limit] * len(chosen), stop=stop))
    truths = subject.decoded([answers[i].truth[given:][:limit] for i in chosen])
    rests = [cut_answer(output) if questions else output for output in outputs]
    values = [score(truth.strip(), rest.strip()) for truth, rest in zip(truths, rests, strict=True)]
    return placed(chosen, values, len(answers))


def score(truth: str, given: str) -> float:
    """ROUGE-L F1; an exact rest counts 1 also where ROUGE sees no word in it ("\u00f6", the end of a word)."""
    return 1.0 if given == truth else rouge_l(truth, given)
