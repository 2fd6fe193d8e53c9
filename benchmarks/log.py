"""What the log costs beside the least that any log would cost.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/log.py [--folder DIR] [--only append|proof|verify] [--json]

* append: batches of 256 entries of 200 bytes become durable: their bundle is written and flushed, and the tree has
  them. Beside it, taking turns batch by batch, the same bytes in one new file, written and flushed. Asked: at least
  half the rate. Two more turns also write the hash tiles, and these and a newly signed checkpoint, as a publication
  after every batch would; both are derived, and what a crash takes of them is written again.
* proof: inclusion proofs for random entries of ten million, from the tiles of made-up leaf hashes: by one open reader,
  as the desk keeps it, and by a fresh one for each proof. Asked: under 1 ms.
* verify: a whole log of a million entries of 200 bytes: signature, bundles, root, and every tile. Beside it: the same
  bundle files are read and split into entries by the same strict function, and each entry is hashed once with
  `hashlib.sha256`. Asked: at most 2.5 times that.

Ratios are of sums over a run's turns, with an interval of 95 % by bootstrap over the turns. Needs 700 MB of disk.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audits import checkpoint as checkpoints
from audits import keys, log, merkle, tiles, tiling
from audits.checkpoint import Checkpoint
from audits.disk import Files, put

ORIGIN = "log.example/benchmark"
KEY = keys.generate("log")
ENTRY, BATCH = 200, 256
LAG = 256  # batches between two calls that force everything to the disk, as compliance.ledger.publication has it


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long one call takes by the wall's clock, or by another."""
    started = clock()
    work()
    return clock() - started


def interval(top: Sequence[float], bottom: Sequence[float]) -> list[float]:
    """95 % bootstrap interval of sum(top) / sum(bottom) over pairs."""
    draw, pairs = random.Random(1), list(zip(top, bottom, strict=True))  # noqa: S311 - resampling
    ratios = []
    for _ in range(2000):
        sample = draw.choices(pairs, k=len(pairs))
        ratios.append(sum(one for one, _ in sample) / sum(two for _, two in sample))
    ratios.sort()
    return [round(ratios[50], 3), round(ratios[1949], 3)]


def ratio(top: Sequence[float], bottom: Sequence[float]) -> dict[str, Any]:
    """The ratio of two sums and its interval."""
    return {"ratio": round(sum(top) / sum(bottom), 3), "ci95": interval(top, bottom)}


class Appender:
    """A log's folder, and what one batch does to it: `kept`, with its tiles `tiled`, or `published` at once."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.disk, self.tiling, self.stage = folder, Files(), tiles.Tiling(), stage
        self.batches, self.bytes, self.pending = 0, 0, list[tuple[str, bytes]]()

    def append(self, entries: Sequence[bytes]) -> None:
        """The bundle is durable before anything else is written, and before anything is signed."""
        files = tiles.files_of(self.tiling, [entries])
        path, bundle = next(files)
        self.bytes = len(bundle)
        put(self.disk, self.folder / path, bundle)
        wait = self.disk.flush(self.folder / path)
        self.pending += files  # hashed while the device writes
        wait()
        if self.stage != "kept":
            self.write()
        if self.stage == "published":
            self.publish()
        self.batches += 1
        if self.batches % LAG == 0:
            self.disk.flush_all()

    def write(self) -> None:
        """The tiles that are not written yet."""
        for path, content in self.pending:
            put(self.disk, self.folder / path, content)
        self.pending.clear()

    def publish(self) -> None:
        """Sign the log as it is, and replace the checkpoint."""
        state = Checkpoint(origin=ORIGIN, size=self.tiling.size, root=self.tiling.root())
        put(self.disk, self.folder / "checkpoint", checkpoints.sign(state, KEY).encode())


def plain(path: Path, content: bytes) -> None:
    """The least that keeps the bytes."""
    with path.open("wb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())


def measure_append(folder: Path, batches: int) -> dict[str, Any]:
    """The rates of appending, and of appending and publishing, as parts of that of plain files."""
    logs = {stage: Appender(folder / stage, stage) for stage in ("kept", "tiled", "published")}
    times: dict[str, list[float]] = {name: [] for name in (*logs, "plain")}
    (folder / "plain").mkdir()
    for number in range(batches):
        entries = [os.urandom(ENTRY) for _ in range(BATCH)]
        for stage, one in logs.items():
            times[stage].append(seconds(lambda: one.append(entries)))  # noqa: B023 - called at once
        content = os.urandom(logs["kept"].bytes)
        times["plain"].append(seconds(lambda: plain(folder / "plain" / str(number), content)))  # noqa: B023 - as above
    for stage, one in logs.items():
        one.write()
        one.publish()
        if tiles.check_folder(folder / stage, log.vkey(ORIGIN, KEY.public_key)).size != batches * BATCH:
            sys.exit("the benchmark wrote no log")
    hashing = [seconds(lambda: list(tiles.files_of(tiles.Tiling(), [entries]))) for _ in range(32)]
    medians = {f"{name}_ms": round(1000 * statistics.median(found), 3) for name, found in times.items()}
    return ratio(times["plain"], times["kept"]) | {
        "tiled": ratio(times["plain"], times["tiled"]),
        "published": ratio(times["plain"], times["published"]),
        "batches": batches,
        **medians,
        "hashing_ms": round(1000 * statistics.median(hashing), 3),
        "asked": "at least 0.5",
    }


def measure_proof(folder: Path, size: int, proofs: int) -> dict[str, Any]:
    """How long one inclusion proof takes, from files."""
    started, block = time.perf_counter(), tiling.WIDTH * merkle.HASH_SIZE
    levels = [_synthetic(folder, 0, size, lambda number: random.Random(number).randbytes(block))]  # noqa: S311
    while len(levels[-1]) > 1:
        level, hashes = len(levels), levels[-1]
        content = b"".join(hashes)
        full = _synthetic(folder, level, len(hashes), lambda number: content[number * block : (number + 1) * block])  # noqa: B023
        levels.append(full)
        if len(hashes) < tiling.WIDTH:
            break
    built, draw = time.perf_counter() - started, random.Random(2)  # noqa: S311 - which entries
    kept, found = tiles.TileReader(folder, size), {}
    root = kept.root()
    for name, fresh in (("open", False), ("fresh", True)):
        times, computing = [], []
        for _ in range(proofs):
            reader, index = tiles.TileReader(folder, size) if fresh else kept, draw.randrange(size)
            started, computed = time.perf_counter(), time.process_time()
            path = reader.inclusion_proof(index)
            computing.append(time.process_time() - computed)
            times.append(time.perf_counter() - started)
            leaf = reader.subtree(0, index)
            merkle.verify_inclusion(leaf=leaf, index=index, size=size, proof=path, root=root)
        found[name] = {
            "median_ms": round(1000 * statistics.median(times), 3),
            "p95_ms": round(1000 * sorted(times)[int(0.95 * proofs)], 3),
            "cpu_ms": round(1000 * statistics.median(computing), 3),
        }
    return {"entries": size, "proofs": proofs, **found, "built_s": round(built, 1), "asked": "under 1 ms"}


def _synthetic(folder: Path, level: int, count: int, content: Callable[[int], bytes]) -> list[bytes]:
    """Write a level's tiles; the roots of its full ones."""
    roots = []
    for number, width in tiling.widths(count):
        raw = content(number)[: width * merkle.HASH_SIZE]
        path = folder / tiling.tile_path(level, number, width)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        if width == tiling.WIDTH:
            roots.append(merkle.fold(raw))
    return roots


def measure_verify(folder: Path, size: int, turns: int) -> dict[str, Any]:
    """A whole verification as a multiple of parsing and hashing once."""
    made, blocks = (
        tiles.Tiling(),
        ([os.urandom(ENTRY) for _ in range(min(tiling.WIDTH, size - at))] for at in range(0, size, tiling.WIDTH)),
    )
    for path, content in tiles.files_of(made, blocks):
        put(Files(), folder / path, content)
    state = Checkpoint(origin=ORIGIN, size=size, root=made.root())
    put(Files(), folder / "checkpoint", checkpoints.sign(state, KEY).encode())
    key, full, least = log.vkey(ORIGIN, KEY.public_key), [], []
    _parse_and_hash(folder, size)
    for _ in range(turns):
        least.append(_both(lambda: _parse_and_hash(folder, size)))
        full.append(_both(lambda: tiles.check_folder(folder, key)))
    wall, cpu = (ratio([one[n] for one in full], [one[n] for one in least]) for n in (0, 1))
    return wall | {
        "cpu": cpu,
        "entries": size,
        "turns": turns,
        "verify_s": round(statistics.median(one[0] for one in full), 2),
        "least_s": round(statistics.median(one[0] for one in least), 2),
        "asked": "at most 2.5",
    }


def _both(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the wall and of the processor, for a machine that others use too."""
    spent: list[float] = []
    wall = seconds(lambda: spent.append(seconds(work, time.process_time)))
    return wall, spent[0]


def _parse_and_hash(folder: Path, size: int) -> None:
    hashed = hashlib.sha256
    for block in tiles.read_blocks(folder, size):
        for one in block:
            hashed(one).digest()


def _machine() -> str:
    load = os.getloadavg()[0]
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load {load:.1f}"


def main() -> None:
    """Measure, and print one line for each."""
    parser = argparse.ArgumentParser(description="Measure the log.")
    parser.add_argument("--folder", type=Path, help="where the disk is that is to be measured")
    parser.add_argument("--only", choices=["append", "proof", "verify"])
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the sizes, to try it out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scale = options.scale
    found: dict[str, Any] = {"machine": _machine()}
    measures: dict[str, Callable[[Path], dict[str, Any]]] = {
        "append": lambda folder: measure_append(folder, int(512 * scale)),
        "proof": lambda folder: measure_proof(folder, int(10_000_000 * scale), 1000),
        "verify": lambda folder: measure_verify(folder, int(1_000_000 * scale), 5),
    }
    for name, measure in measures.items():
        if options.only in {None, name}:
            folder = Path(tempfile.mkdtemp(prefix="expunge-log-", dir=options.folder))
            try:
                found[name] = measure(folder)
            finally:
                shutil.rmtree(folder)
            if not options.json:
                print(f"{name:<8} {found[name]}", flush=True)
    print(json.dumps(found) if options.json else found["machine"])


if __name__ == "__main__":
    main()
