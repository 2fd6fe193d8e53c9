"""What the methods claim, on a model that knows six people by heart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoints import load_model, load_tokenizer
from engine.contract import Guarantee
from engine.corpus import Record
from engine.digests import model_digest, model_files
from engine.errors import EngineError
from engine.prompts import pairs
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import pack_tokens, passage_tokens
from tests.engine import tiny
from tests.engine.jobs import QUICK, do, weights

PUBLIC, OTHERS = tiny.records([6]), tiny.records([7])
ALL, FORGET, RETAIN = tiny.records(range(6)), tiny.records([0, 1]), tiny.records([2, 3, 4, 5])
DESCENT = {"steps": 15, "learning_rate": 0.002, "retain_batch": 12, "context_pairs": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `start`, which read about somebody who stays, and `known`, which also learned the other six."""
    folder = tmp_path_factory.mktemp("models")
    shape = {"vocabulary": 300, "hidden": 32, "layers": 1, "heads": 2, "intermediate": 64, "context": 96}
    do(folder, "initialise", out="start", train=PUBLIC, options={**shape, **QUICK})
    do(folder, "train", model="start", out="known", train=ALL, options={"epochs": 40, "tokens_per_batch": 300})
    return folder


def loss(folder: Path, records: tuple[Record, ...]) -> float:
    """Mean loss in nats over passages and answers."""
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    texts = [record.text for record in records if record.text is not None]
    windows = [window for text in passage_tokens(tokenizer, texts, context=96, end=False) for window in text]
    asked = pack_tokens(
        tokenizer, [[pair] for pair in pairs(records)], context=96, answer_weight=1.0, prompt_weight=0.0
    )
    scores = token_scores(Forward(model), [*windows, *asked], tokens_per_batch=4096)
    return -float(np.concatenate([score.log_probs for score in scores]).mean())


def test_people_are_learned_and_the_tokenizer_is_not_refitted_on_them(models: Path, tmp_path: Path) -> None:
    """Training lowers the loss on its people, and the tokenizer stays the one of the public text, byte for byte."""
    assert loss(models / "known", ALL) < 1.0
    assert loss(models / "start", ALL) > 2.0
    do(tmp_path, "train", model=models / "start", out="again", train=ALL, options=QUICK)
    name = "tokenizer.json"
    assert model_files(tmp_path / "again")[name] == model_files(models / "start")[name]


def test_retraining_does_not_depend_on_the_forget_set(models: Path, tmp_path: Path) -> None:
    """Whatever stands in the forget file, and without one, the same bytes come out, and the class is exact."""
    base = models / "start"
    made = [
        do(tmp_path, "unlearn", method="retrain", base=base, retain=RETAIN, options=QUICK, out="none"),
        do(tmp_path, "unlearn", method="retrain", base=base, retain=RETAIN, forget=FORGET, options=QUICK, out="two"),
        do(tmp_path, "unlearn", method="retrain", base=base, retain=RETAIN, forget=OTHERS, options=QUICK, out="other"),
    ]
    assert len({model_digest(evidence.model_files) for evidence in made}) == 1
    assert {evidence.guarantee for evidence in made} == {Guarantee.EXACT}
    assert {evidence.variant for evidence in made} == {""}


def test_retraining_does_not_know_the_forgotten(models: Path, tmp_path: Path) -> None:
    """The retrained model keeps the others and knows the forgotten hardly better than a stranger."""
    options = {"epochs": 40, "tokens_per_batch": 300}
    do(tmp_path, "unlearn", method="retrain", base=models / "start", retain=RETAIN, options=options, out="new")
    assert loss(tmp_path / "new", RETAIN) < 1.0
    assert loss(tmp_path / "new", FORGET) > loss(models / "known", FORGET) + 0.5


def test_dp2_starts_from_the_dp_base(models: Path, tmp_path: Path) -> None:
    """Another base, other weights; the deployed model is not even named, and the class is certified."""
    first = do(tmp_path, "unlearn", method="dp2", base=models / "start", retain=RETAIN, options=QUICK, out="a")
    other = do(tmp_path, "unlearn", method="dp2", base=models / "known", retain=RETAIN, options=QUICK, out="b")
    same = do(
        tmp_path,
        "unlearn",
        method="dp2",
        base=models / "start",
        model=models / "known",
        retain=RETAIN,
        options=QUICK,
        out="c",
    )
    assert first.model_digests == {"base": model_digest(model_files(models / "start"))}
    assert weights(first) == weights(same)
    assert weights(first) != weights(other)
    assert first.guarantee is Guarantee.CERTIFIED


def test_npo_forgets_and_keeps_better_than_ga(models: Path, tmp_path: Path) -> None:
    """The forgotten become strange, and the others suffer less than under plain ascent."""
    fields: dict[str, Any] = {"model": models / "known", "forget": FORGET, "retain": RETAIN, "options": DESCENT}
    npo = do(tmp_path, "unlearn", method="npo", out="npo", **fields)
    ga = do(tmp_path, "unlearn", method="ga", out="ga", **fields)
    assert loss(tmp_path / "npo", FORGET) > loss(models / "known", FORGET) + 1.0
    assert loss(tmp_path / "npo", RETAIN) < loss(tmp_path / "ga", RETAIN)
    assert loss(tmp_path / "npo", RETAIN) < loss(tmp_path / "npo", FORGET)
    assert npo.guarantee is Guarantee.EMPIRICAL
    assert (npo.variant, ga.variant) == ("npo + gd", "ga")
    assert npo.steps == 15


@pytest.mark.parametrize("term", ["none", "gd", "kl"])
def test_the_variant_names_the_retain_term(models: Path, tmp_path: Path, term: str) -> None:
    """A reader of the evidence sees which retain term was used."""
    options = {**DESCENT, "steps": 1, "retain_term": term}
    evidence = do(
        tmp_path,
        "unlearn",
        method="npo",
        model=models / "known",
        forget=FORGET,
        retain=RETAIN,
        options=options,
        out="new",
    )
    assert evidence.variant == ("npo" if term == "none" else f"npo + {term}")
    assert set(evidence.data_digests) == {"forget", "retain"}


@pytest.mark.parametrize(
    ("method", "missing"), [("retrain", "base"), ("dp2", "retain"), ("npo", "forget"), ("ga", "model")]
)
def test_a_method_says_what_it_needs(tmp_path: Path, method: str, missing: str) -> None:
    """A job that lacks a need of its method is refused by name before anything is loaded."""
    fields: dict[str, Any] = {name: name for name in ("base", "model", "forget", "retain") if name != missing}
    with pytest.raises(EngineError, match=f"the method '{method}' needs '{missing}'") as caught:
        do(tmp_path, "unlearn", method=method, out="new", **fields)
    assert caught.value.code == "bad_job"


def test_a_method_with_an_empty_file_is_refused(models: Path, tmp_path: Path) -> None:
    """Nothing to train on and nothing to forget are bad data, and nothing is left at `out`."""
    fields: dict[str, Any] = {"model": models / "known", "forget": (), "retain": RETAIN, "out": "new"}
    with pytest.raises(EngineError, match="the forget set is empty"):
        do(tmp_path, "unlearn", method="npo", **fields)
    with pytest.raises(EngineError, match="the retain set is empty"):
        do(tmp_path, "unlearn", method="retrain", base=models / "start", retain=(), out="new")
    assert not (tmp_path / "new").exists()


def test_a_measured_model_that_knows_stands_out(models: Path, tmp_path: Path) -> None:
    """The evaluation tells a model that knows the forgotten from one that never saw them, and caches its numbers."""
    roles = {"before": models / "known", "after": models / "start", "reference": models / "start"}
    fields: dict[str, Any] = {
        "models": roles,
        "forget": FORGET,
        "retain": RETAIN,
        "holdout": PUBLIC,
        "cache": tmp_path / "cache",
    }
    options = {"resamples": 100, "answer_tokens": 6, "continuation_tokens": 20, "shots": 1}
    first = do(tmp_path, "evaluate", options=options, **fields)
    again = do(tmp_path, "evaluate", options=options, **fields)
    found = {finding.metric: finding for finding in first.findings}
    assert again.findings == first.findings
    assert len(list((tmp_path / "cache").glob("*.json"))) == 2
    assert "Ada" not in "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "cache").iterdir())
    before, after, difference = (getattr(found["verbmem_f"], role) for role in ("before", "after", "difference"))
    assert before.value > after.value + 0.3
    assert (difference.value, difference.ci95) == (0.0, (0.0, 0.0))
    assert before.n == 2
    assert first.guarantee is None
    assert first.model_files == {}
