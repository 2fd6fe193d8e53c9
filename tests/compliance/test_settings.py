"""Settings: read once, frozen, no default for a secret, and nothing unsound."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from audits import keys, witness
from compliance.errors import InvalidInputError
from compliance.settings import FILE_NAME, initialise, load, remember

SECRETS = ("MASTER_KEY", "MATCHING_KEY", "OPERATOR_TOKEN", "AGENTS")


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A work folder with fresh settings."""
    initialise(tmp_path)
    return tmp_path


def _values(workdir: Path) -> dict[str, str]:
    lines = (workdir / FILE_NAME).read_text().splitlines()
    return {
        name.removeprefix("EXPUNGE_"): value.strip("'") for name, _, value in (line.partition("=") for line in lines)
    }


def _write(workdir: Path, values: dict[str, str]) -> None:
    text = "".join(f"EXPUNGE_{name}='{value}'\n" for name, value in values.items())
    (workdir / FILE_NAME).write_text(text)


def test_fresh_settings_are_readable_by_their_owner_only(workdir: Path) -> None:
    """The file with the secrets has mode 0600."""
    assert stat.S_IMODE((workdir / FILE_NAME).stat().st_mode) == 0o600


def test_initialising_again_keeps_the_keys(workdir: Path) -> None:
    """A desk that came back with new keys could not open its own vault."""
    before = load(workdir)

    assert initialise(workdir) == before


def test_every_work_folder_has_its_own_secrets(workdir: Path, tmp_path: Path) -> None:
    """No two desks share a key, a token or a log's name."""
    initialise(tmp_path / "other")
    mine, others = _values(workdir), _values(tmp_path / "other")

    assert not [name for name in (*SECRETS, "ORIGIN") if mine[name] == others[name]]


@pytest.mark.parametrize("name", SECRETS[:-1])
def test_missing_secret_is_an_error(workdir: Path, name: str) -> None:
    """A secret that is not there is named, and never made up."""
    _write(workdir, {key: value for key, value in _values(workdir).items() if key != name})

    with pytest.raises(InvalidInputError, match=f"EXPUNGE_{name}"):
        load(workdir)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MASTER_KEY", "c2hvcnQ="),
        ("MASTER_KEY", "%%%sEcReT%%%"),
        ("LEASE_SECONDS", "sEcReT"),
        ("LEASE_SECONDS", "-1"),
        ("ENGINE_THREADS", "0"),
        ("AGENTS", "{sEcReT"),
        ("AGENTS", '["sEcReT"]'),
        ("EXTRA_HOLIDAYS", '["sEcReT"]'),
        ("EXTRA_HOLIDAYS", "sEcReT"),
        ("WHATEVER", "sEcReT"),
    ],
)
def test_malformed_setting_is_named_and_not_shown(workdir: Path, name: str, value: str) -> None:
    """The sentence names the setting and keeps its value to itself."""
    _write(workdir, _values(workdir) | {name: value})

    with pytest.raises(InvalidInputError, match=f"EXPUNGE_{name}\\b") as caught:
        load(workdir)

    assert value not in str(caught.value)
    assert "EXPUNGE_EXPUNGE" not in str(caught.value)
    assert caught.value.code == "settings"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"HEARTBEAT_SECONDS": "60"}, "EXPUNGE_HEARTBEAT_SECONDS"),
        ({"LEASE_SECONDS": "inf"}, "EXPUNGE_LEASE_SECONDS"),
        ({"TIME_ZONE": "Mars/Olympus"}, "EXPUNGE_TIME_ZONE"),
        ({"DATABASE_URL": "mysql://localhost/x"}, "EXPUNGE_DATABASE_URL"),
    ],
)
def test_unsound_setting_cannot_be_written_down(workdir: Path, values: dict[str, str], named: str) -> None:
    """A lease that ends between two heartbeats, a zone or a database nobody knows: refused at the start."""
    _write(workdir, _values(workdir) | values)

    with pytest.raises(InvalidInputError, match=named):
        load(workdir)


def test_environment_goes_before_the_file(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EXPUNGE_ variable overrides the work folder's file, and the folder that was asked for stays."""
    monkeypatch.setenv("EXPUNGE_ORGANISATION", "Somebody Else")
    monkeypatch.setenv("EXPUNGE_WORKDIR", "/nowhere")

    settings = load(workdir)

    assert (settings.organisation, settings.workdir) == ("Somebody Else", workdir)


def test_folder_may_come_from_the_environment(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder, EXPUNGE_WORKDIR says where the settings are."""
    monkeypatch.setenv("EXPUNGE_WORKDIR", str(workdir))

    assert load() == load(workdir)


def test_settings_do_not_show_their_secrets(workdir: Path) -> None:
    """Neither a key nor a token nor a password in a URL stands in what is printed of the settings."""
    urls = {
        "DATABASE_URL": "postgresql+psycopg://desk:pa55word@localhost/x",
        "SMTP_URL": "smtp://desk:pa55word@localhost",
        "BROKER_URL": "redis://:pa55word@localhost/0",
    }
    values = _values(workdir) | urls | {"AGENTS": '{"agent-1": "t0ken"}'}
    _write(workdir, values)

    shown = repr(load(workdir)) + str(load(workdir))

    assert not [secret for secret in ("pa55word", "t0ken", *(values[name] for name in SECRETS[:-1])) if secret in shown]


def test_settings_are_frozen(workdir: Path) -> None:
    """Nobody changes a setting in passing."""
    with pytest.raises(ValidationError):
        load(workdir).organisation = "Somebody Else"  # type: ignore[misc]


def test_remembered_settings_are_there_next_time(workdir: Path) -> None:
    """A changed setting replaces the old line, keeps the others, and the file stays private."""
    before = load(workdir)

    remember(before, broker_url="redis://127.0.0.1:1/0")
    remember(before, broker_url="redis://127.0.0.1:2/0")

    assert load(workdir) == before.model_copy(update={"broker_url": "redis://127.0.0.1:2/0"})
    assert stat.S_IMODE((workdir / FILE_NAME).stat().st_mode) == 0o600


WITNESS = {"name": "w1", "vkey": witness.vkey("witness.example/w1", keys.generate("witness").public_key)}
OTHER = {"name": "w2", "vkey": witness.vkey("witness.example/w2", keys.generate("witness").public_key)}
URL = {"url": "https://witness.example/"}


def test_witnesses_are_settings(workdir: Path) -> None:
    """Name, key and address of each, and how many must cosign; none without the setting."""
    assert (load(workdir).witnesses, load(workdir).quorum) == ((), None)

    remember(load(workdir), witnesses=json.dumps([WITNESS | URL, OTHER | URL]), quorum="1")

    settings = load(workdir)
    assert [one.model_dump() for one in settings.witnesses] == [WITNESS | URL, OTHER | URL]
    assert settings.quorum == 1


@pytest.mark.parametrize(
    ("witnesses", "quorum"),
    [
        ([WITNESS], "1"),
        ([WITNESS | {"url": "ftp://witness.example"}], "1"),
        ([WITNESS | URL | {"name": "two words"}], "1"),
        ([WITNESS | URL | {"name": "none"}], "1"),
        ([WITNESS | URL | {"vkey": "witness.example/w1+00000000+AAAA"}], "1"),
        ([WITNESS | URL, WITNESS | URL], "1"),
        ([WITNESS | URL, OTHER | URL | {"name": "w1"}], "1"),
        ([WITNESS | URL], "2"),
        ([WITNESS | URL], "0"),
        ([], "1"),
    ],
)
def test_a_witness_that_nobody_could_count_is_an_error(workdir: Path, witnesses: list[Any], quorum: str) -> None:
    """Without an address, with a broken key, twice, or fewer than the quorum."""
    _write(workdir, _values(workdir) | {"WITNESSES": json.dumps(witnesses), "QUORUM": quorum})

    with pytest.raises(InvalidInputError, match=r"EXPUNGE_(WITNESSES|QUORUM)"):
        load(workdir)


@pytest.mark.parametrize(
    "values",
    [
        {"TSA_URL": "https://tsa.example/"},
        {"TSA_CERTIFICATE": "/etc/tsa.pem"},
        {"TSA_URL": "ftp://tsa.example/", "TSA_CERTIFICATE": "/etc/tsa.pem"},
    ],
    ids=["no certificate", "no address", "no web address"],
)
def test_half_a_timestamping_authority_is_an_error(workdir: Path, values: dict[str, str]) -> None:
    """An authority without its certificate would be believed whoever it is; a certificate alone stamps nothing."""
    _write(workdir, _values(workdir) | values)

    with pytest.raises(InvalidInputError, match="EXPUNGE_TSA_"):
        load(workdir)


def test_a_timestamping_authority(workdir: Path) -> None:
    """Address and certificate come from the settings; without them there is none."""
    _write(workdir, _values(workdir) | {"TSA_URL": "https://tsa.example/", "TSA_CERTIFICATE": "/etc/tsa.pem"})

    settings = load(workdir)
    assert (settings.tsa_url, settings.tsa_certificate) == ("https://tsa.example/", Path("/etc/tsa.pem"))
