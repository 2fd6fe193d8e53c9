"""MUSE's text scores and its published folder."""

import json
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.verification.items import Passage, Question, Text
from engine.verification.layouts import read_muse
from engine.verification.measure import is_correct
from engine.verification.muse import normalised, rouge_l


@pytest.mark.parametrize(
    ("truth", "generated", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("The CAT, sat!", "the cat sat", 1.0),  # case and punctuation do not count
        ("the cat sat on the mat", "the cat", 0.5),  # P = 1, R = 2/6
        ("a b c d", "d c b a", 0.25),  # the longest common subsequence is one word
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin 2004, section 3
        ("running dogs", "run dog", 0.0),  # no stemmer
        ("runs", "running", 0.0),
        ("", "word", 0.0),
        ("word", "", 0.0),
    ],
)
def test_rouge_l_is_the_f1_without_a_stemmer(truth: str, generated: str, expected: float) -> None:
    """Golden cases, worked out by hand."""
    assert rouge_l(truth, generated) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("The  Hague.", "hague"), ("A cat, an owl", "cat owl"), ("Theatre", "theatre"), ("U.S.A.", "usa"), ("", "")],
)
def test_answers_are_normalised_by_the_squad_rule(answer: str, expected: str) -> None:
    """Lower case, no punctuation, no articles, single spaces."""
    assert normalised(answer) == expected


def test_any_accepted_answer_is_correct() -> None:
    """A question may have several true answers, and an empty one is none of them."""
    item = Question(unit="u", question="Where?", answers=("The Hague", "Den Haag"))
    assert is_correct(item, "den haag.")
    assert not is_correct(item, "Haag")
    assert not is_correct(item, "")


def muse(folder: Path, **files: object) -> Path:
    """A folder in MUSE's layout with one item of each kind; `files` replaces some, None removes."""
    pair = [{"question": "Who?", "answer": "Ada"}]
    content: dict[str, object] = {
        "verbmem/forget": [{"prompt": "Once", "gt": "upon a time"}],
        "knowmem/forget_qa": [{"question": "Where?", "answer": ["Oslo", "Christiania"]}],
        "knowmem/forget_qa_icl": pair,
        "knowmem/retain_qa": pair,
        "knowmem/retain_qa_icl": pair,
        "privleak/forget": ["Once upon a time"],
        "privleak/holdout": [{"text": "Long ago"}],
    } | files
    for name, value in content.items():
        if value is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def test_the_published_folder_is_read(tmp_path: Path) -> None:
    """Every item is a unit of its own, and an answer may be a list."""
    items = read_muse(muse(tmp_path))
    assert items.passages == (Passage(unit="000000", prompt="Once", truth="upon a time"),)
    assert items.forget_questions[0].answers == ("Oslo", "Christiania")
    assert items.forget_examples == (("Who?", "Ada"),)
    assert items.holdout_texts == (Text(unit="000000", text="Long ago"),)


def test_the_name_of_the_published_retain_files_is_known(tmp_path: Path) -> None:
    """The files of News and Books are called retain2."""
    other = [{"question": "When?", "answer": "Now"}]
    items = read_muse(muse(tmp_path, **{"knowmem/retain2_qa": other, "knowmem/retain2_qa_icl": other}))
    assert items.retain_questions[0].question == "When?"
    assert items.retain_examples == (("When?", "Now"),)


@pytest.mark.parametrize("broken", [None, [], {}, [{"q": "Who?"}], [5]])
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, broken: object) -> None:
    """The sentence names the file and quotes nothing."""
    with pytest.raises(EngineError, match=r"knowmem/forget_qa\.json") as caught:
        read_muse(muse(tmp_path, **{"knowmem/forget_qa": broken}))
    assert caught.value.code == "bad_data"
