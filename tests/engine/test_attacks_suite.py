"""The suite of attacks: what it needs, what it reports, what it never makes up."""

from pathlib import Path
from typing import Any

import pytest

from engine import guards
from engine.checkpoints import save
from engine.contract import Evidence, Finding
from engine.corpus import write_records
from engine.errors import EngineError
from engine.verification.attacks.subject import NOT_ASKED
from engine.verification.attacks.suite import attacked as attack_model
from engine.verification.attacks.suite import findings, units
from tests.engine import attacked, tiny
from tests.engine.jobs import do

QUICK = {
    "suite": "attacks",
    "shots": 1,
    "answer_tokens": 4,
    "continuation_tokens": 4,
    "resamples": 100,
    "attack_steps": [0, 1],
    "attack_items": 6,
    "attack_bits": [4],
    "attack_prefill": [1],
    "attack_shots": [0, 1],
    "attack_rate": 1e-3,
}
PEOPLE = {"knowmem_f": ["a", "b", "c"], "accuracy_r": ["d"]}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with the three files and two models that know nothing."""
    for name, records in (
        ("forget", attacked.forget()),
        ("retain", attacked.retain()),
        ("holdout", attacked.holdout()),
    ):
        write_records(tmp_path / f"{name}.jsonl", records)
    for name, seed in (("one", 0), ("two", 1)):
        save(tmp_path / name, attacked.untrained(seed), attacked.tokenizer())
    return tmp_path


def attack(world: Path, models: dict[str, str], **fields: Any) -> Evidence:  # noqa: ANN401 - any field of a job
    """The suite on some models of the folder."""
    files = {name: f"{name}.jsonl" for name in ("forget", "retain", "holdout")}
    options = {**QUICK, **fields.pop("options", {})}
    return do(world, "evaluate", models=models, options=options, **{**files, **fields})


def test_every_attack_is_reported_for_every_model_and_paired_with_the_reference(world: Path) -> None:
    """The names are those of the documentation, intervals stand around values, and the models are not changed."""
    evidence = attack(world, {"before": "two", "after": "one", "reference": "two"}, data=".")
    found = {finding.metric: finding for finding in evidence.findings}
    assert set(found) == {
        *(f"unattacked.{name}" for name in ("knowmem_f", "verbmem_f")),
        *("prefill_1.rouge_f", "paraphrase.knowmem_f", "paraphrase_worst.knowmem_f"),
        *("few_shot_0.knowmem_f", "few_shot_1.knowmem_f", "few_shot_same_person.knowmem_f"),
        *(f"probe_layer_{layer}.{name}" for layer in (1, 2) for name in ("accuracy", "accuracy_r")),
        *("probe_chance.accuracy", "round_4bit.knowmem_f", "round_4bit.verbmem_f"),
        *(
            f"relearn_{kind}_{step}.{name}"
            for kind in ("forget", "related", "unrelated")
            for step in (0, 1, "area")
            for name in ("knowmem_f", "verbmem_f")
        ),
    }
    for finding in found.values():
        assert finding.before == finding.reference
        assert finding.after is not None
        assert finding.difference is not None
        assert finding.difference.ci95[0] <= finding.difference.value <= finding.difference.ci95[1]
    assert found["probe_chance.accuracy"].after == found["probe_chance.accuracy"].reference
    assert evidence.suite == "attacks"
    assert found["unattacked.verbmem_f"].after == found["relearn_related_0.verbmem_f"].after


@pytest.mark.parametrize("models", [{"after": "one"}, {"reference": "one"}, {"after": "one", "before": "two"}])
def test_an_attack_without_a_reference_is_refused(world: Path, models: dict[str, str]) -> None:
    """Alone it would prove nothing: an attack can extract what was never learned."""
    with pytest.raises(EngineError, match=r"models\.(after|reference)") as caught:
        attack(world, models)
    assert caught.value.code == "bad_job"


@pytest.mark.parametrize(
    "options",
    [
        {"attack_steps": []},
        {"attack_steps": [0]},
        {"attack_steps": [-1, 5]},
        {"attack_bits": [1]},
        {"attack_prefill": [0]},
        {"attack_shots": [-1]},
        {"attack_rate": 0},
        {"attack_steps": 5},
    ],
)
def test_settings_that_mean_nothing_are_refused(world: Path, options: dict[str, Any]) -> None:
    """The sentence names the option."""
    with pytest.raises(EngineError, match=next(iter(options))) as caught:
        attack(world, {"after": "one", "reference": "two"}, options=options)
    assert caught.value.code == "bad_options"


def test_an_attack_that_was_made_is_not_made_again(world: Path) -> None:
    """The second time no model is loaded; what is kept is numbers, and no word of the records."""
    models, stages = {"after": "one", "reference": "two"}, list[str]()
    first = attack(world, models, cache="cache")
    kept = [path.read_text(encoding="utf-8") for path in (world / "cache").iterdir()]
    assert len(kept) == 2
    assert not any(word in "".join(kept) for word in (*attacked.CITIES, *attacked.PETS))
    second = attack(world, models, cache="cache", progress=lambda stage, _fraction, _eta: stages.append(stage))
    assert second.findings == first.findings
    assert stages == []


def test_the_weights_behind_a_guard_are_not_attacked(tmp_path: Path) -> None:
    """They are those of another model; what asks goes through the guard, and the rest is null instead of good."""
    save(tmp_path / "model", attacked.untrained(), attacked.tokenizer())
    one = attacked.subject(tmp_path / "model")
    guards.mark(one.model, object())
    found = attack_model(one, lambda _fraction: None)
    assert {"prefill_1.rouge_f", "paraphrase.knowmem_f", "few_shot_2.knowmem_f"} <= set(found)
    assert not any(metric.startswith(("relearn", "round", "probe")) for metric in found)
    weights = {**found, "round_4bit.knowmem_f": found["unattacked.knowmem_f"]}
    compared = findings({"after": found, "reference": weights}, units(one.items), resamples=200, seed=1)
    rounded = next(finding for finding in compared if finding.metric.startswith("round"))
    assert (rounded.after, rounded.difference) == (None, None)
    assert rounded.reference is not None


def test_a_paraphrase_file_changes_what_is_asked(world: Path) -> None:
    """It is part of the digest of the items, and no word of it is in the evidence."""
    models = {"after": "one", "reference": "two"}
    plain = attack(world, models, data=".")
    line = '{"record_id": "c0", "question": "Whereabouts of that person?"}\n'
    (world / "paraphrases.jsonl").write_text(line, encoding="utf-8")
    told = attack(world, models, data=".")
    assert told.data_digests["items"] != plain.data_digests["items"]
    assert "Whereabouts" not in told.to_json()


def compared(**said: tuple[float, ...]) -> Finding:
    """One metric of some models."""
    numbers = {role: {"few_shot_5.knowmem_f": values} for role, values in said.items()}
    [finding] = findings(numbers, PEOPLE, resamples=200, seed=1)
    return finding


def test_an_item_that_nobody_could_be_asked_is_left_out() -> None:
    """Of three people two remain."""
    finding = compared(after=(1.0, NOT_ASKED, 0.5), reference=(0.5, NOT_ASKED, 0.0))
    assert finding.after is not None
    assert (finding.after.value, finding.after.n) == (0.75, 2)
    assert finding.difference is not None
    assert finding.difference.value == 0.5
    assert finding.difference.ci95 == (0.5, 0.5)


def test_a_model_that_misses_what_another_was_asked_has_no_value() -> None:
    """And neither has the difference: a mean over fewer people would be another metric."""
    finding = compared(before=(1.0, 1.0, 1.0), after=(1.0, NOT_ASKED, 0.5), reference=(0.5, 0.5, 0.0))
    assert finding.before is not None
    assert finding.reference is not None
    assert finding.after is None
    assert finding.difference is None


def test_what_nobody_could_be_asked_is_null() -> None:
    """The metric is named and has no number."""
    nothing = (NOT_ASKED,) * 3
    assert compared(after=nothing, reference=nothing) == Finding(metric="few_shot_5.knowmem_f")


def test_a_metric_that_one_model_lacks_has_no_difference() -> None:
    """A layer that the reference does not have."""
    said = {"after": {"probe_layer_9.accuracy_r": (1.0,)}, "reference": {}}
    [finding] = findings(said, PEOPLE, resamples=200, seed=1)
    assert finding.after is not None
    assert (finding.reference, finding.difference) == (None, None)


def test_a_model_whose_weights_are_gone_is_not_attacked_further(tmp_path: Path) -> None:
    """What cannot be undone is refused with one sentence."""
    folder = tiny.folder(tmp_path / "model")
    one = attacked.subject(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(EngineError, match="do not hold"):
        one.restore()
