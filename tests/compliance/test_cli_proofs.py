"""Keys, log, receipts and reports at the terminal: everything an auditor is handed, and every no."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from audits import checkpoint, dsse, keys, note, policy, proof, statement
from compliance import intake
from compliance.certification.publishing import bundle_path
from compliance.wiring import Services
from tests.audits.bundles import Desk as Operator
from tests.audits.bundles import write
from tests.compliance.builders import claimed, planned_batch
from tests.compliance.terminal import answer, at, refusal, run
from tests.compliance.test_ledger_publication import rewrite


@pytest.fixture
def trust(services: Services, tmp_path: Path) -> Path:
    """The desk's trust policy, kept outside."""
    path = tmp_path / "trust" / "tlog-policy"
    answer(services, "keys", "list", "--policy", path)
    return path


@pytest.fixture
def report(services: Services) -> str:
    """A signed report of a batch, with its bundle in place; its id."""
    batch = planned_batch(services)
    operator, signer = Operator(), services.signers["report"]
    payload = statement.build(operator.predicate())
    mine = claimed(services, batch.run_id)
    with services.transaction() as ledger:
        ledger.log_report(
            mine,
            report_id="report-7f3a",
            digest=hashlib.sha256(payload).hexdigest(),
            envelope=dsse.sign(payload, payload_type=dsse.INTOTO, signer=signer),
            key_id=signer.key_id,
            ledger_to=1,
            now=services.clock(),
        )
        report = ledger.report("report-7f3a")
    write(bundle_path(services, report), operator.files())
    return "report-7f3a"


def test_a_report_is_shown_after_its_key_was_rotated(services: Services, report: str) -> None:
    """The key that the report's own log entry names verifies it, not the one in force now."""
    answer(services, "keys", "rotate", "report")

    assert answer(services, "report", "show", report)["id"] == report


def test_keys_are_listed_without_what_is_private(services: Services, trust: Path) -> None:
    """Role, fingerprint, public key and log entry; the policy names the log's key."""
    listed = answer(services, "keys", "list")

    assert [key["role"] for key in listed] == ["log", "report", "receipt", "model"]
    for key in listed:
        assert keys.key_id(services.signers[key["role"]].public_key) == key["key_id"]
    assert policy.parse(trust.read_text()).logs[0].public_key == services.signers["log"].public_key
    assert "PRIVATE" not in json.dumps(listed) + trust.read_text()


def test_a_checkpoint_is_printed_as_it_was_signed(services: Services) -> None:
    """Not a character more or less: an auditor checks the signature over these bytes."""
    value = answer(services, "log", "checkpoint")
    printed = at(services, "log", "checkpoint").out

    assert printed == value["checkpoint"]
    key = note.parse_vkey(services.policy_text().split()[1])
    assert note.open_note(printed, [key]).text.splitlines()[1] == str(value["size"])


def test_a_proof_proves_its_entry(services: Services) -> None:
    """The printed proof and the entry's bytes verify together under the desk's policy."""
    value = answer(services, "log", "prove", "1")

    found, _ = proof.verify(policy.parse(services.policy_text()), value["proof"], value["entry"].encode())

    assert found.index == 1
    assert json.loads(value["entry"])["data"]["role"] == "report"
    assert at(services, "log", "prove", "1").out == value["proof"]


def test_the_log_is_exported_and_verified_elsewhere(services: Services, trust: Path, tmp_path: Path) -> None:
    """The files, a policy from outside and an older checkpoint are enough; the desk is not needed."""
    old = tmp_path / "old-checkpoint"
    old.write_text(at(services, "log", "checkpoint").out)
    planned_batch(services)
    mirror = tmp_path / "mirror"

    assert answer(services, "log", "export", "--out", mirror)["size"] > 3
    ran = run("log", "verify", "--files", mirror, "--policy", trust, "--since", old, "--json")

    assert ran.code == 0
    assert [step["name"] for step in ran.value["steps"]] == [
        "trust policy",
        "checkpoint",
        "entries",
        "files",
        "history",
    ]
    assert ran.value["trust"] == "unwitnessed"
    assert "VERIFIED" in run("log", "verify", "--files", mirror, "--policy", trust).out


def test_a_changed_mirror_is_a_no(services: Services, trust: Path, tmp_path: Path) -> None:
    """One flipped byte in an entry, or no policy: exit 1 and the step that failed."""
    mirror = tmp_path / "mirror"
    answer(services, "log", "export", "--out", mirror)
    (tile,) = (path for path in (mirror / "tile" / "entries").rglob("*") if path.is_file())
    raw = bytearray(tile.read_bytes())
    raw[len(raw) // 2] ^= 1
    tile.write_bytes(raw)

    changed = run("log", "verify", "--files", mirror, "--policy", trust, "--json")
    untrusted = run("log", "verify", "--files", mirror, "--json")

    assert (changed.code, untrusted.code) == (1, 1)
    assert [step["ok"] for step in changed.value["steps"]] == [True, True, False, False]
    assert untrusted.value["trust"] == "none"


def test_a_mirror_of_another_log_is_not_mixed_up(services: Services, tmp_path: Path) -> None:
    """Files that are there are never overwritten, so an export into another log's folder is refused."""
    mirror = tmp_path / "mirror"
    answer(services, "log", "export", "--out", mirror)
    (tile,) = (path for path in (mirror / "tile" / "entries").rglob("*") if path.is_file())
    tile.write_bytes(tile.read_bytes()[:-1] + b" ")

    assert refusal(at(services, "log", "export", "--out", mirror))


def test_published_files_that_fell_behind_are_found(services: Services) -> None:
    """The desk's own check compares its database with what it published."""
    assert answer(services, "log", "verify")["ok"] is True

    shutil.rmtree(services.settings.workdir / "log" / "tile")

    ran = at(services, "log", "verify", "--json")
    assert (ran.code, [step["ok"] for step in ran.value["steps"]]) == (1, [True, True, True, False])


def test_a_report_is_listed_shown_and_exported(services: Services, report: str, tmp_path: Path) -> None:
    """What is shown comes out of the signed envelope; what is exported is the bundle."""
    (listed,) = answer(services, "report", "list")
    value = answer(services, "report", "show", report)

    assert (listed["id"], listed["model"], listed["rung"], listed["guarantee"]) == (
        report,
        "support-assistant",
        "npo",
        "empirical",
    )
    assert value["statement"]["guarantee"]["class"] == "empirical"
    shown = at(services, "report", "show", report).out
    assert {"verbmem_f", "held", "gates_failed"} <= set(shown.split())
    assert "What this report does not claim" in shown
    out = tmp_path / "for-the-auditor"
    assert "report.dsse.json" in answer(services, "report", "export", report, "--out", out)["files"]
    assert "exists" in refusal(at(services, "report", "export", report, "--out", out))


def test_a_bundle_is_verified_offline(tmp_path: Path) -> None:
    """0 under the right policy; 1 without one, under another, or after one flipped byte."""
    operator = Operator()
    bundle = write(tmp_path / "bundle", operator.files())
    trust = tmp_path / "tlog-policy"
    trust.write_text(operator.policy())

    good = run("report", "verify", bundle, "--policy", trust, "--json")
    assert (good.code, good.value["ok"], good.value["trust"]) == (0, True, "unwitnessed")
    assert set(good.value["steps"][0]) == {"n", "name", "ok", "why"}
    assert "VERIFIED" in run("report", "verify", bundle, "--policy", trust).out

    nobody = run("report", "verify", bundle, "--json")
    assert (nobody.code, nobody.value["trust"]) == (1, "none")

    evidence = bundle / "evidence.json"
    evidence.write_bytes(evidence.read_bytes().replace(b"0.213", b"0.113"))
    changed = run("report", "verify", bundle, "--policy", trust, "--json")
    assert (changed.code, changed.value["ok"]) == (1, False)
    assert next(step["name"] for step in changed.value["steps"] if not step["ok"]) == "evidence"
    assert "NOT VERIFIED" in run("report", "verify", bundle, "--policy", trust).out


@pytest.mark.parametrize("command", ["report verify", "receipt verify"])
def test_what_is_not_there_is_bad_usage(tmp_path: Path, command: str) -> None:
    """A path that does not exist was never verified: 2, not 1."""
    assert "does not exist" in refusal(run(*command.split(), tmp_path / "nothing"))


def test_a_receipt_that_was_changed_is_a_no(services: Services, trust: Path, tmp_path: Path) -> None:
    """The person's own copy verifies; a later day of receipt does not."""
    receipt = tmp_path / "receipt.json"
    person = ["--name", "Ada Exampleson", "--email", "ada@example.org", "--regime", "gdpr"]
    answer(services, "request", "file", *person, "--receipt", receipt)

    assert run("receipt", "verify", receipt, "--policy", trust, "--json").value["ok"] is True
    assert run("receipt", "verify", receipt).code == 1
    receipt.write_bytes(receipt.read_bytes().replace(b'"payload":"', b'"payload":"A'))
    assert run("receipt", "verify", receipt, "--policy", trust).code == 1


def test_a_receipt_is_held_against_a_copy_of_the_log(services: Services, trust: Path, tmp_path: Path) -> None:
    """Included and in time, not yet due, and post-dated; the printed proof of the entry will do for the proof."""
    receipt, mirror, proof = tmp_path / "receipt.json", tmp_path / "mirror", tmp_path / "proof.json"
    person = ["--name", "Ada Exampleson", "--email", "ada@example.org", "--regime", "gdpr"]
    answer(services, "log", "export", "--out", tmp_path / "early")
    filed = answer(services, "request", "file", *person, "--receipt", receipt)
    opening = tmp_path / "opening.json"
    opening.write_text(intake.opening(services, filed["request"]["id"]))
    answer(services, "log", "export", "--out", mirror)
    with services.read() as ledger:
        index = ledger.history(filed["request"]["id"])[0].index
    proof.write_text(json.dumps(answer(services, "log", "prove", str(index))))
    check = ["receipt", "verify", receipt, "--policy", trust]

    whole = run(*check, "--log", mirror, "--proof", proof, "--opening", opening, "--json")
    early = run(*check, "--log", tmp_path / "early", "--json")

    assert (whole.code, [step["ok"] for step in whole.value["steps"]]) == (0, [True] * 14)
    assert early.code == 0
    assert next(step["why"] for step in early.value["steps"] if step["name"] == "included").startswith("not yet due")
    dated = run(*check, "--at", "2020-01-01T00:00:00Z", "--json")
    assert (dated.code, dated.value["steps"][-1]["name"], dated.value["steps"][-1]["ok"]) == (1, "date", False)
    assert "--at is a time" in refusal(run(*check, "--at", "yesterday"))


def names_of_steps(value: dict[str, Any]) -> list[tuple[str, bool]]:
    """The steps of a protocol and whether they hold."""
    return [(step["name"], step["ok"]) for step in value["steps"]]


def test_the_log_is_rebuilt_from_its_entries_and_mended(services: Services) -> None:
    """Every file is compared; --repair writes them again, those of older sizes too, and then all agree."""
    planned_batch(services)
    published = services.publish()
    folder = services.settings.workdir / "log"
    assert all(ok for _, ok in names_of_steps(answer(services, "log", "fsck")))

    right = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}
    for path in right:
        path.write_bytes(b"x" + path.read_bytes()[1:])
    (folder / f"tile/0/000.p/{published.size}").unlink()
    ran = at(services, "log", "fsck", "--json")

    assert (ran.code, names_of_steps(ran.value)[-1]) == (1, ("files", False))
    assert f"tile/0/000.p/{published.size}" in ran.value["steps"][-1]["why"]
    assert "were written again" in answer(services, "log", "fsck", "--repair")["steps"][-1]["why"]
    assert {path: path.read_bytes() for path in right} == right
    assert answer(services, "log", "fsck")["ok"] is True


def test_evidence_is_not_mended(services: Services) -> None:
    """A rewritten entry, or a public checkpoint of another history, fails its step, and nothing is written."""
    folder = services.settings.workdir / "log"
    mine = (folder / "checkpoint").read_text()
    other = checkpoint.Checkpoint(origin=services.settings.origin, size=2, root=bytes(32))
    (folder / "checkpoint").write_text(checkpoint.sign(other, services.signers["log"]))
    ran = at(services, "log", "fsck", "--repair", "--json")
    assert (ran.code, names_of_steps(ran.value)[2:]) == (1, [("public checkpoint", False), ("files", False)])
    assert checkpoint.peek((folder / "checkpoint").read_text()) == other

    (folder / "checkpoint").write_text(mine)
    shutil.rmtree(folder / "tile")
    rewrite(services, 1)
    ran = at(services, "log", "fsck", "--repair", "--json")
    assert (ran.code, names_of_steps(ran.value)[:2]) == (1, [("entries", True), ("checkpoint", False)])
    assert not (folder / "tile").exists()
