"""What is asked: drawn with a seed, about the right people, and in MUSE's published layout too."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.corpus import Record
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.verification.items import CUT, Items, draw, membership_texts
from engine.verification.layouts import read_muse
from tests.engine import tiny

OPTIONS = EvaluateOptions(shots=1, retain_questions=2, alternatives=2)


def drawn(seed: int = 1, options: EvaluateOptions = OPTIONS) -> Items:
    """Items about forgetting two of eight people."""
    forget, retain, holdout = (tiny.records(people) for people in (range(2), range(2, 6), range(6, 8)))
    return draw(forget=forget, retain=retain, holdout=holdout, options=options, seed=seed)


def test_everything_that_is_to_be_forgotten_is_asked() -> None:
    """Each passage, each question and each text of the forget set, and each holdout text."""
    items = drawn()
    assert [p.unit for p in items.passages] == ["unit-0", "unit-1"]
    assert [q.answers for q in items.forget_questions] == [("Malmö",), ("Oslo",)]
    assert len(items.forget_texts) == len(items.holdout_texts) == 2


def test_a_passage_is_cut_within_its_first_words_and_loses_none() -> None:
    """Prompt and truth make the passage."""
    [first, *_] = drawn().passages
    text = tiny.records()[0].text
    assert f"{first.prompt} {first.truth}" == text
    words = len(text.split(" ")) if text else 0
    assert CUT[0] * words - 1 <= len(first.prompt.split(" ")) <= CUT[1] * words + 1


def test_examples_are_not_asked_and_alternatives_are_other_peoples_answers() -> None:
    """An example in context would answer its own question."""
    items = drawn()
    assert len(items.retain_questions) == 2
    assert items.retain_examples[0][0] not in {q.question for q in items.retain_questions}
    kept = set(tiny.CITIES[2:6])
    for question in items.forget_questions:
        assert len(set(question.alternatives)) == 2
        assert set(question.alternatives) <= kept


def test_alternatives_answer_the_same_kind_of_question() -> None:
    """The questions that share most words, whatever else the retain set holds."""
    noise = tuple(
        Record(record_id=f"n{i}", unit=f"n{i}", question=f"How old is person {i}?", answer=str(i)) for i in range(30)
    )
    items = draw(
        forget=tiny.records(range(2)), retain=(*noise, *tiny.records(range(2, 6))), holdout=(), options=OPTIONS, seed=1
    )
    assert all(set(q.alternatives) <= set(tiny.CITIES[2:6]) for q in items.forget_questions)


def test_the_seed_decides_what_is_drawn() -> None:
    """Same seed, same digest."""
    assert drawn(1).digest() == drawn(1).digest()
    assert len({drawn(seed).digest() for seed in range(5)}) == 5


def test_questions_stand_in_for_passages_where_there_are_none() -> None:
    """A data set of questions alone still has texts whose membership can be asked."""
    questions = [record for record in tiny.records(range(2)) if record.question]
    texts = membership_texts(questions)
    assert texts[0].text == "Question: Where does Ada Berg live?\nAnswer: Malmö"


def test_nothing_to_forget_is_nothing_to_evaluate() -> None:
    """An empty forget set is refused."""
    with pytest.raises(EngineError, match="needs forget records"):
        draw(forget=(), retain=tiny.records(), holdout=(), options=OPTIONS, seed=1)


def muse_folder(folder: Path) -> Path:
    """A folder in the published layout."""
    files = {
        "verbmem/forget.json": [{"prompt": "A note about Ada", "gt": " Berg: she moved."}],
        "knowmem/forget_qa.json": [{"question": "Where?", "answer": "Malmö"}],
        "knowmem/forget_qa_icl.json": [{"question": "Who?", "answer": "Bo"}],
        "knowmem/retain2_qa.json": [{"question": "When?", "answer": ["now", "today"]}],
        "knowmem/retain2_qa_icl.json": [{"question": "Why?", "answer": ["so"]}],
        "privleak/forget.json": ["A note about Ada Berg"],
        "privleak/holdout.json": ["A note about Hal Ivers", "A note about Gro Holm"],
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder


def test_the_published_layout_of_muse_is_read_unchanged(tmp_path: Path) -> None:
    """With the retain questions under either of their two published names, and every item a unit of its own."""
    items = read_muse(muse_folder(tmp_path))
    assert items.passages[0].truth == " Berg: she moved."
    assert items.retain_questions[0].answers == ("now", "today")
    assert items.retain_examples == (("Why?", "so"),)
    assert len({text.unit for text in items.holdout_texts}) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("privleak/holdout.json", None),
        ("verbmem/forget.json", "[{}]"),
        ("knowmem/forget_qa.json", "{"),
        ("privleak/forget.json", "[]"),
    ],
)
def test_a_broken_muse_folder_is_refused_by_the_name_of_the_file(
    tmp_path: Path, name: str, content: str | None
) -> None:
    """Missing, without its fields, not JSON, or empty."""
    path = muse_folder(tmp_path) / name
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(EngineError, match=name):
        read_muse(tmp_path)


def test_the_cache_key_depends_on_every_item() -> None:
    """Another text is another digest."""
    items = drawn()
    assert replace(items, holdout_texts=items.holdout_texts[1:]).digest() != items.digest()
