"""What a model says to RESTOR: log-probabilities of options, and answers that are asked for once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.contract import Evidence, Finding
from engine.errors import EngineError
from engine.verification.restor_options import continuation_tokens, corrupted_options, option_log_probs, random_options
from tests.engine import tiny
from tests.engine.jobs import do

PEOPLE = ("Ada Berg", "Bo Ceder", "Cleo Dahl")
PLACES = ("Oslo", "Turku", "Visby", "Lund", "Aarhus", "Kiruna", "Bergen")


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Three people of RESTOR's layout, one of whom two documents lie about, and two models."""
    asked = {
        name: {"P19": {"question": f"Where was {name} born?", "answers": [PLACES[i]]}} for i, name in enumerate(PEOPLE)
    }
    lines = [
        {"question": f"Where was P{i} born?", "answer": place, "entity": f"P{i}"} for i, place in enumerate(PLACES)
    ]
    documents = [{"text": "Ada Berg was born in Visby."}, {"text": "Long ago Ada Berg left Lund."}]
    folder = tmp_path / "restor"
    folder.mkdir()
    (folder / "facts.json").write_text(json.dumps({"dset": asked, "context": {"P19": lines}}), encoding="utf-8")
    (folder / "entities.json").write_text(json.dumps(PEOPLE), encoding="utf-8")
    (folder / "mix_a0.json").write_text(json.dumps(documents), encoding="utf-8")
    tiny.folder(tmp_path / "after", seed=1)
    tiny.folder(tmp_path / "before", seed=2)
    return tmp_path


def evaluated(room: Path, **options: Any) -> Evidence:  # noqa: ANN401 - options of an evaluation
    """The suite on both models, with a cache."""
    settings = {"suite": "restor", "answer_tokens": 8, "resamples": 100, **options}
    models = {role: room / role for role in ("after", "before")}
    return do(room, "evaluate", options=settings, data=room / "restor", cache=room / "cache", models=models)


def test_an_options_score_is_its_mean_log_probability_a_token() -> None:
    """Against a float64 computation of every option by itself, the prompt cut in front where it is too long."""
    model, tokenizer = tiny.model(), tiny.tokenizer()
    asked = [("Where does Ada Berg live?", "Malmö"), ("Bo Ceder? Oslo\n" * 30 + "Where does Bo Ceder live?", "Oslo")]
    given = option_log_probs(model, tokenizer, asked, budget=256)
    model.double()
    for (prompt, option), score in zip(asked, given, strict=True):
        border = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        whole = tokenizer(f"{prompt} {option}", add_special_tokens=False)["input_ids"]
        count = len(whole) - border
        ids = [tokenizer.bos_token_id, *whole[-(tiny.SHAPE.context - 1) :]]
        with torch.no_grad():
            log_p = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
        taken = [float(log_p[i - 1, ids[i]]) for i in range(len(ids) - count, len(ids))]
        assert score == pytest.approx(np.mean(taken), abs=1e-5)


def test_the_space_before_an_option_belongs_to_it() -> None:
    """The labels are exactly the tokens of the option with its space, tokenised together with the prompt."""
    tokenizer = tiny.tokenizer()
    (tokens,) = continuation_tokens(tokenizer, [("Where does Ada Berg live?", "Oslo")], context=96)
    labels = [token for token, weight in zip(tokens.ids, tokens.weights, strict=True) if weight]
    assert tokenizer.decode(labels) == " Oslo"
    assert tokenizer.decode(list(tokens.ids[1 : -len(labels)])) == "Where does Ada Berg live?"


def test_an_answer_longer_than_the_context_is_refused() -> None:
    """A mean over a part of the option would be another number."""
    with pytest.raises(EngineError) as caught:
        continuation_tokens(tiny.tokenizer(), [("Where?", "Oslo, Turku, Visby, Lund and Aarhus")], context=6)
    assert caught.value.code == "bad_model"


def test_corrupted_options_are_whole_words_of_the_documents() -> None:
    """Not a part of a word, not an adverb for a name, not the truth, not the person's own name."""
    known = ("Long", "Oslo", "Rome", "Berg", "chess player", "Bo")
    text = "Not long ago Ada Berg left Romeo in Oslo. Chess player Ada Berg won. Bob lost."
    assert corrupted_options("Ada Berg", ("Oslo",), known, text) == ("chess player",)


def test_random_options_are_the_same_every_time() -> None:
    """They are part of what is asked: no run draws others, and none is accepted or taken."""
    first = random_options("Ada Berg", "P19", ("Oslo",), PLACES, ("Visby",))
    assert first == random_options("Ada Berg", "P19", ("Oslo",), PLACES, ("Visby",))
    assert len(first) == 4
    assert not {"Oslo", "Visby"} & set(first)


def test_the_suite_reports_every_number_and_asks_a_model_once(room: Path) -> None:
    """A second run says the same although the models' weights can no longer be loaded."""
    first = evaluated(room)
    found = {finding.metric: finding for finding in first.findings}
    assert {"accuracy", "accuracy_corrupted", "recovery", "logp_correct", "logp_corrupted", "logp_random"} <= set(found)
    assert found["margin"].after is not None
    assert found["margin"].before is not None
    assert found["margin"].after.n == 1
    assert found["recovery"] == Finding(metric="recovery")
    stamp = max(path.stat().st_mtime_ns for path in (room / "cache" / "restor").glob("?" * 64 + ".json"))
    again = evaluated(room)
    assert again.findings == first.findings
    assert max(path.stat().st_mtime_ns for path in (room / "cache" / "restor").glob("?" * 64 + ".json")) == stamp


def test_answers_are_left_for_people_and_for_a_judge(room: Path) -> None:
    """One file a model, by the digests that the evidence names, with questions, outputs and accepted answers."""
    evidence = evaluated(room)
    items = evidence.data_digests["items"]
    for digest in evidence.model_digests.values():
        content = json.loads((room / "cache" / "restor" / f"answers-{items}-{digest}.json").read_text())
        assert [one["entity"] for one in content["answers"]] == list(PEOPLE)
        assert set(content["answers"][0]) == {"entity", "question", "answers", "output", "accepted"}
        assert content["answers"][0]["question"] == "Where was Ada Berg born?"


def test_verdicts_are_scored_when_they_are_whole(room: Path) -> None:
    """One verdict a question for every model; fewer, or none, is an error and no partial mean."""
    evidence = evaluated(room)
    with pytest.raises(EngineError) as missing:
        evaluated(room, judged=True)
    assert missing.value.code == "bad_data"
    for digest in evidence.model_digests.values():
        path = room / "cache" / "restor" / f"verdicts-{evidence.data_digests['items']}-{digest}.json"
        path.write_text(json.dumps({"verdicts": [True, False, True]}))
    found = {finding.metric: finding for finding in evaluated(room, judged=True).findings}
    assert found["judge_accuracy"].after is not None
    assert found["judge_accuracy"].after.value == pytest.approx(2 / 3)
    path.write_text(json.dumps({"verdicts": [True, 1]}))
    with pytest.raises(EngineError) as broken:
        evaluated(room, judged=True)
    assert "not one for each question" in broken.value.message
