"""SISA: who leaves touches one shard, and what comes out is what training without them gives, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from engine.corpus import Record
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.sharded import CONDITION, deal, sisa
from engine.options import SisaOptions
from tests.engine import tiny
from tests.engine.jobs import do, weights

OPTIONS = SisaOptions(shards=3, lora_rank=2, epochs=2, tokens_per_batch=200, learning_rate=1e-2, combine="sum")
EVERYBODY = tiny.records()
WITHOUT_THREE = tiny.records([0, 1, 2, 4, 5, 6, 7])


def setting(place: Path, retain: tuple[Record, ...], options: SisaOptions = OPTIONS, **changes: Any) -> Setting[Any]:  # noqa: ANN401 - fields
    """The tiny model as a public base."""
    place.mkdir(exist_ok=True)
    return tiny.setting(place, options, forget=(), retain=retain, **changes)


def vector(given: Setting[Any]) -> Tensor:
    """All weights in one vector."""
    return torch.cat([p.detach().flatten() for p in given.model.parameters()])


def kept(given: Setting[Any]) -> dict[str, bytes]:
    """The adapters below a cache."""
    return {path.name: path.read_bytes() for path in given.cache.iterdir()}


def shard_of(given: Setting[Any], unit: str) -> int:
    """In which shard a person is."""
    (found,) = [shard.number for shard in deal(given) if any(record.unit == unit for record in shard.records)]
    return found


def test_nobody_moves_when_another_leaves(tmp_path: Path) -> None:
    """A person's shard depends on that person and the seed; and a person is in one shard with everything."""
    everybody, without = setting(tmp_path / "a", EVERYBODY), setting(tmp_path / "b", WITHOUT_THREE)
    units = {record.unit for record in WITHOUT_THREE}
    assert {unit: shard_of(everybody, unit) for unit in units} == {unit: shard_of(without, unit) for unit in units}
    assert len({shard_of(everybody, unit) for unit in units}) > 1
    other = setting(tmp_path / "c", EVERYBODY, seed=2)
    assert [shard.records for shard in deal(other)] != [shard.records for shard in deal(everybody)]


def test_who_leaves_changes_one_adapter_and_the_model_is_that_of_a_fresh_start(tmp_path: Path) -> None:
    """Bit for bit; only that person's shard is trained, and its old adapter is gone."""
    before = setting(tmp_path / "kept", EVERYBODY)
    sisa(before)
    files = kept(before)
    after = setting(tmp_path / "kept", WITHOUT_THREE)
    fitted = sisa(after)
    fresh = setting(tmp_path / "fresh", WITHOUT_THREE)
    sisa(fresh)
    assert fitted.details["shards_trained"] == [shard_of(before, "unit-3")]
    assert len(set(kept(after)) - set(files)) == len(set(files) - set(kept(after))) == 1
    assert kept(after) == kept(fresh)
    assert torch.equal(vector(after), vector(fresh))
    assert not torch.equal(vector(after), vector(before))


def test_without_a_change_nothing_is_trained(tmp_path: Path) -> None:
    """Neither when records come in another order; the model and its losses are the same."""
    first = setting(tmp_path, EVERYBODY)
    made = sisa(first)
    again = setting(tmp_path, tuple(reversed(EVERYBODY)))
    repeated = sisa(again)
    assert (made.details["shards_trained"], repeated.details["shards_trained"]) == ([0, 1, 2], [])
    assert repeated.steps == 0 < made.steps
    assert (repeated.first_loss, repeated.last_loss) == (made.first_loss, made.last_loss)
    assert torch.equal(vector(first), vector(again))


@pytest.mark.parametrize(("combine", "share"), [("sum", 1.0), ("mean", 1 / 3)])
def test_the_model_is_the_base_and_what_shards_learned(tmp_path: Path, combine: str, share: float) -> None:
    """W + c (alpha / rank) sum of B A, in float64 from the files; embeddings, head and norms are the base's."""
    given = setting(
        tmp_path, EVERYBODY, SisaOptions(shards=3, lora_rank=2, epochs=1, learning_rate=1e-2, combine=combine)
    )
    sisa(given)
    expected = {name: value.double() for name, value in tiny.model().state_dict().items()}
    for path in given.cache.iterdir():
        with safe_open(path, "pt") as file:
            for name in [key[:-2] for key in file.keys() if key.endswith(".a")]:  # noqa: SIM118 - not a mapping
                a, b = (file.get_tensor(f"{name}.{letter}").double() for letter in "ab")
                expected[f"{name}.weight"] += share * 16.0 / 2 * b @ a
    for name, value in given.model.state_dict().items():
        assert (value.double() - expected[name]).abs().max() < 1e-6


def test_an_adapter_depends_on_its_own_shard_alone(tmp_path: Path) -> None:
    """What the other shards hold, and what ran before in this process, changes nothing."""
    everybody = setting(tmp_path / "all", EVERYBODY)
    sisa(everybody)
    torch.rand(3)
    shard = deal(everybody)[1]
    alone = setting(tmp_path / "alone", shard.records)
    sisa(alone)
    (name,) = kept(alone)
    assert kept(alone)[name] == kept(everybody)[name]


def test_an_adapter_of_somebody_forgotten_is_removed_wherever_it_came_from(tmp_path: Path) -> None:
    """Also one that was trained with other options; those of others stay."""
    other = setting(tmp_path, EVERYBODY, SisaOptions(shards=3, lora_rank=3, epochs=1, learning_rate=1e-2))
    sisa(other)
    old = kept(other)
    sisa(tiny.setting(tmp_path, OPTIONS, forget=tiny.records([3]), retain=WITHOUT_THREE))
    gone = {shard.path.name for shard in deal(other) if any(record.unit == "unit-3" for record in shard.records)}
    assert set(old) - set(kept(other)) == gone
    assert len(gone) == 1


def test_an_adapter_that_cannot_be_read_is_trained_again(tmp_path: Path) -> None:
    """A file that was cut short is not trusted."""
    first = setting(tmp_path, EVERYBODY)
    sisa(first)
    path = deal(first)[0].path
    path.write_bytes(path.read_bytes()[:100])
    again = setting(tmp_path, EVERYBODY)
    assert sisa(again).details["shards_trained"] == [0]
    assert torch.equal(vector(first), vector(again))


def test_a_job_states_what_was_trained_and_what_exactness_means(tmp_path: Path, tiny_folder: Path) -> None:
    """In its evidence; the class is exact, the second job trains one shard, the folder is a plain one."""
    options = {"shards": 3, "lora_rank": 2, "epochs": 1, "learning_rate": 1e-2}
    told: dict[str, Any] = {"method": "sisa", "base": tiny_folder, "options": options, "cache": tmp_path / "cache"}
    first = do(tmp_path, "unlearn", out="first", retain=EVERYBODY, **told)
    second = do(tmp_path, "unlearn", out="second", retain=WITHOUT_THREE, **told)
    assert first.training is not None
    assert second.training is not None
    assert (len(first.training["shards_trained"]), len(second.training["shards_trained"])) == (3, 1)
    assert second.training["condition"] == CONDITION
    assert second.guarantee == "exact"
    assert second.parameters["combine"] == "mean"
    assert weights(first) != weights(second)
    assert set(first.model_files) == {path.name for path in tiny_folder.iterdir()}


def test_nobody_left_is_refused(tmp_path: Path) -> None:
    """There is no model to be made of nobody."""
    with pytest.raises(EngineError, match="no records to train on"):
        sisa(setting(tmp_path, ()))


def test_in_bfloat16_what_is_kept_is_what_training_gives_again(tmp_path: Path) -> None:
    """Bit for bit too, though the frozen matrices are used rounded; the base that is added to is not."""
    options = SisaOptions(shards=2, lora_rank=2, epochs=1, learning_rate=1e-2, precision="bfloat16")
    first, second = (setting(tmp_path / name, EVERYBODY, options) for name in ("a", "b"))
    sisa(first)
    sisa(second)
    assert kept(first) == kept(second)
    assert torch.equal(vector(first), vector(second))
    assert (vector(first) - vector(setting(tmp_path / "c", EVERYBODY))).abs().max() < 0.1
