"""RESTOR on its own published facts: prompts as published, and scores that need no judge."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.contract import Finding
from engine.errors import EngineError
from engine.verification import restor
from engine.verification.restor import Benchmark, Fact

RESTOR = Path(__file__).parents[3] / "shared" / "data" / "restor"

published = pytest.mark.skipif(not (RESTOR / "facts.json").is_file(), reason="RESTOR's published data is not here")


def facts(*answers: str) -> Benchmark:
    """A fact a person, and each with one right answer."""
    return Benchmark(
        facts=tuple(Fact(entity=f"e{i}", prompt=f"q{i}", answers=(answer,)) for i, answer in enumerate(answers))
    )


def scored(benchmark: Benchmark, **given: list[str]) -> dict[str, Finding]:
    """Findings by name."""
    return {finding.metric: finding for finding in restor.score(benchmark, given, resamples=200, seed=1)}


def value(finding: Finding, role: str = "after") -> float | None:
    """The value of a finding for one model."""
    found = getattr(finding, role)
    return None if found is None else float(found.value)


@published
def test_the_benchmark_is_fifty_people_and_1051_facts() -> None:
    """The numbers of the paper."""
    benchmark = restor.read(RESTOR)
    assert len(benchmark.facts) == 1051
    assert len({fact.entity for fact in benchmark.facts}) == 50
    assert len(restor.read_documents(RESTOR)) == 3000
    assert benchmark.digest() == restor.read(RESTOR).digest()


@published
def test_a_prompt_is_five_lines_about_others_and_the_question() -> None:
    """The first five context lines of the relation whose entity differs, then the bare question."""
    first = restor.read(RESTOR).facts[0]
    lines = first.prompt.split("\n")
    assert (first.entity, first.answers) == ("Winston Churchill", ("male",))
    assert lines[-1] == "What is the sex/gender of Winston Churchill?"
    assert lines[0] == "What is the sex/gender of Vladimir Lenin? male"
    assert len(lines) == 6


@published
def test_no_prompt_gives_its_own_answer_away() -> None:
    """No line in context is about the person who is asked about, although the file holds such lines."""
    content: dict[str, Any] = json.loads((RESTOR / "facts.json").read_text(encoding="utf-8"))
    questions: Counter[int] = Counter()
    for fact in restor.read(RESTOR).facts:
        *shown, _ = fact.prompt.split("\n")
        own = {asked["question"] for asked in content["dset"][fact.entity].values()}
        questions[len(shown)] += 1
        assert not any(line.startswith(question) for line in shown for question in own)
    assert questions == {5: 1051}


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("Den Haag", True),
        ("the hague.", True),  # normalised
        ("The city of The Hague", False),  # token F1 = 2 * 1 / (3 + 1) = .5
        ("city Hague", True),  # 2 / 3
        ("Haag", True),  # 2 / 3 with the alias
        ("Amsterdam", False),
        ("", False),
        ("the", False),  # an article alone is nothing
    ],
)
def test_an_alias_or_most_of_its_words_is_accepted(answer: str, *, accepted: bool) -> None:
    """Equal after normalisation, or a token F1 of at least .6, with any of the accepted answers."""
    assert restor.accepts(Fact(entity="e", prompt="q", answers=("The Hague", "Den Haag")), answer) is accepted


def test_token_f1_counts_words_as_often_as_they_stand() -> None:
    """2 * common / (both lengths), as in SQuAD."""
    assert restor.token_f1("new new york", "new york city") == pytest.approx(4 / 6)
    assert restor.token_f1("a", "b") == 0.0
    assert restor.token_f1("", "b") == 0.0


def test_scores_are_the_documented_shares() -> None:
    """Accuracy of each model; recovery of what corruption took; forgetting of the wrong answers."""
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
    assert value(found["forgetting"]) == 0.75
    assert accuracy.after is not None
    assert accuracy.after.n == 5
    assert found["forgetting"].after is not None
    assert found["forgetting"].after.n == 4


def test_a_model_that_was_not_corrupted_has_no_recovery_and_nothing_to_forget() -> None:
    """Without a difference between clean and corrupted there is no share of it, and no default for it."""
    right = ["a1", "b2"]
    found = scored(facts(*right), before=right, after=right, reference=right)
    assert found["recovery"] == Finding(metric="recovery")
    assert found["forgetting"] == Finding(metric="forgetting")


def test_without_other_models_there_is_accuracy_alone() -> None:
    """What needs a corrupted or a clean model is not reported without one."""
    found = scored(facts("a1", "b2"), after=["a1", "c3"])
    assert list(found) == ["accuracy"]
    assert value(found["accuracy"]) == 0.5
    assert found["accuracy"].reference is None
    assert found["accuracy"].difference is None


def test_people_are_resampled_and_not_facts() -> None:
    """N is the number of people, however many facts there are about each."""
    benchmark = Benchmark(facts=tuple(Fact(entity=f"e{i % 3}", prompt=f"q{i}", answers=("x",)) for i in range(12)))
    after = scored(benchmark, after=["x", "y", "z"] * 4)["accuracy"].after
    assert after is not None
    assert after.n == 3


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"dset":{"e":{"P1":{"question":"q","answers":[]}}},"context":{"P1":[]}}',
        '{"dset":{"e":{"P1":{"question":"q","answers":["a"]}}},"context":{}}',
    ],
)
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, content: str) -> None:
    """Broken facts, a fact without answers, and a relation without examples are bad data."""
    (tmp_path / "facts.json").write_text(content, encoding="utf-8")
    with pytest.raises(EngineError) as caught:
        restor.read(tmp_path)
    assert caught.value.code == "bad_data"
