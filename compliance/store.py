"""Content-addressed files: model folders by their digest, data sets by id, sealed remains by batch.

    store/models/<digest>/           a version's folder, never changed once there
    store/datasets/<id>.jsonl        the records still in the data set
    store/sealed/<batch>/…           forget set and superseded weights under the batch key
    store/cache/                     numbers the engine measured, by digest; no text
    store/states/                    what methods keep from one request to the next; as secret as the data sets

A folder or file appears under its final name only when it is complete (rename), so a crash leaves a
`.partial` to sweep and never half a model.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audits import model
from compliance.errors import InvalidInputError, NotFoundError, UnavailableError
from compliance.ledger.vault import Vault
from engine.contract import task_of
from engine.corpus import Record, digest, read_records, write_records

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})


@dataclass(frozen=True, slots=True)
class Store:
    """The files below `root`."""

    root: Path

    @property
    def cache(self) -> Path:
        """Where the engine keeps measured numbers by digest."""
        return self._folder("cache")

    @property
    def states(self) -> Path:
        """Where methods of the engine keep what a later request goes on from."""
        return self._folder("states")

    def model_path(self, folder_digest: str) -> Path:
        """Where the version with this digest lies."""
        return self.root / "models" / folder_digest

    def adopt(self, folder: Path) -> tuple[str, dict[str, dict[str, Any]]]:
        """Move a finished model folder into the store; its digest and files. A known digest is kept once."""
        files = model.files(folder)
        folder_digest = model.digest(files)
        target = self.model_path(folder_digest)
        if target.exists():
            shutil.rmtree(folder)
        else:
            self._folder("models")
            folder.rename(target)
        return folder_digest, {name: dict(entry) for name, entry in files.items()}

    def import_model(self, folder: Path) -> tuple[str, dict[str, dict[str, Any]]]:
        """Copy a user's model folder into the store; InvalidInputError for pickles, links or missing parts."""
        check_model(folder)
        with tempfile.TemporaryDirectory(dir=self._folder("models"), suffix=".partial") as partial:
            copy = Path(partial) / "model"
            shutil.copytree(folder, copy)
            return self.adopt(copy)

    def check(self, folder_digest: str) -> None:
        """UnavailableError unless the stored folder still has its digest."""
        path = self.model_path(folder_digest)
        if not path.is_dir() or model.digest(model.files(path)) != folder_digest:
            message = "a stored model is missing or was changed; restore the store from its backup"
            raise UnavailableError(message, code="store-damaged")

    def dataset_path(self, dataset_id: str) -> Path:
        """Where a data set's records lie."""
        return self._folder("datasets") / f"{dataset_id}.jsonl"

    def records(self, dataset_id: str) -> tuple[Record, ...]:
        """The records still in a data set."""
        return read_records(self.dataset_path(dataset_id))

    def task(self, dataset_id: str) -> str | None:
        """The family of models that a data set is for, by its first record; None when nothing is left in it."""
        with self.dataset_path(dataset_id).open(encoding="utf-8") as file:
            first = file.readline()
        said = json.loads(first) if first.strip() else None
        if said is None:
            return None
        return "language" if "image" not in said else "vision-language" if "domain" in said else "image"

    def serves(self, dataset_id: str, task: str) -> bool:
        """Whether models of a family can be trained on a data set: classifiers need no domain, and mind none."""
        found = self.task(dataset_id)
        return found == task or (found, task) == ("vision-language", "image")

    def write_dataset(self, dataset_id: str, records: Sequence[Record]) -> str:
        """Replace a data set's file atomically; the new manifest digest."""
        path = self.dataset_path(dataset_id)
        partial = path.with_suffix(".partial")
        write_records(partial, records)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        return digest(records)

    def sealed_path(self, batch_id: str) -> Path:
        """Where a batch's sealed remains lie."""
        return self._folder("sealed") / batch_id

    def seal_folder(self, vault: Vault, key: bytes, *, folder: Path, batch_id: str, name: str, keep: bool) -> Path:
        """Encrypt every file of `folder` under the batch key, then remove it unless it is to stay. Repeats safely."""
        target = self.sealed_path(batch_id) / name
        target.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                relative = file.relative_to(folder).as_posix()
                out = target / f"{relative}.sealed"
                out.parent.mkdir(parents=True, exist_ok=True)
                vault.seal_file(key, f"{batch_id}/{name}/{relative}", file, out)
            if not keep:
                shutil.rmtree(folder)
        return target

    def seal_bytes(self, vault: Vault, key: bytes, plaintext: bytes, *, batch_id: str, name: str) -> None:
        """Encrypt a value under the batch key; it appears only when it is complete."""
        target = self.sealed_path(batch_id)
        target.mkdir(parents=True, exist_ok=True)
        partial = target / f"{name}.partial"
        partial.write_bytes(vault.seal(key, f"{batch_id}/{name}", plaintext))
        partial.replace(target / f"{name}.sealed")

    def open_folder(self, vault: Vault, key: bytes, *, batch_id: str, name: str, target: Path) -> None:
        """Undo `seal_folder` into `target`; NotFoundError when there is nothing sealed, or it does not open."""
        source = self.sealed_path(batch_id) / name
        sealed = sorted(source.rglob("*.sealed"))
        if not sealed:
            raise NotFoundError("there is no sealed folder of this name in the batch", code="not-sealed")
        for file in sealed:
            relative = file.relative_to(source).as_posix().removesuffix(".sealed")
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            vault.open_file(key, f"{batch_id}/{name}/{relative}", file, target / relative)

    def open_bytes(self, vault: Vault, key: bytes, *, batch_id: str, name: str) -> bytes:
        """Undo `seal_bytes`; NotFoundError when there is no such value, or it does not open."""
        path = self.sealed_path(batch_id) / f"{name}.sealed"
        if not path.is_file():
            raise NotFoundError("there is no sealed value of this name in the batch", code="not-sealed")
        return vault.open(key, f"{batch_id}/{name}", path.read_bytes())

    def destroy_sealed(self, batch_id: str) -> None:
        """Remove a batch's sealed remains."""
        shutil.rmtree(self.sealed_path(batch_id), ignore_errors=True)

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run; each attempt has its own below."""
        return self._folder("runs") / run_id

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def check_model(folder: Path) -> None:
    """InvalidInputError unless `folder` is a Hugging Face model with safetensors weights and no pickle."""
    if not folder.is_dir():
        message = "the model folder does not exist; give the path of a Hugging Face model folder"
        raise InvalidInputError(message, code="no-model-folder")
    paths = sorted(folder.rglob("*"))
    link = next((path for path in paths if path.is_symlink()), None)
    if link is not None:
        message = f"'{link.name}' is a symbolic link; put the file itself into the model folder"
        raise InvalidInputError(message, code="link-refused")
    culprit = next((path for path in paths if path.suffix.lower() in PICKLES), None)
    if culprit is not None:
        message = f"'{culprit.name}' is a pickle, which can run code when loaded; convert the weights to safetensors"
        raise InvalidInputError(message, code="pickle-refused")
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        message = "a model folder needs config.json and *.safetensors; save it with save_pretrained()"
        raise InvalidInputError(message, code="not-a-model")


def task_in(folder: Path) -> str:
    """The family of the model in a folder (`engine.contract.TASKS`); InvalidInputError when it does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        message = "the config.json of the model folder cannot be read; save it with save_pretrained()"
        raise InvalidInputError(message, code="not-a-model")
    return task_of(config)
