"""From numbers to findings: intervals, paired differences, and nulls where nothing can be said."""

from dataclasses import replace

import pytest

from engine.contract import Estimate
from engine.verification.findings import by_metric, findings
from engine.verification.items import Items, Passage, Question, Text
from engine.verification.measure import Measurements

PEOPLE = [f"u{i}" for i in range(6)]
ITEMS = Items(
    passages=tuple(Passage(unit=u, prompt="p", truth="t") for u in PEOPLE),
    forget_questions=tuple(Question(unit=u, question="q", answers=("a",), alternatives=("b",)) for u in PEOPLE),
    retain_questions=tuple(Question(unit=f"r{i}", question="q", answers=("a",)) for i in range(4)),
    forget_texts=tuple(Text(unit=u, text="t") for u in PEOPLE),
    holdout_texts=tuple(Text(unit=f"h{i}", text="t") for i in range(8)),
)


def numbers(level: float, *, margin: float | None = None) -> Measurements:
    """A model that remembers the forgotten people to a degree between 0 and 1."""
    spread = [level * (1 - 0.05 * i) for i in range(6)]
    forget = tuple(-3.0 + 3 * value + 0.1 * i for i, value in enumerate(spread))
    holdout = tuple(-3.1 + 0.1 * i for i in range(8))
    return Measurements(
        verbmem=tuple(spread),
        knowmem_f=tuple(spread),
        correct_f=tuple(float(value > 0.5) for value in spread),
        knowmem_r=(0.9, 0.8, 1.0, 0.7),
        extraction_f=(*spread, *spread),
        exact_f=(*spread, *spread),
        margin_f=tuple((4 * value if margin is None else margin) for value in spread),
        forget_min_k=forget,
        holdout_min_k=holdout,
        forget_min_k_plus_plus=forget,
        holdout_min_k_plus_plus=holdout,
        forget_zlib=forget,
        holdout_zlib=holdout,
        forget_log_prob=forget,
        holdout_log_prob=holdout,
    )


MODELS = {"before": numbers(1.0), "after": numbers(0.2), "reference": numbers(0.1)}


def value(estimate: Estimate | None) -> float:
    """The value of an estimate that must be there."""
    assert estimate is not None
    return estimate.value


def test_every_metric_is_reported_for_every_model_with_an_interval_around_its_value() -> None:
    """And the number of people behind it."""
    found = by_metric(findings(MODELS, ITEMS, resamples=300, seed=1))
    assert set(found) >= {"verbmem_f", "knowmem_f", "knowmem_r", "privleak_auc", "privleak", "forget_loss", "recovery"}
    assert found["auc_reference"].reference is None  # it gains nothing over itself
    for finding in found.values():
        alone = finding.metric == "auc_reference"
        compared = () if alone else (finding.reference, finding.difference)
        for estimate in (finding.before, finding.after, *compared):
            assert estimate is not None
            assert estimate.ci95[0] <= estimate.value <= estimate.ci95[1]
            assert estimate.n == (4 if finding.metric == "knowmem_r" else 6)


def test_the_difference_is_after_minus_reference() -> None:
    """In value, and paired in its interval: two models that differ by a constant differ surely."""
    found = by_metric(findings(MODELS, ITEMS, resamples=300, seed=1))["knowmem_r"]
    assert value(found.difference) == 0
    assert found.difference is not None
    assert found.difference.ci95 == (0.0, 0.0)
    verbmem = by_metric(findings(MODELS, ITEMS, resamples=300, seed=1))["verbmem_f"]
    assert value(verbmem.difference) == pytest.approx(value(verbmem.after) - value(verbmem.reference))


def test_recovery_runs_from_the_model_before_to_the_reference() -> None:
    """0 for the first, 1 for the second, in between for what is in between."""
    found = by_metric(findings(MODELS, ITEMS, resamples=300, seed=1))["recovery"]
    assert value(found.before) == 0
    assert value(found.reference) == 1
    assert value(found.after) == pytest.approx(8 / 9)


def test_a_ratio_over_nothing_is_null() -> None:
    """Where reference and model before do not differ, recovery means nothing."""
    models = {role: numbers(0.5, margin=1.0) for role in ("before", "after", "reference")}
    found = by_metric(findings(models, ITEMS, resamples=300, seed=1))["recovery"]
    assert (found.after, found.difference) == (None, None)


def test_without_a_reference_what_needs_one_is_null_and_the_rest_is_there() -> None:
    """No reference is made up."""
    models = {role: MODELS[role] for role in ("before", "after")}
    found = by_metric(findings(models, ITEMS, resamples=300, seed=1))
    assert found["verbmem_f"].after is not None
    assert found["verbmem_f"].difference is None
    assert found["privleak"].after is None
    assert "recovery" not in found


def test_what_a_text_gained_over_the_reference_tells_members() -> None:
    """Even where every text of the holdout is likelier than any forgotten one; nobody gains over himself."""
    gained = {"after": replace(MODELS["reference"], forget_log_prob=(-8.0,) * 6), "reference": MODELS["reference"]}
    reference = replace(MODELS["reference"], forget_log_prob=(-9.0,) * 6)
    found = by_metric(findings(gained | {"reference": reference}, ITEMS, resamples=300, seed=1))
    assert value(found["auc_loss"].after) == 1.0
    assert value(found["auc_reference"].after) == 0.0
    same = by_metric(findings({**gained, "after": reference, "reference": reference}, ITEMS, resamples=300, seed=1))
    assert value(same["auc_reference"].after) == 0.5
    assert by_metric(findings({"after": reference}, ITEMS, resamples=300, seed=1))["auc_reference"].after is None


def test_a_reference_whose_auc_is_zero_gives_no_privleak() -> None:
    """Dividing by it would give any number."""
    models = {"after": MODELS["after"], "reference": numbers(3.0)}
    found = by_metric(findings(models, ITEMS, resamples=300, seed=1))
    assert value(found["privleak_auc"].reference) == 0
    assert found["privleak"].after is None


def test_metrics_without_items_are_absent() -> None:
    """No holdout, no membership; no passages, no VerbMem."""
    items = Items(forget_questions=ITEMS.forget_questions)
    models = {role: replace(m, extraction_f=m.verbmem, exact_f=m.verbmem) for role, m in MODELS.items()}
    found = by_metric(findings(models, items, resamples=300, seed=1))
    assert set(found) == {"knowmem_f", "accuracy_f", "recovery", "extraction_strength_f", "exact_memorisation_f"}
