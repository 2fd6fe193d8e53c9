"""One step of NPO with a KL retain term: ours, and the same with the reference model kept and run at each step.

    .venv/bin/python benchmarks/npo_step.py --data ../shared/data/tofu [--hidden 512 --layers 12 --steps 8]

Each runs in a process of its own, on one thread, on the same random model, the same batches of TOFU's questions (MIT,
arXiv 2401.06121) and with the same optimiser, and all give the same losses (printed, and checked to 1e-4). The other
one is written as one writes it well: no gradients and no dropout in the reference, the head at labels alone in both
models, rows of a batch padded to its longest. `full logits` is the usual way: the head at every position. `our passes`
also has the batch in passes of similar length, as ours has it, so that the reference is all that differs.

The ways take turns, several times over; the time of a step is the least of its repeats, in seconds of processor time,
because other work on the machine only adds to it, and the mean over steps without the first is shown. Memory is the
high-water mark of each process's resident set, the least of its repeats too. What is asked of the reference before
the first step is timed apart: it is paid once, whatever the number of steps.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel

from engine import determinism
from engine.catalogue import check_options
from engine.checkpoints import load_model, load_tokenizer, save
from engine.corpus import Record
from engine.methods import Setting
from engine.methods.descent import cycle, retain_tokens
from engine.methods.examples import forgotten
from engine.methods.preference import npo
from engine.methods.pretraining import build_model, build_tokenizer
from engine.options import InitialiseOptions
from engine.tasks.language import Forward, summed_log_probs
from engine.tasks.sequences import Batch, Tokens, by_budget, collate, in_passes
from engine.training import Schedule, accumulate, fit

Grouping = Callable[[Sequence[Tokens], int], list[list[int]]]

BETA, RATE = 0.1, 1e-4
WAYS = ("ours", "reference kept", "full logits", "our passes")
MIB = 2**20
SAME = 1e-4  # of a loss


@dataclass(kw_only=True, slots=True)
class Clock:
    """When each step ended, as progress tells."""

    started: float = field(default_factory=time.process_time)
    ends: list[float] = field(default_factory=list)

    def tell(self, stage: str, _fraction: float, _eta_s: float | None) -> None:
        """Note the end of a step."""
        if stage == "unlearn":
            self.ends.append(time.process_time())

    def steps(self) -> list[float]:
        """Seconds of each step after the first."""
        return [later - earlier for earlier, later in zip(self.ends, self.ends[1:], strict=False)]


def records(path: Path) -> tuple[Record, ...]:
    """The questions of one of TOFU's files."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(
        Record(record_id=f"{path.stem}-{i}", unit=f"{path.stem}-{i // 20}", question=x["question"], answer=x["answer"])
        for i, x in enumerate(lines)
    )


def setting(folder: Path, data: Path, told: argparse.Namespace, clock: Clock) -> Setting[Any]:
    """Two of TOFU's authors to forget, the other 198 to keep."""
    options = {"forget_batch": told.forget_batch, "retain_batch": told.retain_batch, "retain_term": "kl"}
    rest = {"steps": told.steps, "context_pairs": 0, "learning_rate": RATE, "beta": BETA}
    return Setting(
        model=load_model(folder),
        reader=load_tokenizer(folder),
        forget=records(data / "forget01.json"),
        retain=records(data / "retain99.json"),
        options=check_options("unlearn", "npo", {**options, **rest}),
        seed=1,
        progress=clock.tell,
        folder=folder,
        digest="random",
        cache=folder.parent / "cache",
    )


def with_reference(given: Setting[Any], way: str) -> Any:  # noqa: ANN401 - what `fit` returns
    """NPO + KL as one writes it who keeps the model as it was in memory and asks it at each step."""
    reference = load_model(given.folder).requires_grad_(requires_grad=False)
    read = _everywhere if way == "full logits" else _at_labels
    models = read(given.model), read(reference)

    def piece(batch: Batch, scale: float, *, forget: bool) -> Tensor:
        with torch.no_grad():
            before = models[1](batch)
        now = models[0](batch)
        if forget:
            ratio = _summed(now, batch) - _summed(before, batch)
            return -(2 / BETA) * functional.logsigmoid(-BETA * ratio).sum() * scale
        losses = functional.kl_div(now.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="none")
        return (losses.sum(-1) * batch.weights).sum() * scale

    def gradient(accelerator: Accelerator, step: tuple[list[Batch], list[Batch]]) -> float:
        forget, retain = step
        rows = sum(batch.ids.shape[0] for batch in forget)
        weight = sum(float(batch.weights.sum()) for batch in retain)
        pieces = [partial(piece, batch, 1 / rows, forget=True) for batch in forget]
        pieces += [partial(piece, batch, 1 / weight, forget=False) for batch in retain]
        return accumulate(accelerator, given.model, pieces)

    schedule = Schedule(learning_rate=RATE, cosine=False)
    return fit(
        model=given.model,
        batches=_batches(given, in_passes if way == "our passes" else by_budget),
        gradient=gradient,
        schedule=schedule,
        stage="unlearn",
        progress=given.progress,
    )


def _batches(given: Setting[Any], group: Grouping) -> list[tuple[list[Batch], list[Batch]]]:
    """The steps that `npo` takes: the same sequences, in micro-batches of at most as many tokens."""
    options, made = given.options, []
    pools = {"forget": [example[0] for example in forgotten(given)], "retain": retain_tokens(given)}
    for name, size in (("forget", options.forget_batch), ("retain", options.retain_batch)):
        order = cycle(len(pools[name]), options.steps * size, given.seed, name)
        steps = []
        for i in range(options.steps):
            chosen = [pools[name][j] for j in order[i * size : (i + 1) * size]]
            groups = group(chosen, options.tokens_per_pass)
            steps.append([collate([chosen[j] for j in rows]) for rows in groups])
        made.append(steps)
    return list(zip(*made, strict=True))


def _at_labels(model: PreTrainedModel) -> Any:  # noqa: ANN401 - a function of a batch
    forward = Forward(model)
    return lambda batch: forward.logits(forward.features(batch.ids)[batch.rows, batch.positions])


def _everywhere(model: PreTrainedModel) -> Any:  # noqa: ANN401 - a function of a batch
    return lambda batch: model(input_ids=batch.ids, use_cache=False).logits[batch.rows, batch.positions]


def _summed(logits: Tensor, batch: Batch) -> Tensor:
    return summed_log_probs(functional.cross_entropy(logits, batch.targets, reduction="none"), batch)


def measure(way: str, told: argparse.Namespace) -> dict[str, Any]:
    """Run one way in this process."""
    determinism.begin(seed=1, threads=1)
    clock = Clock()
    given = setting(told.folder, told.data, told, clock)
    weights = sum(p.numel() * p.element_size() for p in given.model.parameters())
    clock.started = time.process_time()
    fitted = npo(given) if way == "ours" else with_reference(given, way)
    seconds = clock.steps()
    return {
        "steps_s": seconds,
        "before_s": clock.ends[0] - clock.started - statistics.median(seconds),
        "peak_mib": _peak_mib(),
        "weights_mib": weights / MIB,
        "losses": [fitted.first_loss, fitted.last_loss],
    }


def _peak_mib() -> float:
    """The most that was resident at once; of this program alone, not of the one that started it."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    message = "the high-water mark is read from /proc, which this system does not have"
    raise SystemExit(message)


def build(folder: Path, data: Path, told: argparse.Namespace) -> None:
    """A Llama with random weights, and a tokenizer that was fitted on TOFU's text."""
    kept = records(data / "retain99.json")
    tokenizer = build_tokenizer(kept, vocabulary=told.vocabulary, context=512)
    shape = {"hidden": told.hidden, "layers": told.layers, "heads": told.hidden // 64, "context": 512}
    options = InitialiseOptions(vocabulary=told.vocabulary, intermediate=told.hidden * 8 // 3, **shape)
    determinism.begin(seed=1, threads=1)
    model: LlamaForCausalLM = build_model(tokenizer, options)
    save(folder, model, tokenizer)


def main() -> None:
    """Measure all ways, each in a child, and print them side by side."""
    told = _arguments()
    if told.way:
        print(json.dumps(measure(told.way, told)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        build(folder, told.data, told)
        repeats = [{way: _child(way, folder) for way in WAYS} for _ in range(told.repeats)]
    _print({way: _best([repeat[way] for repeat in repeats]) for way in WAYS})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a step of NPO with a KL retain term.")
    parser.add_argument("--data", type=Path, required=True, help="a folder with TOFU's forget01 and retain99")
    for name, default in (("hidden", 512), ("layers", 12), ("vocabulary", 4096), ("steps", 5), ("repeats", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--forget-batch", type=int, default=2)
    parser.add_argument("--retain-batch", type=int, default=4)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _child(way: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _best(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What of several runs of the same work other work on the machine disturbed least; before: uncached."""
    return {
        **repeats[0],
        "step_s": statistics.mean(map(min, zip(*(one["steps_s"] for one in repeats), strict=True))),
        "before_s": max(one["before_s"] for one in repeats),
        "peak_mib": min(one["peak_mib"] for one in repeats),
    }


def _print(found: dict[str, dict[str, Any]]) -> None:
    ours, weights = found["ours"], found["ours"]["weights_mib"]
    print(f"{'':<16}{'a step':>9}{'ours takes':>12}{'before':>9}{'peak':>11}{'ours saves':>15}{'last loss':>11}")
    for way, one in found.items():
        saved = (one["peak_mib"] - ours["peak_mib"]) / weights
        print(
            f"{way:<16}{one['step_s']:>7.2f} s{ours['step_s'] / one['step_s']:>12.2f}{one['before_s']:>7.1f} s"
            f"{one['peak_mib']:>7.0f} MiB{saved:>7.2f} weights{one['losses'][-1]:>11.5f}"
        )
    off = max(abs(a / b - 1) for one in found.values() for a, b in zip(ours["losses"], one["losses"], strict=True))
    print(f"weights: {weights:.0f} MiB; losses differ by at most {off:.0e}")
    if off > SAME:
        sys.exit(1)


if __name__ == "__main__":
    main()
