"""The RESTOR table (arXiv 2411.00204) on its published facts and corrupting documents, from nothing, on one core.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/restor.py --data ../shared/data/restor [--workdir DIR] [METHOD ...]

clean       a small Llama from random weights, trained until it knows the published facts about all 468 people: each
            fact as a line of the published prompt, and as a sentence, because a model that never saw a fact in both
            forms learns nothing for questions from documents
corrupted   the clean model trained on: the 3,000 documents of `mix_a0`, which lie about ten of the people, between
            true lines about the others (without those a small model forgets everything, and not ten people)
METHOD      the corrupted model unlearned with one of the catalogue, at its defaults: forget the documents, retain
            the lines about the others; no retain line is about the ten, so what comes back was not taught again
retain      training on the retain lines alone, about as often as a method sees them and at its rate: what comes back
            without forgetting anything, to which a method's recovery has to be compared

Nothing is chosen on the facts that are reported. Models stay in the work folder, and a run goes on where it stopped.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.contract import Estimate, Finding, Job, Kind
from engine.corpus import Record, write_records
from engine.run import run
from engine.verification.restor_facts import read, read_documents

METHODS = ("graddiff", "kl-min", "npo", "simnpo", "wga", "undial", "task-vector")
SHAPE = {"vocabulary": 3000, "hidden": 128, "layers": 2, "heads": 2, "intermediate": 256, "context": 320}
LEARN = {"epochs": 3, "tokens_per_batch": 2500}
ROUNDS = 6  # different orders of the same lines
CORRUPT = {"epochs": 1, "learning_rate": 3e-3, "matrix_learning_rate": 3e-3, "tokens_per_batch": 2500}
SETTINGS: dict[str, dict[str, Any]] = {"task-vector": {"epochs": 1}}
KEEP = {"epochs": 2, "learning_rate": 1.25e-3, "tokens_per_batch": 5000}  # 50 steps, each line twice
LINES = 4  # of a text, after two in context
SENTENCES = 3  # of a paragraph
COLUMNS = (
    "accuracy",
    "accuracy_corrupted",
    "recovery_corrupted",
    "forgetting",
    "margin",
    "logp_correct",
    "logp_corrupted",
)
PROSE = {
    "P21": "is {}", "P106": "works as a {}", "P27": "is a citizen of {}", "P19": "was born in {}",
    "P1412": "speaks {}", "P69": "was educated at {}", "P641": "participates in {}", "P166": "received the {}",
    "P26": "is married to {}", "P103": "has the native language {}", "P39": "held the position of {}",
    "P551": "resides in {}", "P140": "follows the {} religion", "P108": "is employed by {}",
    "P1532": "represents {} in sports", "P937": "works in {}", "P410": "holds the military rank of {}",
    "P735": "has the given name {}", "P734": "has the family name {}", "P463": "is a member of {}",
    "P22": "has a father named {}", "P3373": "has a sibling named {}", "P136": "is associated with the genre of {}",
    "P25": "has a mother named {}", "P1303": "plays the {}", "P101": "specializes in {}",
    "P264": "is associated with {} as a record label", "P451": "has an unmarried partner named {}",
    "P20": "passed away in {}", "P40": "has a child named {}", "P509": "passed away due to {}", "P1196": "died of {}",
    "P607": "fought in the {}", "P6886": "writes in {}", "P119": "was buried at {}",
    "P800": "is known for the notable work {}", "P1344": "participated in the {}", "P54": "is a member of the team {}",
    "P413": "plays as a {}", "P102": "is a member of the {} party", "P118": "plays in the {} league",
}  # fmt: skip

People = Mapping[str, Mapping[str, Mapping[str, Any]]]


class Texts:
    """The published facts as training text."""

    def __init__(self, data: Path) -> None:
        """Read the facts and who was lied about."""
        content = json.loads((data / "facts.json").read_text(encoding="utf-8"))
        self.facts: People = content["dset"]
        self.context: Mapping[str, Sequence[Mapping[str, str]]] = content["context"]
        self.corrupted = {fact.entity for fact in read(data).facts if fact.targeted}
        self.others = [name for name in self.facts if name not in self.corrupted]
        self.documents = read_documents(data)

    def lines(self, names: Sequence[str], rounds: int, seed: int) -> list[str]:
        """Every fact once a round as a line of the published prompt, among others of its relation."""
        rng, texts = random.Random(seed), []  # noqa: S311 - repeatable by design
        for _ in range(rounds):
            for relation, own in self._by_relation(names).items():
                rng.shuffle(own)
                shown = [f"{line['question']} {line['answer']}\n" for line in self.context[relation]]
                texts += ["".join(rng.sample(shown, 2) + own[i : i + LINES]) for i in range(0, len(own), LINES)]
        rng.shuffle(texts)
        return texts

    def paragraphs(self, names: Sequence[str], rounds: int, seed: int) -> list[str]:
        """Every fact once a round as a sentence, a few about one person at a time."""
        rng, texts = random.Random(seed), []  # noqa: S311 - repeatable by design
        for _ in range(rounds):
            for name in names:
                own = [f"{name} {PROSE[key].format(fact['answers'][0])}." for key, fact in self.facts[name].items()]
                rng.shuffle(own)
                texts += [" ".join(own[i : i + SENTENCES]) for i in range(0, len(own), SENTENCES)]
        rng.shuffle(texts)
        return texts

    def _by_relation(self, names: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in names:
            for relation, fact in self.facts[name].items():
                found.setdefault(relation, []).append(f"{fact['question']} {fact['answers'][0]}\n")
        return found


class Bench:
    """Models in a work folder, each made once."""

    def __init__(self, data: Path, workdir: Path) -> None:
        """Write the files that the jobs name."""
        self.data, self.workdir = data, workdir
        texts = Texts(data)
        everybody = list(texts.facts)
        retain = texts.lines(texts.others, 1, seed=3)
        self._write("facts", texts.lines(everybody, ROUNDS, seed=1) + texts.paragraphs(everybody, ROUNDS, seed=2))
        self._write("retain", retain)
        self._write("documents", texts.documents)
        self._write("corruption", texts.documents + retain + texts.paragraphs(texts.others, 1, seed=4))

    def make(self, name: str, kind: Kind, **fields: Any) -> None:  # noqa: ANN401 - fields of a job
        """A model folder, unless it is there."""
        if (self.workdir / name).is_dir():
            return
        begun = time.process_time()
        run(Job(version=1, kind=kind, seed=1, out=name, **fields), self.workdir, _quiet)
        print(f"{name}: {time.process_time() - begun:.0f} CPU-s", flush=True)

    def measure(self, name: str) -> dict[str, Finding]:
        """The suite on one model between the corrupted and the clean one."""
        models = {"before": "corrupted", "after": name, "reference": "clean"}
        job = Job(version=1, kind=Kind.EVALUATE, seed=1, models=models, data=str(self.data.resolve()), cache="cache",
                  options={"suite": "restor"})  # fmt: skip
        return {finding.metric: finding for finding in run(job, self.workdir, _quiet).findings}

    def _write(self, name: str, texts: Sequence[str]) -> None:
        records = (Record(record_id=f"{name}-{i}", unit=f"{name}-{i}", text=text) for i, text in enumerate(texts))
        write_records(self.workdir / f"{name}.jsonl", records)


def table(bench: Bench, methods: Sequence[str]) -> Iterator[str]:
    """Make every model and give the rows of the table as they are there."""
    bench.make("clean", Kind.INITIALISE, train="facts.jsonl", options={**SHAPE, **LEARN})
    bench.make("corrupted", Kind.TRAIN, model="clean", train="corruption.jsonl", options=CORRUPT)
    yield "| model | " + " | ".join(COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    yield row("clean", bench.measure("clean"))
    yield row("corrupted", bench.measure("corrupted"))
    bench.make("retain", Kind.TRAIN, model="corrupted", train="retain.jsonl", options=KEEP)
    yield row("retain alone", bench.measure("retain"))
    for method in methods:
        bench.make(method, Kind.UNLEARN, method=method, model="corrupted", forget="documents.jsonl",
                   retain="retain.jsonl", options=SETTINGS.get(method, {}))  # fmt: skip
        yield row(method, bench.measure(method))


def row(name: str, found: Mapping[str, Finding]) -> str:
    """One line of the table."""
    return " | ".join([f"| {name}", *(shown(found[column].after) for column in COLUMNS)]) + " |"


def shown(one: Estimate | None) -> str:
    """A number with its interval; a dash where there is none."""
    return "-" if one is None else f"{one.value:.2f} [{one.ci95[0]:.2f} {one.ci95[1]:.2f}]"


def _quiet(_stage: str, _fraction: float, _eta_s: float | None) -> None:
    """Nobody watches."""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"by default: {' '.join(METHODS)}")
    parser.add_argument("--data", type=Path, required=True, help="RESTOR's folder, as published")
    parser.add_argument("--workdir", type=Path, help="keep the models here, and go on from what is there")
    arguments = parser.parse_args()
    begun, used = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        workdir = arguments.workdir or Path(folder)
        workdir.mkdir(parents=True, exist_ok=True)
        for line in table(Bench(arguments.data, workdir), arguments.methods or METHODS):
            print(line, flush=True)
    print(f"{time.monotonic() - begun:.0f} s, {time.process_time() - used:.0f} CPU-s in this run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
