"""From scores to findings: known rates, intervals that cover, and nothing where there is nothing."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engine.contract import Estimate, Finding
from engine.errors import EngineError
from engine.verification.findings import by_metric
from engine.verification.privacy.performance import METRICS, Roc, findings
from engine.verification.privacy.shadows import Bools
from engine.verification.statistics import Floats, auc


def people(count: int, each: int = 1) -> list[str]:
    """The unit of each example."""
    return [f"unit-{i // each}" for i in range(count)]


def measured(
    after: Floats, inside: Bools, *, resamples: int = 200, each: int = 1, **others: Floats
) -> dict[str, Finding]:
    """Findings by the name of their metric."""
    made = findings(
        "lira",
        {"after": after, **others},
        inside=inside,
        units=people(len(inside), each),
        resamples=resamples,
        seed=1,
    )
    return by_metric(made)


def value(finding: Finding) -> Estimate:
    """That of the unlearned model, which is there."""
    assert finding.after is not None
    return finding.after


def shifted(count: int, shift: float, seed: int = 0) -> tuple[Floats, Bools]:
    """Normal scores, of which every other is a member's and lies higher by the shift."""
    inside = np.arange(count) % 2 == 0
    return np.random.default_rng(seed).normal(size=count) + shift * inside, inside


def test_two_normal_distributions_give_the_rates_of_the_textbook() -> None:
    """AUC Phi(d / sqrt 2), members found at 5 % false alarms Phi(d - 1.645), balanced accuracy Phi(d / 2)."""
    found = measured(*shifted(3000, 1.5), resamples=100)
    expected = {
        "lira_auc": stats.norm.cdf(1.5 / math.sqrt(2)),
        "lira_tpr_at_1_percent": stats.norm.cdf(1.5 - stats.norm.isf(0.01)),
        "lira_tpr_at_5_percent": stats.norm.cdf(1.5 - stats.norm.isf(0.05)),
        "lira_balanced_accuracy": stats.norm.cdf(0.75),
    }
    assert set(found) == {f"lira_{name}" for name in METRICS}
    for name, truth in expected.items():
        estimate = value(found[name])
        assert estimate.ci95[0] - 0.02 <= truth <= estimate.ci95[1] + 0.02
        assert estimate.n == 1500


def test_the_rates_agree_with_counting() -> None:
    """Ten outsiders and four members; a tie with an outsider finds nobody."""
    scores = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9.5, 9, 7, 8.5])
    inside = np.arange(14) >= 10
    roc, ones = Roc(scores, inside), np.ones(14)
    assert roc.auc(ones) == auc(scores[~inside], scores[inside])
    assert [roc.tpr(ones, level) for level in (0.05, 0.1, 0.2, 0.3, 1.0)] == [0.25, 0.75, 0.75, 1.0, 1.0]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=2, max_size=30))
def test_weights_are_repetitions(items: list[tuple[int, bool, int]]) -> None:
    """A weighted example counts as that many; rates grow with the false alarms allowed."""
    scores, inside, weights = (np.array(column) for column in zip(*items, strict=True))
    many, whose = np.repeat(scores, weights), np.repeat(inside, weights)
    roc = Roc(scores.astype(np.float64), inside)
    assert roc.auc(weights) == pytest.approx(auc(many[~whose], many[whose]), nan_ok=True)
    rates = [roc.tpr(weights.astype(np.float64), level) for level in (0.0, 0.01, 0.1, 0.5, 1.0)]
    assert all(math.isnan(rate) for rate in rates) or (rates == sorted(rates) and rates[-1] == 1.0)


def test_false_alarms_too_rare_to_be_seen_are_missing() -> None:
    """One in a thousand needs a thousand outsiders, one in a hundred a hundred."""
    for count, missing in ((198, {"0_1", "1"}), (200, {"0_1"}), (2000, set())):
        found = measured(*shifted(count, 1.0), resamples=20)
        gone = {name for name in ("0_1", "1", "5") if found[f"lira_tpr_at_{name}_percent"].after is None}
        assert gone == missing


@pytest.mark.parametrize("start", [0, 40])
def test_where_nothing_leaks_the_interval_holds_one_half(start: int) -> None:
    """The AUC's in at least 90 % of the seeds; and no threshold is tuned to an advantage that is not there."""
    held, accuracies = 0, []
    for seed in range(start, start + 40):
        scores, inside = shifted(120, 0.0, seed=seed)
        found = measured(scores, inside, resamples=100)
        low, high = value(found["lira_auc"]).ci95
        held += low <= 0.5 <= high
        accuracies.append(value(found["lira_balanced_accuracy"]).value)
    assert held >= 36
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.02)


def test_people_with_many_examples_widen_the_interval() -> None:
    """Twenty examples that say the same count once."""
    scores, inside = shifted(30, 0.5)
    single = value(measured(scores, inside)["lira_auc"])
    many = value(measured(np.repeat(scores, 20), np.repeat(inside, 20), each=20)["lira_auc"])
    assert many.n == single.n == 15
    assert many.value == pytest.approx(single.value)
    assert many.ci95 == pytest.approx(single.ci95)


def test_models_are_compared_on_the_same_draws() -> None:
    """The difference to a reference with the same scores is 0, and its interval has no width."""
    scores, inside = shifted(200, 1.0)
    found = measured(scores, inside, reference=scores, before=scores + 3 * inside)
    difference = found["lira_auc"].difference
    assert difference is not None
    assert (difference.value, *difference.ci95) == (0, 0, 0)
    before = found["lira_auc"].before
    assert before is not None
    assert before.value > value(found["lira_auc"]).value


def test_a_score_that_is_not_a_number_leaves_the_finding_missing() -> None:
    """Of the model it belongs to, and of the difference; never one half."""
    scores, inside = shifted(200, 1.0)
    for bad in (math.nan, math.inf):
        broken = scores.copy()
        broken[3] = bad
        for finding in measured(broken, inside, reference=scores).values():
            assert finding.after is None
            assert finding.difference is None


def test_members_and_outsiders_exchanged_turn_the_auc_around() -> None:
    """So does the sign of the scores."""
    scores, inside = shifted(100, 1.0)
    one = value(measured(scores, inside)["lira_auc"]).value
    assert value(measured(scores, ~inside)["lira_auc"]).value == pytest.approx(1 - one)
    assert value(measured(-scores, inside)["lira_auc"]).value == pytest.approx(1 - one)


def test_no_example_and_no_person_is_in_what_leaves() -> None:
    """Findings hold names of metrics, numbers and counts; no unit, and no single score."""
    scores, inside = shifted(60, 1.0)
    text = json.dumps([asdict(finding) for finding in measured(scores, inside).values()])
    assert "unit" not in text
    assert not any(str(score) in text for score in scores)


@pytest.mark.parametrize("inside", [np.ones(4, dtype=np.bool_), np.zeros(4, dtype=np.bool_), np.arange(5) > 2])
def test_an_attack_without_both_sides_is_refused(inside: Bools) -> None:
    """Members only, outsiders only, or another number of roles than scores."""
    with pytest.raises(EngineError):
        findings("lira", {"after": np.zeros(4)}, inside=inside, units=people(4), resamples=10, seed=1)


def test_a_single_person_on_one_side_gives_no_interval() -> None:
    """Draws without that person have no AUC."""
    scores, _ = shifted(20, 1.0)
    assert measured(scores, np.arange(20) == 0)["lira_auc"].after is None
