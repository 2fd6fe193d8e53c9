"""Invariant 1: one write, one entry, and entries that nobody can change."""

import json

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from audits import tiles
from audits.log import vkey
from compliance.ledger.database import differences
from compliance.wiring import Services
from tests.compliance.conftest import both_databases, file_request

pytestmark = both_databases


def _execute(desk: Services, statement: str) -> None:
    with desk.database.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_entries SET kind = 'x' WHERE seq = 0",
        "DELETE FROM log_entries",
        "DELETE FROM log_entries WHERE seq = 0",
        "INSERT INTO log_entries (seq, kind, payload, recorded_at) VALUES (99, 'x', 'x', CURRENT_TIMESTAMP)",
        "INSERT INTO log_entries (seq, kind, payload, recorded_at) VALUES (0, 'x', 'x', CURRENT_TIMESTAMP)",
    ],
)
def test_database_itself_refuses_to_change_the_log(services: Services, statement: str) -> None:
    """UPDATE, DELETE and an entry out of sequence raise in the database, and nothing changes."""
    with services.read() as ledger:
        before = list(ledger.entries(0, 100))

    with pytest.raises(DBAPIError):
        _execute(services, statement)

    with services.read() as ledger:
        assert before == list(ledger.entries(0, 100))


def test_truncate_is_refused_even_as_a_replica(services: Services) -> None:
    """TRUNCATE and a session that pretends to be a replica get nowhere on PostgreSQL."""
    if services.database.dialect.name == "sqlite":
        with pytest.raises(DBAPIError):
            _execute(services, "INSERT OR REPLACE INTO log_entries VALUES (0, 'x', 'x', CURRENT_TIMESTAMP)")
        return
    for statement in ("TRUNCATE log_entries", "SET session_replication_role = replica; DELETE FROM log_entries"):
        with pytest.raises(DBAPIError, match="append-only"):
            _execute(services, statement)


def test_every_change_of_a_request_appends_its_entry(services: Services) -> None:
    """A new request is one row and one entry, which carries a commitment and no personal data."""
    with services.read() as ledger:
        before = ledger.head().size

    file_request(services)

    with services.read() as ledger:
        (payload,) = ledger.entries(before, before + 9)
        entry = json.loads(payload)
        assert entry["type"] == "request.received"
        assert entry["data"]["commitment"] == ledger.request("r1").commitment
        assert b"quillon" not in payload.lower()


def test_a_transaction_that_fails_leaves_neither_row_nor_entry(services: Services) -> None:
    """What raised after the write is as if it never was."""
    with services.read() as ledger:
        before = ledger.head()

    with pytest.raises(ZeroDivisionError), services.transaction() as ledger:
        ledger.register_key(key_id="k", role="report", public_key=b"1", data={}, now=services.clock())
        raise ZeroDivisionError

    with services.read() as ledger:
        assert before == ledger.head()


def test_published_tiles_rebuild_the_log(services: Services) -> None:
    """Static files and checkpoint agree with the entries, and publishing twice signs nothing new."""
    file_request(services)

    published = services.publish()

    key = vkey(services.settings.origin, services.signers["log"].public_key)
    assert published.size == tiles.check_folder(services.publisher.folder, key).size
    assert published.checkpoint == services.publish().checkpoint


def test_models_and_migrations_agree(services: Services) -> None:
    """Alembic finds nothing to migrate after the migrations ran."""
    assert differences(services.database) == []
