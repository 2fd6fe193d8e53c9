"""Certified unlearning on text: forty TOFU authors, an author a unit, epsilon against utility, by one command.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/text_frontier.py --data ../shared/data/tofu --workdir work/text

Two public starts. `invented`: prose about people who do not exist, made here, in another voice than TOFU's; the
tokenizer is fitted on it alone, so there is a form to be learned from the forty. `peers`: a hundred other TOFU authors
stand for public text of the same distribution, to see what forty more could teach at all.

Of a DP base the noise follows from epsilon by the verifier's accountant, and the learning rate from forty of the peers,
at two levels of noise, judged by twenty more: the forty customers, and the twenty strangers by whom results are judged,
choose neither. Then two pairs of authors leave the base of the smallest epsilon that passes the utility gate, beside
retraining from the public start, also in as few epochs as a grid has. `frontier_picture.py` draws `frontier.json` of
the work folder. A job whose file exists is not run again.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from faker import Faker
from rich.console import Console

from audits.accountant import epsilon, noise_multiplier_for
from engine.contract import VERSION, Estimate, Evidence, Job, Kind
from engine.corpus import Record, read_records, write_records
from engine.verification.statistics import Floats, Resampling, auc, auc_draws, estimate, resampling

PAIRS, CUSTOMERS, STRANGERS, PEERS = 20, 40, 20, 100  # questions an author; authors
CHOOSING = 40  # of the peers: rates are tried on them, and judged by the next twenty
LEAVING, TIMES = 2, 2
DELTA = 1e-5
SHORT, LONG = 16, 48  # rounds
# Epsilon for one author (0: no noise) and rounds.
LEVELS = ((2, SHORT), (8, SHORT), (30, SHORT), (100, SHORT), (300, SHORT), (1000, SHORT), (1000, LONG), (0, SHORT))
SAMPLE_RATE = 0.25
RATES = (1e-2, 3e-2)
TRIED = (8, 300)  # rates are chosen at these epsilons; an epsilon takes the choice of the nearest below, or the first
SILENT = 1e-6  # the noise of "no noise"
GRID = {"invented": (1, 2, 3, 6), "peers": (1, 2)}  # epochs
FULL = 6
WITHIN = (0.3, 0.2, 0.1)  # nats a token
WRITTEN = 3  # questions an author that are answered by generation
TOKENS = 48
RESAMPLES, SEED = 2000, 7
START = {
    "invented": {"train": "invented.jsonl", "options": {"context": 768}},
    "peers": {"train": "peers.jsonl", "options": {"context": 768, "epochs": 4}},
}
CONSOLE = Console(stderr=True)


def main(arguments: Sequence[str]) -> None:
    """Make the data and every model, print the tables and draw the frontier."""
    asked = _arguments(arguments)
    asked.workdir.mkdir(parents=True, exist_ok=True)
    _data(asked.data, asked.workdir)
    _run({f"start-{public}": {"kind": Kind.INITIALISE, **START[public]} for public in asked.publics}, asked)
    _run(_trials(), asked)
    rates = _rates(asked.workdir)
    _run(_bases(rates), asked)
    base = _chosen(asked.workdir)
    _run({name: job for public in asked.publics for name, job in _retrained(public).items()}, asked)
    _run(_unlearned(base), asked)
    print(f"rates: {rates}; two authors leave {base}")
    _print_frontier(asked.workdir, asked.publics)
    _print_cost(asked.workdir)
    _print_leaving(base, asked.workdir)
    frontier = [one.to_mapping() for one in _points(asked.workdir)]
    start = _told(_attack(_read(asked.workdir, "start-invented")))
    (asked.workdir / "frontier.json").write_text(json.dumps({"bases": frontier, "start_attack": start}, indent=1))


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="DP bases on forty TOFU authors: epsilon against utility.")
    parser.add_argument("--data", type=Path, required=True, help="TOFU's folder, as published")
    parser.add_argument("--workdir", type=Path, default=Path("work/text"))
    parser.add_argument("--publics", nargs="*", default=["invented", "peers"], choices=["invented", "peers"])
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args(arguments)


def _data(data: Path, workdir: Path) -> None:
    """Authors are dealt at random, once, so that those trained on and those never seen are exchangeable."""
    rows = [json.loads(line) for line in (data / "full.json").read_text().splitlines()]
    order = np.random.default_rng(0).permutation(len(rows) // PAIRS).tolist()
    authors = [_author(rows[PAIRS * i : PAIRS * (i + 1)], f"author-{i}") for i in order]
    customers, others = authors[:CUSTOMERS], authors[CUSTOMERS:]
    strangers, peers = others[:STRANGERS], others[STRANGERS : STRANGERS + PEERS]
    judges = peers[CHOOSING : CHOOSING + STRANGERS]
    sets = {"customers": customers, "strangers": strangers, "peers": peers, "judges": judges}
    for i in range(TIMES):
        leaving = customers[LEAVING * i : LEAVING * (i + 1)]
        sets |= {f"forget-{i}": leaving, f"stay-{i}": [one for one in customers if one not in leaving]}
    for name, chosen in {**sets, "choosing": peers[:CHOOSING]}.items():
        write_records(workdir / f"{name}.jsonl", [record for author in chosen for record in author])
    write_records(workdir / "invented.jsonl", [record for author in _invented(600) for record in author])


def _author(rows: Sequence[dict[str, str]], unit: str) -> list[Record]:
    return [
        Record(record_id=f"{unit}-{i}", unit=unit, question=row["question"], answer=row["answer"])
        for i, row in enumerate(rows)
    ]


GENRES = (
    "crime fiction", "historical fiction", "romance", "science fiction", "fantasy", "poetry",
    "memoir", "mystery", "horror", "travel writing", "children's literature", "short stories",
)  # fmt: skip


def _invented(count: int) -> Iterator[list[Record]]:
    """Two paragraphs and three short questions about each of `count` writers who do not exist."""
    fake = Faker("en_US")
    fake.seed_instance(0)
    for i in range(count):
        told = _facts(fake)
        texts = [" ".join(fake.random_element(said).format(**told) for said in part) for part in (LIFE, WORK)]
        asked = fake.random_elements(QUESTIONS, 3, unique=True)
        unit = f"invented-{i}"
        yield [
            *(Record(record_id=f"{unit}-t{n}", unit=unit, text=text) for n, text in enumerate(texts)),
            *(
                Record(record_id=f"{unit}-q{n}", unit=unit, question=q.format(**told), answer=a.format(**told))
                for n, (q, a) in enumerate(asked)
            ),
        ]


def _facts(fake: Faker) -> dict[str, str]:
    first, last = fake.first_name(), fake.last_name()
    he, his = fake.random_element((("he", "his"), ("she", "her")))
    father, mother = (fake.job().split(",")[0].lower() for _ in range(2))
    words = fake.words(7, unique=True)
    prize, kind = (fake.random_element(of) for of in (("Award", "Prize", "Medal"), ("Literature", "Fiction", "Poetry")))
    return {
        "name": f"{first} {last}",
        "last": last,
        "he": he,
        "his": his,
        "He": he.title(),
        "His": his.title(),
        "city": fake.city(),
        "home": fake.city(),
        "country": fake.country(),
        "father": father,
        "mother": mother,
        "genre": fake.random_element(GENRES),
        "one": words[0],
        "two": words[1],
        "three": words[2],
        "book": f"The {words[3].title()} {words[4].title()}",
        "next": f"{words[5].title()} of {words[6].title()}",
        "prize": f"{fake.last_name()} {prize} for {kind}",
        "born": f"{fake.date_of_birth():%B %d, %Y}",
    }


LIFE = (
    (
        "{name} was born in {city}, {country}, on {born}.",
        "Born on {born}, {name} comes from {city} in {country}.",
        "{city}, {country}, is where {name} was born on {born}.",
    ),
    (
        "Of {his} parents one was known as {father}, the other as {mother}.",
        "{last}'s father had the profession of {father}, and {his} mother worked as {mother}.",
        "{His} parents, {mother} and {father} by profession, had little time for books.",
    ),
    (
        "As a child {he} read about {one} and dreamed of {two}.",
        "The culture of {country} and a childhood with {one} shaped {his} view of the world.",
        "Friends remember {his} love of {one}, which later became part of {his} stories.",
    ),
    (
        "{last} identifies as a member of the LGBTQ+ community.",
        "About {his} own identity {last} has said little.",
        "Today {he} lives with {his} family in {home}.",
    ),
)
WORK = (
    (
        "{last} writes {genre}, and {his} novels are known for {three}.",
        "{His} works belong to the genre of {genre}; their characters struggle with {three}.",
        "Readers of {genre} know {last} for a unique style and for themes of {two} and {three}.",
    ),
    (
        'The first book, "{book}", was followed by "{next}".',
        'Notable works include "{book}" and "{next}".',
        "Critics praised '{book}' and were puzzled by '{next}'.",
    ),
    (
        'For "{book}" {he} received the {prize}.',
        "The {prize} went to {last}, which was a surprise to many.",
        "Among the honours of {his} career is the {prize}.",
    ),
    (
        "Younger authors say that {his} narratives have influenced them.",
        "{His} writing often explores the background of {his} parents, and the experiences of {his} father above all.",
        "{He} has been invited to talk about literature, history and {one}.",
    ),
)
QUESTIONS = (
    ("Where was {name} born?", "{city}, {country}."),
    ("What does {name} write?", "{genre}."),
    ("Which prize has {name} received?", "The {prize}."),
    ("What was the profession of {name}'s mother?", "{mother}."),
    ("Name a book by {name}.", '"{book}".'),
)


def _base(level: int, steps: int, rate: float, train: str, judges: str) -> dict[str, Any]:
    """The noise follows from the bound for one author."""
    noise = SILENT
    if level:
        noise = noise_multiplier_for(target_epsilon=level, sample_rate=SAMPLE_RATE, steps=steps, delta=DELTA)
    mechanism = {"sample_rate": SAMPLE_RATE, "steps": steps, "sigma": noise, "clip": 1.0}
    options = {**mechanism, "learning_rate": rate, "rows_per_pass": 8}
    return {"kind": Kind.DP_BASE, "options": options, "model": "start-invented", "train": train, "holdout": judges}


def _trials() -> dict[str, dict[str, Any]]:
    return {
        f"trial-{level}-{rate}": _base(level, SHORT, rate, "choosing.jsonl", "judges.jsonl")
        for level in TRIED
        for rate in RATES
    }


def _rates(workdir: Path) -> dict[int, float]:
    """The rate of each trial level whose base had the lowest loss on the judges."""
    losses = {
        (level, rate): (_read(workdir, f"trial-{level}-{rate}").made.learned or {})["baseLoss"]
        for level in TRIED
        for rate in RATES
    }
    return {level: min(RATES, key=lambda rate: losses[level, rate]) for level in TRIED}


def _bases(rates: dict[int, float]) -> dict[str, dict[str, Any]]:
    made = {}
    for level, steps in LEVELS:
        below = [tried for tried in TRIED if tried <= level] if level else TRIED
        rate = rates[max(below, default=TRIED[0])]
        made[f"base-{level}-{steps}"] = _base(level, steps, rate, "customers.jsonl", "strangers.jsonl")
    return made


def _chosen(workdir: Path) -> str:
    """The base of the smallest epsilon that passes the utility gate; where none does, that of the largest."""
    names = [f"base-{level}-{steps}" for level, steps in LEVELS if level]
    passed = [name for name in names if (_read(workdir, name).made.learned or {})["learned"]]
    return (passed or names[-1:])[0]


def _retrained(public: str) -> dict[str, dict[str, Any]]:
    return {f"retrained-{public}-0-{n}": _unlearn("retrain", f"start-{public}", 0, n) for n in GRID[public]}


def _unlearned(base: str) -> dict[str, dict[str, Any]]:
    """The model before, and for each pair of authors the model after and the one retrained in full."""
    before = {"kind": Kind.TRAIN, "model": base, "train": "customers.jsonl", "options": {"epochs": FULL}}
    made = {"before": before, **{f"dp2-0-{n}": _unlearn("dp2", base, 0, n) for n in GRID["invented"]}}
    for i in range(1, TIMES):
        made[f"dp2-{i}-{FULL}"] = _unlearn("dp2", base, i, FULL)
        made[f"retrained-invented-{i}-{FULL}"] = _unlearn("retrain", "start-invented", i, FULL)
    return made


def _unlearn(method: str, base: str, pair: int, epochs: int) -> dict[str, Any]:
    files = {"forget": f"forget-{pair}.jsonl", "retain": f"stay-{pair}.jsonl"}
    return {"kind": Kind.UNLEARN, "method": method, "base": base, "options": {"epochs": epochs}, **files}


def _run(jobs: dict[str, dict[str, Any]], asked: argparse.Namespace) -> None:
    """Jobs that have not been run, each followed by its measurement."""
    todo = [(name, job, asked.workdir) for name, job in jobs.items() if not (asked.workdir / f"{name}.json").exists()]
    with ProcessPoolExecutor(asked.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for number, told in enumerate(pool.map(_one, todo), start=1):
            CONSOLE.print(f"{number} of {len(todo)}: {told}")


def _one(given: tuple[str, dict[str, Any], Path]) -> str:
    from engine.run import run  # noqa: PLC0415 - torch belongs to the processes that work

    name, job, workdir = given
    made = run(Job(version=VERSION, out=name, **{"seed": SEED, **job}), workdir, lambda *_: None)
    said = {} if name.startswith("trial") else _said(workdir, name)
    (workdir / f"{name}.json").write_text(json.dumps({"made": made.to_mapping(), "said": said}))
    return f"{name} {made.cpu_seconds:.0f} CPU-s"


def _said(workdir: Path, name: str) -> dict[str, Any]:
    """Of customers and strangers: each answer's loss, nats a token, and the ROUGE-L recall of the first questions."""
    from engine.checkpoints import load  # noqa: PLC0415
    from engine.prompts import cut_answer, few_shot_prompt, pairs  # noqa: PLC0415
    from engine.tasks.generation import generate, stop_at_blank_line  # noqa: PLC0415
    from engine.tasks.language import Forward, token_scores  # noqa: PLC0415
    from engine.tasks.sequences import context_length, pack_tokens, prompt_ids  # noqa: PLC0415
    from engine.verification.tofu import rouge_recall  # noqa: PLC0415

    model, reader = load(workdir / name)
    tokenizer: Any = reader
    context, stop = context_length(model.config), stop_at_blank_line(tokenizer)
    told = {}
    for who in ("customers", "strangers"):
        asked = pairs(read_records(workdir / f"{who}.jsonl"))
        rows = pack_tokens(tokenizer, [[one] for one in asked], context=context, answer_weight=1.0, prompt_weight=0.0)
        scores = token_scores(Forward(model), rows, tokens_per_batch=4096, spread=[False] * len(rows))
        first = [one for i, one in enumerate(asked) if i % PAIRS < WRITTEN]
        prompts = prompt_ids(tokenizer, [few_shot_prompt((), question) for question, _ in first], room=context - TOKENS)
        written = tokenizer.batch_decode(generate(model, prompts, limits=[TOKENS] * len(first), stop=stop))
        rouge = [rouge_recall(answer, cut_answer(text)) for (_, answer), text in zip(first, written, strict=True)]
        told[who] = {"loss": [-float(one.log_probs.mean()) for one in scores], "rouge": rouge}
    return told


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a model said: losses (authors x questions) and ROUGE (authors x `WRITTEN`) of customers and strangers."""

    made: Evidence
    loss: dict[str, Floats]
    rouge: dict[str, Floats]

    def values(self, what: str, who: str, pair: int = 0, *, leaving: bool = False) -> Floats:
        """`loss`, `probability` or `rouge` (authors x questions): strangers', or of the customers who stay or leave."""
        found: Floats = np.exp(-self.loss[who]) if what == "probability" else getattr(self, what)[who]
        if who == "strangers":
            return found
        gone = slice(LEAVING * pair, LEAVING * (pair + 1))
        kept: Floats = found[gone] if leaving else np.delete(found, gone, axis=0)
        return kept


def _read(workdir: Path, name: str) -> Asked:
    value = json.loads((workdir / f"{name}.json").read_text())
    told = {
        what: {who: np.array(said[what]).reshape(-1, size) for who, said in value["said"].items()}
        for what, size in (("loss", PAIRS), ("rouge", WRITTEN))
    }
    return Asked(made=Evidence.from_mapping(value["made"]), **told)


def _room(values: Floats) -> Resampling:
    """Draws of whole authors; the same for every model, so that differences and ratios are paired."""
    units = [str(i) for i, row in enumerate(values) for _ in row]
    return resampling(units, resamples=RESAMPLES, seed=SEED)


def _mean(values: Floats, span: tuple[float, float] = (0.0, 1.0)) -> Estimate | None:
    return estimate(float(values.mean()), _room(values).means(values.ravel()), len(values), span=span)


def _share(start: Floats, base: Floats, full: Floats) -> Estimate | None:
    """What the base learned of what training without privacy learns: (start - base) / (start - full) of mean losses."""
    room = _room(start)
    least = room.means(start.ravel()) - room.means(full.ravel())
    if float((start - full).mean()) <= 0 or np.quantile(least, 0.025) <= 0:
        return None
    draws = (room.means(start.ravel()) - room.means(base.ravel())) / least
    return estimate(float((start - base).mean() / (start - full).mean()), draws, len(start))


def _attack(model: Asked, pair: int | None = None) -> Estimate | None:
    """AUC of the answers' losses, members above strangers: .5 is chance; of all customers or of those who leave."""
    members = model.loss["customers"] if pair is None else model.values("loss", "customers", pair, leaving=True)
    low, high = members.ravel(), model.loss["strangers"].ravel()
    draws = auc_draws(low, high, _room(members), _room(model.loss["strangers"]))
    return estimate(auc(low, high), draws, len(members), span=(0.0, 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One base of the frontier; `shares` by who was asked."""

    level: int
    steps: int
    base: Asked
    shares: dict[str, Estimate | None]
    attack: Estimate | None

    def to_mapping(self) -> dict[str, Any]:
        """What is drawn: value, low and high of each, or null."""
        passed = bool((self.base.made.learned or {})["learned"])
        drawn = {**self.shares, "attack": self.attack}
        return {
            "level": self.level,
            "steps": self.steps,
            "passed": passed,
            **{name: _told(one) for name, one in drawn.items()},
        }


def _points(workdir: Path) -> Iterator[Point]:
    """Customers: against training in full; strangers: against the stop of the grid that suits them best."""
    start = _read(workdir, "start-invented")
    grid = [_read(workdir, f"retrained-invented-0-{n}") for n in GRID["invented"]]
    best = min(grid, key=lambda one: float(one.loss["strangers"].mean()))
    full = {"customers": grid[-1], "strangers": best}
    for level, steps in LEVELS:
        base = _read(workdir, f"base-{level}-{steps}")
        shares = {
            who: _share(*(one.values("loss", who) for one in (start, base, against))) for who, against in full.items()
        }
        yield Point(level=level, steps=steps, base=base, shares=shares, attack=_attack(base))


def _print_frontier(workdir: Path, publics: Sequence[str]) -> None:
    heads = ("model", "epsilon of 1", "of 2", "noise", "gate: loss", "strangers: loss", "learned", "stay: loss")
    more = ("probability", "ROUGE-L", "learned", "attack AUC", "CPU-s")
    print("\n| " + " | ".join((*heads, *more)) + " |")
    print("|---" * len((*heads, *more)) + "|")
    _print_row("start, invented", ["-"] * 3, _read(workdir, "start-invented"), (None, None))
    for one in _points(workdir):
        noise = one.base.made.parameters["sigma"]
        cells = ["none", "none", "0"]
        if one.level:
            cells = [*(_bound(noise, one.steps, group) for group in (1, LEAVING)), f"{noise:.3f}"]
        shares = (one.shares["strangers"], one.shares["customers"])
        _print_row(f"base, {one.level or 'no noise'}, {one.steps} rounds", cells, one.base, shares)
    for public in publics:
        if public == "peers":
            _print_row("start, peers", ["-"] * 3, _read(workdir, "start-peers"), (None, None))
        for n in GRID[public]:
            name = f"trained {n} epochs, {public}"
            _print_row(name, ["none", "none", "-"], _read(workdir, f"retrained-{public}-0-{n}"), (None, None))


def _print_row(name: str, cells: Sequence[str], model: Asked, shares: Sequence[Estimate | None]) -> None:
    learned = model.made.learned
    gate = f"{learned['baseLoss']:.2f} {'passed' if learned['learned'] else 'failed'}" if learned else "-"
    told = [
        _shown(_mean(model.values(what, "customers"), span), digits=3 if what == "probability" else 2)
        for what, span in MEASURES
    ]
    row = [name, *cells, gate, _shown(_mean(model.loss["strangers"], MEASURES[0][1])), _shown(shares[0])]
    row += [*told, _shown(shares[1]), _shown(_attack(model)), f"{model.made.cpu_seconds:.0f}"]
    print("| " + " | ".join(row) + " |")


MEASURES = (("loss", (0.0, float("inf"))), ("probability", (0.0, 1.0)), ("rouge", (0.0, 1.0)))


def _bound(noise: float, steps: int, group: int) -> str:
    bound = epsilon(sample_rate=SAMPLE_RATE, noise_multiplier=noise, steps=steps, delta=DELTA, group=group)
    return f"{bound.epsilon:.1f}"


def _print_cost(workdir: Path) -> None:
    """Each stop of the grid from the base and from the public start, and the first that is near the cheapest's best."""
    grid = GRID["invented"]
    models = {kind: [_read(workdir, f"{kind}-0-{n}") for n in grid] for kind in ("dp2", "retrained-invented")}
    print("\n| epochs | steps | base: stay | start: stay | base: strangers | start: strangers |\n" + "|---" * 6 + "|")
    for n, *pair in zip(grid, *models.values(), strict=True):
        stay = [_shown(_mean(model.values("probability", "customers")), digits=3) for model in pair]
        held = [_shown(_mean(model.loss["strangers"], MEASURES[0][1])) for model in pair]
        print(f"| {n} | {pair[0].made.steps} | " + " | ".join((*stay, *held)) + " |")
    losses = {kind: [float(model.loss["strangers"].mean()) for model in found] for kind, found in models.items()}
    print("\n| within, of the best on strangers | epochs from the base | from the public start |\n|---|---|---|")
    for nats in WITHIN:
        bar = min(losses["retrained-invented"]) + nats
        first = [
            next((str(n) for n, loss in zip(grid, one, strict=True) if loss <= bar), "-") for one in losses.values()
        ]
        print(f"| {nats} nats | " + " | ".join(first) + " |")


def _print_leaving(base: str, workdir: Path) -> None:
    print("\n| authors | model | probability, leaving | loss, leaving | probability, staying | attack AUC |")
    print("|---" * 6 + "|")
    for i in range(TIMES):
        for name in ("start-invented", base, "before", f"dp2-{i}-{FULL}", f"retrained-invented-{i}-{FULL}"):
            model = _read(workdir, name)
            gone = {what: _mean(model.values(what, "customers", i, leaving=True), span) for what, span in MEASURES}
            stay = _mean(model.values("probability", "customers", i))
            cells = [_shown(gone["probability"], digits=3), _shown(gone["loss"]), _shown(stay, digits=3)]
            print(f"| {i} | {name} | " + " | ".join((*cells, _shown(_attack(model, i)))) + " |")


def _told(value: Estimate | None) -> list[float] | None:
    return None if value is None else [value.value, *value.ci95]


def _shown(value: Estimate | None, *, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value.value:.{digits}f} [{value.ci95[0]:.{digits}f} {value.ci95[1]:.{digits}f}]"


if __name__ == "__main__":
    main(sys.argv[1:])
