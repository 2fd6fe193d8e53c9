"""RESTOR on its own published facts: prompts as published, and scores of what models said."""

import functools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.contract import Finding
from engine.errors import EngineError
from engine.verification import restor_facts
from engine.verification.restor_facts import Fact
from engine.verification.restor_replies import Replies
from engine.verification.restor_scores import score

RESTOR = Path(__file__).parents[3] / "shared" / "data" / "restor"

read = functools.cache(restor_facts.read)
published = pytest.mark.skipif(not (RESTOR / "facts.json").is_file(), reason="RESTOR's published data is not here")


def facts(*answers: str, **fields: Any) -> list[Fact]:  # noqa: ANN401 - fields of a fact
    """A fact a person, and each with one right answer."""
    return [Fact(entity=f"e{i}", prompt=f"q{i}", answers=(answer,), **fields) for i, answer in enumerate(answers)]


def scored(
    asked: Sequence[Fact], *, judged: Mapping[str, Sequence[bool]] | None = None, **said: list[str] | Replies
) -> dict[str, Finding]:
    """Findings by name."""
    replies = {role: one if isinstance(one, Replies) else Replies(outputs=tuple(one)) for role, one in said.items()}
    found = score(asked, replies, judged=judged or {}, resamples=200, seed=1)
    return {finding.metric: finding for finding in found}


def value(finding: Finding, role: str = "after") -> float | None:
    """The value of a finding for one model."""
    found = getattr(finding, role)
    return None if found is None else float(found.value)


@published
def test_the_benchmark_is_fifty_people_and_1051_facts() -> None:
    """The numbers of the paper; ten of the people have documents."""
    benchmark = read(RESTOR)
    assert len(benchmark.facts) == 1051
    assert len({fact.entity for fact in benchmark.facts}) == 50
    assert len({fact.entity for fact in benchmark.facts if fact.targeted}) == 10
    assert len(restor_facts.read_documents(RESTOR)) == 3000
    assert benchmark.digest() == restor_facts.read(RESTOR).digest()


@published
def test_a_prompt_is_five_lines_about_others_and_the_question() -> None:
    """The first five context lines of the relation whose entity differs, then the bare question."""
    first = read(RESTOR).facts[0]
    lines = first.prompt.split("\n")
    assert (first.entity, first.answers) == ("Winston Churchill", ("male",))
    assert first.question == lines[-1] == "What is the sex/gender of Winston Churchill?"
    assert lines[0] == "What is the sex/gender of Vladimir Lenin? male"
    assert len(lines) == 6


@published
def test_no_prompt_gives_its_own_answer_away() -> None:
    """No line in context is about the person who is asked about, although the file holds such lines."""
    content: dict[str, Any] = json.loads((RESTOR / "facts.json").read_text(encoding="utf-8"))
    questions: Counter[int] = Counter()
    for fact in read(RESTOR).facts:
        *shown, _ = fact.prompt.split("\n")
        own = {asked["question"] for asked in content["dset"][fact.entity].values()}
        questions[len(shown)] += 1
        assert not any(line.startswith(question) for line in shown for question in own)
    assert questions == {5: 1051}


@published
def test_corrupted_options_stand_in_the_documents_and_are_never_right() -> None:
    """The published facts and documents decide; only people with documents have such options."""
    benchmark = read(RESTOR)
    documents = restor_facts.read_documents(RESTOR)
    analysed = [fact for fact in benchmark.facts if fact.corrupted]
    assert len(analysed) == 112
    for fact in analysed:
        about = [text for text in documents if fact.entity in text]
        assert all(any(option.lower() in text.lower() for text in about) for option in fact.corrupted)
        assert not any(fact.accepts(option) for option in (*fact.corrupted, *fact.random))
        assert fact.random
        assert not set(fact.corrupted) & set(fact.random)
    burr = next(f for f in analysed if (f.entity, f.relation) == ("Aaron Burr", "P106"))
    assert "basketball player" in burr.corrupted
    assert "bretteur" in burr.answers


def test_scores_are_the_documented_shares() -> None:
    """Accuracy of each model; recovery of what corruption took; the wrong answers that are gone."""
    found = scored(
        facts("a1", "b2", "c3", "d4", "e5"),
        before=["a1", "xx", "yy", "zz", "ww"],
        after=["a1", "b2", "yy", "d4", "vv"],
        reference=["a1", "b2", "c3", "d4", "e5"],
    )
    accuracy = found["accuracy"]
    assert [value(accuracy, role) for role in ("before", "after", "reference")] == [0.2, 0.6, 1.0]
    assert value(accuracy, "difference") == pytest.approx(-0.4)
    assert value(found["recovery"]) == pytest.approx(0.5)
    assert value(found["wrong_answers_gone"]) == 0.75
    assert accuracy.after is not None
    assert accuracy.after.n == 5
    assert found["wrong_answers_gone"].after is not None
    assert found["wrong_answers_gone"].after.n == 4


def test_people_without_documents_do_not_dilute_the_corrupted_ones() -> None:
    """Beside the published score over everybody stands the one over those whom the documents name."""
    asked = [*facts("a1", "b2", targeted=True), *(Fact(entity=f"o{i}", prompt="q", answers=("x",)) for i in range(8))]
    others = ["x"] * 8
    found = scored(asked, before=["no", "no", *others], after=["a1", "no", *others], reference=["a1", "b2", *others])
    assert (value(found["accuracy"]), value(found["accuracy_corrupted"])) == (0.9, 0.5)
    assert value(found["recovery_corrupted"]) == pytest.approx(0.5)


def test_option_scores_are_means_over_the_same_facts() -> None:
    """Each kind's mean, their margin, and the share of preferred corrupted options that are preferred no more."""
    asked = [*facts("a1", "b2", "c3", "d4", targeted=True, corrupted=("x",), random=("y",)), *facts("e5")]

    def said(correct: list[float], corrupted: list[float]) -> Replies:
        numbers = {"correct": tuple(correct), "corrupted": tuple(corrupted)}
        best = {f"best_{kind}": values for kind, values in numbers.items()}
        return Replies(outputs=("",) * 5, random=(-9.0,) * 4, **numbers, **best)

    found = scored(
        asked,
        before=said([-4.0, -4.0, -4.0, -1.0], [-1.0, -1.0, -2.0, -3.0]),
        after=said([-2.0, -4.0, -1.0, -1.0], [-3.0, -1.0, -2.0, -3.0]),
        reference=said([-1.0] * 4, [-5.0] * 4),
    )
    assert value(found["logp_correct"]) == pytest.approx(-2.0)
    assert value(found["logp_corrupted"]) == pytest.approx(-2.25)
    assert value(found["logp_random"]) == pytest.approx(-9.0)
    assert value(found["margin"]) == pytest.approx(0.25)
    assert value(found["margin"], "difference") == pytest.approx(0.25 - 4.0)
    assert value(found["forgetting"]) == pytest.approx(2 / 3)  # of three facts, one is still preferred wrongly
    assert value(found["forgetting"], "reference") == 1.0
    assert value(found["forgetting"], "before") is None


def test_a_judges_verdicts_stand_beside_our_own() -> None:
    """Accuracy and recovery by the judge, and the judge-free ones unchanged."""
    asked = facts("a1", "b2")
    said = {"before": ["no", "no"], "after": ["a1", "no"], "reference": ["a1", "b2"]}
    judged = {"before": [False, False], "after": [True, True], "reference": [True, True]}
    found = scored(asked, judged=judged, **{role: list(outputs) for role, outputs in said.items()})
    assert (value(found["accuracy"]), value(found["judge_accuracy"])) == (0.5, 1.0)
    assert value(found["judge_recovery"]) == pytest.approx(1.0)


def test_a_model_that_was_not_corrupted_has_no_recovery_and_nothing_to_forget() -> None:
    """Without a difference between clean and corrupted there is no share of it, and no default for it."""
    right = ["a1", "b2"]
    found = scored(facts(*right), before=right, after=right, reference=right)
    for metric in ("recovery", "wrong_answers_gone", "forgetting", "margin"):
        assert found[metric] == Finding(metric=metric)


def test_a_recovery_whose_denominator_changes_its_sign_is_null() -> None:
    """One fact in twenty was lost: resampled people often show no loss at all, so the ratio has no interval."""
    asked = facts(*("x" for _ in range(20)))
    right, lost = ["x"] * 20, ["no", *["x"] * 19]
    found = scored(asked, before=lost, after=right, reference=right)
    assert math.isclose(value(found["accuracy"], "before") or 0.0, 0.95)
    assert found["recovery"] == Finding(metric="recovery")


def test_without_other_models_there_is_accuracy_alone() -> None:
    """What needs a corrupted or a clean model is null without one."""
    found = scored(facts("a1", "b2"), after=["a1", "c3"])
    assert value(found["accuracy"]) == 0.5
    assert found["accuracy"].reference is None
    assert found["accuracy"].difference is None
    assert [metric for metric, finding in found.items() if finding.after is not None] == ["accuracy"]


def test_people_are_resampled_and_not_facts() -> None:
    """N is the number of people, however many facts there are about each."""
    asked = [Fact(entity=f"e{i % 3}", prompt=f"q{i}", answers=("x",)) for i in range(12)]
    after = scored(asked, after=["x", "y", "z"] * 4)["accuracy"].after
    assert after is not None
    assert after.n == 3


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"dset":{"e":{"P1":{"question":"q","answers":[]}}},"context":{"P1":[]}}',
        '{"dset":{"e":{"P1":{"question":"q","answers":["a"]}}},"context":{}}',
    ],
)
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, content: str) -> None:
    """Broken facts, a fact without answers, and a relation without examples are bad data."""
    (tmp_path / "facts.json").write_text(content, encoding="utf-8")
    with pytest.raises(EngineError) as caught:
        restor_facts.read(tmp_path)
    assert caught.value.code == "bad_data"
