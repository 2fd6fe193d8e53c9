"""What convex methods keep secret between requests: one file a published model, found again by that model's digest.

    cache/<method>/<digest of the model folder>.safetensors        mode 0600, in a folder of mode 0700

It holds a key, numbers of the method (heads or a checkpoint without noise), and for each record that they were computed
from a tag that only the key can make. It is as secret as the training data: whoever has it has the model without noise.

A run reads the state of the model that it starts from and writes one for the model that it makes, under a temporary
name first. It never removes what it read. So the same job read again finds what it found before, and with the key and
the job as the only sources of randomness it makes the same model and writes the same file. States of other versions
of the model are removed at the start of a run: by then the version that it starts from has taken their place. Two
models of the same classes and features count as versions of one, which costs training anew and nothing else.
"""

import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from engine import checkpoints
from engine.catalogue import KEEPING
from engine.contract import canonical
from engine.corpus import Record, digest
from engine.digests import model_digest, model_files
from engine.heads.rows import Vector
from engine.methods import Setting
from engine.tasks.image_models import ImageModel

ENDING = ".safetensors"
_KEY, _LINE, _ABOUT, _TAGS = "key", "line", "about", "tags"
_OWN = frozenset({_KEY, _LINE, _ABOUT, _TAGS})
NO_CACHE = "the job names no cache, so nothing could be kept"
NO_STATE = "no state is kept for this model"
UNREADABLE = "the state of this model cannot be read"
OTHER_OPTIONS = "the state was made with other settings"
ADDED = "there are records that the state was not made with"
NOBODY = "nobody whom the state was made with has left"


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A method's `numbers` in double precision; `about` holds settings and counts, `tags` one for each record."""

    key: bytes = field(repr=False)
    tags: tuple[bytes, ...] = field(repr=False)
    numbers: Mapping[str, Vector] = field(repr=False)
    about: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A state that holds everybody who stays: where they are in it, where who left is, and a key for this job."""

    state: State
    stay: tuple[int, ...]
    gone: tuple[int, ...]
    key: bytes = field(repr=False)


def find(setting: Setting[Any], method: str, settings: Mapping[str, Any]) -> Found | str:
    """The state to go on from, or why there is none; removes those of other versions first."""
    if not setting.durable:
        return NO_CACHE
    _sweep(setting)
    path = _path(setting, method, setting.digest)
    if not path.is_file():
        return NO_STATE
    state = _read(path, _line(setting))
    if state is None:
        return UNREADABLE
    if state.about.get("settings") != dict(settings):
        return OTHER_OPTIONS
    return _matched(setting, method, state)


def _matched(setting: Setting[Any], method: str, state: State) -> Found | str:
    places = {tag: place for place, tag in enumerate(state.tags)}
    stay = [places.get(tag) for tag in tags(state.key, setting.retain)]
    known = [place for place in stay if place is not None]
    if len(places) != len(state.tags) or len(set(known)) != len(stay):
        return ADDED
    gone = sorted(set(range(len(places))) - set(known))
    if not gone:
        return NOBODY
    return Found(state=state, stay=tuple(known), gone=tuple(gone), key=_derived(setting, method, state.key))


def keep(setting: Setting[Any], method: str, state: State) -> None:
    """Write the state of the model as it is in `setting`, which is what is about to be published."""
    if not setting.durable:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        folder.mkdir()
        checkpoints.save(folder, setting.model, setting.reader)
        path = _path(setting, method, model_digest(model_files(folder)))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_suffix(f".partial-{os.getpid()}")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(_packed(state, _line(setting)))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def among(found: Found, records: Sequence[Record]) -> tuple[Record, ...] | None:
    """The records at `found.gone`, in that order, where all of them are among these."""
    known = dict(zip(tags(found.state.key, records), records, strict=True))
    told = [known.get(found.state.tags[place]) for place in found.gone]
    present = tuple(record for record in told if record is not None)
    return present if len(present) == len(told) else None


def tags(key: bytes, records: Iterable[Record]) -> tuple[bytes, ...]:
    """HMAC-SHA256 of each record under the key: who has neither can't ask whether somebody was there."""
    return tuple(hmac.digest(key, digest((record,)).encode(), "sha256") for record in records)


def _derived(setting: Setting[Any], method: str, key: bytes) -> bytes:
    """A key of this job alone: the same for the same job, and of no use to know another by."""
    told = [method, setting.digest, dataclasses.asdict(setting.options), setting.seed, digest(setting.retain)]
    return hmac.digest(key, canonical(told).encode(), "sha256")


def _sweep(setting: Setting[Any]) -> None:
    """Remove states of other versions of this model, what was never finished, and what cannot be read."""
    line = _line(setting)
    for method in KEEPING:
        for path in sorted((setting.cache / method).glob("*")):
            if path.name != f"{setting.digest}{ENDING}" and _of_line(path, line):
                path.unlink(missing_ok=True)


def _of_line(path: Path, line: bytes) -> bool:
    state = _arrays(path)
    return state is None or _LINE not in state or state[_LINE].tobytes() == line


def _line(setting: Setting[Any]) -> bytes:
    """What all versions of a model have in common: classes, and all that computes features."""
    model = cast("ImageModel", setting.model)
    told = [model.config.architecture, model.classifier.in_features, list((model.config.id2label or {}).values())]
    hasher = hashlib.sha256(canonical(told).encode())
    for name, tensor in sorted(model.body.state_dict().items()):
        hasher.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return hasher.digest()


def _path(setting: Setting[Any], method: str, model: str) -> Path:
    return setting.cache / method / f"{model}{ENDING}"


def _packed(state: State, line: bytes) -> bytes:
    raw = {_KEY: state.key, _LINE: line, _ABOUT: canonical(dict(state.about)).encode(), _TAGS: b"".join(state.tags)}
    arrays: dict[str, NDArray[Any]] = {name: np.frombuffer(value, dtype=np.uint8) for name, value in raw.items()}
    return save(arrays | {name: np.ascontiguousarray(one) for name, one in state.numbers.items()})


def _read(path: Path, line: bytes) -> State | None:
    arrays = _arrays(path)
    if arrays is None or not arrays.keys() >= _OWN or arrays[_LINE].tobytes() != line:
        return None
    with contextlib.suppress(ValueError, AttributeError):
        about, packed = json.loads(arrays[_ABOUT].tobytes()), arrays[_TAGS].tobytes()
        numbers = {name: one for name, one in arrays.items() if name not in _OWN}
        if isinstance(about, dict) and all(bool(np.isfinite(one).all()) for one in numbers.values()):
            split = tuple(packed[i : i + 32] for i in range(0, len(packed), 32))
            return State(key=arrays[_KEY].tobytes(), tags=split, numbers=numbers, about=about)
    return None


def _arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    try:
        found: dict[str, NDArray[Any]] = load(path.read_bytes())
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return found
