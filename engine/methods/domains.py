"""Approximate domain unlearning (Kawamura et al. 2025, arXiv 2510.08132) and its baselines, on a CLIP.

A class is to stay recognisable in the domains to be remembered, and not in those to be forgotten, by

    L = L_memorize + w L_forget + gamma L_CE(classifier(f), domain) - lambda MMD^2
    L_memorize   cross-entropy of the class, on pictures of the domains that stay
    L_forget     cross-entropy to the uniform distribution over classes, on those to be forgotten

f are a picture's features of length 1, the classifier is one linear layer that is thrown away, and MMD^2
(`engine.methods.domains_losses`) is maximised: domains that lie together cannot be treated apart. What is trained are
prompts beside the frozen CLIP (`engine.guards.prompting`). The paper does not publish kernel, batch or InstaPG's block;
ours are stated where they are defined.

`clip-fit` trains the biases of the text tower's second feed-forward layers and the vision tower's layer norms (Li et
al. 2024, arXiv 2407.00106) on the first two terms: those weights change, and nothing is put beside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel

from engine.corpus import Record
from engine.errors import EngineError
from engine.guards import Beside
from engine.guards.prompting import NOWHERE, Parameters, Prompting, PromptingGuard, Prompts
from engine.methods import Setting
from engine.methods.domains_losses import discrepancy, to_uniform
from engine.options.domains import AduOptions, DomainOptions
from engine.seeds import derive
from engine.tasks.vision_language import (
    Labelled,
    class_names,
    clip_of,
    domain_names,
    eyes,
    image_features,
    labelled,
    logits,
    prompts,
    reader_of,
    shuffled,
    text_features,
)
from engine.training import Fitted, Schedule, accumulate, device, fit


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The steps, and how many domains and classes there are; domains from `kept` on are to be forgotten."""

    steps: tuple[Labelled, ...]
    classes: tuple[str, ...]
    domains: tuple[str, ...]
    kept: int


class Learned(nn.Module):
    """What is trained beside the CLIP: prompts, and the domain classifier, which is thrown away."""

    def __init__(self, told: Parameters, *, width: int, features: int, domains: int, seed: int) -> None:
        super().__init__()
        self.prompts = Prompts(told, width)
        self.prompts.draw(derive(seed, "prompts"))
        self.classifier = nn.Linear(features, domains)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)


def adu(setting: Setting[AduOptions]) -> Fitted:
    """Make the guard; the model is not changed."""
    options, model, reader = setting.options, clip_of(setting.model), reader_of(setting.reader)
    found = plan(setting)
    module: nn.Module = model.requires_grad_(requires_grad=False)
    module.to(device())
    texts = text_features(model, reader, prompts(found.classes))
    learned = Learned(
        parameters_of(options, model),
        width=eyes(model).hidden_size,
        features=int(model.config.projection_dim or 0),
        domains=len(found.domains),
        seed=setting.seed,
    )
    at_work = Prompting(model, learned.prompts)

    def loss(step: Labelled) -> Tensor:
        features = image_features(model, reader, step.images)
        domains = step.domains.to(features.device)
        value = told_apart(logits(model, features, texts), step, found.kept, options.forget_weight)
        if options.disentangle == "on":
            value = value + (options.gamma or 0.0) * functional.cross_entropy(learned.classifier(features), domains)
            value = value - (options.mmd_weight or 0.0) * discrepancy(features, domains)
        return value

    try:
        fitted = _fit(setting, learned, found, loss)
    finally:
        at_work.remove()
        module.to("cpu")
    measured = {"first_loss": fitted.first_loss, "last_loss": fitted.last_loss}
    guard = PromptingGuard(prompts=learned.prompts, measured=measured)
    return Fitted(
        steps=fitted.steps,
        first_loss=fitted.first_loss,
        last_loss=fitted.last_loss,
        guard=Beside(source=setting.folder, guard=guard),
        details={"forgotten_domains": len(found.domains) - found.kept, "domains": len(found.domains)},
    )


def clip_fit(setting: Setting[DomainOptions]) -> Fitted:
    """Tune biases and norms on the first two terms; the model is changed."""
    model, reader = clip_of(setting.model), reader_of(setting.reader)
    found = plan(setting)
    captions = prompts(found.classes)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = tuned(name)

    def loss(step: Labelled) -> Tensor:
        texts = text_features(model, reader, captions)
        scores = logits(model, image_features(model, reader, step.images), texts)
        return told_apart(scores, step, found.kept, setting.options.forget_weight)

    fitted = _fit(setting, model, found, loss)
    model.requires_grad_(requires_grad=True)
    return fitted


def tuned(name: str) -> bool:
    """Whether CLIPFit trains the parameter of this name."""
    if name.startswith("text_model."):
        return name.endswith("mlp.fc2.bias")
    return name.startswith("vision_model.") and "norm" in name


def told_apart(scores: Tensor, step: Labelled, kept: int, forget_weight: float) -> Tensor:
    """L_memorize + w L_forget of logits (rows x classes), each the mean over its own rows; 0 without any."""
    stays = (step.domains < kept).to(scores.device)
    classes = step.classes.to(scores.device)
    right = functional.cross_entropy(scores, classes, reduction="none")
    return _mean(right, stays) + forget_weight * _mean(to_uniform(scores), ~stays)


def _mean(values: Tensor, rows: Tensor) -> Tensor:
    return (values * rows).sum() / rows.sum().clamp(min=1)


def parameters_of(options: AduOptions, model: CLIPModel) -> Parameters:
    """The guard's shape where the options leave it open: as published 9 of 12 blocks, InstaPG before their middle."""
    depth = options.depth or max(1, 3 * eyes(model).num_hidden_layers // 4)
    block = (depth - 1) // 2 if options.block == NOWHERE else options.block
    return Parameters(count=options.prompts, depth=depth, instance=block if options.instance == "on" else NOWHERE)


def plan(setting: Setting[Any]) -> Plan:
    """All steps in advance, drawn with the seed: `batch` pictures of each domain, as few as its rarest allows."""
    options: DomainOptions = setting.options
    stay, leave = domain_names(setting.retain), domain_names(setting.forget)
    if set(stay) & set(leave):
        both = min(set(stay) & set(leave))
        raise EngineError("bad_data", f"the domain {both!r} is in the forget and the retain set; forget all of it")
    if not stay or not leave:
        raise EngineError("bad_data", "domains to forget and domains to remember are both needed")
    domains, classes = (*stay, *leave), class_names(clip_of(setting.model), [*setting.retain, *setting.forget])
    chosen = few(setting, [*setting.retain, *setting.forget])
    known = labelled(chosen, reader_of(setting.reader), classes, domains)
    rows = [[i for i, one in enumerate(known.domains.tolist()) if one == domain] for domain in range(len(domains))]
    steps = [known.at(step) for epoch in range(options.epochs) for step in _epoch(rows, options, setting.seed, epoch)]
    return Plan(steps=tuple(steps), classes=classes, domains=domains, kept=len(stay))


def _epoch(rows: Sequence[Sequence[int]], options: DomainOptions, seed: int, epoch: int) -> list[list[int]]:
    """Each domain once over, in an order of its own; a small domain begins again beside a large one."""
    longest = max(map(len, rows))
    orders = []
    for domain, members in enumerate(rows):
        order = [members[i] for i in shuffled(len(members), seed, "epoch", str(epoch), str(domain))]
        orders.append([order[i % len(order)] for i in range(longest)])
    return [
        [i for order in orders for i in order[start : start + options.batch]]
        for start in range(0, longest, options.batch)
    ]


def few(setting: Setting[Any], records: Sequence[Record]) -> list[Record]:
    """At most `shots` records of each class in each domain, drawn with the seed."""
    shots = setting.options.shots
    groups: dict[tuple[str | None, str | None], list[int]] = {}
    for i in shuffled(len(records), setting.seed, "shots"):
        groups.setdefault((records[i].domain, records[i].label), []).append(i)
    chosen = sorted(i for members in groups.values() for i in (members[:shots] if shots else members))
    return [records[i] for i in chosen]


def _fit(setting: Setting[Any], trained: nn.Module, found: Plan, loss: Callable[[Labelled], Tensor]) -> Fitted:
    def gradient(accelerator: Accelerator, step: Labelled) -> float:
        return accumulate(accelerator, trained, [partial(loss, step)])

    options: DomainOptions = setting.options
    schedule = Schedule(
        learning_rate=options.learning_rate or 0.0, momentum=options.momentum, max_norm=options.max_norm or None
    )
    return fit(
        model=trained,
        batches=found.steps,
        gradient=gradient,
        schedule=schedule,
        stage="unlearn",
        progress=setting.progress,
    )
