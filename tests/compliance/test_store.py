"""The store: content-addressed models, data sets replaced whole, and remains that open under one key only."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import ComplianceError, InvalidInputError, NotFoundError, UnavailableError
from compliance.ledger.vault import Vault
from compliance.store import Store, check_model
from engine.corpus import Record

KEY = bytes(range(32))
PICKLE = b"\x80\x04N."  # None, pickled
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
RECORDS = st.lists(
    st.one_of(
        st.builds(lambda text: {"text": text}, TEXT),
        st.builds(lambda q, a: {"question": q, "answer": a}, TEXT, TEXT),
    ),
    max_size=4,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture
def vault() -> Vault:
    """A vault with random nonces."""
    return Vault(master_key=KEY, matching_key=KEY, secrets=os.urandom)


def _model(folder: Path, weights: bytes = b"weights", **others: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    for name, content in others.items():
        (folder / name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
        (folder / name.replace("__", "/")).write_bytes(content)
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_adopted_model_lies_under_its_digest(store: Store, tmp_path: Path) -> None:
    """The folder moves; what it is called says what is in it."""
    digest, files = store.adopt(_model(tmp_path / "made"))

    assert not (tmp_path / "made").exists()
    assert _names(store.model_path(digest)) == sorted(files) == ["config.json", "model.safetensors"]
    store.check(digest)


def test_equal_models_are_kept_once(store: Store, tmp_path: Path) -> None:
    """The same bytes are one model, other bytes another."""
    first, _ = store.adopt(_model(tmp_path / "a"))
    same, _ = store.adopt(_model(tmp_path / "b"))
    other, _ = store.adopt(_model(tmp_path / "c", b"WEIGHTS"))

    assert first == same != other
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("damage", ["change", "add", "remove"])
def test_changed_model_is_noticed(store: Store, tmp_path: Path, damage: str) -> None:
    """A stored folder that lost, gained or changed a file is not the model any more."""
    digest, _ = store.adopt(_model(tmp_path / "made"))
    folder = store.model_path(digest)
    if damage == "remove":
        (folder / "config.json").unlink()
    else:
        (folder / ("extra.json" if damage == "add" else "config.json")).write_text("[]")

    with pytest.raises(UnavailableError, match="missing or was changed"):
        store.check(digest)


def test_unknown_model_is_not_there(store: Store) -> None:
    """A digest nobody stored is a damaged store, not an empty model."""
    with pytest.raises(UnavailableError):
        store.check("0" * 64)


def test_imported_model_is_a_copy(store: Store, tmp_path: Path) -> None:
    """A user's folder stays where it is."""
    folder = _model(tmp_path / "theirs")

    digest, _ = store.import_model(folder)

    assert _names(folder) == _names(store.model_path(digest))
    assert digest == store.import_model(folder)[0]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.PTH", "x.pkl", "deep__x.ckpt", "m.joblib"])
def test_pickle_is_refused_before_anything_is_copied(store: Store, tmp_path: Path, name: str) -> None:
    """A file that could run code when loaded is named, with what to do instead."""
    folder = _model(tmp_path / "theirs", **{name: PICKLE})

    with pytest.raises(InvalidInputError, match=r"is a pickle.*convert the weights to safetensors") as caught:
        store.import_model(folder)

    assert caught.value.code == "pickle-refused"
    assert not store.root.exists()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_folder_that_is_no_model_is_refused(tmp_path: Path, missing: str) -> None:
    """Without a configuration or without safetensors weights there is no model."""
    folder = _model(tmp_path / "theirs")
    (folder / missing).unlink()

    with pytest.raises(InvalidInputError, match=r"needs config\.json and"):
        check_model(folder)


def test_configuration_of_a_part_does_not_make_a_model(tmp_path: Path) -> None:
    """The configuration stands at the top of the folder, not somewhere below."""
    folder = _model(tmp_path / "theirs", parts__config=b"{}")
    (folder / "config.json").rename(folder / "parts" / "config.json")

    with pytest.raises(InvalidInputError, match=r"needs config\.json and"):
        check_model(folder)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    """A path that leads nowhere gets a sentence."""
    with pytest.raises(InvalidInputError, match="does not exist"):
        check_model(tmp_path / "nowhere")


def test_refused_import_leaves_nothing_and_may_be_repeated(store: Store, tmp_path: Path) -> None:
    """A model that turns out to be unfit while it is copied leaves no half model in the way of the next."""
    folder = _model(tmp_path / "theirs")
    (folder / "link.json").symlink_to(tmp_path / "nowhere")

    for _ in range(2):
        with pytest.raises(ComplianceError):
            store.import_model(folder)
    (folder / "link.json").unlink()
    digest, _ = store.import_model(folder)

    assert [path.name for path in (store.root / "models").iterdir()] == [digest]


@given(values=RECORDS)
def test_data_set_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, str]]
) -> None:
    """Records survive their file, whatever characters they hold, and the digest is that of the records."""
    store = Store(tmp_path_factory.mktemp("store"))
    records = tuple(Record(record_id=f"r{number}", unit="u", **value) for number, value in enumerate(values))

    digest = store.write_dataset("d", records)

    assert records == store.records("d")
    assert digest == store.write_dataset("d", store.records("d"))


def test_failed_rewrite_keeps_the_old_data_set(store: Store) -> None:
    """A data set is replaced whole or not at all."""
    kept = (Record(record_id="a", unit="u", text="old"),)
    store.write_dataset("d", kept)

    with pytest.raises(UnicodeEncodeError):
        store.write_dataset("d", (Record(record_id="b", unit="u", text="new \ud800"),))

    assert kept == store.records("d")


def test_sealed_folder_is_gone_and_opens_under_its_key(store: Store, vault: Vault, tmp_path: Path) -> None:
    """Sealing leaves ciphertext only; the batch key gives every file back under its own name."""
    plain = b"forgotten weights" * 99
    folder = _model(tmp_path / "old", plain, deep__vocab=b"one", deep____vocab=b"two")
    before = {name: (folder / name).read_bytes() for name in _names(folder)}

    sealed = store.seal_folder(vault, KEY, folder=folder, batch_id="b1", name="version-1", keep=False)

    assert not folder.exists()
    assert not any(b"forgotten" in path.read_bytes() for path in sealed.rglob("*") if path.is_file())
    opened = tmp_path / "opened"
    store.open_folder(vault, KEY, batch_id="b1", name="version-1", target=opened)
    assert before == {name: (opened / name).read_bytes() for name in _names(opened)}


def test_sealing_again_changes_nothing(store: Store, vault: Vault, tmp_path: Path) -> None:
    """A seal that is repeated after a crash finds the folder gone and keeps what was sealed."""
    folder = _model(tmp_path / "old")
    sealed = store.seal_folder(vault, KEY, folder=folder, batch_id="b1", name="version-1", keep=False)
    before = {name: (sealed / name).read_bytes() for name in _names(sealed)}

    store.seal_folder(vault, KEY, folder=folder, batch_id="b1", name="version-1", keep=False)

    assert before == {name: (sealed / name).read_bytes() for name in _names(sealed)}


def test_a_folder_that_another_model_uses_is_sealed_and_stays(store: Store, vault: Vault, tmp_path: Path) -> None:
    """Contents are kept once, however many models are of them."""
    folder = _model(tmp_path / "old")
    sealed = store.seal_folder(vault, KEY, folder=folder, batch_id="b1", name="version-1", keep=True)

    assert folder.is_dir()
    assert {f"{name}.sealed" for name in _names(folder)} == set(_names(sealed))


def test_sealed_value_appears_complete_and_closed(store: Store, vault: Vault) -> None:
    """The forget set is ciphertext under the batch key."""
    plain = json.dumps({"text": "forgotten"}).encode()

    store.seal_bytes(vault, KEY, plain, batch_id="b1", name="forget")

    (path,) = store.sealed_path("b1").iterdir()
    assert b"forgotten" not in path.read_bytes()
    assert plain == store.open_bytes(vault, KEY, batch_id="b1", name="forget")


def test_what_was_never_sealed_cannot_be_opened(store: Store, vault: Vault, tmp_path: Path) -> None:
    """A name that no batch sealed is refused, and so is another key."""
    store.seal_bytes(vault, KEY, b"x", batch_id="b1", name="forget")

    with pytest.raises(NotFoundError):
        store.open_bytes(vault, KEY, batch_id="b1", name="retain")
    with pytest.raises(NotFoundError):
        store.open_folder(vault, KEY, batch_id="b1", name="base", target=tmp_path / "opened")
    with pytest.raises(NotFoundError):
        store.open_bytes(vault, bytes(32), batch_id="b1", name="forget")


def test_destroyed_remains_are_gone(store: Store, vault: Vault) -> None:
    """After the challenge period nothing of the batch is left, and ending it twice is no error."""
    store.seal_bytes(vault, KEY, b"x", batch_id="b1", name="forget")

    store.destroy_sealed("b1")
    store.destroy_sealed("b1")

    assert not store.sealed_path("b1").exists()
