"""A desk that changes its keys between two reports, and gets an approver between them."""

from pathlib import Path

import pytest

from audits import approval, keys, verify
from audits.protocol import Verification
from compliance import intake
from compliance.execution.run import run
from compliance.keyring import ring, rotation
from compliance.planning import plan_batch
from compliance.wiring import Services
from tests.compliance.builders import person
from tests.compliance.conftest import verified_request
from tests.compliance.pretence import engines, furnish, planned

pytestmark = pytest.mark.timeout(120)


def approved(desk: Services, number: int, approver: keys.SigningKey) -> str:
    """A batch of the person with this number, whose request an approver signed; its run's id."""
    request_id = f"request{number}"
    verified_request(desk, request_id=request_id, subject=person(number))
    desk.verified(request_id)
    signed = approval.sign(intake.statement(desk, request_id=request_id), approver)
    intake.approve(desk, request_id=request_id, actor="operator", approval=signed)
    with desk.transaction() as ledger:
        (model,) = ledger.models()
        batch = plan_batch(ledger, desk.store, model=model, ids=desk.ids, now=desk.clock())
    assert batch is not None
    return batch.run_id


def verdict(desk: Services, number: int, policy: str) -> Verification:
    """What an auditor with this policy finds in the bundle of a version."""
    bundle: Path = desk.settings.workdir / "bundles" / f"m-v{number}"
    return verify.verify(bundle, policy)


def test_reports_of_before_and_after_a_rotation_verify(services: Services) -> None:
    """Every role changes its key; the old bundle stays good, the new one needs the new policy, and says "signed"."""
    furnish(services, 4, limit=60.0, ladder='"retrain"')
    assert run(services, planned(services, 0), engines=engines())
    old = services.policy_text()
    approver = keys.generate("approver")
    with services.transaction() as ledger:
        data = keys.registration(approver, "approver")
        ledger.register_key(
            key_id=approver.key_id, role="approver", public_key=approver.public_key, data=data, now=services.clock()
        )
    for role in ring.ROLES:
        rotation.rotate(services, role)
    assert run(services, approved(services, 1, approver), engines=engines())

    new = services.policy_text()
    found = {(number, text is new): verdict(services, number, text) for number in (2, 3) for text in (old, new)}
    assert {name: one.ok for name, one in found.items()} == {
        (2, False): True,
        (2, True): True,
        (3, False): False,
        (3, True): True,
    }, [step for step in found[3, True].steps if not step.ok]
    said = {step.name: step.why for step in found[3, True].steps}
    assert "by signatures of approvers" in said["approvals"]
