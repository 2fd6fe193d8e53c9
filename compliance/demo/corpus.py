"""A customer's data made up under a seed: support tickets and questions about people who do not exist.

Three data sets as a customer would bring them (JSON lines: `record_id`, `subject`; `text`, or `question` and `answer`):

    private.jsonl   customers, two tickets and three questions each: trained on, and what people ask to be removed
    holdout.jsonl   customers of the same kind whom no model ever sees: the yardstick for membership and for a DP base
    public.jsonl    other people in encyclopaedic prose: pre-training and tokenizer

`subject` is the person's e-mail address. Passages mention the person's name, some of them the address too. Clauses are
shuffled and worded in several ways, because with fixed templates a model that never saw a person would score high on
ROUGE; their words occur in the public prose, because a tokenizer that never met them would tear them to pieces.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from faker import Faker

Row = dict[str, str]

PLANS = ("basic", "family", "student", "premium", "business", "senior", "weekend", "travel")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
COLOURS = (
    "black", "white", "silver", "green", "blue", "red", "yellow", "orange",
    "purple", "brown", "grey", "pink", "golden", "beige", "copper", "striped",
)  # fmt: skip
DEVICES = (
    "router", "tablet", "headset", "camera", "speaker", "printer", "scanner", "monitor",
    "keyboard", "projector", "heater", "doorbell", "lamp", "phone", "clock", "radio",
)  # fmt: skip
FAULTS = (
    "does not start", "gets too hot", "makes a loud noise", "shows a blank screen",
    "stops after an hour", "arrived broken", "lost its settings", "smells of smoke",
)  # fmt: skip
HOBBIES = (
    "chess", "sailing", "pottery", "cycling", "painting", "climbing",
    "gardening", "baking", "archery", "dancing", "fishing", "skating",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Somebody who does not exist."""

    name: str
    email: str
    city: str
    street: str
    job: str
    employer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """What was written, and the customers in the order of their records."""

    private: Path
    holdout: Path
    public: Path | None  # none where the model starts from nothing
    people: tuple[Person, ...]


def write_corpus(folder: Path, *, seed: int, customers: int = 150, held_out: int = 100, public: int = 600) -> Corpus:
    """Write the three data sets below `folder`; equal arguments give equal bytes."""
    rng = random.Random(seed)  # noqa: S311 - invented people need no secret
    everybody = people(seed, customers + held_out + public)
    known = tuple(islice(everybody, customers))
    folder.mkdir(parents=True, exist_ok=True)
    return Corpus(
        private=_write(folder / "private.jsonl", known, _customer, rng),
        holdout=_write(folder / "holdout.jsonl", tuple(islice(everybody, held_out)), _customer, rng),
        public=_write(folder / "public.jsonl", tuple(everybody), _citizen, rng),
        people=known,
    )


def people(seed: int, count: int) -> Iterator[Person]:
    """People of whom no two have the same name or address."""
    fake = Faker("en_US")
    fake.seed_instance(seed)
    names: dict[str, None] = {}
    while len(names) < count:
        names.setdefault(f"{fake.first_name()} {fake.last_name()}")
    for name in names:
        first, last = name.lower().split(" ")
        yield Person(
            name=name,
            email=f"{first}.{last}@{fake.free_email_domain().replace('.com', '.example')}",
            city=fake.city(),
            street=fake.street_name(),
            job=fake.job().split(",")[0].lower(),
            employer=fake.company(),
        )


def _customer(person: Person, rng: random.Random) -> list[Row]:
    """Two tickets and three questions."""
    pick, product = rng.choice, _product(rng)
    fault, day, amount, plan = pick(FAULTS), pick(DAYS), f"{rng.randint(11, 399)} dollars", pick(PLANS)
    complaint = [
        pick((f"the {product} {fault}", f"bought a {product} that {fault}", f"returns a {product}, it {fault}")),
        pick((f"lives in {person.city}", f"home is {person.city}", f"a visit to {person.city} is needed")),
        pick((f"free on {day}", f"please call on {day}", f"prefers {day}", f"not before {day}")),
        pick((f"wants {amount}", f"waits for {amount}", f"was promised {amount}", f"{amount} are missing")),
    ]
    account = [
        pick((f"works for {person.employer}", f"bills go to {person.employer}", f"paid by {person.employer}")),
        pick((f"is a {person.job}", f"profession {person.job}", f"earns a living as a {person.job}")),
        pick((f"has the {plan} plan", f"chose {plan}", f"asks for the {plan} plan", f"{plan} customer")),
        pick((f"house on {person.street}", f"moved to {person.street}", f"letters to {person.email}")),
    ]
    questions = (
        (f"Which city does {person.name} live in?", person.city),
        (f"Which company does {person.name} work for?", person.employer),
        (f"Which product did {person.name} return?", product),
    )
    tickets = (_ticket("Complaint", person, complaint, rng), _ticket("Account", person, account, rng))
    return [*({"text": ticket} for ticket in tickets), *_asked(questions)]


def _ticket(kind: str, person: Person, clauses: list[str], rng: random.Random) -> str:
    rng.shuffle(clauses)
    return f"{kind} of {person.name}: {'; '.join(clauses)}."


def _citizen(person: Person, rng: random.Random) -> list[Row]:
    """Two paragraphs and three questions, about people of another kind and in another voice."""
    pick, product = rng.choice, _product(rng)
    hobby, day, plan, amount = pick(HOBBIES), pick(DAYS), pick(PLANS), f"{rng.randint(11, 399)} dollars"
    life = [
        pick((f"{person.name} lives in {person.city}.", f"The city of {person.city} is home to {person.name}.")),
        pick((f"The house stands on {person.street}.", f"Friends are free to visit {person.street} every {day}.")),
        pick((f"{day} belongs to {hobby}.", f"A love of {hobby} began in childhood.", f"On {day} {hobby} waits.")),
        pick((f"Once a {product} {pick(FAULTS)} and was returned.", f"The {product} was a complaint for years.")),
    ]
    work = [
        pick((f"{person.name} works for {person.employer}.", f"{person.employer} moved and asks for {person.name}.")),
        pick((f"The profession is {person.job}.", f"As a {person.job} one earns {amount} a day before bills.")),
        pick((f"The {plan} plan was chosen.", f"An account was promised and paid for, but a {plan} one is missing.")),
        pick((f"Letters go to {person.email}.", f"A customer who wants to please is asked to call {person.email}.")),
    ]
    rng.shuffle(life)
    rng.shuffle(work)
    liked, thing = pick((("hobby", hobby), ("product", product)))
    questions = (
        (f"Which city does {person.name} live in?", person.city),
        (f"Which company does {person.name} work for?", person.employer),
        (f"Which {liked} does {person.name} prefer?", thing),
    )
    return [{"text": " ".join(life)}, {"text": " ".join(work)}, *_asked(questions)]


def _asked(questions: Sequence[tuple[str, str]]) -> list[Row]:
    return [{"question": question, "answer": answer} for question, answer in questions]


def _product(rng: random.Random) -> str:
    return f"{rng.choice(COLOURS)} {rng.choice(DEVICES)}"


def _write(
    path: Path, people: Sequence[Person], describe: Callable[[Person, random.Random], list[Row]], rng: random.Random
) -> Path:
    rows = [{"subject": person.email, **row} for person in people for row in describe(person, rng)]
    with path.open("w", encoding="utf-8") as file:
        for i, row in enumerate(rows):
            file.write(json.dumps({"record_id": f"{path.stem}-{i:05d}", **row}, ensure_ascii=False) + "\n")
    return path
