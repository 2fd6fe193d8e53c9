"""What a demo is about. The three differ in what stands here, and in nothing else: the path is `run`'s.

Text: customers of a support desk, a small language model on a public start, and two batches, the first of an agent's
people, the second of people with the form. Pictures: contributors of handwritten digits, a classifier that starts from
nothing; an agent's people leave, then a whole class. Domains: digits in four styles, a CLIP from nothing, and one style
leaves: prompts suppress it at once, and training without it follows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.demo.corpus import Corpus, write_corpus
from compliance.demo.digits import write_digits
from compliance.demo.styles import write_styles
from compliance.errors import InvalidInputError
from engine.corpus import Record

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How many people, which policy, how large a model. The default is what the README shows."""

    customers: int = 150
    policy: str = field(default_factory=(HERE / "policy.toml").read_text)
    initialise: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What those with the form ask for: their own records, or a class or domain by its name."""

    scope: str = "records"
    target: str = ""

    def concerns(self, record: Record) -> bool:
        """Whether a record is of the class or domain."""
        return self.target == (record.label if self.scope == "class" else record.domain)


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """The corpus, the names, who asks, and how long the parts take.

    `phases`: seconds on two idle cores; only their proportions matter, the estimate follows the pace of this machine.
    """

    model: str
    dataset: str
    subject_field: str
    opening: str
    write: Callable[[Path, int, int], Corpus]  # folder, seed, how many people
    scale: Scale
    by_agent: int
    by_form: int
    phases: Mapping[str, float]
    wish: Wish = Wish()  # of those with the form
    shows_budget: bool = False

    @property
    def batches(self) -> int:
        """One for those who ask through an agent, and one for those with the form, where there are any."""
        return bool(self.by_agent) + bool(self.by_form)


TEXT = Story(
    model="support",
    dataset="customers",
    subject_field="subject",
    opening="{people} customers who do not exist: {by_agent} will ask through an agent, {by_form} with the form.",
    write=lambda folder, seed, people: write_corpus(folder, seed=seed, customers=people),
    scale=Scale(),
    by_agent=10,
    by_form=2,
    phases={
        "start": 4.0,
        "public model": 16.0,
        "DP base": 32.0,
        "model": 36.0,
        "requests": 6.0,
        "batch 1": 70.0,
        "batch 2": 36.0,
        "verify": 5.0,
    },
)
IMAGE = Story(
    model="digits",
    dataset="handwriting",
    subject_field="units",
    opening=(
        "Real digits of MNIST, four each for {people} contributors who do not exist: {by_agent} will ask through an "
        "agent (the unit that is forgotten is a contributor), and {by_form} with the form, for a whole class."
    ),
    write=lambda folder, seed, people: write_digits(folder, seed=seed, contributors=people),
    scale=Scale(
        customers=1000,
        policy=(HERE / "digits.toml").read_text(),
        initialise={"architecture": "gabor"},
    ),
    by_agent=3,
    by_form=1,
    wish=Wish(scope="class", target="7"),
    phases={
        "start": 4.0,
        "network": 6.0,
        "pictures": 6.0,
        "DP base": 40.0,
        "model": 25.0,
        "requests": 5.0,
        "batch 1": 40.0,
        "batch 2": 60.0,
        "verify": 5.0,
    },
    shows_budget=True,
)
DOMAIN = Story(
    model="styles",
    dataset="drawings",
    subject_field="",
    opening=(
        "Real digits of MNIST, {people} of them, each in four styles: {by_form} person asks with the form that one "
        "style, the outlined digits, be forgotten. Who drew them is not known."
    ),
    write=lambda folder, seed, digits: write_styles(folder, seed=seed, digits=digits),
    scale=Scale(
        customers=600,
        policy=(HERE / "styles.toml").read_text(),
        initialise={"channels": 1, "width": 48, "layers": 2, "patch": 4},
    ),
    by_agent=0,
    by_form=1,
    wish=Wish(scope="domain", target="outlined"),
    phases={
        "start": 4.0,
        "network": 6.0,
        "pictures": 6.0,
        "model": 60.0,
        "requests": 5.0,
        "batch 1": 90.0,
        "verify": 5.0,
    },
)
STORIES = {"text": TEXT, "image": IMAGE, "domain": DOMAIN}


def story_of(task: str) -> Story:
    """The story of a task; InvalidInputError for one that no demo is about."""
    if task not in STORIES:
        message = f"the demo has no task '{task}'; use --task {', '.join(STORIES)}"
        raise InvalidInputError(message, code="unknown-task")
    return STORIES[task]
