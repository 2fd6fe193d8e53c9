"""The cache of every suite: a second evaluation of the same is free, and never wrong."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from engine.corpus import Record, read_records
from engine.digests import model_digest, model_files
from engine.errors import EngineError
from engine.options import SUITES, EvaluateOptions
from engine.verification import suites
from engine.verification.evaluation import Evaluation, cached
from tests.engine import tiny
from tests.engine.test_items import muse_folder

OPTIONS = EvaluateOptions(
    shots=1, retain_questions=2, resamples=100, answer_tokens=4, continuation_tokens=4, alternatives=2
)


def asked(data: Path, suite: str) -> Evaluation:
    """An evaluation of a copy of the tiny model, which its folder can lose."""
    folder = tiny.folder(data / "model")
    return Evaluation(
        folders={"after": folder},
        digests={"after": model_digest(model_files(folder))},
        options=replace(OPTIONS, suite=suite),
        seed=1,
        data=data / "muse",
        cache=data / "cache",
        progress=tiny.quiet,
    )


@pytest.mark.parametrize("suite", ["records", "membership", "muse"])
def test_a_second_run_loads_no_model(data: Path, suite: str) -> None:
    """It gives the same findings when the model is not even there."""
    muse_folder(data / "muse")

    def records(role: str) -> tuple[Record, ...]:
        return read_records(data / f"{role}.jsonl")

    first = asked(data, suite)
    found = suites.evaluate(first, records)
    shutil.rmtree(data / "model")
    assert suites.evaluate(replace(first, asked={}), records) == found
    more = replace(first, asked={}, options=replace(first.options, resamples=200))
    assert suites.evaluate(more, records).items_digest == found.items_digest
    with pytest.raises(EngineError):
        suites.evaluate(replace(first, asked={}, digests={"after": "another"}), records)


def test_one_model_in_two_roles_is_asked_once(data: Path) -> None:
    """Also without a cache: the reference may be the model after."""
    calls: list[PreTrainedModel] = []

    def ask(model: PreTrainedModel, _tokenizer: object, _report: object) -> dict[str, list[float]]:
        calls.append(model)
        return {"x": [0.5]}

    given = asked(data, "records")
    both = replace(
        given,
        cache=None,
        folders={"after": given.folders["after"], "reference": given.folders["after"]},
        digests={"after": given.digests["after"], "reference": given.digests["after"]},
    )
    assert [both.numbers(role, "items", ask) for role in both.folders] == [{"x": (0.5,)}] * 2
    assert len(calls) == 1


def test_numbers_come_back_exactly_and_other_keys_are_other_entries(tmp_path: Path) -> None:
    """Floats survive JSON; a broken entry is computed again."""
    third = {"a": [1 / 3, -0.0], "b": []}
    assert cached(tmp_path, "key", lambda: third) == {"a": (1 / 3, -0.0), "b": ()}
    assert cached(tmp_path, "key", lambda: {"a": [1.0]}) == {"a": (1 / 3, -0.0), "b": ()}
    assert cached(tmp_path, "other", lambda: {"a": [1.0]}) == {"a": (1.0,)}
    for broken in ("{", "[]", '{"a": [NaN]}', '{"a": 1}', '{"a": ["x"]}'):
        (tmp_path / "key.json").write_text(broken, encoding="utf-8")
        assert cached(tmp_path, "key", lambda: {"a": [2.0]}) == {"a": (2.0,)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.json", "other.json"]


def test_what_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    """A measure that failed is tried again, not remembered."""
    assert math.isnan(cached(tmp_path, "key", lambda: {"a": [math.nan]})["a"][0])
    assert not list(tmp_path.iterdir())


def test_every_suite_that_can_be_asked_for_exists() -> None:
    """Options and registry name the same suites."""
    assert set(suites.SUITES) == set(SUITES)
