"""`expunge report verify` with a copy of the log and an older checkpoint, at the terminal."""

from pathlib import Path

from audits import log
from tests.audits.bundles import ORIGIN, Desk, write
from tests.audits.cheating import account, told
from tests.audits.test_whole_log import OPEN, SECOND, unseen
from tests.compliance.terminal import refusal, run


def test_a_report_is_held_against_a_copy_of_the_log(tmp_path: Path) -> None:
    """0 where it agrees with every entry; 1 where the excerpt kept something quiet that the log has."""
    trust = write(tmp_path, {"policy": Desk().policy().encode()}) / "policy"
    honest, quiet = told(SECOND), unseen(SECOND, OPEN)
    old = write(tmp_path, {"old": log.checkpoint_of(honest.entries[:5], origin=ORIGIN, signer=Desk().log_key).encode()})
    codes = {}
    for name, made in {"honest": honest, "quiet": quiet}.items():
        bundle, mirror = write(tmp_path / name, made.files), made.mirror(tmp_path / f"{name}-log")
        alone = run("report", "verify", bundle, "--policy", trust, "--json")
        whole = run("report", "verify", bundle, "--policy", trust, "--log", mirror, "--json")
        codes[name] = (alone.code, whole.code, next((one["name"] for one in whole.value["steps"] if not one["ok"]), ""))

    assert codes == {"honest": (0, 0, ""), "quiet": (0, 1, "requests, whole log")}
    since = ("--since", old / "old")
    ran = run("report", "verify", tmp_path / "honest", "--policy", trust, "--log", tmp_path / "honest-log", *since)
    assert (ran.code, "older checkpoint" in ran.out) == (0, True)
    assert "--log" in refusal(run("report", "verify", tmp_path / "honest", "--policy", trust, *since))


def test_a_dropped_request_is_a_no_with_its_step(tmp_path: Path) -> None:
    """Without a copy of the log, too: the excerpt in the bundle shows its entry."""
    bundle = write(tmp_path / "bundle", told(Desk(), report=account("request-04", None)).files)
    trust = write(tmp_path, {"policy": Desk().policy().encode()}) / "policy"
    ran = run("report", "verify", bundle, "--policy", trust, "--json")

    failed = next(one for one in ran.value["steps"] if not one["ok"])
    assert (ran.code, failed["name"]) == (1, "requests")
    assert "request-04" in failed["why"]
