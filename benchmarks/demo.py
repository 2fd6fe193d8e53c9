"""How long `expunge demo` takes and how much memory its processes hold together.

    .venv/bin/python benchmarks/demo.py

Memory is the sum of the proportional set sizes of the command and everything it started: pages that processes share
are counted once. It is sampled every five seconds, because adding it up takes processor time of its own. Run this on
a machine that does nothing else.
"""

import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

INTERVAL = 5.0
MIB = 1 << 20


def held(root: psutil.Process) -> int:
    """Bytes held by a process and its descendants now."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def main() -> int:
    """Run the demo in a temporary folder and print the two figures; the demo's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "compliance.cli", "demo", "--json", "--workdir", str(Path(folder) / "work")]
        begun, peak = time.monotonic(), 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            root = psutil.Process(child.pid)
            while child.poll() is None:
                with contextlib.suppress(psutil.Error):
                    peak = max(peak, held(root))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(INTERVAL)
            seconds = time.monotonic() - begun
            result = json.loads(child.stdout.read() if child.stdout else "{}")
    rungs = [batch["predicate"]["method"]["rung"] for batch in result["batches"]]
    print(f"{seconds:.0f} s, peak {peak / MIB:.0f} MiB, batches published by {' and '.join(rungs)}, ok: {result['ok']}")
    machine = f"{platform.machine()}, {psutil.cpu_count()} processors, Python {platform.python_version()}"
    print(f"{machine}, load at the end {psutil.getloadavg()[0]:.1f}")
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
