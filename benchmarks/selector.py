"""The projection of the worst-case selector on a million records: at most 0.2 s of one core.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/selector.py

Weights as the selector meets them: a tenth of a million records is to be chosen; uniform weights and binary ones after
steps of several sizes along ranks, and normal values far outside the allowed set. Seconds are of processor time, the
median and the range of seven rounds; it fails where a median is above the limit or a sum is wrong by 1e-6.
"""

import statistics
import time

import numpy as np

from engine.verification.worst_case.simplex import Floats, project

RECORDS, CHOSEN, ROUNDS, LIMIT = 1_000_000, 100_000, 7, 0.2


def main() -> None:
    """Print the figures."""
    for name, values in cases().items():
        seconds = [_seconds(values) for _ in range(ROUNDS)]
        wrong = abs(float(project(values, CHOSEN).sum()) - CHOSEN)
        middle = statistics.median(seconds)
        print(f"{name}: {middle:.3f} s [{min(seconds):.3f} {max(seconds):.3f}], sum wrong by {wrong:.1e}", flush=True)
        if middle > LIMIT or wrong > 1e-6:  # noqa: PLR2004 - stated above
            raise SystemExit(f"{name}: not within {LIMIT} s and 1e-6")


def cases() -> dict[str, Floats]:
    """Weights before a projection, by name."""
    rng = np.random.default_rng(0)
    ranks = rng.permutation(RECORDS) / (RECORDS - 1)
    binary = np.zeros(RECORDS)
    binary[rng.choice(RECORDS, CHOSEN, replace=False)] = 1.0
    return {
        "uniform, step 1": CHOSEN / RECORDS - ranks,
        "random, step 1": binary - ranks,
        "random, step 0.001": binary - 0.001 * ranks,
        "random, step 100": binary - 100 * ranks,
        "normal, deviation 1000": 1000 * rng.normal(size=RECORDS),
    }


def _seconds(values: Floats) -> float:
    started = time.process_time()
    project(values, CHOSEN)
    return time.process_time() - started


if __name__ == "__main__":
    main()
