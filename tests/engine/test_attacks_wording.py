"""Questions in other words: what the rules do to them, and what a user may bring."""

from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.seeds import stream
from engine.verification.attacks.wording import Paraphrase, mistyped, read_paraphrases, turned, variants

QUESTION = "Which city does Ada Berg live in since March?"


def test_the_last_phrase_with_a_preposition_can_be_put_in_front() -> None:
    """Only where there is one, and a question stays a question."""
    assert turned("What happened to Ada in Oslo?") == "In Oslo, what happened to Ada?"
    assert turned("Who works for Berg and Sons?") == "For Berg and Sons, who works?"
    assert turned("Who is it?") == "Who is it?"
    assert turned("Tell me about Ada in Oslo") == "Tell me about Ada in Oslo"


def test_a_typing_error_exchanges_two_letters_within_a_word() -> None:
    """The same letters, the first of the word in its place, and another error under another seed."""
    made = {mistyped(QUESTION, stream(seed, "typos")) for seed in range(30)}
    assert len(made) > 5
    for text in made:
        assert sorted(text) == sorted(QUESTION)
        assert sum(a != b for a, b in zip(text, QUESTION, strict=True)) == 2
        assert all(a[0] == b[0] for a, b in zip(text.split(), QUESTION.split(), strict=True))


@pytest.mark.parametrize("question", ["Is he up?", "1234 5678?", "", "oooo?"])
def test_a_question_without_a_longer_word_is_not_mistyped(question: str) -> None:
    """Nothing is made up, and nothing fails."""
    assert mistyped(question, stream(1, "typos")) == question


def test_every_variant_is_another_question_that_names_the_same_person() -> None:
    """Several ways, none twice, none the question itself."""
    made = variants(QUESTION, stream(1, "typos"))
    assert len(set(made)) == len(made) >= 6
    assert QUESTION not in made
    assert QUESTION.lower() in made
    assert sum("Ada Berg" in text for text in made) >= 4


def test_a_users_paraphrases_are_read(tmp_path: Path) -> None:
    """Questions and prompts, any number of them for a record."""
    lines = '{"record_id": "a", "question": "Who?"}\n\n{"record_id": "a", "prompt": "Tell"}\n'
    (tmp_path / "paraphrases.jsonl").write_text(lines, encoding="utf-8")
    assert read_paraphrases(tmp_path) == (
        Paraphrase(record_id="a", question="Who?"),
        Paraphrase(record_id="a", prompt="Tell"),
    )


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    """The rules alone are used."""
    assert read_paraphrases(tmp_path) == read_paraphrases(None) == ()


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"record_id": "a"}',
        '{"question": "Who?"}',
        '{"record_id": "a", "question": "Who?", "prompt": "Tell"}',
        '{"record_id": "a", "question": " "}',
        '{"record_id": "a", "question": 5}',
        '{"record_id": "a", "other": "secret"}',
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    """And not a word of it is quoted."""
    path = tmp_path / "paraphrases.jsonl"
    path.write_text(f'{{"record_id": "a", "question": "Who?"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(EngineError, match=r"paraphrases\.jsonl line 2") as caught:
        read_paraphrases(tmp_path)
    assert caught.value.code == "bad_data"
    assert "secret" not in caught.value.message


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """One sentence."""
    (tmp_path / "paraphrases.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(EngineError, match="UTF-8"):
        read_paraphrases(tmp_path)
