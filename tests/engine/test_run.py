"""Every kind of job on a tiny model: what it makes, what it reports, what it refuses, what it leaves behind."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoints import load_model, load_tokenizer
from engine.contract import Evidence, Job, Kind
from engine.digests import model_digest, model_files
from engine.errors import EngineError
from engine.run import run
from tests.engine import tiny
from tests.engine.test_items import muse_folder

SMALL = {"vocabulary": 300, "hidden": 16, "layers": 1, "heads": 2, "intermediate": 16, "context": 96, "epochs": 1}
QUICK = {"steps": 2, "forget_batch": 4, "retain_batch": 4, "context_pairs": 1}
ASK = {
    "shots": 1,
    "answer_tokens": 4,
    "continuation_tokens": 4,
    "resamples": 100,
    "retain_questions": 2,
    "alternatives": 2,
}


def do(where: Path, kind: str, **fields: Any) -> Evidence:  # noqa: ANN401 - any field of a job
    """Run a job in a folder."""
    return run(Job(version=1, kind=Kind(kind), seed=fields.pop("seed", 1), **fields), where, tiny.quiet)


def test_a_model_can_be_made_from_nothing_and_trained_further(data: Path) -> None:
    """The start has a tokenizer of its own and is a model folder like any other."""
    made = do(data, "initialise", out="start", train="all.jsonl", options=SMALL)
    assert set(made.model_files) >= {"config.json", "model.safetensors", "tokenizer.json"}
    further = do(data, "train", out="target", model="start", train="all.jsonl", options={"epochs": 1})
    assert further.model_digests["model"] == model_digest(made.model_files)
    assert load_model(data / "target").config.vocab_size == len(load_tokenizer(data / "target"))


@pytest.mark.parametrize(
    ("method", "fields", "guarantee"),
    [
        ("retrain", {"base": "MODEL", "options": {"epochs": 1}}, "exact"),
        ("dp2", {"base": "MODEL", "options": {"epochs": 1}}, "certified"),
        ("npo", {"model": "MODEL", "forget": "forget.jsonl", "options": QUICK}, "empirical"),
        ("ga", {"model": "MODEL", "forget": "forget.jsonl", "options": {**QUICK, "retain_term": "kl"}}, "empirical"),
    ],
)
def test_every_method_makes_a_model_and_says_what_it_did(
    data: Path, tiny_folder: Path, method: str, fields: dict[str, Any], guarantee: str
) -> None:
    """With its class from the catalogue, all its settings, and digests of what it read and wrote."""
    given = {key: str(tiny_folder) if value == "MODEL" else value for key, value in fields.items()}
    evidence = do(data, "unlearn", method=method, out="new", retain="retain.jsonl", **given)
    assert evidence.guarantee is not None
    assert evidence.guarantee.value == guarantee
    assert evidence.model_files == model_files(data / "new")
    term = evidence.parameters.get("retain_term")
    assert evidence.variant == (f"{method} + {term}" if term else "")
    assert set(evidence.data_digests) == {"forget", "retain"} & {*given, "retain"}
    assert evidence.steps > 0
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_methods_that_promise_more_do_not_read_the_forget_set(data: Path, tiny_folder: Path) -> None:
    """Retraining works where there is none, and refuses to start from the model that holds it."""
    with pytest.raises(EngineError, match="needs 'base'"):
        do(data, "unlearn", method="retrain", out="new", model=str(tiny_folder), retain="retain.jsonl")


def test_dp_training_reports_its_mechanism_and_neither_losses_nor_the_secret(data: Path, tiny_folder: Path) -> None:
    """Losses of training are private, and so is the randomness: two runs of one job differ."""
    options = {"sigma": 1.0, "sample_rate": 0.5, "steps": 2}
    one, two = (
        do(
            data,
            "dp_base",
            out=out,
            model=str(tiny_folder),
            train="retain.jsonl",
            holdout="holdout.jsonl",
            options=options,
        )
        for out in ("one", "two")
    )
    assert one.accountant == {
        "mechanism": "poisson_subsampled_gaussian",
        "sampleRate": 0.5,
        "noiseMultiplier": 1.0,
        "steps": 2,
        "clip": 1.0,
        "units": 4,
        "unit": "data subject",
    }
    assert one.training is None
    assert one.learned is not None
    assert one.learned["learned"] is False
    assert one.seed_commitment != two.seed_commitment
    assert model_digest(one.model_files) != model_digest(two.model_files)


def test_dp_training_of_adapters_moves_the_matrices_beside_which_they_stand_alone(
    data: Path, tiny_folder: Path
) -> None:
    """Under the same mechanism, and what is saved is a plain model."""
    options = {"sigma": 0.01, "sample_rate": 1.0, "steps": 2, "lora_rank": 2}
    files = {"train": "retain.jsonl", "holdout": "holdout.jsonl"}
    made = do(data, "dp_base", out="base", model=str(tiny_folder), options=options, **files)
    start, base = (dict(load_model(folder).named_parameters()) for folder in (tiny_folder, data / "base"))
    moved = {name for name in start if not start[name].equal(base[name])}
    assert moved == {name for name in start if "_proj" in name}
    assert made.accountant is not None
    assert made.accountant["noiseMultiplier"] == 0.01


def evaluated(where: Path, folders: dict[str, Path], **fields: Any) -> Evidence:  # noqa: ANN401 - any field of a job
    """An evaluation of some models on the example data."""
    files = {"forget": "forget.jsonl", "retain": "retain.jsonl", "holdout": "holdout.jsonl"}
    models = {role: str(folder) for role, folder in folders.items()}
    return do(where, "evaluate", models=models, options={**ASK, **fields.pop("options", {})}, **{**files, **fields})


def test_an_evaluation_compares_three_models(data: Path, tiny_folder: Path) -> None:
    """A model compared with itself differs by nothing."""
    other = tiny.folder(data / "other", seed=5)
    evidence = evaluated(data, {"before": other, "after": tiny_folder, "reference": tiny_folder})
    for finding in evidence.findings:
        assert finding.difference is None or finding.difference.value == 0 or finding.metric == "recovery"
    assert {f.metric for f in evidence.findings} >= {"verbmem_f", "knowmem_f", "knowmem_r", "privleak_auc", "privleak"}
    assert set(evidence.model_digests) == {"before", "after", "reference"}
    assert (evidence.suite, evidence.guarantee) == ("records", None)


def test_the_same_question_to_the_same_model_is_measured_once(data: Path, tiny_folder: Path) -> None:
    """The cache answers, and holds numbers and no word of the records."""
    one = evaluated(data, {"after": tiny_folder}, cache="cache")
    [entry] = (data / "cache").iterdir()
    stored = json.loads(entry.read_text(encoding="utf-8"))
    assert all(isinstance(number, float) for numbers in stored.values() for number in numbers)
    stored["verbmem"] = [0.125] * len(stored["verbmem"])
    entry.write_text(json.dumps(stored), encoding="utf-8")
    two = evaluated(data, {"after": tiny_folder}, cache="cache")
    assert two.findings[0].after is not None
    assert two.findings[0].after.value == 0.125
    assert one.findings[1:] == two.findings[1:]


def test_another_seed_or_setting_is_another_question(data: Path, tiny_folder: Path) -> None:
    """And a broken entry is measured again."""
    evaluated(data, {"after": tiny_folder}, cache="cache")
    evaluated(data, {"after": tiny_folder}, cache="cache", seed=2)
    evaluated(data, {"after": tiny_folder}, cache="cache", options={"min_k": 0.2})
    assert len(list((data / "cache").iterdir())) == 3
    for entry in (data / "cache").iterdir():
        entry.write_text("{", encoding="utf-8")
    again = evaluated(data, {"after": tiny_folder}, cache="cache")
    assert again == pytest.approx(again)
    assert sum(entry.stat().st_size > 1 for entry in (data / "cache").iterdir()) == 1


def test_the_published_layouts_are_suites_of_their_own(data: Path, tiny_folder: Path) -> None:
    """MUSE from its folder; membership from two files."""
    muse_folder(data / "muse")
    muse = evaluated(data, {"after": tiny_folder}, data="muse", options={"suite": "muse"})
    assert {"verbmem_f", "knowmem_f", "knowmem_r", "privleak_auc"} <= {f.metric for f in muse.findings}
    membership = evaluated(data, {"after": tiny_folder}, options={"suite": "membership"})
    assert {f.metric for f in membership.findings} == {
        "forget_loss", "privleak_auc", "auc_loss", "auc_min_k_plus_plus", "auc_zlib", "auc_reference", "privleak",
    }  # fmt: skip
    with pytest.raises(EngineError, match="needs 'data'"):
        evaluated(data, {"after": tiny_folder}, options={"suite": "restor"})


def test_data_are_digested_in_the_evidence_and_never_quoted(data: Path, tiny_folder: Path) -> None:
    """No name, no answer and no path."""
    text = evaluated(data, {"after": tiny_folder}).to_json()
    assert not any(word in text for word in (*tiny.NAMES, *tiny.CITIES, str(data)))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"train": "none.jsonl"}, "bad_data"),
        ({"train": "empty.jsonl"}, "bad_data"),
        ({"model": "none"}, "bad_model"),
        ({"options": {"epochs": "many"}}, "bad_options"),
        ({"options": {"learning_rate": 1e30, "matrix_learning_rate": 1e30}}, "not_finite"),
        ({"out": "."}, "bad_job"),
    ],
)
def test_a_job_that_fails_leaves_nothing_behind(
    data: Path, tiny_folder: Path, fields: dict[str, Any], code: str
) -> None:
    """Neither the folder nor a part of it."""
    (data / "empty.jsonl").touch()
    before = sorted(data.iterdir())
    with pytest.raises(EngineError) as refused:
        do(
            data,
            "train",
            **{"out": "new", "model": str(tiny_folder), "train": "all.jsonl", "options": {"epochs": 3}, **fields},
        )
    assert refused.value.code == code
    assert sorted(data.iterdir()) == before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.pt", "sub/old.PKL"])
def test_a_folder_with_a_pickle_is_refused_before_anything_is_loaded(data: Path, name: str) -> None:
    """Also when good weights lie beside it."""
    folder = tiny.folder(data / "model")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(EngineError, match="convert the model to safetensors") as refused:
        evaluated(data, {"after": folder})
    assert refused.value.code == "pickle_refused"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_refused(data: Path, name: str) -> None:
    """Configuration, weights and tokenizer are all needed."""
    folder = tiny.folder(data / "model")
    (folder / name).unlink()
    with pytest.raises(EngineError) as refused:
        evaluated(data, {"after": folder})
    assert refused.value.code == "bad_model"


def test_weights_that_are_cut_short_are_refused(data: Path) -> None:
    """One sentence, not a traceback."""
    folder = tiny.folder(data / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(EngineError) as refused:
        evaluated(data, {"after": folder})
    assert refused.value.code == "bad_model"


def test_a_symbolic_link_in_a_model_folder_is_refused(data: Path) -> None:
    """What it points to could change after the digest was taken."""
    folder = tiny.folder(data / "model")
    (folder / "notes.txt").symlink_to(data / "all.jsonl")
    with pytest.raises(EngineError, match="symbolic link"):
        evaluated(data, {"after": folder})


def test_the_digest_of_a_model_is_that_of_all_its_files(data: Path) -> None:
    """One byte anywhere is another model, and so is another name."""
    folder = tiny.folder(data / "model")
    digests = [model_digest(model_files(folder))]
    (folder / "guard.json").write_text("{}", encoding="utf-8")
    digests.append(model_digest(model_files(folder)))
    (folder / "guard.json").rename(folder / "other.json")
    digests.append(model_digest(model_files(folder)))
    assert len(set(digests)) == 3
    assert math.isfinite(model_files(folder)["config.json"].size)
