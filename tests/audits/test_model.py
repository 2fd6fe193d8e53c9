"""A model's folder against what a report says of it: exact about every file, however it hides."""

from pathlib import Path

import pytest

from audits import model
from audits.errors import VerificationError


def reported(folder: Path) -> dict[str, object]:
    """As much of a predicate as the comparison reads, about the folder as it is now."""
    return {"model": {"after": {"files": model.files(folder)}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder."""
    (path := tmp_path / "model").mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(bytes(64))
    return path


@pytest.mark.parametrize("name", [".git/hooks/post-checkout", ".gitignore", ".cache/x", "deep/new.json"])
def test_a_file_that_was_added_counts_wherever_it_hides(folder: Path, name: str) -> None:
    """Nothing is left out of a comparison, and a program is told what was added and what is missing."""
    said = reported(folder)
    model.verify(folder, said)
    model.verify(folder, {"predicate": said})
    (path := folder / name).parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    (folder / "config.json").unlink()

    with pytest.raises(VerificationError, match="2 file") as caught:
        model.verify(folder, said)

    assert f"{name} (added)" in str(caught.value)
    assert "config.json (missing)" in str(caught.value)


def test_a_renamed_file_is_another_model(folder: Path) -> None:
    """The same contents under other names are one file missing and one added."""
    said = reported(folder)
    (folder / "config.json").rename(folder / "other.json")

    assert model.differences(model.files(folder), said["model"]["after"]["files"]) == {  # type: ignore[index]
        "config.json": "missing",
        "other.json": "added",
    }


def test_one_bit_is_a_changed_file(folder: Path) -> None:
    """Same name, same size, other content."""
    said = reported(folder)
    (folder / "model.safetensors").write_bytes(bytes(63) + b"\x01")

    with pytest.raises(VerificationError, match=r"model\.safetensors \(changed\)"):
        model.verify(folder, said)


def test_no_more_than_five_files_are_named(folder: Path) -> None:
    """A folder of strangers does not fill the screen."""
    said = reported(folder)
    for number in range(8):
        (folder / f"new-{number}").write_bytes(b"x")

    with pytest.raises(VerificationError, match=r"^8 file.*new-4 \(added\) and 3 more\.$"):
        model.verify(folder, said)
