"""What the attacks ask: nothing that was taught, answers of one standing, the same under the same seed."""

from dataclasses import replace

import pytest

from engine.corpus import Record, by_unit
from engine.errors import EngineError
from engine.prompts import pairs
from engine.verification.attacks.relearnt import likeness, words
from engine.verification.attacks.wording import Paraphrase
from engine.verification.items import draw
from tests.engine import attacked
from tests.engine.attacked import OPTIONS, items


def test_nobody_is_asked_about_after_being_trained_on() -> None:
    """The halves share no person, and over both of them everybody is asked once."""
    asked = items()
    for half in asked.halves:
        taught = {record.unit for record in half.records}
        assert taught.isdisjoint(asked.questions[i].unit for i in half.questions)
        assert taught.isdisjoint(asked.passages[i].unit for i in half.passages)
    assert sorted(i for half in asked.halves for i in half.questions) == list(range(len(asked.questions)))
    assert sorted(i for half in asked.halves for i in half.passages) == list(range(len(asked.passages)))


def test_one_person_alone_is_split_by_records() -> None:
    """What is trained on is not asked, though it is about the same person."""
    forget = attacked.forget()[:3]
    asked = items(forget=forget)
    assert sorted(len(half.records) for half in asked.halves) == [1, 2]
    for half in asked.halves:
        taught = {record.question for record in half.records}
        assert taught.isdisjoint(asked.questions[i].question for i in half.questions)


def test_a_single_record_cannot_be_split() -> None:
    """There is nothing left to ask, and nothing is asked."""
    assert items(forget=attacked.forget()[:1]).halves == ()


def test_other_answers_are_those_of_other_forgotten_people() -> None:
    """To the questions most alike: a city has cities beside it. None is right, none is there twice."""
    asked = items()
    truths = {answer for _, answer in pairs([r for r in attacked.forget() if r.text is None])}
    for question in asked.questions:
        assert set(question.alternatives) <= truths - set(question.answers)
        assert len(set(question.alternatives)) == len(question.alternatives) == 4
    cities = [q for q in asked.questions if "city" in q.question]
    assert all(set(q.alternatives[:2]) <= set(attacked.CITIES) for q in cities)


def test_a_probe_never_meets_a_person_in_training_and_test() -> None:
    """Neither between folds nor between the known and the forgotten; the answers stay within a fold too."""
    asked = items()
    folds = [{question.unit for question in fold} for fold in asked.known]
    assert sum(map(len, folds)) == len(set().union(*folds))
    assert set().union(*folds).isdisjoint(question.unit for question in asked.questions)
    for fold in asked.known:
        own = {question.answers[0] for question in fold}
        assert all(set(question.alternatives) <= own for question in fold)


def test_what_is_asked_without_attack_is_what_the_records_suite_asks() -> None:
    """The same passages cut in the same places, the same questions, the same examples."""
    given = {"forget": attacked.forget(), "retain": attacked.retain(), "holdout": ()}
    plain, asked = draw(**given, options=OPTIONS, seed=1), items(seed=1)
    assert asked.passages == plain.passages
    assert [q.question for q in asked.questions] == [q.question for q in plain.forget_questions]
    assert asked.examples[: OPTIONS.shots] == plain.forget_examples


def test_a_limit_takes_something_of_everybody_before_more_of_anybody() -> None:
    """Eight people, eight questions: one of each."""
    asked = items(replace(OPTIONS, attack_items=8))
    assert len(asked.questions) == len({question.unit for question in asked.questions}) == 8
    assert len(asked.passages) == 8
    assert len([record for half in asked.halves for record in half.records]) == len(attacked.forget())


def test_what_the_user_put_otherwise_is_asked_within_any_limit() -> None:
    """A paraphrase is never read and then dropped."""
    for record in ("c3", "a5"):
        asked = items(replace(OPTIONS, attack_items=1), paraphrases=(Paraphrase(record_id=record, prompt="Say it"),))
        assert [texts[-1] for texts in asked.reworded] == ["Say it"]


def test_related_records_are_the_ones_most_alike() -> None:
    """As many as are relearned of the forgotten; and as many strangers."""
    note = Record(record_id="n", unit="other", text="Nothing about anybody at all")
    asked = items(retain=[note, *attacked.retain()])
    dose = max(len(half.records) for half in asked.halves)
    assert (len(asked.related), len(asked.unrelated)) == (dose, min(dose, len(attacked.holdout())))
    assert note not in asked.related
    assert {record.unit for record in asked.unrelated} <= set(by_unit(attacked.holdout()))


def test_likeness_is_the_share_of_common_words() -> None:
    """Case does not count."""
    assert likeness(words("Where is Ada"), words("where is bo")) == 0.5
    assert likeness(words(""), words("")) == 0.0


def test_the_same_seed_asks_the_same_and_another_seed_does_not() -> None:
    """The digest says so."""
    assert items(seed=1) == items(seed=1)
    assert items(seed=1).digest() == items(seed=1).digest() != items(seed=2).digest()


@pytest.mark.parametrize("name", ["forget", "retain", "holdout"])
def test_an_attack_lacks_nothing_silently(name: str) -> None:
    """Each of the three sets is needed, and the sentence names the one that is empty."""
    with pytest.raises(EngineError, match=f"needs {name} records") as caught:
        items(OPTIONS, seed=1, **{name: ()})
    assert caught.value.code == "bad_data"


@pytest.mark.parametrize(
    ("paraphrase", "sentence"),
    [
        (Paraphrase(record_id="none", question="Who?"), "not in the forget set"),
        (Paraphrase(record_id="p0", question="Who?"), "give it a prompt instead"),
    ],
)
def test_a_paraphrase_must_be_of_a_forgotten_record_and_fit_it(paraphrase: Paraphrase, sentence: str) -> None:
    """A passage has no question."""
    with pytest.raises(EngineError, match=sentence):
        items(paraphrases=(paraphrase,))


def test_a_forget_set_without_questions_can_be_attacked_too() -> None:
    """A book has passages alone, and a passage of one word is not asked."""
    asked = items(forget=[*(r for r in attacked.forget() if r.text), Record(record_id="w", unit="w", text="Word")])
    assert asked.questions == ()
    assert len(asked.passages) == attacked.FORGOTTEN


def test_a_forget_set_that_leaves_nothing_to_ask_is_refused() -> None:
    """Findings without items would look like a model without knowledge."""
    with pytest.raises(EngineError, match="none can be asked") as caught:
        items(forget=[Record(record_id="w", unit="w", text="Word")])
    assert caught.value.code == "bad_data"
