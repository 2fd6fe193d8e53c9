"""MUSE's variant of Who's Harry Potter, as jobs: what comes out is the old model with a guard beside it."""

from pathlib import Path
from typing import Any

import pytest

from engine.checkpoints import load_model, load_tokenizer
from engine.contract import Guarantee
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import passage_tokens
from tests.engine import tiny
from tests.engine.jobs import QUICK, do

PUBLIC, FORGET, RETAIN = (tiny.records(people) for people in ([6, 7], [0, 1], [2, 3, 4, 5]))
REINFORCE: dict[str, Any] = {"epochs": 6, "tokens_per_batch": 300, "alpha": 4.0}

ADAPTERS: dict[str, Any] = {**REINFORCE, "lora_rank": 4, "learning_rate": 1e-2, "epochs": 30, "alpha": 10.0}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows six people by heart."""
    folder = tmp_path_factory.mktemp("models")
    shape = {"vocabulary": 300, "hidden": 32, "layers": 1, "heads": 2, "intermediate": 64, "context": 96}
    do(folder, "initialise", out="start", train=PUBLIC, options={**shape, **QUICK})
    options = {"epochs": 40, "tokens_per_batch": 300}
    do(folder, "train", model="start", out="known", train=(*FORGET, *RETAIN), options=options)
    return folder / "known"


def loss(folder: Path, records: tuple[Any, ...]) -> float:
    """Mean loss in nats on passages, through the guard if there is one."""
    texts = [record.text for record in records if record.text is not None]
    windows = [one for text in passage_tokens(load_tokenizer(folder), texts, context=96, end=False) for one in text]
    scores = token_scores(Forward(load_model(folder)), windows, tokens_per_batch=512)
    return -sum(float(score.log_probs.sum()) for score in scores) / sum(len(score.log_probs) for score in scores)


@pytest.mark.parametrize(
    "options",
    [REINFORCE, {**REINFORCE, "lora_rank": 4, "learning_rate": 1e-2, "epochs": 30, "alpha": 10.0}],
    ids=["full", "adapters"],
)
def test_a_guarded_model_says_less_of_the_forgotten_and_holds_the_same_weights(
    known: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """The loss on the forgotten rises, more than on others; the class is suppression; all files are the same bytes."""
    evidence = do(tmp_path, "unlearn", method="whp-muse", model=known, forget=FORGET, out="guarded", options=options)
    assert evidence.guarantee is Guarantee.SUPPRESSION
    assert evidence.method == "whp-muse"
    made = {name: digest for name, digest in evidence.model_files.items() if not name.startswith("guard/")}
    assert {name: (known / name).stat().st_size for name in made} == {name: file.size for name, file in made.items()}
    assert all((tmp_path / "guarded" / name).read_bytes() == (known / name).read_bytes() for name in made)
    rise = {name: loss(tmp_path / "guarded", r) - loss(known, r) for name, r in (("f", FORGET), ("r", RETAIN))}
    assert rise["f"] > 1.0
    assert rise["f"] > 3 * rise["r"]


def test_adapters_make_a_smaller_guard(known: Path, tmp_path: Path) -> None:
    """Two factors a layer instead of every weight that moved."""
    size = {}
    for name, rank in (("full", 0), ("adapters", 2)):
        options = {**REINFORCE, "epochs": 1, "lora_rank": rank}
        done = do(tmp_path, "unlearn", method="whp-muse", model=known, forget=FORGET, out=name, options=options)
        size[name] = done.model_files["guard/guard.safetensors"].size
    assert size["adapters"] < 0.5 * size["full"]


def test_evaluations_ask_the_guarded_model(known: Path, tmp_path: Path) -> None:
    """A suite reads the folder as any other, and its numbers are those of the guard."""
    do(tmp_path, "unlearn", method="whp-muse", model=known, forget=FORGET, out="guarded", options=REINFORCE)
    evidence = do(
        tmp_path,
        "evaluate",
        models={"before": known, "after": tmp_path / "guarded"},
        forget=FORGET,
        retain=RETAIN,
        holdout=PUBLIC,
        options={"resamples": 100, "answer_tokens": 6, "continuation_tokens": 20, "shots": 1},
    )
    [verbatim] = [finding for finding in evidence.findings if finding.metric == "verbmem_f"]
    assert verbatim.before is not None
    assert verbatim.after is not None
    assert verbatim.after.value < verbatim.before.value - 0.3


def test_a_guard_is_trained_and_written_the_same_twice(known: Path, tmp_path: Path) -> None:
    """Same job, same bytes."""
    options = {**REINFORCE, "epochs": 1}
    made = [
        do(tmp_path, "unlearn", method="whp-muse", model=known, forget=FORGET, out=name, options=options).model_files
        for name in ("a", "b")
    ]
    assert made[0] == made[1]
