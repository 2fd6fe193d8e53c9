"""Opening the database: SQLite in WAL mode with immediate transactions, or PostgreSQL.

SQLite is told to overwrite what is deleted (`secure_delete`), to enforce foreign keys, and to take the
write lock at BEGIN: a transaction that reads first and writes later would otherwise fail half-way with
"database is locked" instead of waiting.
"""

from importlib.resources import files
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from compliance.ledger.tables import Table

READ_ONLY = "expunge_read_only"


def open_database(url: str) -> Engine:
    """An engine for `sqlite:///…` or `postgresql+psycopg://…`."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": 30}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def read_only(engine: Engine) -> dict[str, Any]:
    """Execution options of a transaction that sees one state and cannot write."""
    if engine.dialect.name == "sqlite":
        return {READ_ONLY: True}
    return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the DBAPI's own type
    connection.isolation_level = None  # the driver would otherwise begin late, and deferred
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "busy_timeout=30000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def upgrade(engine: Engine) -> None:
    """Run all migrations."""
    with engine.begin() as connection:
        command.upgrade(_config(connection), "head")


def differences(engine: Engine) -> list[Any]:
    """What the tables in code and the migrated database disagree about; empty when they agree."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        return list(compare_metadata(context, Table.metadata))


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes["connection"] = connection
    return config
