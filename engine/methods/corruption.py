"""ECO (Liu et al. 2024, arXiv 2406.07933): a guard that reads prompts about the forgotten through noise.

1. A classifier learns to tell prompts of the forget set from prompts of the retain set (`methods.judging`).
2. The strength of the corruption is chosen without gradients: the model's mean probability of forget answers is to
   meet a surrogate, what a model that never saw them would give, by central differences (section 4.3 there):
       f(s) = |surrogate - score(s)|      g = (f(s + w) - f(s - w)) / 2 w      s <- max(s - rate g, least)
   The published step has a rate of its own for each model. Here the strength is first doubled until the score is no
   longer above the surrogate, because a score is flat as long as the noise is weak; and the rate is Polyak's, f / g^2,
   which knows that f can be 0, within the last doubling. The best strength that was tried is kept.
No weight changes. What the guard hides is what its classifier recognises.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from engine.corpus import Record
from engine.errors import EngineError
from engine.guards import Beside, scoring
from engine.guards.corruption import PLACES, Corrupting, Corruption, CorruptionGuard, Parameters, chooser
from engine.guards.names import Names, digested
from engine.methods import Setting
from engine.methods.judging import learn
from engine.options import EcoOptions
from engine.prompts import pairs
from engine.seeds import derive
from engine.tasks.language import Forward, label_losses
from engine.tasks.sequences import Tokens, by_budget, collate, context_length, pack_tokens, passage_tokens
from engine.training import Fitted

KEY = 16  # bytes
LABELS = 16  # tokens of a passage that are scored


def eco(setting: Setting[EcoOptions]) -> Fitted:
    """Make the guard; the model is not changed."""
    judge = learn(setting.forget, setting.retain, setting.options, setting.seed)
    setting.progress("judge", 1.0, None)
    names = digested(setting.dictionary, derive(setting.seed, "names").to_bytes(KEY))
    corruption = corruption_of(setting)
    surrogate = _surrogate(setting)
    scored = _Scored(setting, names, corruption)
    strength, tried = search(scored.at, surrogate, setting.options)
    measured = {**judge.measured, "surrogate": surrogate, "score": scored.at(strength), "score_before": scored.plain()}
    told = replace(
        corruption.parameters,
        strength=strength,
        threshold=judge.threshold,
        longest_name=names.longest,
        measured=measured,
    )
    guard = CorruptionGuard(corruption=replace(corruption, parameters=told), classifier=judge.classifier, names=names)
    return Fitted(
        steps=len(tried),
        first_loss=tried[0][1],
        last_loss=min(value for _, value in tried),
        guard=Beside(source=setting.folder, guard=guard),
        details={"strength": strength, **measured},
    )


def search(
    score_at: Callable[[float], float], surrogate: float, options: EcoOptions
) -> tuple[float, list[tuple[float, float]]]:
    """The strength of those tried whose score is nearest to the surrogate, and all of them with their distance."""
    tried: list[tuple[float, float]] = []

    def distance(strength: float) -> float:
        tried.append((strength, abs(surrogate - score_at(strength))))
        return tried[-1][1]

    strength = _doubled(score_at, surrogate, options)
    low, high = strength / 2, strength
    for _ in range(options.search_steps):
        width, f = options.search_width * strength, distance(strength)
        if f <= options.tolerance:
            break
        slope = (distance(strength + width) - distance(strength - width)) / (2 * width)
        if slope == 0:
            break
        strength = min(max(strength - f / slope, low), high)
    return min(tried, key=lambda one: one[1])[0], tried


def _doubled(score_at: Callable[[float], float], surrogate: float, options: EcoOptions) -> float:
    """The first of s, 2 s, 4 s, ... whose score is not above the surrogate; the last, if none is."""
    strength = options.strength
    for _ in range(options.doublings):
        if score_at(strength) <= surrogate:
            return strength
        strength *= 2
    return strength


def corruption_of(setting: Setting[EcoOptions]) -> Corruption:
    """The corruption that the options name, with its noise and its components drawn."""
    options = setting.options
    width = int(torch.as_tensor(setting.model.get_input_embeddings().weight).shape[1])
    if options.count > width:
        raise EngineError("bad_options", f"count must be at most {width}, the width of this model's embeddings")
    count = options.count or width
    generator = torch.Generator().manual_seed(derive(setting.seed, "noise"))
    noise = torch.randn(PLACES, width, generator=generator)
    drawn = torch.randperm(width, generator=generator)[:count].sort().values
    told = Parameters(
        corruption=options.corruption,
        components=options.components,
        count=options.count,
        strength=options.strength,
        threshold=0.0,
    )
    return Corruption(
        parameters=told, noise=noise, chosen=drawn if options.components == "random" else torch.arange(count)
    )


def answers(setting: Setting[EcoOptions], records: Sequence[Record]) -> list[Tokens]:
    """Questions with their answers as labels, and passages with the first tokens of their second half as labels.

    Not the whole half: each token of it is read clean, and what follows would be predicted from those.
    """
    context = context_length(setting.model.config)
    asked = pack_tokens(
        setting.tokenizer, [[pair] for pair in pairs(records)], context=context, answer_weight=1.0, prompt_weight=0.0
    )
    read = [record.text for record in records if record.text is not None]
    windows = (
        window for text in passage_tokens(setting.tokenizer, read, context=context, end=False) for window in text
    )
    halves = [replace(window, weights=_middle(window)) for window in windows]
    return [tokens for tokens in (*asked, *halves) if any(tokens.weights[1:])]


def _middle(window: Tokens) -> tuple[float, ...]:
    half = len(window) // 2
    return tuple(weight if half <= i < half + LABELS else 0.0 for i, weight in enumerate(window.weights))


@torch.no_grad()
def score(forward: Forward, sequences: Sequence[Tokens], budget: int) -> float:
    """The mean over sequences of exp(mean log-probability of the labels): TOFU's probability."""
    values: list[float] = []
    for group in by_budget(sequences, budget):
        batch = collate([sequences[i] for i in group]).to(forward.model.device)
        with scoring(forward.model, batch.ids, batch.rows, batch.positions):
            losses = label_losses(forward, batch).double()
        sums = torch.zeros(len(group), dtype=torch.float64, device=losses.device).index_add(0, batch.rows, losses)
        counts = torch.bincount(batch.rows, minlength=len(group))
        values += (-sums / counts).exp().tolist()
    return math.fsum(values) / len(values)


class _Scored:
    """The score on the forget set under corruption, every prompt corrupted, by strength."""

    def __init__(self, setting: Setting[EcoOptions], names: Names, corruption: Corruption) -> None:
        self.setting, self.corruption = setting, corruption
        self.choose = chooser(setting.tokenizer, names)
        self.forward, self.sequences = Forward(setting.model), answers(setting, setting.forget)
        self.known: dict[float, float] = {}

    def _most(self) -> int:
        return 3 * self.setting.options.search_steps + self.setting.options.doublings + 1

    def plain(self) -> float:
        """The score of the model without corruption."""
        return score(self.forward, self.sequences, self.setting.options.tokens_per_pass)

    def at(self, strength: float) -> float:
        """The score at a strength; nothing is left on the model."""
        if strength not in self.known:
            told = replace(self.corruption.parameters, strength=strength)
            at_work = Corrupting(self.setting.model, replace(self.corruption, parameters=told), self.choose)
            try:
                self.known[strength] = self.plain()
            finally:
                at_work.remove()
            self.setting.progress("strength", len(self.known) / self._most(), None)
        return self.known[strength]


def _surrogate(setting: Setting[EcoOptions]) -> float:
    """What a model that never saw the forget set would score: as given, or as measured on the holdout set."""
    if setting.options.surrogate is not None:
        return setting.options.surrogate
    if not setting.holdout:
        raise EngineError("bad_job", "ECO needs a holdout set, or the option 'surrogate', to know when to stop")
    sequences = answers(setting, setting.holdout)
    return score(Forward(setting.model), sequences, setting.options.tokens_per_pass)
