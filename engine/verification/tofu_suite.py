"""The suite `tofu`: what it asks of each model, and the findings that the answers allow.

One teacher-forced pass over every answer, paraphrase and wrong answer, with what is known by heart and membership out
of the same, and one greedy generation for all four groups. Means are resampled by author (real authors and facts: by
row), groups apart; model utility is computed anew in each draw, and forget quality with the same draws of authors for
both models. A p-value of resampled data is biased downwards, so its interval leans to that side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.contract import Finding
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.prompts import cut_answer, question_prompt
from engine.seeds import derive
from engine.tasks.generation import generate, stop_at_blank_line
from engine.tasks.language import TokenScores
from engine.tasks.sequences import context_length, prompt_ids
from engine.verification import tofu, tofu_items
from engine.verification.evaluation import Evaluation, Found, Records
from engine.verification.findings import FRACTION, Sample, finding, findings
from engine.verification.items import Items, Question, Text
from engine.verification.measure import Measurements, membership
from engine.verification.memorisation import exact_memorisation, extraction_strength
from engine.verification.passes import Pass
from engine.verification.statistics import Floats, Resampling, resampling
from engine.verification.tofu_items import Asked, Tofu

Numbers = dict[str, tuple[float, ...]]
Said = Mapping[str, tofu.Answers]  # by group


def evaluate(asked: Evaluation, _records: Records) -> Found:
    """Ask every model and compare them."""
    options = asked.options
    items = tofu_items.read(asked.needed(), split=options.split, items=options.items)
    digest = items.digest()

    def ask(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, report: Callable[[float], None]
    ) -> Mapping[str, Sequence[float]]:
        return measure(model, tokenizer, items, options, report)

    measured = {role: asked.numbers(role, digest, ask) for role in asked.folders}
    return Found(
        findings=compare(measured, items, resamples=options.resamples, seed=asked.seed),
        items_digest=digest,
        data_digests={f"tofu/{items.split}": digest},
    )


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    items: Tofu,
    options: EvaluateOptions,
    report: Callable[[float], None],
) -> Numbers:
    """Everything about one model, by `GROUP_loss`, `GROUP_paraphrase`, `GROUP_wrong` (row by row), `GROUP_rouge` ..."""
    said = score(model, tokenizer, items, options)
    report(0.3)
    rows = [(group, row) for group, rows in items.groups.items() for row in rows]
    written = write(model, tokenizer, [row for _, row in rows], options.generated_tokens)
    for (group, row), text in zip(rows, written, strict=True):
        said[f"{group}_rouge"] = (*said.get(f"{group}_rouge", ()), tofu.rouge_recall(row.answer, text))
    return said


def score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, items: Tofu, options: EvaluateOptions) -> Numbers:
    """Everything that is a likelihood, from one pass."""
    planned = Pass(model, tokenizer)
    heart = {"forget": items.groups["forget"], "holdout": items.holdout}
    known = {
        group: planned.answers([(row.question, row.answer) for row in rows], spread=True)
        for group, rows in heart.items()
    }
    plans = {
        (group, name): planned.answers([(row.question, text) for row in rows for text in _wordings(row)[name]])
        for group, rows in items.groups.items()
        for name in ("loss", "paraphrase", "wrong")
    }
    scores = planned.run(options.tokens_per_batch)
    said = {f"{group}_{name}": _losses(scores[plan]) for (group, name), plan in plans.items()}
    for group, rows in heart.items():
        texts = [Text(unit=row.unit, text=row.answer) for row in rows]
        said |= membership(group, scores[known[group]], texts, options.min_k)
    said["extraction_f"] = tuple(extraction_strength(s.hits) for s in scores[known["forget"]])
    said["exact_f"] = tuple(exact_memorisation(s.hits) for s in scores[known["forget"]])
    return said


def write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Asked], limit: int) -> list[str]:
    """The greedy answer to each question, cut where an answer ends."""
    room = context_length(model.config) - limit
    if room < 1:
        raise EngineError(
            "bad_options", f"generated_tokens {limit} leave no room for a question in the model's context"
        )
    prompts = prompt_ids(tokenizer, [question_prompt(row.question) for row in rows], room=room)
    outputs = generate(model, prompts, limits=[limit] * len(rows), stop=stop_at_blank_line(tokenizer))
    return [cut_answer(text) for text in tokenizer.batch_decode(outputs, skip_special_tokens=True)]


def compare(measured: Mapping[str, Numbers], items: Tofu, *, resamples: int, seed: int) -> tuple[Finding, ...]:
    """Findings from the numbers of up to three models."""
    rooms = {
        group: resampling([row.unit for row in rows], resamples=resamples, seed=derive(seed, "resample", group))
        for group, rows in items.groups.items()
    }
    said = {role: _answers(numbers, items) for role, numbers in measured.items()}
    heart, texts = _by_heart(measured, items)
    return (
        *_forget(said, rooms["forget"]),
        _quality(said, rooms["forget"]),
        *_utility(said, rooms),
        *findings(heart, texts, resamples=resamples, seed=seed),
    )


def _wordings(row: Asked) -> dict[str, tuple[str, ...]]:
    return {"loss": (row.answer,), "paraphrase": (row.paraphrase,), "wrong": row.wrong}


def _losses(scores: Sequence[TokenScores]) -> tuple[float, ...]:
    return tuple(-float(s.log_probs.mean()) for s in scores)


def _answers(numbers: Numbers, items: Tofu) -> dict[str, tofu.Answers]:
    read = {name: np.asarray(values, dtype=np.float64) for name, values in numbers.items()}
    return {
        group: tofu.Answers(
            loss=read[f"{group}_loss"],
            paraphrase=read[f"{group}_paraphrase"],
            wrong=read[f"{group}_wrong"].reshape(len(rows), -1),
            rouge=read[f"{group}_rouge"],
        )
        for group, rows in items.groups.items()
    }


def _sample(values: Floats, room: Resampling) -> Sample:
    return Sample(value=float(values.mean()), draws=room.means(values))


def _forget(said: Mapping[str, Said], room: Resampling) -> list[Finding]:
    terms: dict[str, Callable[[tofu.Answers], Floats]] = {
        "probability_f": lambda a: tofu.probability(a, among_options=False),
        "rouge_f": lambda a: a.rouge,
        "truth_ratio_f": lambda a: tofu.forgotten_truth_ratio(tofu.truth_ratio(a)),
    }
    return [
        finding(
            name, {role: _sample(of(groups["forget"]), room) for role, groups in said.items()}, room.n, span=FRACTION
        )
        for name, of in terms.items()
    ]


def _utility(said: Mapping[str, Said], rooms: Mapping[str, Resampling]) -> list[Finding]:
    parts: dict[str, dict[str, Sample]] = {}
    room = {f"{group}_{name}": rooms[group] for group in tofu.UTILITY for name in tofu.COMPONENTS}
    whole = {}
    for role, groups in said.items():
        samples = {name: _sample(values, room[name]) for name, values in tofu.components(groups).items()}
        for name, sample in samples.items():
            parts.setdefault(name, {})[role] = sample
        means = np.array([sample.value for sample in samples.values()])
        draws = np.stack([sample.draws for sample in samples.values()])
        whole[role] = Sample(value=float(tofu.model_utility(means)), draws=tofu.model_utility(draws))
    fewest = min(one.n for one in room.values())
    found = [finding(name, samples, room[name].n, span=FRACTION) for name, samples in parts.items()]
    return [finding("model_utility", whole, fewest, span=FRACTION), *found]


def _quality(said: Mapping[str, Said], room: Resampling) -> Finding:
    """Against the reference; there is no default for it."""
    if "reference" not in said:
        return Finding(metric="forget_quality")
    ratios = {role: tofu.truth_ratio(groups["forget"]) for role, groups in said.items()}
    reference = ratios.pop("reference")
    samples = {}
    for role, ratio in ratios.items():
        draws = [tofu.forget_quality(ratio[drawn], reference[drawn]) for drawn in room.drawn()]
        samples[role] = Sample(value=tofu.forget_quality(ratio, reference), draws=np.array(draws))
    return finding("forget_quality", samples, room.n, span=FRACTION)


def _by_heart(measured: Mapping[str, Numbers], items: Tofu) -> tuple[dict[str, Measurements], Items]:
    """The rest is as in every suite: what is known by heart, and membership where there is a holdout."""
    forget, names = items.groups["forget"], {one.name for one in fields(Measurements)}
    models = {
        role: Measurements(**{name: values for name, values in numbers.items() if name in names})
        for role, numbers in measured.items()
    }
    return models, Items(
        forget_questions=tuple(Question(unit=r.unit, question=r.question, answers=(r.answer,)) for r in forget),
        forget_texts=tuple(Text(unit=row.unit, text=row.answer) for row in forget),
        holdout_texts=tuple(Text(unit=row.unit, text=row.answer) for row in items.holdout),
    )
