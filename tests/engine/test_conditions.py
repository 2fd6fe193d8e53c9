"""Input under which a theorem does not hold is refused, with the reason and the condition that it violates."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from audits import accountant, verify
from compliance import policy as policies
from compliance.planning import refusal
from engine import provenance
from engine.contract import Evidence, Job, Kind
from engine.corpus import Record, write_records
from engine.errors import EngineError
from engine.heads import logistic, steps
from engine.heads.rows import Rows
from engine.heads.stacked import Stack
from engine.methods import noisy, private_images
from engine.methods.bookkeeping import BookKeeping
from engine.run import run
from engine.tasks.image import refuse_batch_norm
from engine.tasks.pixels import Pixels, pictures
from tests.audits.bundles import Desk, write
from tests.audits.test_cheats import CERTIFICATE, put, reported
from tests.compliance.test_planning import DP2, _base
from tests.engine import heads, painted, tiny

SMALL = {"vocabulary": 300, "hidden": 16, "layers": 1, "heads": 2, "intermediate": 16, "context": 96, "epochs": 1}
LONG = np.array([[2.0, 0.0], [0.1, 0.0]])
SIGNS = np.array([1.0, -1.0])
Act = Callable[[Path], object]


def planned(**changes: object) -> str | None:
    """What the desk says of the rung `dp2` for nine units of such a base."""
    return refusal("dp2", policy=policies.parse(DP2), base=_base(**changes), units=9, charge=9)


def certificate(place: Path) -> str:
    """What the verifier says of a certificate whose delta is one over its points."""
    bundle = write(place, reported(put(*CERTIFICATE, "points", to=100_000), certified=True))
    return " ".join(one.why for one in verify.verify(bundle, Desk().policy()).steps if not one.ok)


class Mixing(nn.Module):
    """A network with a batch normalisation."""

    def __init__(self) -> None:
        """Four numbers in, four out."""
        super().__init__()
        self.layer, self.mixing = nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)


def recorded(_: Path) -> None:
    """Per-unit gradients of it by book-keeping."""
    with BookKeeping(Mixing()).recording():
        pass


def unconverged(_: Path) -> None:
    """Two Newton steps towards a gradient that is shorter than rounding."""
    problem = Stack(x=heads.features(20, 3, 0), signs=np.where(heads.features(20, 2, 1) > 0, 1.0, -1.0), lam=1e-3)
    steps.newton(problem, np.ones(problem.shape), residual=1e-300, limit=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Private:
    """Jobs on a public start: `private` people are trained on, or forgotten, after `public` ones made the start."""

    public: range
    private: range
    forgotten: range = field(default=range(0))
    kind: Kind = Kind.DP_BASE

    def __call__(self, place: Path) -> Evidence:
        """The start, and then the job."""
        sets = {"public": self.public, "private": self.private, "forget": self.forgotten, "holdout": range(7, 8)}
        for name, people in sets.items():
            write_records(place / f"{name}.jsonl", tiny.records(people))
        start = Job(version=1, kind=Kind.INITIALISE, seed=1, out="start", train="public.jsonl", options=SMALL)
        run(start, place, tiny.quiet)
        return run(self._job(), place, tiny.quiet)

    def _job(self) -> Job:
        told: dict[str, Any] = {"version": 1, "kind": self.kind, "seed": 1, "out": "new"}
        if self.kind is Kind.DP_BASE:
            told |= {"model": "start", "train": "private.jsonl", "holdout": "holdout.jsonl"}
            return Job(**told, options={"sigma": 1.0, "sample_rate": 0.5, "steps": 1})
        told |= {"base": "start", "retain": "private.jsonl", "forget": "forget.jsonl", "method": "retrain"}
        return Job(**told, options={"epochs": 1})


def scaled(pixels: Pixels) -> Callable[[Path], None]:
    """DP training of pictures that are scaled like this."""
    return lambda _: private_images.refuse_fitted(pixels, pictures(painted.records(), pixels, CLASSES))


CLASSES = {name: i for i, name in enumerate(painted.LABELS)}
PLAIN = painted.network()[1]
OWN = pictures(painted.records(), PLAIN, CLASSES).images.double() / 255
FITTED = replace(PLAIN, mean=(round(float(OWN.mean()), 4),), deviation=(round(float(OWN.std(correction=0)), 4),))

# What is tried, the reason that is given, and the condition that is named.
REFUSED: dict[str, tuple[Act, str, str]] = {
    "a delta of one over the units, at the desk": (
        lambda _: planned(units=100_000), "delta must stay below 1/100000", "number of units"
    ),
    "a delta of one over the points, in a certificate": (certificate, "The delta reaches one", "number of points"),
    "a group beyond the budget": (
        lambda _: planned(units_deleted=60), "above the policy's limit", "group bound for 69 deleted units"
    ),
    "a group beyond the accountant": (
        lambda _: accountant.epsilon(sample_rate=0.1, noise_multiplier=4, steps=1, delta=1e-5, group=1025),
        "A group has",
        "1 to 1024 units",
    ),
    "rows that were not normalised": (lambda _: Rows(x=LONG, y=SIGNS), "scale each row", "the theorem needs rows"),
    "stacked rows that were not": (
        lambda _: Stack(x=LONG, signs=SIGNS[:, None], lam=0.1), "scale each row", "the theorem needs rows"
    ),
    "a fit that did not converge": (
        lambda _: logistic.fit(heads.plain(heads.made(), 0.1), tolerance=1e-300),
        "gradient norm",
        "the theorem needs the exact minimiser",
    ),
    "Newton steps that did not converge": (
        unconverged, "did not converge", "the theorem needs a measured gradient of norm"
    ),
    "batch normalisation under DP": (
        lambda _: refuse_batch_norm(Mixing()), "mixes people", "the theorem needs each unit's gradient"
    ),
    "batch normalisation under book-keeping": (recorded, "mixes people", "cannot be trained under DP"),
    "batch normalisation under noisy steps": (
        lambda _: noisy.refuse_state(Mixing()), "beside its parameters", "the theorem needs everything"
    ),
    "a tokenizer fitted on private records": (
        Private(public=range(4), private=range(3, 7)),
        "2 of the records to be trained on stand in the public data",
        "the theorem needs a start that does not depend on private records",
    ),
    "a start that was made of the forgotten": (
        Private(public=range(4), private=range(4, 7), forgotten=range(2), kind=Kind.UNLEARN),
        "4 of the records to be forgotten stand in the public data",
        "the theorem needs a start that does not depend on private records",
    ),
    "a normalisation fitted on private pictures": (
        scaled(FITTED), "those of the pictures to be trained on", "the theorem needs a normalisation"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_violates_a_condition_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    """One sentence has the reason and the condition; nothing was made."""
    act, reason, condition = REFUSED[name]
    said = sentence(act, tmp_path)

    assert reason in said
    assert condition in said
    assert not (tmp_path / "new").exists()


def sentence(act: Act, place: Path) -> str:
    """The refusal, raised or returned."""
    try:
        return str(act(place) or "")
    except (EngineError, ValueError) as error:
        return str(error)


def test_a_start_of_other_people_is_accepted_and_its_list_is_handed_on(tmp_path: Path) -> None:
    """The base has the list too, so that whoever is forgotten from it later is looked for again."""
    evidence = Private(public=range(4), private=range(4, 7))(tmp_path)

    assert provenance.FILE in evidence.model_files
    assert provenance.read(tmp_path / "new") == provenance.digests(tiny.records(range(4)))


def test_fixed_scaling_and_that_of_others_are_accepted() -> None:
    """No scaling at all, and numbers that are a hundredth away."""
    for pixels in (PLAIN, replace(FITTED, mean=(FITTED.mean[0] + 0.01,))):
        scaled(pixels)(Path())


@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=5, unique=True), st.integers(0, 5))
def test_records_are_known_by_what_they_say(texts: list[str], other: int) -> None:
    """Under any id and for any person; a list that holds none of them refuses none."""
    public = provenance.digests(Record(record_id=f"p{i}", unit="a", text=text) for i, text in enumerate(texts))
    same = [Record(record_id=f"q{i}", unit=f"u{other}", text=text) for i, text in enumerate(texts)]

    provenance.refuse(public, [Record(record_id="x", unit="u", text=text + "!?" * 9) for text in texts], "records")
    provenance.refuse(None, same, "records")
    with pytest.raises(EngineError, match=f"^{len(texts)} of the records"):
        provenance.refuse(public, same, "records")


@pytest.mark.parametrize("written", ["", "[]", "{}", '{"sha256": 3}', '{"sha256": ["short"]}'])
def test_a_list_that_cannot_be_read_is_no_empty_list(written: str, tmp_path: Path) -> None:
    """Or a broken file would let everything pass."""
    (tmp_path / provenance.FILE).write_text(written, encoding="utf-8")

    with pytest.raises(EngineError, match="no list of digests"):
        provenance.read(tmp_path)


def test_a_list_holds_no_words(tmp_path: Path) -> None:
    """Digests of 128 bits, sorted, and nothing else."""
    provenance.write(tmp_path, provenance.digests(tiny.records()))
    told = json.loads((tmp_path / provenance.FILE).read_text(encoding="utf-8"))

    assert set(told) == {"sha256"}
    assert told["sha256"] == sorted(told["sha256"])
    assert all(len(one) == provenance.LENGTH and int(one, 16) >= 0 for one in told["sha256"])
