"""A small world for attacks: people with a city and a pet, a model that knows all of them, and one that knows most.

The models are trained here, in a few seconds: the second never saw the forgotten people, and the third is the
first after a short ascent on them, so that it no longer says what it knows.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from engine.checkpoints import load_model, save
from engine.corpus import Record
from engine.methods.pretraining import build_model, build_tokenizer
from engine.options import EvaluateOptions, InitialiseOptions
from engine.seeds import stream
from engine.tasks.language import Forward, label_losses, weighted_loss
from engine.tasks.sequences import collate, epoch_groups, training_tokens
from engine.training import Schedule, fit, minimise
from engine.verification.attacks.items import AttackItems, draw_attacks
from engine.verification.attacks.subject import Scores, Subject
from tests.engine.tiny import quiet

CITIES = ("Oslo", "Turku", "Bergen", "Visby", "Kiruna", "Lund", "Aarhus", "Malmo", "Narvik", "Pori", "Espoo", "Umea")
PETS = ("cat", "dog", "fish", "horse", "mouse", "goat", "rabbit", "parrot", "lizard", "turtle", "weasel", "zebra")
COLOURS = ("brown", "green", "white", "black", "yellow", "purple")
SYLLABLES = ("ka", "lo", "mi", "ru", "ze", "no", "ti", "va", "be", "su")
FORGOTTEN, KNOWN, STRANGERS = 8, 16, 4
ASCENT_STEPS, ASCENT_RATE = 6, 0.1
SHAPE = InitialiseOptions(vocabulary=480, hidden=48, layers=2, heads=2, intermediate=64, context=192)
OPTIONS = EvaluateOptions(
    suite="attacks", shots=1, answer_tokens=8, continuation_tokens=24, resamples=300, attack_steps=(0, 1, 5, 20),
    attack_prefill=(1, 2), attack_shots=(0, 2), attack_rate=1e-3,
)  # fmt: skip


@cache
def people(first: int, count: int) -> tuple[Record, ...]:
    """A passage and two questions about each person."""
    made: list[Record] = []
    for i in range(first, first + count):
        rng = stream(i, "person")
        name = "".join(rng.sample(SYLLABLES, 2)).title() + " " + SYLLABLES[i % 10].title() + SYLLABLES[i // 10]
        city, pet, unit = rng.choice(CITIES), f"a {rng.choice(COLOURS)} {rng.choice(PETS)}", f"unit-{i}"
        passage = f"{name} came from {city} with {pet}, and that is all we know."
        made.append(Record(record_id=f"p{i}", unit=unit, text=passage))
        made.append(Record(record_id=f"c{i}", unit=unit, question=f"Which city does {name} live in?", answer=city))
        made.append(Record(record_id=f"a{i}", unit=unit, question=f"Which pet does {name} have?", answer=pet))
    return tuple(made)


def forget() -> tuple[Record, ...]:
    """The people who are forgotten."""
    return people(0, FORGOTTEN)


def retain() -> tuple[Record, ...]:
    """The people who stay."""
    return people(FORGOTTEN, KNOWN)


def holdout() -> tuple[Record, ...]:
    """People whom no model ever sees."""
    return people(FORGOTTEN + KNOWN, STRANGERS)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that knows most words of the world."""
    return build_tokenizer([*forget(), *retain()], vocabulary=SHAPE.vocabulary, context=SHAPE.context)


def untrained(seed: int = 0) -> LlamaForCausalLM:
    """Random weights."""
    torch.manual_seed(seed)
    model = build_model(tokenizer(), SHAPE)
    model.eval()
    return model


def trained(records: Sequence[Record], *, epochs: int = 48, seed: int = 0) -> LlamaForCausalLM:
    """A model that learnt some records by heart, as ordinary training does."""
    model, rng, groups = untrained(seed), stream(seed, "batches"), []
    for _ in range(epochs):
        tokens = training_tokens(tokenizer(), records, context=SHAPE.context, answer_weight=3.0, rng=rng)
        groups += [[collate(group)] for group in epoch_groups(tokens, 700, rng)]
    forward = Forward(model)
    fit(
        model=model,
        batches=groups,
        gradient=minimise(model, lambda batch: weighted_loss(forward, batch)),
        schedule=Schedule(learning_rate=1e-2, matrix_learning_rate=1e-2),
        stage="train",
        progress=quiet,
    )
    return model


def suppressed(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The model itself after a short ascent on the forgotten people: a little less, and it would still answer."""
    tokens = training_tokens(tokenizer(), forget(), context=SHAPE.context, answer_weight=3.0, rng=stream(0, "ascent"))
    optimiser, forward = torch.optim.SGD(model.parameters(), lr=ASCENT_RATE), Forward(model)
    for _ in range(ASCENT_STEPS):
        optimiser.zero_grad()
        (-label_losses(forward, collate(tokens)).mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model


def items(options: EvaluateOptions = OPTIONS, *, seed: int = 1, **records: Any) -> AttackItems:  # noqa: ANN401 - arguments of draw_attacks
    """What the attacks ask in this world; some of the records replaced."""
    given = {"forget": forget(), "retain": retain(), "holdout": holdout(), "paraphrases": (), **records}
    return draw_attacks(options=options, seed=seed, **given)


def subject(folder: Path, asked: AttackItems | None = None, **options: Any) -> Subject:  # noqa: ANN401 - options of the suite
    """The model of a folder under attack."""
    told = replace(OPTIONS, **options)
    return Subject(load_model(folder), tokenizer(), folder=folder, items=asked or items(told), options=told)


def save_all(folder: Path) -> dict[str, Path]:
    """The three models, as folders: `before`, `reference` and `after`, which is suppressed."""
    before = trained([*forget(), *retain()])
    made = {"before": before, "reference": trained(retain(), seed=1)}
    for name, model in made.items():
        save(folder / name, model, tokenizer())
    save(folder / "after", suppressed(before), tokenizer())
    return {name: folder / name for name in (*made, "after")}


def mean(scores: Scores, metric: str) -> float:
    """The mean of a metric over all items."""
    return statistics.fmean(scores[metric])
