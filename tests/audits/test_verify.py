"""An honest bundle verifies, step by step, from a folder or a zip file, with and without a policy or a model."""

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audits import bundle, verify
from tests.audits.bundles import MODEL_FILES, Desk, write

NAMES = [
    "bundle",
    "trust policy",
    "checkpoint signature",
    "witnesses",
    "key registration",
    "report entry",
    "envelope signature",
    "statement",
    "report digest",
    "evidence",
    "gates",
    "certificate",
    "page",
    "ledger excerpt",
    "key validity",
    "requests",
    "approvals",
    "attempts",
    "times",
    "earlier reports",
]
HONEST = Desk().files()


def failed_step(path: Path, policy: str | bytes | None, model: Path | None = None) -> int | None:
    """The number of the first failed step; the protocol's own promises are checked on the way."""
    result = verify.verify(path, policy, model=model)
    numbers = [one.n for one in result.steps]
    first = next((one.n for one in result.steps if not one.ok), None)

    assert numbers == list(range(1, len(numbers) + 1))
    assert result.ok == (first is None)
    assert (result.payload is None) == (not result.ok)
    assert all(one.why for one in result.steps)
    assert all("\x1b" not in one.why and one.why.isprintable() for one in result.steps)
    return first


@pytest.mark.parametrize("witnessed", [False, True])
@pytest.mark.parametrize("certified", [False, True])
def test_an_honest_bundle_verifies(tmp_path: Path, *, witnessed: bool, certified: bool) -> None:
    """Every step holds, and the trust is what the witnesses make it."""
    desk = Desk(witnessed=witnessed)
    path = write(tmp_path, desk.files(desk.certified() if certified else None))
    result = verify.verify(path, desk.policy())

    assert failed_step(path, desk.policy()) is None
    assert [one.name for one in result.steps] == NAMES
    assert result.trust == ("witnessed" if witnessed else "unwitnessed")


def test_a_zip_file_is_a_bundle_too(tmp_path: Path) -> None:
    """The files may lie in the zip file as they are or in one folder."""
    for prefix in ("", "2/"):
        path = tmp_path / "bundle.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, raw in HONEST.items():
                archive.writestr(prefix + name, raw)

        assert failed_step(path, Desk().policy()) is None


def test_without_a_policy_nothing_is_believed(tmp_path: Path) -> None:
    """The bundle is read, its keys are shown for comparing, and the trust is none."""
    result = verify.verify(write(tmp_path, HONEST), None)

    assert failed_step(tmp_path, None) == 2
    assert result.trust == "none"
    assert Desk().report_key.fingerprint in result.steps[1].why
    assert [one.why for one in result.steps[2:]] == ["Not checked, because step 2 failed."] * 18


def test_a_policy_inside_the_bundle_is_not_trusted(tmp_path: Path) -> None:
    """With the right policy lying in the bundle and none given, nothing is believed, and the reader is told."""
    write(tmp_path, {**HONEST, "tlog-policy": Desk().policy().encode()})

    assert failed_step(tmp_path, None) == 2
    assert "never trusted" in verify.verify(tmp_path, Desk().policy()).steps[0].why


def test_the_model_at_hand_is_compared(tmp_path: Path) -> None:
    """The published model passes its step; a changed, an added and a missing file do not."""
    path = write(tmp_path / "bundle", HONEST)
    model = write(tmp_path / "model", MODEL_FILES)

    assert failed_step(path, Desk().policy(), model) is None
    for name, content in (("config.json", b"other"), (".git/hidden", b"")):
        other = write(tmp_path / f"model-{len(content)}", {**MODEL_FILES, name: content})
        assert failed_step(path, Desk().policy(), other) == 21
    (model / "config.json").unlink()
    assert failed_step(path, Desk().policy(), model) == 21


def test_the_result_is_what_other_programs_read(tmp_path: Path) -> None:
    """The JSON form has exactly the published keys."""
    value = verify.verify(write(tmp_path, HONEST), Desk().policy()).to_json()

    assert list(value) == ["ok", "trust", "steps"]
    assert all(list(step) == ["n", "name", "ok", "why"] for step in value["steps"])
    assert json.loads(json.dumps(value)) == value


def test_an_auditor_hears_of_files_that_were_not_checked(tmp_path: Path) -> None:
    """A file beside the known ones is counted, so that nobody takes it for verified."""
    write(tmp_path, {**HONEST, "letter.pdf": b"%PDF"})

    assert "1 other file(s)" in verify.verify(tmp_path, Desk().policy()).steps[0].why

    write(tmp_path, {"report.pdf": b"%PDF"})

    assert "For other tools there are report.pdf." in verify.verify(tmp_path, Desk().policy()).steps[0].why


@pytest.mark.parametrize("name", sorted(bundle.LIMITS))
def test_every_file_is_needed_and_must_be_ordinary(tmp_path: Path, name: str) -> None:
    """A missing file, a link, a folder and an oversized file in its place fail the first step."""
    path = write(tmp_path / "bundle", HONEST)
    (path / name).rename(tmp_path / "aside")
    assert failed_step(path, Desk().policy()) == 1

    (path / name).symlink_to(tmp_path / "aside")
    assert failed_step(path, Desk().policy()) == 1

    (path / name).unlink()
    (path / name).mkdir()
    assert failed_step(path, Desk().policy()) == 1

    (path / name).rmdir()
    with (path / name).open("wb") as file:
        file.truncate(bundle.LIMITS[name] + 1)
    assert failed_step(path, Desk().policy()) == 1


def test_what_is_no_bundle_fails_the_first_step(tmp_path: Path) -> None:
    """A missing path, an ordinary file, an empty folder and a zip file of other things are no bundles."""
    (tmp_path / "file").write_bytes(b"PK\x03\x04 not a zip file")
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for prefix in ("a/", "b/"):
            archive.writestr(prefix + bundle.REPORT, b"{}")

    for name in ("nowhere", "file", "folder", "two.zip"):
        assert failed_step(tmp_path / name, Desk().policy()) == 1


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A member that unpacks beyond its limit fails the first step, whatever the zip file says of its size."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, raw in {**HONEST, bundle.EVIDENCE: bytes(bundle.LIMITS[bundle.EVIDENCE] + 1)}.items():
            archive.writestr(name, raw)

    assert path.stat().st_size < 200_000
    assert failed_step(path, Desk().policy()) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(HONEST)), st.data())
def test_no_byte_can_be_changed(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Changing any one byte of any file of the bundle fails the verification."""
    raw = bytearray(HONEST[name])
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    write(tmp_path, {**HONEST, name: bytes(raw)})

    assert failed_step(tmp_path, Desk().policy()) is not None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(HONEST)), st.binary(), st.binary())
def test_hostile_bytes_never_raise(tmp_path: Path, name: str, content: bytes, policy: bytes) -> None:
    """Whatever stands in a file or in the policy, the answer is a list of steps."""
    write(tmp_path, {**HONEST, name: content})

    assert failed_step(tmp_path, Desk().policy()) is not None
    assert failed_step(tmp_path, policy) == 2
