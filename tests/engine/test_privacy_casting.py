"""Who is asked about, who is in which shadow, how they are asked, and the crew that trains them side by side."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.corpus import Record, by_unit, read_mapping
from engine.errors import EngineError
from engine.verification.privacy.asking import LOG_PROBS, MARGINS, NEAREST, ask
from engine.verification.privacy.assignment import Casting, assign
from engine.verification.privacy.crew import side_by_side
from engine.verification.privacy.shadows import IN, OUT, UNLEARNT
from tests.engine import painted, tiny


def people(numbers: range, *, a_unit: int = 1) -> tuple[Record, ...]:
    """A text a number; `a_unit` neighbours are of one person."""
    return tuple(Record(record_id=f"r{i}", unit=f"u{i // a_unit}", text=f"Text number {i}.") for i in numbers)


def cast_of(**changes: Any) -> Casting:  # noqa: ANN401 - arguments of `assign`
    """Of 24 people, two records each, the first eight forgotten."""
    train = people(range(48), a_unit=2)
    told = {"train": train, "forget": train[:16], "holdout": people(range(1000, 1100), a_unit=2)}
    return assign(**{"shadows": 6, "unlearning": False, "outsiders": 0, "seed": 0, **told, **changes})


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([6, 12, 18]))
def test_coins_are_fair_and_strangers_are_in_no_shadow(seed: int, unlearning: bool, shadows: int) -> None:  # noqa: FBT001 - hypothesis
    """What stays is in every shadow; each target in half of them, or in two thirds, half of which unlearn it."""
    made = cast_of(seed=seed, unlearning=unlearning, shadows=shadows)
    held = made.roles != OUT
    assert (held.sum(0) == (shadows * 2 // 3 if unlearning else shadows // 2)).all()
    assert ((made.roles == UNLEARNT).sum(0) == (shadows // 3 if unlearning else 0)).all()
    for shadow in range(shadows):
        trained = made.trained(shadow)
        assert set(made.stays) <= set(trained)
        assert not set(made.strangers) & set(trained)
        assert set(made.having(shadow, IN, UNLEARNT)) == set(trained) - set(made.stays)
        for records in by_unit(made.targets).values():
            assert len({record in trained for record in records}) == 1


def test_a_shadow_unlearns_as_much_as_the_request() -> None:
    """Outsiders are twice the forget set's units, so that a third of all targets is about as large."""
    made = cast_of(unlearning=True, shadows=30)
    assert [len(by_unit(part)) for part in (made.members, made.outsiders, made.strangers, made.stays)] == [
        8,
        16,
        34,
        16,
    ]
    mean = np.mean([len(by_unit(made.having(shadow, UNLEARNT))) for shadow in range(30)])
    assert mean == pytest.approx(8)


def test_outsiders_never_take_more_than_half_of_the_strangers() -> None:
    """By default; and the number that is asked for is a number of units."""
    small = cast_of(holdout=people(range(1000, 1010)))
    assert [len(part) for part in (small.outsiders, small.strangers)] == [5, 5]
    asked = cast_of(outsiders=20)
    assert [len(by_unit(part)) for part in (asked.outsiders, asked.strangers)] == [20, 30]


def test_the_seed_decides_who_is_asked_about() -> None:
    """The same seed the same people and coins, another seed others."""
    one, same, other = cast_of(), cast_of(), cast_of(seed=1)
    assert one.digest == same.digest != other.digest
    assert (one.roles == same.roles).all()


def test_outsiders_have_only_classes_of_the_forget_set() -> None:
    """A class that is forgotten whole would else be told from the others, and that is not membership."""
    pictures = painted.records(range(40))
    top = tuple(record for record in pictures if record.label == "top")
    made = assign(
        train=pictures,
        forget=top,
        holdout=painted.records(range(100, 180)),
        shadows=4,
        unlearning=False,
        outsiders=0,
        seed=0,
    )
    assert {record.label for record in made.outsiders} == {"top"}
    assert len({record.label for record in made.strangers}) == 4


one_class = tuple(replace(record, label="top") for record in painted.records(range(40)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shadows": 3}, "at least 4 shadow models, and 3 were asked for"),
        ({"shadows": 7}, "multiple of 2"),
        ({"shadows": 8, "unlearning": True}, "multiple of 3"),
        ({"forget": people(range(500, 502))}, "forget set is not within the training set"),
        ({"forget": tuple(replace(r, text="other") for r in people(range(4)))}, "not within the training set"),
        ({"forget": people(range(2), a_unit=2)}, "at least 2 units in the forget set"),
        ({"holdout": people(range(1000, 1003))}, "at least 4 units in the holdout set"),
        ({"holdout": people(range(48), a_unit=2)[:8]}, "share a record"),
        ({"holdout": tuple(replace(r, unit=f"u{i}") for i, r in enumerate(people(range(1000, 1010))))}, "share a unit"),
        ({"outsiders": 26}, "26 outsiders cannot be had"),
        ({"outsiders": 1}, "1 outsiders cannot be had"),
        ({"train": one_class, "forget": one_class[:4]}, "one label"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(changes: dict[str, Any], sentence: str) -> None:
    """In one sentence that says which."""
    with pytest.raises(EngineError, match=sentence):
        cast_of(**changes)


def test_a_model_is_asked_in_the_order_of_the_records() -> None:
    """Texts and questions mixed give what each gives alone; margins are the log-odds of the mean."""
    model, reader = tiny.model(), tiny.tokenizer()
    mixed = tiny.records(range(3))
    said = ask(model, reader, mixed)
    alone = [ask(model, reader, [record])[LOG_PROBS][0] for record in mixed]
    np.testing.assert_allclose(said[LOG_PROBS], alone, rtol=1e-5)
    p = np.exp(said[LOG_PROBS])
    np.testing.assert_allclose(said[MARGINS], np.log(p / (1 - p)), rtol=1e-6)
    assert -NEAREST == 2**-24
    with pytest.raises(EngineError, match="texts, and questions"):
        ask(model, reader, painted.records(range(1)))


def test_a_crew_does_what_one_would_and_passes_on_a_refusal(tmp_path: Path) -> None:
    """Two processes, the same results by position; a sentence of one of them is the sentence of all."""
    files = [tmp_path / f"{i}.json" for i in range(5)]
    for i, path in enumerate(files):
        path.write_text(f'{{"number": "{i}"}}')
    expected = {i: {"number": str(i)} for i in range(5)}
    assert dict(side_by_side(read_mapping, files, processes=1)) == expected
    assert dict(side_by_side(read_mapping, files, processes=2)) == expected
    files[3].write_text("{}")
    with pytest.raises(EngineError, match="must be a JSON object"):
        dict(side_by_side(read_mapping, files, processes=2))
