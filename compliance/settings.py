"""The only reader of the environment. Frozen; no secret has a default.

Values come from `EXPUNGE_*` variables, then from the file `settings.env` in the work folder, which
`expunge demo` and `expunge up` write with fresh secrets and mode 0600. A missing secret is an error,
never a generated fallback: a desk that silently starts with a new key cannot open its own vault.
"""

import base64
import math
import os
import secrets
from datetime import date
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from audits import policy, witness
from audits.errors import VerificationError
from audits.keys import SHORTEST_PASSPHRASE
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


def _witness_name(text: str) -> str:
    if text in policy.RESERVED:
        message = "a witness can't have a name that means something else in a trust policy"
        raise ValueError(message)
    return text


def _witness_vkey(text: str) -> str:
    try:
        return witness.parse_vkey(text).format()
    except VerificationError as fault:
        raise ValueError(str(fault)) from fault


class WitnessSettings(BaseModel):
    """A witness of the log: its name in the trust policy, its verifier key, and where it takes checkpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_witness_name), Field(pattern=r"^[A-Za-z0-9._/:-]{1,128}$")]
    vkey: Annotated[str, AfterValidator(_witness_vkey)]
    url: str = Field(pattern=r"^https?://[^\s?#]+$")


class Settings(BaseSettings):
    """Everything a process of the desk is told from outside."""

    model_config = SettingsConfigDict(env_prefix="EXPUNGE_", frozen=True, extra="forbid")

    workdir: Path
    database_url: str = Field(repr=False)
    broker_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)
    public_url: str = "http://127.0.0.1:8080"
    organisation: str = "Example Organisation"
    origin: str = Field(description="the log's name: a URL without scheme, spaces or '+'")

    master_key: Key = Field(description="wraps the per-request and per-batch keys")
    matching_key: Key = Field(description="keys the hashes of subjects and forgotten records")
    operator_token: SecretStr = Field(description="opens the operator's pages")
    agents: dict[str, SecretStr] = Field(default_factory=dict, description="authorised agents' API tokens")

    key_passphrase: SecretStr | None = Field(
        default=None, min_length=SHORTEST_PASSPHRASE, description="encrypts new key files and opens encrypted ones"
    )
    post_quantum: bool = Field(default=False, description="also sign checkpoints with a key of ML-DSA-44")
    log_key: str = Field(default="", description="pkcs11:..., when a token holds this key instead of a file")
    report_key: str = Field(default="", description="likewise")
    receipt_key: str = Field(default="", description="likewise")
    model_key: str = Field(default="", description="likewise")
    token_pin: SecretStr | None = Field(default=None, description="opens the token, unless pin-source does")

    witnesses: tuple[WitnessSettings, ...] = Field(
        default=(), description="who is asked to cosign the log's checkpoints"
    )
    quorum: int | None = Field(default=None, ge=1, description="how many of them must have; all when not given")

    smtp_url: str = Field(
        default="", repr=False, description="smtp://user:password@host:port; empty: the outbox folder"
    )
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
    unconfirmed_days: int = Field(default=30, ge=1, description="days until a request nobody confirmed expires")
    personal_data_days: int = Field(default=30, ge=0, description="days after closing until a request's key goes")
    engine_threads: int = Field(default=2, ge=1)

    tsa_url: str = Field(default="", description="an RFC 3161 timestamping authority; empty: reports have no timestamp")
    tsa_certificate: Path | None = Field(
        default=None, description="the authority's certificate in PEM, followed by those of its issuers"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        """Refuse what could not work: a lease that runs out between two beats, a zone nobody knows."""
        if not math.isfinite(self.lease_seconds) or self.heartbeat_seconds * 2 > self.lease_seconds:
            message = "EXPUNGE_HEARTBEAT_SECONDS must be at most half of EXPUNGE_LEASE_SECONDS"
            raise ValueError(message)
        if not self.database_url.startswith(("sqlite:///", "postgresql+psycopg://")):
            message = "EXPUNGE_DATABASE_URL must begin with sqlite:/// or postgresql+psycopg://"
            raise ValueError(message)
        if self.time_zone not in available_timezones():
            message = "EXPUNGE_TIME_ZONE must be a zone of the tz database, as Europe/Berlin"
            raise ValueError(message)
        if len({one.name for one in self.witnesses} | {one.vkey for one in self.witnesses}) != 2 * len(self.witnesses):
            message = "EXPUNGE_WITNESSES must name each witness and each key once"
            raise ValueError(message)
        if self.quorum is not None and self.quorum > len(self.witnesses):
            message = "EXPUNGE_QUORUM must be at most the number of EXPUNGE_WITNESSES"
            raise ValueError(message)
        if bool(self.tsa_url) != (self.tsa_certificate is not None):
            message = "EXPUNGE_TSA_URL and EXPUNGE_TSA_CERTIFICATE go together: set both, or neither"
            raise ValueError(message)
        if self.tsa_url and not self.tsa_url.startswith(("http://", "https://")):
            message = "EXPUNGE_TSA_URL must begin with https:// or http://"
            raise ValueError(message)
        return self

    @property
    def outbox(self) -> Path:
        """Where mails go as files when no SMTP server is set."""
        return self.workdir / "outbox"

    @property
    def token_keys(self) -> dict[str, str]:
        """The PKCS #11 URI of each role whose key a token holds."""
        found = {"log": self.log_key, "report": self.report_key, "receipt": self.receipt_key, "model": self.model_key}
        return {role: uri for role, uri in found.items() if uri}

    @property
    def keys(self) -> Path:
        """The folder of signing keys, each a file of mode 0600."""
        return self.workdir / "keys"


class _JudgeSettings(BaseSettings):
    """What `expunge evaluate restor --judge` is told from outside; it needs no desk and no work folder."""

    model_config = SettingsConfigDict(env_prefix="EXPUNGE_JUDGE_", frozen=True)

    key: SecretStr | None = None


def judge_key() -> SecretStr | None:
    """The key of a judge's service, from EXPUNGE_JUDGE_KEY; None where the service asks for none."""
    return _JudgeSettings().key


class _TokenSettings(BaseSettings):
    """What `expunge keys new --token` is told from outside; it needs no desk and no work folder."""

    model_config = SettingsConfigDict(env_prefix="EXPUNGE_TOKEN_", frozen=True)

    pin: SecretStr | None = None


def token_pin() -> SecretStr | None:
    """The PIN of a PKCS #11 token, from EXPUNGE_TOKEN_PIN; None where a file has it."""
    return _TokenSettings().pin


def load(workdir: Path | None = None) -> Settings:
    """Read the settings of `workdir` (or of EXPUNGE_WORKDIR).

    Raises InvalidInputError naming the settings that are missing or malformed, never their values.
    """
    folder = workdir or Path(os.environ.get("EXPUNGE_WORKDIR", "."))
    file = folder / FILE_NAME
    try:
        return Settings(_env_file=file if file.exists() else None, workdir=folder.resolve())
    except ValidationError as error:
        raise InvalidInputError(_mend(error), code="settings") from None
    except SettingsError as error:
        field = str(error).partition('"')[2].partition('"')[0]
        message = f"the setting EXPUNGE_{field.upper()} is not valid JSON; mend it"
        raise InvalidInputError(message, code="settings") from None


def _mend(error: ValidationError) -> str:
    faults = error.errors()
    if not faults[0]["loc"]:
        return str(faults[0]["msg"]).removeprefix("Value error, ")
    names = sorted({"EXPUNGE_" + str(fault["loc"][0]).upper().removeprefix("EXPUNGE_") for fault in faults})
    return (
        f"these settings are missing, unknown or malformed: {', '.join(names)}; "
        "set them, or let 'expunge up --workdir DIR' make a work folder"
    )


def initialise(workdir: Path, **overrides: str) -> Settings:
    """Write `settings.env` with fresh secrets (mode 0600) unless it is there, and load it."""
    workdir = workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = workdir / FILE_NAME
    if not file.exists():
        _write_private(file, _fresh(workdir) | {k.upper(): v for k, v in overrides.items()})
    return load(workdir)


def remember(settings: Settings, **values: str) -> None:
    """Change settings in the work folder's file, so that every process started from now on has them."""
    file = settings.workdir / FILE_NAME
    names = {f"EXPUNGE_{name.upper()}" for name in values}
    kept = [line for line in file.read_text().splitlines(keepends=True) if line.partition("=")[0] not in names]
    partial = file.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text("".join(kept) + "".join(f"EXPUNGE_{k.upper()}='{v}'\n" for k, v in values.items()))
    partial.replace(file)


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
