"""`forget-set choose`: classes, domains and random shares of published data sets, cut out whole or not at all."""

from pathlib import Path

import pytest

from engine.corpus import digest, read_records, write_records
from tests.compliance.builders import write_lines
from tests.compliance.terminal import refusal, run
from tests.engine import painted, released


def _chosen(out: Path) -> dict[str, tuple[str, ...]]:
    return {path.stem: tuple(one.record_id for one in read_records(path)) for path in sorted(out.iterdir())}


def test_a_class_of_cifar_is_cut_out_of_its_training_part(tmp_path: Path) -> None:
    """Every picture of it leaves, the others stay, and the test part is the strangers, that class among them."""
    folder = released.cifar_10(tmp_path)
    ran = run(
        *("forget-set", "choose", "--data", folder, "--class", "cat", "--class", "bird"),
        *("--out", tmp_path / "sets", "--json"),
    )
    sets = {name: read_records(tmp_path / "sets" / f"{name}.jsonl") for name in ("forget", "retain", "holdout")}

    assert (ran.code, ran.err) == (0, "")
    assert {one.label for one in sets["forget"]} == {"bird", "cat"}
    assert not {one.label for one in sets["retain"]} & {"bird", "cat"}
    assert {*sets["forget"], *sets["retain"]} == set(read_records(folder, split="train"))
    assert sets["holdout"] == read_records(folder, split="test")
    assert {name: ran.value[name] for name in sets} == {name: len(chosen) for name, chosen in sets.items()}
    assert ran.value["forget_digest"] == digest(sets["forget"])


def test_a_domain_leaves_and_strangers_of_every_kind_are_set_aside(tmp_path: Path) -> None:
    """Office-Home has no test part: a share of each class in each domain becomes one, and no picture is in two sets."""
    said = ("--data", released.office_home(tmp_path), "--domain", "Art", "--strangers", "0.5", "--json")
    ran = run("forget-set", "choose", *said, "--out", tmp_path / "sets")
    sets = {name: read_records(tmp_path / "sets" / f"{name}.jsonl") for name in ("forget", "retain", "holdout")}

    assert (ran.code, ran.err) == (0, "")
    assert [{one.domain for one in sets[name]} for name in ("forget", "retain")] == [{"Art"}, {"Real World"}]
    assert len({(one.domain, one.label) for one in sets["holdout"]}) == len(sets["holdout"]) == 4
    assert sum(map(len, sets.values())) == len({one.record_id for chosen in sets.values() for one in chosen}) == 8


def test_a_share_is_of_whole_people_and_the_same_for_one_seed(tmp_path: Path) -> None:
    """Nobody is in two sets, and another seed draws others."""
    write_records(tmp_path / "all.jsonl", painted.records(range(40), a_unit=4))
    said = ("forget-set", "choose", "--data", tmp_path / "all.jsonl", "--share", "0.3", "--strangers", "0.5")
    for out, seed in (("one", 1), ("same", 1), ("other", 2)):
        assert run(*said, "--out", tmp_path / out, "--seed", seed).code == 0
    units = [{one.unit for one in read_records(path)} for path in sorted((tmp_path / "one").iterdir())]

    assert [len(one) for one in units] == [1, 5, 4]
    assert len(set.union(*units)) == 10
    assert _chosen(tmp_path / "one") == _chosen(tmp_path / "same") != _chosen(tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give one of --class, --domain and --share"),
        (("--class", "cat", "--share", "0.5"), "give one of --class, --domain and --share"),
        (("--class", "zebra"), "no picture of cifar-10-batches-bin has the class 'zebra'; it has 5 of them"),
        (("--domain", "Art"), "no picture of cifar-10-batches-bin has the domain 'Art'; it has 0 of them"),
        (("--share", "1"), "the retain set would be empty"),
        (("--share", "0.01"), "the forget set would be empty"),
    ],
)
def test_what_cannot_be_cut_out_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """Exit 2, and no folder begun."""
    folder = released.cifar_10(tmp_path)
    ran = run("forget-set", "choose", "--data", folder, "--out", tmp_path / "sets", *arguments)

    assert sentence in refusal(ran)
    assert list(tmp_path.iterdir()) == [folder]


def test_only_pictures_have_classes_and_nothing_is_overwritten(tmp_path: Path) -> None:
    """Texts are refused, and so is a place that is taken."""
    texts = write_lines(tmp_path / "texts.jsonl", [{"record_id": "a", "unit": "a", "text": "x"}])
    said = ("forget-set", "choose", "--class", "cat", "--data")

    assert "texts.jsonl is no data set of pictures" in refusal(run(*said, texts, "--out", tmp_path / "sets"))
    folder = released.cifar_10(tmp_path)
    assert "exists already" in refusal(run(*said, folder, "--out", folder))
