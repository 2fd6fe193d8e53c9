"""Streams of randomness that a job's seed and a name decide, today and in ten years."""

import random

from engine.seeds import derive, stream


def test_a_seed_is_derived_as_documented() -> None:
    """The first 63 bits of SHA-256 over seed and names; a change would make old evidence unrepeatable."""
    assert derive(7, "torch") == 4448794696168513844
    assert derive(7, "a", "b") == 5521140739405985863
    assert stream(7, "cuts").random() == 0.4205338436316176


def test_streams_are_independent() -> None:
    """Another name, another split of names or another seed is another stream."""
    seeds = {derive(7, "a", "b"), derive(7, "ab"), derive(7, "b", "a"), derive(8, "a", "b"), derive(7)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_drawing_from_one_stream_moves_no_other() -> None:
    """Neither another stream nor the global generator."""
    random.seed(1)
    state = random.getstate()
    expected = stream(7, "b").random()
    first = stream(7, "a")
    first.shuffle(list(range(100)))
    assert stream(7, "b").random() == expected
    assert random.getstate() == state
