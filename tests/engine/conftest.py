"""One thread, and no trace of one test's seeds in the next."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.corpus import write_records
from tests.engine import tiny


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that tests only read."""
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the files that jobs name."""
    write_records(tmp_path / "all.jsonl", tiny.records())
    write_records(tmp_path / "forget.jsonl", tiny.records(range(2)))
    write_records(tmp_path / "retain.jsonl", tiny.records(range(2, 6)))
    write_records(tmp_path / "holdout.jsonl", tiny.records(range(6, 8)))
    return tmp_path
