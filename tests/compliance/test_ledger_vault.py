"""Personal data stands under a request's own key, and goes with it."""

from pathlib import Path

import pytest

from compliance.errors import NotFoundError
from compliance.wiring import Services
from tests.compliance.conftest import PERSON, both_databases, file_request


@both_databases
def test_erasing_a_request_destroys_its_key_and_its_data(services: Services) -> None:
    """After erasure nothing opens, and the commitment in the log stays."""
    file_request(services)
    with services.read() as ledger:
        assert ledger.open_subject("r1") == PERSON
        commitment = ledger.request("r1").commitment

    with services.transaction() as ledger:
        ledger.erase_personal_data(request_id="r1", now=services.clock())

    with services.read() as ledger:
        assert commitment == ledger.request("r1").commitment
        with pytest.raises(NotFoundError):
            ledger.open_subject("r1")


def test_ciphertext_moved_to_another_request_does_not_open(services: Services) -> None:
    """The request's id is bound into the ciphertext."""
    vault = services.vault
    key, wrapped = vault.new_key("a")

    with pytest.raises(NotFoundError):
        vault.unwrap("b", wrapped)
    with pytest.raises(NotFoundError):
        vault.open(key, "b/subject", vault.seal(key, "a/subject", b"x"))


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_sealed_file_opens_to_the_same_bytes(services: Services, tmp_path: Path, size: int) -> None:
    """Chunked sealing is lossless at and around the chunk's border."""
    key, _ = services.vault.new_key("batch")
    source, sealed, opened = tmp_path / "plain", tmp_path / "sealed", tmp_path / "opened"
    source.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))

    services.vault.seal_file(key, "c", source, sealed)
    services.vault.open_file(key, "c", sealed, opened)

    assert source.read_bytes() == opened.read_bytes()


def test_truncated_sealed_file_is_refused(services: Services, tmp_path: Path) -> None:
    """A sealed file without its last chunk does not open as a shorter one."""
    key, _ = services.vault.new_key("batch")
    source, sealed = tmp_path / "plain", tmp_path / "sealed"
    source.write_bytes(b"a" * ((1 << 20) + 10))
    services.vault.seal_file(key, "c", source, sealed)
    raw = sealed.read_bytes()
    sealed.write_bytes(raw[: 4 + int.from_bytes(raw[:4], "big")])

    with pytest.raises(NotFoundError):
        services.vault.open_file(key, "c", sealed, tmp_path / "opened")
