"""Linear probe: does a layer still hold the answer, whatever the model says?

For each layer a linear classifier reads the hidden state at the last token of a question's prompt (the published
format, no examples), from which the model would begin its answer, and says which of several answers is the true one.
Where all of them begin with the same tokens ("a green cat", "a brown dog") these stand in the prompt too. With h the
state after the layer, divided by its root mean square, and u_a the unit vector of the output head's row for the next
token of answer a,

    x_a = h * u_a, element by element      choice = argmax_a  w . x_a

w = 1 would be the logit lens; w is a logistic regression (L2, C = 0.01, no intercept, features of unit spread) that
tells x_true - x_other from x_other - x_true. Answers that score the same, such as two with the same first token, share
the point, so that guessing scores chance.

What w learns from are *retain* people, whom the model should know; what it is tested on are forgotten ones. So no
person and no answer is in both. (Cross-validated among the forgotten, an ignorant model scores 0: the answers that are
true in training are the false ones in the test, and the other way round.) The answers to choose from are of the same
standing, see `items`; where they name the person asked about, they give it away to any model.

    probe_layer_{l}.accuracy     on forgotten questions; l = 1 is the first block
    probe_layer_{l}.accuracy_r   on retain questions, cross-validated by person: whether there is anything to read
    probe_chance.accuracy        1 / answers to choose from, of the same questions; n is in every finding

The floor is the reference model's probe, not only chance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.prompts import question_prompt
from engine.tasks.sequences import prompt_ids
from engine.verification.attacks.subject import NOT_ASKED, Numbers, Scores, Subject, placed
from engine.verification.items import Question
from engine.verification.statistics import Floats

C = 0.01
MAX_STEPS = 1000
EPSILON = 1e-9

Weights = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The features of the answers of one question in every layer (layers x answers x width); the true one is first."""

    features: Floats


def attack(subject: Subject) -> Scores:
    """The findings named above; nothing where no questions are forgotten."""
    items = subject.items
    if not items.questions:
        return {}
    usable = [i for i, question in enumerate(items.questions) if question.alternatives]
    forgotten = choices(subject, [items.questions[i] for i in usable])
    folds = [choices(subject, [q for q in fold if q.alternatives]) for fold in items.known]
    count, found = len(items.questions), {}
    for layer in range(subject.model.config.num_hidden_layers):
        tested = probe([one for fold in folds for one in fold], forgotten, layer)
        found[f"probe_layer_{layer + 1}.accuracy"] = placed(usable, tested, count)
        found[f"probe_layer_{layer + 1}.accuracy_r"] = _cross_validated(folds, layer)
    chances = [1 / (1 + len(items.questions[i].alternatives)) for i in usable]
    return {**found, "probe_chance.accuracy": placed(usable, chances, count)}


def probe(learnt: Sequence[Choice], tested: Sequence[Choice], layer: int) -> Numbers:
    """What a probe that learnt from some questions picks for others; `NOT_ASKED` with none to learn from."""
    if not learnt:
        return (NOT_ASKED,) * len(tested)
    weights = fitted([choice.features[layer] for choice in learnt])
    return tuple(picked(choice.features[layer] @ weights) for choice in tested)


def fitted(features: Sequence[Floats]) -> Weights:
    """Weights of the features, from questions whose true answer comes first (each answers x width)."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - loaded by probing alone

    differences = np.concatenate([one[:1] - one[1:] for one in features])
    spread = differences.std(axis=0) + EPSILON
    scaled = differences / spread
    labels = np.repeat([1, 0], len(scaled))
    model = LogisticRegression(C=C, fit_intercept=False, max_iter=MAX_STEPS)
    model.fit(np.concatenate([scaled, -scaled]), labels)
    weights: Weights = model.coef_[0] / spread
    return weights


def picked(scores: Floats) -> float:
    """The true answer's share of the best score: 1, or one part of a tie, or 0."""
    best = np.isclose(scores, scores.max(), rtol=0, atol=EPSILON)
    return float(best[0]) / float(best.sum())


@torch.no_grad()
def choices(subject: Subject, asked: Sequence[Question]) -> list[Choice]:
    """Features of every answer of every question, one forward pass a question."""
    head = nn.functional.normalize(subject.model.get_output_embeddings().weight.float(), dim=1)
    result = []
    for ids, following in _prompts(subject, asked):
        told = {"input_ids": torch.tensor([ids], device=head.device), "output_hidden_states": True, "use_cache": False}
        hidden = subject.model.base_model(**told).hidden_states[1:]
        states = torch.stack([state[0, -1] for state in hidden]).float()
        states = states / states.square().mean(dim=1, keepdim=True).sqrt().clamp(min=EPSILON)
        result.append(Choice(features=(states.unsqueeze(1) * head[following]).double().cpu().numpy()))
    return result


def _prompts(subject: Subject, asked: Sequence[Question]) -> Iterator[tuple[list[int], list[int]]]:
    """Each prompt with the beginning that all answers share, and the token that follows it in each answer."""
    texts = [question_prompt(question.question) for question in asked]
    for ids, question in zip(prompt_ids(subject.tokenizer, texts, room=subject.room(1)), asked, strict=True):
        options = [f" {answer}" for answer in (question.answers[0], *question.alternatives)]
        tokens = subject.tokenizer(options, add_special_tokens=False)["input_ids"]
        shared = beginning(tokens)
        yield [*ids, *tokens[0][:shared]], [option[shared] for option in tokens]


def beginning(tokens: Sequence[Sequence[int]]) -> int:
    """How many first tokens all answers share, leaving each at least one."""
    longest = min(map(len, tokens)) - 1
    return next((i for i in range(longest) if len({option[i] for option in tokens}) > 1), longest)


def _cross_validated(folds: Sequence[Sequence[Choice]], layer: int) -> Numbers:
    """Each fold's questions by the probe of the others, in the order of the folds."""
    result: list[float] = []
    for i, fold in enumerate(folds):
        result += probe([one for j, other in enumerate(folds) if j != i for one in other], fold, layer)
    return tuple(result)
