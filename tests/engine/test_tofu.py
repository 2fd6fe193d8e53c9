"""TOFU's metrics against the authors' per-sample logs, and against definitions written out in another way."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.verification import tofu
from engine.verification.tofu import Answers

GOLDEN = Path(__file__).parents[3] / "shared" / "data" / "tofu-golden"
GROUPS = {
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
    "forget": "eval_log_forget.json",
}
MODELS = ("full", "retain90", "retain99")

published = pytest.mark.skipif(not GOLDEN.is_dir(), reason="TOFU's published logs are not here")
Log = Mapping[str, Mapping[str, Any]]


@cache
def logs(model: str) -> Mapping[str, Log]:
    """What the authors logged about a model, by their names."""
    read: Mapping[str, Log] = json.loads((GOLDEN / f"phi_{model}_eval_log_aggregated.json").read_text(encoding="utf-8"))
    return read


def listed(log: Log, field: str) -> list[Any]:
    """One field in the order of the samples."""
    return [log[field][str(i)] for i in range(len(log[field]))]


def answers(log: Log) -> Answers:
    """The same as arrays."""
    names = ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss", "rougeL_recall")
    loss, paraphrase, wrong, rouge = (np.array(listed(log, name), dtype=np.float64) for name in names)
    return Answers(loss=loss, paraphrase=paraphrase, wrong=wrong, rouge=rouge)


def inverse(loss: float) -> float:
    """The probability a token."""
    return math.exp(-loss)


def utility_written_out(model: str) -> float:
    """Model utility from the logs by the paper's words, one sample at a time and summed exactly."""
    means = []
    for group in ("retain", "real_authors", "world_facts"):
        log = logs(model)[GROUPS[group]]
        right = [inverse(loss) for loss in listed(log, "avg_gt_loss")]
        if group != "retain":
            others = [math.fsum(map(inverse, wrong)) for wrong in listed(log, "average_perturb_loss")]
            right = [p / (p + rest) for p, rest in zip(right, others, strict=True)]
        both = zip(listed(log, "average_perturb_loss"), listed(log, "avg_paraphrased_loss"), strict=True)
        ratios = [statistics.geometric_mean(map(inverse, wrong)) / inverse(likely) for wrong, likely in both]
        terms = (right, listed(log, "rougeL_recall"), [max(0.0, 1 - ratio) for ratio in ratios])
        means += [math.fsum(term) / len(term) for term in terms]
    return statistics.harmonic_mean(means)


def smirnov(left: Sequence[float], right: Sequence[float]) -> float:
    """The exact two-sided p-value, by counting lattice paths that keep within the statistic."""
    n, m = len(left), len(right)
    merged = sorted([(x, m) for x in left] + [(y, -n) for y in right])
    sums = np.cumsum([step for _, step in merged])
    reached = max(
        abs(int(s)) for s, (x, _), (y, _) in zip(sums, merged, [*merged[1:], (math.inf, 0)], strict=True) if x < y
    )
    row = [1] + [0] * m
    for i in range(n + 1):
        for j in range(m + 1):
            before = (row[j - 1] if j else 0) + (row[j] if i else int(j == 0))
            row[j] = before if abs(i * m - j * n) < reached else 0
    whole = math.comb(n + m, n)
    return float(Fraction(whole - row[m], whole))


@published
@pytest.mark.parametrize("model", MODELS)
def test_what_the_authors_logged_of_each_sample_is_reproduced(model: str) -> None:
    """Truth ratio and probability among options from the losses, ROUGE from the texts, of 2,191 samples."""
    for group, name in GROUPS.items():
        log = logs(model)[name]
        said = answers(log)
        np.testing.assert_allclose(tofu.truth_ratio(said), listed(log, "truth_ratio"), rtol=1e-6)
        if "normalized_gt_loss" in log:
            among = tofu.probability(said, among_options=True)
            np.testing.assert_allclose(-np.log(among), listed(log, "normalized_gt_loss"), rtol=1e-12)
        assert ("normalized_gt_loss" in log) is (group in tofu.OPTIONAL)
        for (_, generated, truth), expected in zip(
            listed(log, "generated_text"), listed(log, "rougeL_recall"), strict=True
        ):
            assert tofu.rouge_recall(truth, generated) == expected


@published
@pytest.mark.parametrize(("model", "rounded"), [("full", 0.522074), ("retain90", 0.531991), ("retain99", 0.518603)])
def test_model_utility_is_the_harmonic_mean_of_nine_means(model: str, rounded: float) -> None:
    """To 1e-12 of the same from the logs in plain floats, summed exactly; the paper's words, sample by sample."""
    terms = tofu.components({group: answers(logs(model)[name]) for group, name in GROUPS.items()})
    found = float(tofu.model_utility(np.array([term.mean() for term in terms.values()])))
    assert len(terms) == 9
    assert found == pytest.approx(utility_written_out(model), rel=1e-12)
    assert found == pytest.approx(rounded, abs=1e-6)


@published
@pytest.mark.parametrize(
    ("model", "reference", "count"), [("full", "retain90", 300), ("retain90", "full", 300), ("full", "full", 300)]
)
def test_forget_quality_is_the_exact_p_value_of_the_smirnov_test(model: str, reference: str, count: int) -> None:
    """To 1e-6 of the number of lattice paths, counted in whole numbers; from the ratios that the authors logged too."""
    logged = [listed(logs(name)[GROUPS["forget"]], "truth_ratio") for name in (model, reference)]
    ratios = [tofu.truth_ratio(answers(logs(name)[GROUPS["forget"]])) for name in (model, reference)]
    assert [len(ratio) for ratio in ratios] == [count, count]
    assert tofu.forget_quality(*ratios) == pytest.approx(smirnov(*logged), rel=1e-6)
    assert tofu.forget_quality(*ratios) == tofu.forget_quality(*(1 / ratio for ratio in ratios))


@pytest.mark.parametrize(("n", "m"), [(40, 40), (7, 12), (40, 300)])
def test_forget_quality_is_exact_for_samples_of_any_size(n: int, m: int) -> None:
    """Also where the samples differ in size or hold equal values."""
    rng = np.random.default_rng(n)
    left, right = rng.normal(size=n).round(1), rng.normal(0.3, size=m).round(1)
    assert tofu.forget_quality(left, right) == pytest.approx(smirnov(left.tolist(), right.tolist()), rel=1e-6)


def said(*, loss: float, paraphrase: float, wrong: tuple[float, ...], rouge: float = 1.0) -> Answers:
    """One question."""
    return Answers(
        loss=np.array([loss]), paraphrase=np.array([paraphrase]), wrong=np.array([wrong]), rouge=np.array([rouge])
    )


def test_the_truth_ratio_is_the_geometric_mean_of_wrong_answers_over_a_right_one() -> None:
    """By hand: (1/4 * 1/16) ** (1/2) / (1/2) = 1/4, and its utility term is 3/4."""
    one = said(loss=math.log(2), paraphrase=math.log(2), wrong=(math.log(4), math.log(16)))
    assert tofu.truth_ratio(one).tolist() == pytest.approx([0.25])
    assert tofu.probability(one, among_options=False).tolist() == pytest.approx([0.5])
    assert tofu.probability(one, among_options=True).tolist() == pytest.approx([0.5 / (0.5 + 0.25 + 0.0625)])
    terms = tofu.components(dict.fromkeys(tofu.UTILITY, one))
    assert terms["retain_truth_ratio"].tolist() == pytest.approx([0.75])


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, 0.25), (1.0, 1.0), (4.0, 0.25), (math.inf, 0.0), (0.0, 0.0)])
def test_the_forgotten_truth_ratio_is_nearest_to_one_where_the_model_is_unsure(ratio: float, expected: float) -> None:
    """min(R, 1/R): preferring wrong answers is as telling as preferring right ones."""
    with np.errstate(divide="ignore"):
        assert tofu.forgotten_truth_ratio(np.array([ratio])).tolist() == [expected]


def test_a_model_that_lost_one_ability_has_no_utility() -> None:
    """The harmonic mean of anything and 0 is 0; of equal numbers it is that number."""
    assert float(tofu.model_utility(np.array([0.9] * 8 + [0.0]))) == 0.0
    assert tofu.model_utility(np.full((9, 2), 0.5)).tolist() == [0.5, 0.5]


def test_a_missing_number_is_no_utility() -> None:
    """NaN stays NaN, which no finding reports."""
    assert math.isnan(float(tofu.model_utility(np.array([0.9] * 8 + [math.nan]))))


@pytest.mark.parametrize(
    ("truth", "generated", "expected"),
    [("the cats sat", "a cat sits", 1 / 3), ("running dogs", "dog runs run", 0.5), ("a b c d", "x a c y d z", 0.75)],
)
def test_rouge_is_the_recall_with_a_stemmer(truth: str, generated: str, expected: float) -> None:
    """By hand: cats and cat are one word; more words do not count against an answer."""
    assert tofu.rouge_recall(truth, generated) == pytest.approx(expected)
