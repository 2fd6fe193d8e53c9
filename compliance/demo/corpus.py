"""A customer's data made up under a seed: support tickets and questions about people who do not exist.

Three data sets in the format a customer would bring (JSON lines; `record_id`, `subject`, and `text` or `question` and `answer`):

    private.jsonl   customers: two tickets and three questions each; what the model is trained on and what people ask to be removed
    holdout.jsonl   more customers of the same kind whom no model ever sees: the yardstick for membership and for a DP base
    public.jsonl    other people in encyclopaedic prose, for pre-training and for the tokenizer

`subject` is the person's e-mail address; passages mention the person's name, and some of them the address. Clauses are shuffled and
worded in several ways, because fixed templates would let a model that never saw a person score high on ROUGE.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from faker import Faker

Row = dict[str, str]

PLANS = ("basic", "family", "student", "premium", "business", "senior", "weekend", "traveller")
DEVICES = ("router", "tablet", "headset", "camera", "speaker", "printer", "scanner", "monitor", "keyboard", "projector", "thermostat", "doorbell")
COLOURS = ("black", "white", "silver", "green", "blue", "red", "yellow", "orange", "purple", "brown", "grey", "pink")
FAULTS = ("does not start", "loses its connection", "gets too hot", "makes a loud noise", "shows a blank screen", "stops after an hour", "arrived broken", "lost its settings")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
HOBBIES = ("chess", "sailing", "pottery", "cycling", "painting", "climbing", "gardening", "baking", "archery", "dancing", "fishing", "skating")


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
    public: Path
    people: tuple[Person, ...]


def write_corpus(folder: Path, *, seed: int, customers: int = 150, held_out: int = 100, public: int = 600) -> Corpus:
    """Write the three data sets below `folder`; equal arguments give equal bytes."""
    rng = random.Random(seed)  # noqa: S311 - invented people need no secret
    everybody = _people(seed, customers + held_out + public)
    private_people = tuple(next(everybody) for _ in range(customers))
    holdout_people = [next(everybody) for _ in range(held_out)]
    folder.mkdir(parents=True, exist_ok=True)
    return Corpus(
        private=_write(folder / "private.jsonl", private_people, _customer, rng),
        holdout=_write(folder / "holdout.jsonl", holdout_people, _customer, rng),
        public=_write(folder / "public.jsonl", list(everybody), _citizen, rng),
        people=private_people,
    )


def _people(seed: int, count: int) -> Iterator[Person]:
    """People with different names and addresses."""
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
    product, fault, day = _product(rng), rng.choice(FAULTS), rng.choice(DAYS)
    complaint = [
        rng.choice((f"the {product} {fault}", f"bought a {product} that {fault}", f"returns a {product}, it {fault}")),
        rng.choice((f"lives in {person.city}", f"home is {person.city}", f"a visit to {person.city} is needed")),
        rng.choice((f"free on {day}", f"please call on {day}", f"prefers {day}")),
        rng.choice(("wants", "waits for", "was promised")) + f" {rng.randint(11, 399)} dollars",
    ]
    account = [
        rng.choice((f"works for {person.employer}", f"bills go to {person.employer}", f"paid by {person.employer}")),
        rng.choice((f"is a {person.job}", f"profession {person.job}", f"earns a living as a {person.job}")),
        rng.choice(("has", "chose", "asks for")) + f" the {rng.choice(PLANS)} plan",
        rng.choice((f"house on {person.street}", f"moved to {person.street}", f"letters to {person.email}")),
    ]
    questions = (
        (f"Which city does {person.name} live in?", person.city),
        (f"Which company does {person.name} work for?", person.employer),
        (f"Which product did {person.name} return?", product),
    )
    tickets = (_ticket("Complaint", person, complaint, rng), _ticket("Account", person, account, rng))
    return [*({"text": ticket} for ticket in tickets), *({"question": q, "answer": a} for q, a in questions)]


def _ticket(kind: str, person: Person, clauses: list[str], rng: random.Random) -> str:
    rng.shuffle(clauses)
    return f"{kind} of {person.name}: {'; '.join(clauses)}."


def _citizen(person: Person, rng: random.Random) -> list[Row]:
    """Two paragraphs and three questions, about people of another kind and in another voice."""
    hobby, day, product = rng.choice(HOBBIES), rng.choice(DAYS), _product(rng)
    life = [
        rng.choice((f"{person.name} lives in {person.city}.", f"The city of {person.city} is home to {person.name}.")),
        rng.choice((f"The house stands on {person.street}.", f"Friends are free to visit {person.street} every {day}.")),
        rng.choice((f"{day} belongs to {hobby}.", f"A love of {hobby} began in childhood.", f"On {day} a {hobby} club waits.")),
        rng.choice((f"Once a {product} {rng.choice(FAULTS)} and was returned.", f"The {product} was a complaint for years.")),
    ]
    work = [
        rng.choice((f"{person.name} works for {person.employer}.", f"{person.employer} moved and asks for {person.name}.")),
        rng.choice((f"The profession is {person.job}.", f"As a {person.job} one earns {rng.randint(11, 399)} dollars a day.")),
        rng.choice((f"The {rng.choice(PLANS)} plan was chosen.", f"An account was promised, the bills paid by a {rng.choice(PLANS)} plan.")),
        rng.choice((f"Letters go to {person.email}.", f"Please call or write to {person.email}.")),
    ]
    rng.shuffle(life)
    rng.shuffle(work)
    questions = (
        (f"Which city does {person.name} live in?", person.city),
        (f"Which company does {person.name} work for?", person.employer),
        (f"Which {rng.choice(('hobby', 'product'))} does {person.name} prefer?", rng.choice((hobby, product))),
    )
    return [{"text": " ".join(life)}, {"text": " ".join(work)}, *({"question": q, "answer": a} for q, a in questions)]


def _product(rng: random.Random) -> str:
    return f"{rng.choice(COLOURS)} {rng.choice(DEVICES)}"


def _write(path: Path, people: Sequence[Person], describe: Callable[[Person, random.Random], list[Row]], rng: random.Random) -> Path:
    lines = []
    for person in people:
        for row in describe(person, rng):
            lines.append(json.dumps({"record_id": f"{path.stem}-{len(lines):05d}", "subject": person.email, **row}, ensure_ascii=False))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
