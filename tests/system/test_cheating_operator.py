"""The table of docs/threats.md, row by row: the operator cheats with every right, and somebody else notices where."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from audits import log, receipt
from audits import verify as verifier
from compliance import settings as settings_module
from compliance.cli import main
from compliance.errors import ComplianceError, UnavailableError
from compliance.execution.reproduction import reproduce
from compliance.execution.run import run
from compliance.ledger.entries import rfc3339
from compliance.wiring import open_services, system_clock
from tests.audits.bundles import Desk as Forger
from tests.audits.bundles import write
from tests.compliance.test_reproduction import Methodical
from tests.system.cheating import KEYS, UNCHECKED, Build, System, failed, reporting, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
HALVED = reporting("for name in ('epsilon', 'singleEpsilon'): predicate['guarantee']['certificate'][name] /= 2")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A desk that has served nobody yet."""
    with running(tmp_path) as one:
        yield one


def twin(system: System, folder: Path) -> System:
    """A copy of the whole desk, keys and database included, that goes on by itself."""
    shutil.copytree(system.desk.settings.workdir, folder)
    settings = settings_module.load(folder)
    settings_module.remember(settings, workdir=str(folder), database_url=f"sqlite:///{folder / 'ledger.db'}")
    return replace(system, desk=open_services(settings_module.load(folder)))


def published(system: System, folder: Path, *edits: tuple[str, str, str], person: int = 1) -> Path:
    """A person's removal, published by a build that checks nothing and has these edits; the bundle."""
    system.approve(system.file(person))
    system.crooked(Build.of(folder / "build", *UNCHECKED, *edits), "--execute", system.plan())
    return system.bundle(2)


def test_an_honest_operator_passes_every_step(system: System) -> None:
    """Without a cheat the same bundle, receipt and log hold, under the policy that the auditor kept."""
    handed = json.dumps(system.desk.receipt(system.file(1)))
    before = system.desk.publish().checkpoint
    system.approve("request1")
    system.execute(system.plan())
    verdict = system.judge(system.bundle(2), log=system.log, since=before)
    assert (failed(verdict), verdict.trust) == ("", "witnessed")
    found = receipt.verify(handed, system.policy, log=system.log, bundles=[system.bundle(2)])
    assert (failed(found), found.trust) == ("", "witnessed")


def test_1_a_back_dated_completion_is_noticed_by_its_times(tmp_path: Path) -> None:
    """The desk's clock is set back by twelve days; the witness's is not."""
    with running(tmp_path, clock=lambda: system_clock() - timedelta(days=12)) as system:
        system.approve(system.file(1))
        build = Build.of(tmp_path / "build", *UNCHECKED)
        system.crooked(build, "--execute", system.plan(), "--days-back", "12")
        assert failed(system.judge(system.bundle(2))) == "times"


def test_1_dating_it_before_older_entries_is_noticed_by_the_excerpt(system: System, tmp_path: Path) -> None:
    """Only the end of the work is dated back, behind what was logged before."""
    system.approve(system.file(1))
    system.crooked(Build.of(tmp_path / "build", *UNCHECKED), "--execute", system.plan(), "--days-back", "12")
    assert failed(system.judge(system.bundle(2))) == "ledger excerpt"


def test_2_a_post_dated_receipt_is_noticed_by_the_person_and_by_the_log(system: System) -> None:
    """The receipt key signs another day than the log has."""
    request_id = system.file(1)
    system.desk.publish()
    promised = rfc3339(system_clock() + timedelta(days=10))
    system.sql(
        f"UPDATE requests SET received_at = datetime(received_at, '+9 days'), "  # noqa: S608 - a time
        f"receipt = json_set(receipt, '$.includeBy', '{promised}') WHERE id = '{request_id}'"
    )
    forged = json.dumps(system.desk.receipt(request_id))
    assert failed(receipt.verify(forged, system.policy, at=rfc3339(system_clock()))) == "date"
    assert failed(receipt.verify(forged, system.policy, log=system.log)) == "included"


def test_3_a_request_dropped_before_it_was_logged_is_missed_by_its_receipt(system: System) -> None:
    """The person has a receipt, the log goes on without them, and the promised time passes."""
    size = system.desk.publish().size
    handed = json.dumps(system.desk.receipt(system.file(1, promise=timedelta(seconds=1))))
    system.sql(
        "DELETE FROM personal_data",
        "DELETE FROM request_keys",
        "DELETE FROM identity_codes",
        "DELETE FROM matches",
        "DELETE FROM items",
        "DELETE FROM requests",
        f"DELETE FROM log_entries WHERE seq >= {size}",  # noqa: S608 - a number
        f"UPDATE log_head SET size = {size}",  # noqa: S608 - a number
    )
    time.sleep(2)
    system.file(2)
    system.desk.publish()
    found = receipt.verify(handed, system.policy, log=system.log)
    assert failed(found) == "included"
    assert "promise was broken" in next(step.why for step in found.steps if not step.ok)


def test_3_a_logged_request_that_no_report_accounts_for_is_noticed(system: System, tmp_path: Path) -> None:
    """Two people asked, and the report knows one of them."""
    system.file(2)
    leave_out = reporting("del predicate['requestBatch']['accounted'][1:]")
    assert failed(system.judge(published(system, tmp_path, leave_out))) == "requests"


def test_4_a_rewritten_history_gets_no_cosignature(system: System, tmp_path: Path) -> None:
    """An entry is changed in SQL and everything is signed anew: desk, witness and an older checkpoint all refuse."""
    system.file(2)
    before = system.desk.publish().checkpoint
    (entry,) = (one for one in system.entries() if one["type"] == "request.received")
    again = log.entry(**{**entry, "at": "2026-01-01T00:00:00Z"})
    system.sql(f"UPDATE log_entries SET payload = x'{again.hex()}' WHERE kind = 'request.received'")  # noqa: S608
    system.file(3)
    with pytest.raises(UnavailableError, match="rewritten"):
        system.desk.publish()
    system.sql("UPDATE log_head SET checkpoint = '', checkpoint_size = 0")
    shutil.rmtree(system.log)
    forged = published(system, tmp_path)
    assert failed(system.judge(forged)) == "witnesses"
    lenient = "\n".join([*(line for line in system.policy.splitlines() if line.startswith("log ")), "quorum none\n"])
    found = verifier.verify(forged, lenient, log=system.log, since=before)
    assert "older checkpoint" in {step.name for step in found.steps if not step.ok} | {failed(found)}


def test_5_of_two_logs_the_witness_cosigns_one(system: System, tmp_path: Path) -> None:
    """The operator keeps a second copy of the desk and lets both grow."""
    system.desk.publish()
    second = twin(system, tmp_path / "twin")
    assert failed(system.judge(system.remove(1))) == ""
    verdict = system.judge(published(second, tmp_path, person=2))
    assert (failed(verdict), verdict.trust) == ("witnesses", "none")
    second.desk.database.dispose()


def test_6_other_weights_in_service_are_noticed_by_the_serving_check(system: System, tmp_path: Path) -> None:
    """The old model goes on answering: the check says so and logs it, and so does the verifier."""
    with system.desk.read() as ledger:
        (model,) = ledger.models()
        old = Path(ledger.current_version(model.id).path)
    served = tmp_path / "served"
    shutil.copytree(old, served)
    bundle = system.remove(1)
    workdir = str(system.desk.settings.workdir)
    assert main(["model", "check", str(served), "--model", "m", "--workdir", workdir, "--json"]) == 1
    (checked,) = (one["data"] for one in system.entries() if one["type"] == "model.checked")
    assert checked["outcome"] == "superseded"
    assert failed(system.judge(bundle, model=served)) == "model"


def test_7_a_run_that_did_not_happen_is_noticed_by_repeating_it(tmp_path: Path) -> None:
    """The published weights are none that the method makes, and the report passes every gate."""
    with running(tmp_path, ladder='"npo", "retrain"') as system:
        system.approve(system.file(1))
        run(system.desk, system.plan(), engines=lambda **_: Methodical(text=lambda _job: "weights from elsewhere"))
        bundle = system.bundle(2)
        assert failed(system.judge(bundle, log=system.log)) == ""
        again = reproduce(
            system.desk,
            bundle,
            policy_text=system.policy,
            say=lambda _line: None,
            engines=lambda **_: Methodical(),
        )
        assert (again.ok, failed(again.steps)) == (False, "comparison")
        (told,) = (one["data"] for one in system.entries() if one["type"] == "report.reproduced")
        assert told["outcome"] == again.outcome


def test_8_a_hidden_failure_is_noticed_among_the_attempts(system: System, tmp_path: Path) -> None:
    """The first rung failed, the second passed, and the report tells of the second alone."""
    system.approve(system.file(1))
    build = Build.of(tmp_path / "build", *UNCHECKED, reporting("del predicate['attempts'][:-1]"))
    system.crooked(build, "--execute", system.plan(), "--fail", "dp2")
    assert failed(system.judge(system.bundle(2))) == "attempts"


def test_9_an_approval_made_in_sql_is_no_approval(system: System, tmp_path: Path) -> None:
    """The tables say approved, and the log never heard of it."""
    system.file(1)
    with pytest.raises(ComplianceError, match="approver"), system.desk.transaction() as ledger:
        ledger.approve_request(request_id="request1", actor="operator", now=system.desk.clock())
    system.sql("UPDATE requests SET state = 'approved'", "UPDATE items SET state = 'approved'")
    system.crooked(Build.of(tmp_path / "build", *UNCHECKED), "--execute", system.plan())
    assert failed(system.judge(system.bundle(2))) == "requests"


def test_9_an_approval_forged_into_the_log_too_lacks_its_signature(system: System, tmp_path: Path) -> None:
    """The operator's own build of the ledger asks for no approver, and logs the state as usual."""
    system.file(1)
    build = Build.of(tmp_path / "build", *UNCHECKED, (KEYS, "            if known:\n", "            if False:\n"))
    system.crooked(build, "--approve", "request1")
    system.crooked(build, "--execute", system.plan())
    assert failed(system.judge(system.bundle(2))) == "approvals"


def test_10_a_revoked_key_signs_nothing_any_more(system: System, tmp_path: Path) -> None:
    """The report key was revoked as compromised, and somebody signs with it."""
    with system.desk.transaction() as ledger:
        ledger.revoke_key(key_id=system.desk.signers["report"].key_id, reason="compromised", now=system.desk.clock())
    use = (KEYS, "        if row.revoked_index is not None:\n", "        if False:\n")
    assert failed(system.judge(published(system, tmp_path, use))) == "key validity"


def test_11_a_policy_in_the_bundle_is_never_trusted(system: System, tmp_path: Path) -> None:
    """A log, a report and a policy of the forger's own agree with each other, and with nobody's policy."""
    forger = Forger()
    forged = write(tmp_path / "forged", {**forger.files(), "tlog-policy": forger.policy().encode()})
    alone = verifier.verify(forged, None)
    assert (failed(alone), alone.trust) == ("trust policy", "none")
    assert failed(system.judge(forged)) == "checkpoint signature"


def test_12_a_smaller_epsilon_than_the_record_gives_is_computed_again(system: System, tmp_path: Path) -> None:
    """The certificate prints half of what its own accountant record gives."""
    assert failed(system.judge(published(system, tmp_path, HALVED))) == "certificate"


def test_a_desk_that_checks_itself_publishes_no_such_report(system: System, tmp_path: Path) -> None:
    """Reports are edited as for cheat 12, and the desk's own verifier is left in place."""
    system.approve(system.file(1))
    with pytest.raises(AssertionError, match="own verifier rejected the report at step"):
        system.crooked(Build.of(tmp_path / "build", HALVED), "--execute", system.plan())
    assert not system.bundle(2).exists()


def test_every_row_of_the_table_has_its_test() -> None:
    """docs/threats.md numbers its cheats as the tests here do."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "threats.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()}
    tests = {name.split("_")[1] for name in globals() if name.startswith("test_") and name.split("_")[1].isdigit()}
    assert rows == tests == {str(number) for number in range(1, 13)}
