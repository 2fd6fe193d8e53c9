"""Data sets and models at the terminal: what is accepted, and what is refused in one line."""

import json
from pathlib import Path

import pytest

from compliance.wiring import Services
from tests.compliance.builders import POLICY, add_dataset, log_size, person, rows, write_lines
from tests.compliance.terminal import answer, at, refusal, run

GOOD = [
    {"record_id": "a", "email": "a@example.test", "text": "One."},
    {"record_id": "b", "email": "b@x.test", "text": "Two."},
]
BROKEN_SETS = {
    "a missing field": (b'{"record_id": "a", "text": "One."}\n', "line 1 has no 'email'"),
    "no text": (b'{"record_id": "a", "email": "a@x.test"}\n', "line 1 needs 'text'"),
    "a duplicate id": (b'{"record_id": "a", "email": "a@x.test", "text": "One."}\n' * 2, "lines 1 and 2"),
    "broken UTF-8": (b'{"record_id": "a", "email": "a@x.test", "text": "\xff"}\n', "not valid UTF-8"),
    "no JSON": (b"One.\n", "line 1 is not valid JSON"),
    "nothing": (b"\n", "holds no record"),
}
GATES = '[[gate]]\nmetric = "{metric}"\ndirection = "at_most"\n'
BROKEN_POLICIES = {
    "an unknown gate": (b'name = "p"\nladder = ["retrain"]\n' + GATES.format(metric="nonsense").encode(), "nonsense"),
    "an unknown method": (b'name = "p"\nladder = ["magic"]\n' + GATES.format(metric="verbmem_f").encode(), "magic"),
    "no gate": (b'name = "p"\nladder = ["retrain"]\n', "at least one"),
    "no TOML": (b"name =", "not valid TOML"),
    "broken UTF-8": (b'name = "\xff"', "not valid UTF-8"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder that looks like one."""
    made = tmp_path / "assistant"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def test_a_data_set_is_registered_listed_and_shown(services: Services, tmp_path: Path) -> None:
    """Counts, digest and subject field; never a record, never a subject."""
    file = write_lines(tmp_path / "customers.jsonl", GOOD)

    added = answer(services, "dataset", "add", "customers", file, "--subject-field", "email")

    assert (added["records"], added["forgotten"], added["models"]) == (2, 0, [])
    assert answer(services, "dataset", "show", "customers") == added
    assert answer(services, "dataset", "list") == [added]
    for ran in (at(services, "dataset", "show", "customers"), at(services, "dataset", "list")):
        assert "customers" in ran.out
        assert "a@example.test" not in ran.out


@pytest.mark.parametrize("fault", BROKEN_SETS)
def test_a_broken_data_set_is_one_line_and_changes_nothing(services: Services, tmp_path: Path, fault: str) -> None:
    """The line says which line of the file to mend, and the log has no new entry."""
    raw, sentence = BROKEN_SETS[fault]
    (tmp_path / "broken.jsonl").write_bytes(raw)
    before = log_size(services)

    line = refusal(at(services, "dataset", "add", "broken", tmp_path / "broken.jsonl", "--subject-field", "email"))

    assert sentence in line
    assert log_size(services) == before
    assert answer(services, "dataset", "list") == []


def test_a_name_is_used_once(services: Services, tmp_path: Path) -> None:
    """A second data set of the same name is refused, and leaves no file behind."""
    file = write_lines(tmp_path / "customers.jsonl", GOOD)
    answer(services, "dataset", "add", "customers", file)

    assert "another name" in refusal(at(services, "dataset", "add", "customers", file))
    assert len(list((services.store.root / "datasets").iterdir())) == 1


def test_a_trained_model_is_registered_and_scheduled(services: Services, folder: Path) -> None:
    """Its first version claims nothing; a schedule is set and taken away."""
    add_dataset(services, rows([person(1)]))
    start = folder.with_name("start")
    folder.rename(start)
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"trained weights")

    policy = folder.with_name("policy.toml")
    policy.write_text(POLICY)
    beginning = ["--start", start, "--policy", policy]

    added = answer(services, "model", "add", "assistant", folder, "--dataset", "d1", *beginning)

    assert (added["name"], added["dataset"], added["version"], added["guarantee"]) == ("assistant", "d1", 1, "none")
    assert added["digest"] == run("model", "check", folder, "--registrable", "--json").value["digest"]
    assert [model["name"] for model in answer(services, "model", "list")] == ["assistant"]
    (version,) = answer(services, "model", "versions", "assistant")
    assert (version["number"], version["state"], version["digest"]) == (1, "current", added["digest"])
    assert answer(services, "model", "schedule", "assistant", "--every", "12h")["every_seconds"] == 43200
    assert answer(services, "model", "schedule", "assistant", "--off")["every_seconds"] is None


@pytest.mark.parametrize("arguments", [[], ["--every", "soon"], ["--every", "0s"], ["--every", "1h", "--off"]])
def test_a_schedule_is_a_period_or_off(services: Services, arguments: list[str]) -> None:
    """Anything else is refused before a model is looked for."""
    assert refusal(at(services, "model", "schedule", "assistant", *arguments))


def test_a_pickle_is_refused_wherever_a_model_comes_in(services: Services, folder: Path) -> None:
    """It is named and never loaded, at registration, by a check, and before the engine starts."""
    add_dataset(services, rows([person(1)]))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (policy := folder.with_name("policy.toml")).write_text(POLICY)
    beginning = ["--start", folder, "--policy", policy]
    commands = [
        at(services, "model", "add", "assistant", folder, "--dataset", "d1", *beginning),
        run("model", "check", folder, "--registrable"),
        run("unlearn", "retrain", "--base", folder, "--retain", __file__, "--out", folder / "new"),
        run("evaluate", "muse", "--model", folder, "--data", folder),
    ]

    for ran in commands:
        assert "pytorch_model.bin" in refusal(ran)
    assert answer(services, "model", "list") == []


@pytest.mark.parametrize("fault", BROKEN_POLICIES)
def test_a_policy_that_could_not_be_kept_is_refused(services: Services, folder: Path, fault: str) -> None:
    """Before anything is copied or trained."""
    raw, sentence = BROKEN_POLICIES[fault]
    policy = folder / "policy.toml"
    policy.write_bytes(raw)

    for command in ("add", "train"):
        where = [folder] if command == "add" else []
        ran = at(services, "model", command, "m", *where, "--dataset", "d1", "--start", folder, "--policy", policy)
        assert sentence in refusal(ran)


def test_training_needs_one_beginning(services: Services, folder: Path) -> None:
    """Public text or a model folder, and not both."""
    add_dataset(services, rows([person(1)]))
    public = write_lines(folder / "public.jsonl", [])

    assert "--public" in refusal(at(services, "model", "train", "m", "--dataset", "d1"))
    both = ["--public", public, "--start", folder]
    assert "either" in refusal(at(services, "model", "train", "m", "--dataset", "d1", *both))


def test_a_model_without_weights_is_no_model(tmp_path: Path) -> None:
    """A check says what is missing."""
    (tmp_path / "config.json").write_text(json.dumps({}))

    assert "safetensors" in refusal(run("model", "check", tmp_path, "--registrable"))
