"""The only reader of the environment. Frozen; no secret has a default.

Values come from `EXPUNGE_*` variables, then from the file `settings.env` in the work folder, which
`expunge demo` and `expunge up` write with fresh secrets and mode 0600. A missing secret is an error,
never a generated fallback: a desk that silently starts with a new key cannot open its own vault.
"""

import base64
import os
import secrets
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretBytes, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from compliance.errors import InvalidInputError

KEY_BYTES = 32
FILE_NAME = "settings.env"


def _key(value: object) -> object:
    if not isinstance(value, str):
        return value
    raw = base64.b64decode(value, validate=True)
    if len(raw) != KEY_BYTES:
        message = f"a key has {KEY_BYTES} bytes, base64-encoded"
        raise ValueError(message)
    return raw


Key = Annotated[SecretBytes, BeforeValidator(_key)]


class Settings(BaseSettings):
    """Everything a process of the desk is told from outside."""

    model_config = SettingsConfigDict(env_prefix="EXPUNGE_", frozen=True, extra="forbid")

    workdir: Path
    database_url: str
    broker_url: str = "redis://127.0.0.1:6379/0"
    public_url: str = "http://127.0.0.1:8080"
    organisation: str = "Example Organisation"
    origin: str = Field(description="the log's name: a URL without scheme, spaces or '+'")

    master_key: Key = Field(description="wraps the per-request and per-batch keys")
    matching_key: Key = Field(description="keys the hashes of subjects and forgotten records")
    operator_token: SecretStr = Field(description="opens the operator's pages")
    agents: dict[str, SecretStr] = Field(default_factory=dict, description="authorised agents' API tokens")

    smtp_url: str = Field(default="", description="smtp://user:password@host:port; empty: the outbox folder")
    mail_from: str = "privacy@localhost"
    country: str = Field(default="DE", description="whose public holidays move a due date")
    subdivision: str = ""
    time_zone: str = Field(default="UTC", description="whose calendar day a request was received on")
    extra_holidays: tuple[date, ...] = ()
    ignored_holidays: tuple[date, ...] = ()
    ccpa_receipt_day_counts: bool = False
    submissions_per_hour: int = Field(default=20, ge=0, description="public form, per client; 0 is no limit")
    inclusion_hours: int = Field(default=24, ge=1, description="a receipt's promise: in the log by then")
    lease_seconds: float = Field(default=60.0, gt=0)
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    beat_seconds: float = Field(default=5.0, gt=0, description="how often the beat looks for work")
    personal_data_days: int = Field(default=30, ge=0, description="days after closing until a request's key goes")
    engine_threads: int = Field(default=2, ge=1)

    @property
    def outbox(self) -> Path:
        """Where mails go as files when no SMTP server is set."""
        return self.workdir / "outbox"

    @property
    def keys(self) -> Path:
        """The folder of signing keys, each a file of mode 0600."""
        return self.workdir / "keys"


def load(workdir: Path | None = None) -> Settings:
    """Read the settings of `workdir` (or of EXPUNGE_WORKDIR).

    Raises InvalidInputError naming the settings that are missing or malformed, never their values.
    """
    folder = workdir or Path(os.environ.get("EXPUNGE_WORKDIR", "."))
    file = folder / FILE_NAME
    try:
        return Settings(_env_file=file if file.exists() else None)
    except ValidationError as error:
        names = ", ".join(sorted({"EXPUNGE_" + "_".join(map(str, e["loc"])).upper() for e in error.errors()}))
        message = f"these settings are missing or malformed: {names}; set them or run 'expunge up --workdir DIR'"
        raise InvalidInputError(message, code="settings") from None


def initialise(workdir: Path, **overrides: str) -> Settings:
    """Write `settings.env` with fresh secrets (mode 0600) unless it is there, and load it."""
    workdir = workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / FILE_NAME
    if not file.exists():
        _write_private(file, _fresh(workdir) | {k.upper(): v for k, v in overrides.items()})
    return load(workdir)


def _fresh(workdir: Path) -> dict[str, str]:
    return {
        "WORKDIR": str(workdir),
        "DATABASE_URL": f"sqlite:///{workdir / 'ledger.db'}",
        "ORIGIN": f"localhost/expunge-{secrets.token_hex(4)}",
        "MASTER_KEY": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode(),
        "MATCHING_KEY": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode(),
        "OPERATOR_TOKEN": secrets.token_urlsafe(24),
        "AGENTS": '{"agent-1": "' + secrets.token_urlsafe(24) + '"}',
    }


def _write_private(file: Path, values: dict[str, str]) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.writelines(f"EXPUNGE_{name}='{value}'\n" for name, value in values.items())
