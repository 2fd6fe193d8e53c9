"""SISA (Bourtoule et al. 2021, arXiv 1912.03817) on adapters: a shard of people, an adapter a shard, one plain model.

    W = W_base + c (alpha / rank) sum over shards of B_k A_k      c = 1 (sum) or 1 / K (mean)

People are dealt to K shards by a hash of seed and person alone, so nobody moves when another leaves. The adapter of a
shard is trained on that shard's records, in an order that a file cannot change, from the public base, under a seed of
its own: it is a function of those records and nothing else, and one kept from an earlier run is bit for bit what
training would give again. So only shards that lost a record are trained, and the model is the one that a person who
left never touched.

The price is accuracy: adapters that never saw each other get in each other's way when they are added, the more the more
they changed. On a model of a million parameters trained from nothing, two shards know no more about their people than
the base does, by mean or by sum (`benchmarks/sisa.py`); the mean never did worse. Gates have to tell, and do.

What is kept is personal data. An adapter is removed once another takes its shard's place, or once anybody it was
trained on is to be forgotten.

Exactness is a statement about requests that do not depend on earlier models. Who asks because of what a model said
chooses the data anew, and then the distributions differ (Gupta et al. 2021, arXiv 2106.04378). Evidence says so.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine import adapters, determinism
from engine.corpus import Record, digest
from engine.digests import code_digest, config_digest
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.refit import refit
from engine.options import FitOptions, SisaOptions
from engine.ranks import processes
from engine.seeds import derive
from engine.training import Fitted, device

CONDITION = "exact for requests that were not chosen by looking at earlier models (arXiv 2106.04378)"
ABOUT = "about"  # one entry, because safetensors writes several in no fixed order


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One shard with records, in an order of their own, and the place of its adapter."""

    number: int
    records: tuple[Record, ...]
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """A shard's adapter; `fresh` where it was trained by this run."""

    matrices: dict[str, Tensor]
    fitted: Fitted
    fresh: bool


def sisa(setting: Setting[SisaOptions]) -> Fitted:
    """Train what shards have no adapter yet, and add all adapters to the base."""
    if not setting.retain:
        raise EngineError("bad_data", "there are no records to train on")
    options = setting.options
    shards = deal(setting)
    learned = []
    for shard in shards:
        learned.append(_kept(shard) or _trained(setting, shard))
        setting.progress("shards", len(learned) / len(shards), None)
    share = 1.0 if options.combine == "sum" else 1.0 / options.shards
    for one in learned:
        adapters.add(setting.model, one.matrices, share * options.lora_alpha / options.lora_rank)
    _forget(setting, shards)
    return _fitted(shards, learned, options)


def deal(setting: Setting[SisaOptions]) -> list[Shard]:
    """The shards that have records; a person is in one of them, whoever else there is."""
    piles: dict[int, list[Record]] = {}
    for record in sorted(setting.retain, key=lambda record: record.record_id):
        piles.setdefault(derive(setting.seed, "shard", record.unit) % setting.options.shards, []).append(record)
    return [_shard(setting, number, tuple(records)) for number, records in sorted(piles.items())]


def _shard(setting: Setting[SisaOptions], number: int, records: tuple[Record, ...]) -> Shard:
    """Its place is named by all that its adapter depends on, in two parts: the records, and the rest."""
    options = dataclasses.asdict(setting.options)
    del options["combine"]
    environment = determinism.environment(torch.get_num_threads())
    rest = [setting.digest, options, setting.seed, number, code_digest(), environment, processes(), device().type]
    name = f"sisa-{config_digest(rest)[:32]}-{digest(records)[:32]}.safetensors"
    return Shard(number=number, records=records, path=setting.cache / name)


def _trained(setting: Setting[SisaOptions], shard: Shard) -> Learned:
    seed = derive(setting.seed, "shard", str(shard.number))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        attached = adapters.attach(setting.model, setting.options, seed=seed)
        if attached is None:
            raise EngineError("bad_options", "sisa trains adapters; lora_rank must be at least 1")
        own = dataclasses.replace(setting, retain=shard.records, seed=seed)
        fitted = refit(cast("Setting[FitOptions]", own))
        matrices = adapters.detach(setting.model, attached)
    learned = Learned(matrices=matrices, fitted=fitted, fresh=True)
    _keep(shard, learned)
    return learned


def _keep(shard: Shard, learned: Learned) -> None:
    losses = [learned.fitted.first_loss, learned.fitted.last_loss]
    about = {"steps": learned.fitted.steps, "losses": losses, "units": sorted(_tags(shard.records))}
    shard.path.parent.mkdir(parents=True, exist_ok=True)
    partial = shard.path.with_suffix(f".partial-{os.getpid()}")  # the processes of a job share a cache
    save_file(learned.matrices, partial, metadata={ABOUT: json.dumps(about)})
    partial.replace(shard.path)


def _kept(shard: Shard) -> Learned | None:
    """The adapter of an earlier run; none where it cannot be read whole."""
    try:
        with safe_open(shard.path, "pt") as file:
            about = json.loads(file.metadata()[ABOUT])
            matrices = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    first, last = about["losses"]
    fitted = Fitted(steps=about["steps"], first_loss=first, last_loss=last)
    return Learned(matrices=matrices, fitted=fitted, fresh=False)


def _forget(setting: Setting[SisaOptions], shards: Sequence[Shard]) -> None:
    """Remove adapters that others replaced, and those that were trained on anybody who is to be forgotten."""
    current = {shard.path for shard in shards}
    lines = {_line(path) for path in current}
    gone = _tags(setting.forget)
    for path in set(setting.cache.glob("sisa-*.safetensors")) - current:
        if _line(path) in lines or _holds(path, gone):
            path.unlink(missing_ok=True)


def _line(path: Path) -> str:
    return path.name.split("-")[1]


def _holds(path: Path, units: set[str]) -> bool:
    """Whether an adapter was trained on any of these people; yes if it does not say."""
    try:
        with safe_open(path, "pt") as file:
            return not units.isdisjoint(json.loads(file.metadata()[ABOUT])["units"])
    except (SafetensorError, KeyError, TypeError, ValueError):
        return True


def _tags(records: Iterable[Record]) -> set[str]:
    return {hashlib.sha256(record.unit.encode()).hexdigest() for record in records}


def _fitted(shards: Sequence[Shard], learned: Sequence[Learned], options: SisaOptions) -> Fitted:
    """Steps that this run took; losses are means over shards, whenever they were trained."""
    fresh = [shard.number for shard, one in zip(shards, learned, strict=True) if one.fresh]
    return Fitted(
        steps=sum(one.fitted.steps for one in learned if one.fresh),
        first_loss=sum(one.fitted.first_loss for one in learned) / len(learned),
        last_loss=sum(one.fitted.last_loss for one in learned) / len(learned),
        details={
            "shards": options.shards,
            "shards_with_records": len(shards),
            "shards_trained": fresh,
            "condition": CONDITION,
        },
    )
