"""All targets, and a number of mutations divided among them."""

from collections.abc import Iterator
from functools import cache

from tests.fuzz import histories, parts, wholes
from tests.fuzz.target import Outcome, Target, run


@cache
def targets() -> tuple[Target, ...]:
    """Every target, by name; made once a process."""
    return (*parts.targets(), *wholes.targets(), *histories.targets())


def divided(total: int) -> list[tuple[Target, int]]:
    """Each target with its part of `total` mutations, by its share, at least one; the sum is at least `total`."""
    shares = sum(one.share for one in targets())
    return [(one, -(-total * one.share // shares)) for one in targets()]


def run_part(total: int, *, part: int, parts: int, seed: int) -> Iterator[tuple[str, Outcome]]:
    """Run part `part` of `parts` of `total` mutations: every target, each with its own numbers."""
    for target, count in divided(total):
        start, stop = count * part // parts, count * (part + 1) // parts
        yield target.name, run(target, count=stop - start, seed=seed, start=start)
