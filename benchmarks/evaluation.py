"""How much one planned pass and one batched generation save, beside the plain way, in one run.

    python benchmarks/evaluation.py [--data ../shared/data/tofu] [--items 100] [--runs 3] [--parts ab]

A Llama with random weights, one thread, whose CPU seconds are counted, so that neighbours do not. Both sides get the
same token ids and give the same numbers; the run fails where they do not (by 1e-5, relative above 1; generations may
differ only where the two best logits were within 1e-4, and are counted).

(a) Every teacher-forced measure of TOFU's forget set: probability, truth ratio (paraphrase and five wrong answers),
    exact memorisation, extraction strength, and the membership scores loss, zlib, Min-K, Min-K++ and reference
    difference. "Each measure in its own pass" is batches of 32 in the order of the file, padded on the right, logits of
    every position from the model's own forward, log-softmax over the vocabulary, no loop over samples: six forwards
    for the truth ratio, two for the reference difference, one for each other. "Plain fused pass" is one such pass over
    every distinct sequence of both models. "Sorted fused pass" sorts them by length and applies the head at labels
    only; the published peer was measured at 8 to 12 times the time of that one.
(b) KnowMem: 32 new tokens after ten examples, the prompt's examples in every prompt; one by one with a cache, as
    published, beside one batch with a shared beginning.
"""

import argparse
import dataclasses
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from engine.corpus import Record
from engine.methods.pretraining import build_model, build_tokenizer
from engine.options import InitialiseOptions
from engine.prompts import few_shot_prompt
from engine.tasks.generation import Ties, generate, stop_at_blank_line
from engine.tasks.language import Forward, TokenScores, token_scores
from engine.tasks.sequences import Tokens, by_budget, collate, pack_tokens, prompt_ids
from engine.verification import tofu_items
from engine.verification.membership import min_k, min_k_plus_plus, per_zlib
from engine.verification.memorisation import exact_memorisation, extraction_strength
from engine.verification.tofu_items import Asked

Floats = NDArray[np.float64]
Measures = dict[str, Floats]

ROWS = 32  # of a plain batch
SHARE = 0.4
LABEL = -100
SAME = 1e-5
BUDGET = 4096  # padded tokens of a batch


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The forget set as tokens: the answer of each question, its paraphrase and its wrong answers."""

    gold: list[Tokens]
    paraphrase: list[Tokens]
    wrong: list[list[Tokens]]  # one list a place: the first wrong answer of every question, and so on
    texts: list[str]


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description="Time the evaluation of a language model.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tofu"))
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--parts", default="ab")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=8000)
    told = parser.parse_args()
    torch.set_num_threads(1)
    asked = tofu_items.read(told.data, items=told.items)
    tokenizer = learnt(asked.groups.values())
    shape = InitialiseOptions(
        hidden=told.hidden, layers=told.layers, heads=4, intermediate=3 * told.hidden, context=2048
    )
    models = [made(tokenizer, shape, told.vocabulary, seed) for seed in (0, 1)]
    print(f"hidden {told.hidden}, {told.layers} layers, vocabulary {told.vocabulary}, {told.items} questions")
    if "a" in told.parts:
        teacher_forced(models, prepared(tokenizer, asked.groups["forget"]), told.runs)
    if "b" in told.parts:
        knowmem(models[0], tokenizer, asked.groups["forget"], told.runs)


def learnt(groups: Sequence[Sequence[Asked]]) -> PreTrainedTokenizerFast:
    """A tokenizer from all answers, so that tokens are words and not bytes."""
    rows = [row for group in groups for row in group]
    records = [
        Record(record_id=str(i), unit=str(i), text=" ".join((row.question, row.answer, *row.wrong)))
        for i, row in enumerate(rows)
    ]
    return build_tokenizer(records, vocabulary=8000, context=2048)


def made(tokenizer: PreTrainedTokenizerFast, shape: InitialiseOptions, vocabulary: int, seed: int) -> LlamaForCausalLM:
    """Random weights, with the head padded to the vocabulary of a larger model."""
    torch.manual_seed(seed)
    model = build_model(tokenizer, shape)
    model.resize_token_embeddings(vocabulary, mean_resizing=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.08)
    return model.eval()


def prepared(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Asked]) -> Work:
    """The token ids of everything, which neither side is timed on."""

    def packed(answers: Sequence[str]) -> list[Tokens]:
        pairs = [[(row.question, answer)] for row, answer in zip(rows, answers, strict=True)]
        return pack_tokens(tokenizer, pairs, context=2048, answer_weight=1.0, prompt_weight=0.0)

    return Work(
        gold=packed([row.answer for row in rows]),
        paraphrase=packed([row.paraphrase for row in rows]),
        wrong=[packed(list(texts)) for texts in zip(*(row.wrong for row in rows), strict=True)],
        texts=[row.answer for row in rows],
    )


def teacher_forced(models: Sequence[LlamaForCausalLM], work: Work, runs: int) -> None:
    """Compare (a)."""
    everything = [*work.gold, *work.paraphrase, *(one for group in work.wrong for one in group)]
    tokens = sum(map(len, everything)) + sum(map(len, work.gold))
    print(f"(a) {len(everything) + len(work.gold)} sequences, {tokens} tokens")
    separate, fused, in_order, ours = timed(
        runs,
        lambda: each_alone(models, work),
        lambda: plain_fused(models, everything, work.gold),
        lambda: sorted_fused(models, everything, work.gold),
        lambda: together(models, work),
    )
    gaps = {name: gap(separate.value[name], ours.value[name]) for name in ours.value}
    worst = max(gaps, key=lambda name: gaps[name])
    if gaps[worst] > SAME:
        raise SystemExit(f"the two sides differ by {gaps[worst]:.1e} in {worst}")
    print(f"    each measure in its own pass   {separate}")
    print(f"    plain fused pass               {fused}")
    print(f"    sorted fused pass              {in_order}")
    print(f"    one planned pass (ours)        {ours}   identical to {gaps[worst]:.1e}")
    sides = {"own passes": separate, "plain fused": fused, "sorted fused": in_order}
    print("    " + ", ".join(f"{name} / ours {side.least / ours.least:.2f}" for name, side in sides.items()))


def gap(one: Floats, other: Floats) -> float:
    """The largest difference, relative where numbers are above 1."""
    return float((np.abs(one - other) / np.maximum(1, np.abs(one))).max())


class Timed:
    """What a side gave, and its seconds."""

    def __init__(self, value: Measures, seconds: Sequence[float]) -> None:
        """The value of the last run and the seconds of all."""
        self.value, self.seconds, self.least = value, seconds, min(seconds)

    def __str__(self) -> str:
        """Least, median and spread."""
        return f"{self.least:7.2f} s (median {statistics.median(self.seconds):.2f}, most {max(self.seconds):.2f})"


def timed(runs: int, *sides: Callable[[], Measures]) -> list[Timed]:
    """Every side in turn, `runs` times."""
    values: list[Measures] = [{} for _ in sides]
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(runs):
        for i, side in enumerate(sides):
            started = time.process_time()
            values[i] = side()
            seconds[i].append(time.process_time() - started)
    return [Timed(value, spent) for value, spent in zip(values, seconds, strict=True)]


def together(models: Sequence[LlamaForCausalLM], work: Work) -> Measures:
    """Ours: one pass over everything of the model, one over the answers of the reference."""
    model, reference = models
    count = len(work.gold)
    planned = [*work.gold, *work.paraphrase, *(one for group in work.wrong for one in group)]
    spread = [True] * count + [False] * (len(planned) - count)
    scores = token_scores(Forward(model), planned, tokens_per_batch=BUDGET, spread=spread)
    other = token_scores(Forward(reference), work.gold, tokens_per_batch=BUDGET, spread=[False] * count)
    gold, rest = scores[:count], [means(scores[i : i + count]) for i in range(count, len(scores), count)]
    return {
        "probability": np.exp(means(gold)),
        "truth_ratio": np.exp(np.mean(rest[1:], axis=0) - rest[0]),
        "exact": np.array([exact_memorisation(s.hits) for s in gold]),
        "extraction": np.array([extraction_strength(s.hits) for s in gold]),
        "loss": means(gold),
        "zlib": np.array([per_zlib(s.log_probs, text) for s, text in zip(gold, work.texts, strict=True)]),
        "min_k": np.array([min_k(s.log_probs, SHARE) for s in gold]),
        "min_k_plus_plus": np.array([min_k_plus_plus(s.log_probs, s.means, s.deviations, SHARE) for s in gold]),
        "reference": means(gold) - means(other),
    }


def means(scores: Sequence[TokenScores]) -> Floats:
    """Mean log-probability of each sequence."""
    return np.array([s.log_probs.mean() for s in scores])


def each_alone(models: Sequence[LlamaForCausalLM], work: Work) -> Measures:
    """Every measure with forwards of its own, tensor operations over whole batches."""
    model, reference = models
    losses = [over(model, one, mean_of) for one in (work.paraphrase, *work.wrong)]
    return {
        "probability": np.exp(over(model, work.gold, mean_of)),
        "truth_ratio": np.exp(np.mean(losses[1:], axis=0) - losses[0]),
        "exact": over(model, work.gold, exact_of),
        "extraction": over(model, work.gold, extraction_of),
        "loss": over(model, work.gold, mean_of),
        "zlib": over(model, work.gold, sum_of) / [len(zlib.compress(text.encode())) for text in work.texts],
        "min_k": over(model, work.gold, lowest_of),
        "min_k_plus_plus": over(model, work.gold, lowest_standardised_of),
        "reference": over(model, work.gold, mean_of) - over(reference, work.gold, mean_of),
    }


def plain_fused(models: Sequence[LlamaForCausalLM], everything: Sequence[Tokens], gold: Sequence[Tokens]) -> Measures:
    """One forward a sequence and every statistic of it, without anything else that we do."""
    for model, sequences in zip(models, (everything, gold), strict=True):
        over(model, sequences, everything_of)
    return {}


@torch.inference_mode()
def sorted_fused(models: Sequence[LlamaForCausalLM], everything: Sequence[Tokens], gold: Sequence[Tokens]) -> Measures:
    """The same with two of our means: batches of similar length, and no logits where there is no label."""
    for model, sequences in zip(models, (everything, gold), strict=True):
        for group in by_budget(sequences, BUDGET):
            batch = collate([sequences[i] for i in group])
            features = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state[batch.rows, batch.positions]
            lowest_standardised_of(model.lm_head(features)[None], batch.targets[None])
    return {}


@torch.inference_mode()
def over(model: LlamaForCausalLM, sequences: Sequence[Tokens], measure: Callable[[Tensor, Tensor], Tensor]) -> Floats:
    """A measure of logits (rows x tokens x vocabulary) and labels (rows x tokens), 32 sequences at a time."""
    found = []
    for start in range(0, len(sequences), ROWS):
        ids, mask, labels = padded(sequences[start : start + ROWS])
        found.append(measure(model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1], labels))
    return torch.cat(found).double().numpy()


def padded(sequences: Sequence[Tokens]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and labels of the next token, padded on the right."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(one.ids) for one in sequences], batch_first=True)
    weights = torch.nn.utils.rnn.pad_sequence([torch.tensor(one.weights) for one in sequences], batch_first=True)
    lengths = torch.tensor([len(one) for one in sequences])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids, mask, ids[:, 1:].masked_fill(weights[:, 1:] == 0, LABEL)


def taken(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of each label (rows x tokens), 0 where there is none."""
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return -losses.view_as(labels)


def sum_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed log-probability."""
    return taken(logits, labels).sum(1)


def mean_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean log-probability."""
    return taken(logits, labels).sum(1) / (labels != LABEL).sum(1)


def exact_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of labels that are the likeliest."""
    return (logits.argmax(-1) == labels).sum(1) / (labels != LABEL).sum(1)


def extraction_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of labels after the last that is not the likeliest."""
    wrong = (logits.argmax(-1) != labels) & (labels != LABEL)
    places = torch.arange(1, labels.shape[1] + 1)
    after = places[None] > (wrong * places).amax(1, keepdim=True)
    return (after & (labels != LABEL)).sum(1) / (labels != LABEL).sum(1)


def lowest(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean of the lowest share."""
    ordered = scores.masked_fill(labels == LABEL, torch.inf).sort(1).values
    counts = ((labels != LABEL).sum(1).double() * SHARE).long().clamp(min=1)
    return ordered.masked_fill(torch.arange(labels.shape[1]) >= counts[:, None], 0).sum(1) / counts


def lowest_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Min-K."""
    return lowest(taken(logits, labels), labels)


def lowest_standardised_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Min-K++."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    mean = (p * log_p).sum(-1)
    deviation = ((p * log_p.square()).sum(-1) - mean.square()).clamp(min=0).sqrt()
    label = log_p.gather(2, labels.clamp(min=0)[..., None]).squeeze(2)
    return lowest((label - mean) / deviation.clamp(min=1e-6), labels)


def everything_of(logits: Tensor, labels: Tensor) -> Tensor:
    """All statistics at once."""
    return torch.stack(
        [mean_of(logits, labels), exact_of(logits, labels), lowest_standardised_of(logits, labels)], dim=1
    )


def knowmem(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Asked], runs: int) -> None:
    """Compare (b)."""
    shown = [(row.question, row.answer) for row in rows[:10]]
    prompts = prompt_ids(tokenizer, [few_shot_prompt(shown, row.question) for row in rows[10:]], room=2000)
    stop = stop_at_blank_line(tokenizer)
    limits, ties = [32] * len(prompts), Ties()
    alone: list[list[int]] = []
    ours: list[list[int]] = []

    def singly() -> Measures:
        alone[:] = [generate(model, [prompt], limits=[32], stop=stop)[0] for prompt in prompts]
        return {}

    def at_once() -> Measures:
        ours[:] = generate(model, prompts, limits=limits, stop=stop, ties=ties)
        return {}

    plain, batched = timed(runs, singly, at_once)
    different = {i for i, (one, other) in enumerate(zip(alone, ours, strict=True)) if one != other}
    if not different <= ties.prompts:
        raise SystemExit("generations differ where no two logits were near")
    print(f"(b) {len(prompts)} prompts of {sum(map(len, prompts)) / len(prompts):.0f} tokens, ten examples in each")
    print(f"    one by one                     {plain}")
    print(
        f"    one batch (ours)               {batched}   {len(different)} differ, {len(ties.prompts)} had near logits"
    )
    print(f"    one by one / ours {plain.least / batched.least:.2f}")


if __name__ == "__main__":
    main()
