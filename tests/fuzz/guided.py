"""Fuzzing led by coverage: `python -m tests.fuzz.guided [--runs N] [--seed N] [--target NAME]`.

Atheris (libFuzzer) keeps every input that reaches a new line of `audits` and goes on from there; half of its mutations
are ours, which know the formats. The first byte of an input chooses the target. A fault ends the run with exit code 1
or higher and prints the input. Needs the development extras.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["audits"]):
    from tests.fuzz.everything import targets
    from tests.fuzz.mutation import mutate
    from tests.fuzz.target import LIMIT_S, Target, attack

_LONGEST = 64 * 1024
_LIMIT_S = 10 * LIMIT_S  # counting what is reached costs several times the work itself


def main(arguments: list[str]) -> None:
    """Fuzz until `--runs` are over; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000, help="how many inputs to try")
    parser.add_argument("--seed", type=int, default=0, help="another number, another run")
    parser.add_argument("--target", help="only this one, by its name")
    options = parser.parse_args(arguments)
    chosen = [one for one in targets() if options.target in (None, one.name)]
    if not chosen:
        parser.error(f"there is no target {options.target!r}; there are {', '.join(one.name for one in targets())}")
    with tempfile.TemporaryDirectory() as folder:
        _plant(chosen, Path(folder))
        flags = [
            f"-runs={options.runs}",
            f"-seed={options.seed}",
            f"-max_len={_LONGEST}",
            "-timeout=30",
            f"-artifact_prefix={folder}/",
        ]
        atheris.Setup(
            [sys.argv[0], folder, *flags],
            lambda raw: _one(chosen, raw),
            custom_mutator=lambda raw, longest, seed: _mutated(chosen, raw, longest, seed),
        )
        atheris.Fuzz()


def _plant(chosen: list[Target], folder: Path) -> None:
    """The good inputs, from which everything grows."""
    for number, target in enumerate(chosen):
        for index, raw in enumerate(target.inputs):
            (folder / f"{number}-{index}").write_bytes(bytes([number]) + raw)


def _one(chosen: list[Target], raw: bytes) -> None:
    if raw:
        attack(chosen[raw[0] % len(chosen)], raw[1:], limit=_LIMIT_S)


def _mutated(chosen: list[Target], raw: bytes, longest: int, seed: int) -> bytes:
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    if not raw or rng.random() < 0.5:
        return bytes(atheris.Mutate(raw, longest))
    target = chosen[raw[0] % len(chosen)]
    return (raw[:1] + mutate(rng, raw[1:], target.inputs))[:longest]


if __name__ == "__main__":
    main(sys.argv[1:])
