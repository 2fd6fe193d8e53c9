"""How long the desk, the verifier and the command line take to start, each in a fresh process.

    python benchmarks/startup.py [--runs 5]

Prints the median in milliseconds. A bare interpreter is the floor under all of them.
"""

import argparse
import statistics
import subprocess
import sys
import time

STARTS = {
    "python": ["-c", ""],
    "import audits.verify": ["-c", "import audits.verify"],
    "import engine.contract": ["-c", "import engine.contract"],
    "import compliance.api": ["-c", "import compliance.api"],
    "import compliance.workers": ["-c", "import compliance.workers"],
    "expunge --help": ["-m", "compliance.cli", "--help"],
}


def milliseconds(arguments: list[str], runs: int) -> float:
    """The median of `runs` starts; the first one, which may compile, is not counted."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def main() -> None:
    """Print one line for each way to start."""
    parser = argparse.ArgumentParser(description="Measure start-up times.")
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    for name, arguments in STARTS.items():
        print(f"{name:<28} {milliseconds(arguments, runs):7.0f} ms")


if __name__ == "__main__":
    main()
