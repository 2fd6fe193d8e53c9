"""Twenty thousand hostile inputs, a million in `make soak`: no crash, no hang, nothing believed that nobody signed.

A failure names the run and the number of its mutation; `Target.mutated(seed, number)` makes the input again.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits.errors import VerificationError
from tests.fuzz.everything import divided, run_part, targets
from tests.fuzz.mutation import mutate
from tests.fuzz.target import LIMIT_S, FaultError, Target, attack

ROOT = Path(__file__).parents[2]
CHECKED, SOAKED = 20_000, 1_000_000
PARTS, SOAK_PARTS = 10, 50
SEED = 20_261_122


@pytest.mark.parametrize("part", range(PARTS))
def test_mutated_inputs_are_refused(part: int) -> None:
    """A tenth of twenty thousand mutations of everything that a verifier reads."""
    outcomes = dict(run_part(CHECKED, part=part, parts=PARTS, seed=SEED))

    assert sum(one.ran for one in outcomes.values()) >= CHECKED // PARTS - len(outcomes)
    assert max(one.slowest for one in outcomes.values()) < LIMIT_S


def test_the_mutations_are_as_many_as_is_said() -> None:
    """Divided by their cost, they are twenty thousand, and no target goes without."""
    counts = [count for _, count in divided(CHECKED)]

    assert sum(counts) >= CHECKED
    assert min(counts) >= 10


@pytest.mark.soak
@pytest.mark.parametrize("part", range(SOAK_PARTS))
def test_a_million_mutated_inputs_are_refused(part: int) -> None:
    """A fiftieth of a million mutations, other ones than in every check."""
    outcomes = dict(run_part(SOAKED, part=part, parts=SOAK_PARTS, seed=SEED + 1))

    assert sum(one.ran for one in outcomes.values()) >= SOAKED // SOAK_PARTS - len(outcomes)


@pytest.mark.soak
def test_coverage_leads_to_no_fault() -> None:
    """Atheris, which keeps whatever reaches new lines, finds none in fifty thousand runs."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", "--runs", "50000", "--seed", "1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr[-4000:]


@given(st.data())
def test_any_mutation_is_refused(data: st.DataObject) -> None:
    """Whichever target and number hypothesis chooses, nothing but a refusal or an honest answer comes back."""
    target = data.draw(st.sampled_from(targets()))
    _, took = attack(target, target.mutated(data.draw(st.integers(0, 2**32)), 0))

    assert took < LIMIT_S


@given(st.data())
def test_any_bytes_are_refused(data: st.DataObject) -> None:
    """So it is for bytes that were never anything."""
    target = data.draw(st.sampled_from([one for one in targets() if one.spoil is mutate]))
    attack(target, data.draw(st.binary(max_size=300)))


def test_good_inputs_are_accepted() -> None:
    """Each target accepts what it was made from: a judge that refuses everything would find no fault."""
    refused = [one.name for one in targets() if not all(attack(one, raw)[0] for raw in one.inputs)]

    assert refused == []


def test_a_mutation_can_be_made_again() -> None:
    """Seed and number are all that is needed to see a failure again."""
    for target in targets():
        assert target.mutated(3, 5) == target.mutated(3, 5)
        assert target.mutated(3, 5) not in target.inputs


def faulty(judge: object) -> Target:
    """A target whose judge is wrong."""
    assert callable(judge)
    return Target(name="faulty", inputs=(b"good",), judge=judge)


def believing(raw: bytes) -> bytes:
    """Accepts whatever comes, as what it is."""
    return raw


def crashing(raw: bytes) -> None:
    """Dies of one content."""
    if raw != b"good":
        raise KeyError(raw)


def hanging(raw: bytes) -> None:
    """Never comes back from one content."""
    while raw != b"good":
        pass


@pytest.mark.parametrize(
    ("judge", "what"), [(believing, "was accepted as"), (crashing, "raised KeyError"), (hanging, "took more than")]
)
def test_the_fuzzer_notices(judge: object, what: str) -> None:
    """A verifier that believes, crashes or hangs is caught: the absence of faults above means something."""
    started = time.monotonic()
    with pytest.raises(FaultError, match=what):
        attack(faulty(judge), b"bad")
    assert time.monotonic() - started < 60


def test_a_refusal_is_no_fault() -> None:
    """`VerificationError` is the one exception that a hostile input may cause."""

    def refusing(raw: bytes) -> None:
        if raw != b"good":
            raise VerificationError("No.")

    assert attack(faulty(refusing), b"bad")[0] is False
