"""The verifier as a command, in an interpreter that has nothing but what an auditor installs."""

import json
import subprocess
import sys
from pathlib import Path

import cryptography
import pytest
import rfc8785

import audits
from audits import log
from tests.audits.bundles import MODEL_FILES, ORIGIN, Desk, write
from tests.audits.cheating import told
from tests.audits.test_receipt import issued

ROOT = Path(str(audits.__file__)).parents[1]
SITE = {Path(str(one.__file__)).parents[1] for one in (cryptography, rfc8785)}

# Started with -I -S: no environment, no site-packages; then the three packages alone are let in, by name.
ISOLATED = """
import importlib.machinery, runpy, sys
allowed = {"audits", "cryptography", "rfc8785", "_cffi_backend", "cffi", "_rust"}
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed | set(sys.stdlib_module_names) | {"__main__"}:
            raise ModuleNotFoundError(f"{name} is not installed for an auditor")
        return None
sys.meta_path.insert(0, Wall())
sys.path[:0] = PATHS
for forbidden in ("torch", "numpy", "sqlalchemy", "compliance", "engine"):
    try:
        __import__(forbidden)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{forbidden} could be imported")
sys.argv = ["audits", *ARGUMENTS]
runpy.run_module("audits", run_name="__main__", alter_sys=False)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command for an auditor."""
    paths = [str(ROOT), *map(str, SITE)]
    code = ISOLATED.replace("PATHS", repr(paths)).replace("ARGUMENTS", repr(list(arguments)))
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a bundle, its trust policy, the model and a receipt."""
    write(tmp_path / "bundle", Desk().files(Desk().certified()))
    write(tmp_path / "model", MODEL_FILES)
    (tmp_path / "policy").write_text(Desk().policy())
    (tmp_path / "receipt.json").write_text(issued())
    return tmp_path


def test_an_auditor_needs_neither_torch_nor_a_database(desk: Path) -> None:
    """With every other package walled off, the command verifies a certified report and the model beside it."""
    result = run("verify", str(desk / "bundle"), "--policy", str(desk / "policy"), "--model", str(desk / "model"))

    assert (result.returncode, result.stderr) == (0, "")
    assert "VERIFIED (trust: unwitnessed)" in result.stdout
    assert "Entry 21 of the log" in result.stdout


def test_json_is_one_value_and_nothing_else(desk: Path) -> None:
    """`--json` prints the published keys, and a failure exits 1 with its step."""
    (desk / "bundle" / "evidence.json").write_text("{}")
    result = run("verify", str(desk / "bundle"), "--policy", str(desk / "policy"), "--json")
    value = json.loads(result.stdout)

    assert (result.returncode, result.stderr, value["ok"], value["trust"]) == (1, "", False, "unwitnessed")
    assert [one["n"] for one in value["steps"] if one["ok"]] == list(range(1, 10))


def test_a_copy_of_the_log_and_an_older_checkpoint_are_compared(tmp_path: Path) -> None:
    """With them the steps go on to the older checkpoint; an older checkpoint alone is bad usage, and says so."""
    made = told(Desk())
    write(tmp_path / "bundle", made.files)
    (tmp_path / "policy").write_text(Desk().policy())
    (tmp_path / "old").write_text(log.checkpoint_of(made.entries[:5], origin=ORIGIN, signer=Desk().log_key))
    given = ["verify", str(tmp_path / "bundle"), "--policy", str(tmp_path / "policy"), "--since", str(tmp_path / "old")]

    alone = run(*given)
    result = run(*given, "--log", str(made.mirror(tmp_path / "mirror")), "--json")

    assert (alone.returncode, "--log DIR" in alone.stderr) == (2, True)
    assert result.returncode == 0
    assert json.loads(result.stdout)["steps"][-1]["name"] == "older checkpoint"


def test_without_a_policy_the_answer_is_no(desk: Path) -> None:
    """No trust policy: the fingerprints of the claimed keys, trust none, exit 1."""
    result = run("verify", str(desk / "bundle"), "--json")
    value = json.loads(result.stdout)

    assert (result.returncode, value["trust"]) == (1, "none")
    assert Desk().report_key.fingerprint in value["steps"][1]["why"]


def test_a_receipt_is_verified_by_the_same_program(desk: Path) -> None:
    """The receipt command has the same answers."""
    result = run("receipt", str(desk / "receipt.json"), "--policy", str(desk / "policy"), "--json")

    assert (result.returncode, json.loads(result.stdout)["ok"]) == (0, True)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verify"],
        ["verify", "nowhere"],
        ["verify", ".", "--policy", "nowhere"],
        ["verify", ".", "--what"],
        ["check"],
    ],
)
def test_bad_usage_exits_2_and_says_so(arguments: list[str]) -> None:
    """A mistyped command prints its usage on standard error, and nothing on standard output."""
    result = run(*arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert "usage:" in result.stderr


def test_help_shows_an_example() -> None:
    """Each command's help ends in something to copy."""
    for command in ("verify", "receipt"):
        result = run(command, "--help")

        assert result.returncode == 0
        assert "example:\n  python -m audits" in result.stdout
