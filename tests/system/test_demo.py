"""What the whole path leaves behind: verified reports, and no personal data where none belongs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from audits import keys, policy
from compliance import settings as settings_module
from compliance.errors import InvalidInputError
from compliance.ledger.lifecycle import ItemState, RequestState
from compliance.registry import read_lines
from compliance.wiring import open_services
from tests.system.conftest import CUSTOMERS, FinishedDemo

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]
MAY_HOLD_ADDRESSES = "outbox"  # a mail has to say where it goes


def _files(workdir: Path) -> list[Path]:
    return [path for path in workdir.rglob("*") if path.is_file()]


def test_every_request_is_fulfilled_and_both_versions_verify(finished_demo: FinishedDemo) -> None:
    """Twelve people asked, two batches ran, each report verifies and the tampered copy does not."""
    result = finished_demo.result
    desk = open_services(settings_module.load(finished_demo.workdir))

    with desk.read() as ledger:
        requests = ledger.requests(limit=100)
        states = {item.state for request in requests for item in ledger.items(request.id)}

    assert {RequestState.FULFILLED} == {request.state for request in requests}
    assert len(finished_demo.leaving) == len(requests)
    assert {ItemState.FULFILLED} == states
    assert [batch["verification"]["ok"] for batch in result["batches"]] == [True, True]
    assert result["tampered"]["failed"]["name"] == "envelope signature"


def test_every_report_is_witnessed_by_a_process_with_its_own_key(finished_demo: FinishedDemo) -> None:
    """The policy asks for its line, every checkpoint that left the desk has one, and its key is not the desk's."""
    workdir = finished_demo.workdir
    trust = policy.parse((workdir / "trust" / "tlog-policy").read_text())
    (key,) = trust.witnesses.values()

    assert trust.quorum is not None
    assert {batch["verification"]["trust"] for batch in finished_demo.result["batches"]} == {"witnessed"}
    assert policy.evaluate(trust, (workdir / "log" / "checkpoint").read_text()).level == "witnessed"
    assert keys.load(workdir / "witness" / "witness.pem", "witness").public_key == key.public_key
    assert not list((workdir / "keys").glob("*witness*"))


def test_personal_data_of_the_forgotten_is_nowhere(finished_demo: FinishedDemo) -> None:
    """No name, address or part of an address of those who left is in any file, the mails' folder apart."""
    seeds = [text for person in finished_demo.leaving for text in (person.name, person.email, person.street)]
    wanted = re.compile("|".join(re.escape(seed) for seed in seeds).encode(), re.IGNORECASE)

    files = [path for path in _files(finished_demo.workdir) if MAY_HOLD_ADDRESSES not in path.parts]
    found = sorted(str(path.relative_to(finished_demo.workdir)) for path in files if wanted.search(path.read_bytes()))

    assert len(files) > 30
    assert found == []


def test_mails_name_nobody(finished_demo: FinishedDemo) -> None:
    """A mail carries the address it goes to and no name."""
    mails = list((finished_demo.workdir / "outbox").glob("*.eml"))
    names = [person.name.encode() for person in finished_demo.leaving]

    assert len(mails) >= 2 * len(finished_demo.leaving)
    assert not [mail for mail in mails if any(name in mail.read_bytes() for name in names)]


def test_the_broker_saw_run_ids_only(finished_demo: FinishedDemo) -> None:
    """What went over the Redis protocol holds the runs' ids, and nothing of the requests or the people."""
    desk = open_services(settings_module.load(finished_demo.workdir))
    with desk.read() as ledger:
        runs = [batch.run_id for batch in ledger.batches()]
        requests = [request.id for request in ledger.requests(limit=100)]

    assert all(run_id in finished_demo.traffic for run_id in runs)
    assert not [one for one in requests if one in finished_demo.traffic]
    assert not [one for one in finished_demo.leaving if one.email in finished_demo.traffic]


def test_forgotten_records_are_gone_and_refused_when_they_come_back(
    finished_demo: FinishedDemo, tmp_path: Path
) -> None:
    """The data set holds the others only, and neither the record nor its subject can be added again."""
    desk = open_services(settings_module.load(finished_demo.workdir))
    with desk.read() as ledger:
        dataset = ledger.dataset_named("customers")
    assert (CUSTOMERS - len(finished_demo.leaving)) * 5 == dataset.records == len(desk.store.records(dataset.id))

    person = finished_demo.leaving[0]
    file = tmp_path / "again.jsonl"
    file.write_text(json.dumps({"subject": person.email.upper(), "text": "something new"}) + "\n")
    command = [
        sys.executable,
        "-m",
        "compliance.cli",
        "dataset",
        "add",
        "again",
        str(file),
        "--subject-field",
        "subject",
        "--workdir",
        str(finished_demo.workdir),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "erased on request" in done.stderr
    assert person.email not in done.stderr
    with pytest.raises(InvalidInputError):
        read_lines(tmp_path / "absent.jsonl", subject_field="subject")


def test_superseded_weights_are_sealed_and_only_the_current_version_can_be_loaded(finished_demo: FinishedDemo) -> None:
    """Of three versions the last lies in clear; the others exist as ciphertext under their batch keys."""
    desk = open_services(settings_module.load(finished_demo.workdir))
    with desk.read() as ledger:
        (model,) = ledger.models()
        versions = ledger.versions(model.id)

    assert [version.state for version in versions] == ["sealed", "sealed", "current"]
    for version in versions[:-1]:
        assert not desk.store.model_path(version.digest).exists()
        assert list(Path(version.path).rglob("*.sealed"))
    desk.store.check(versions[-1].digest)


def test_receipt_of_the_form_verifies_offline(finished_demo: FinishedDemo) -> None:
    """A person who kept the receipt can check it with the policy alone."""
    receipts = sorted((finished_demo.workdir / "receipts").glob("*.json"))
    policy = finished_demo.workdir / "trust" / "tlog-policy"

    assert len(receipts) == 2
    for receipt in receipts:
        command = [sys.executable, "-m", "compliance.cli", "receipt", "verify", str(receipt), "--policy", str(policy)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
