"""Receipts over the life of a desk: keys change, files are lost, and what a person holds stays good."""

import base64
import json
import shutil
from typing import Any

from audits import receipt
from compliance.keyring import rotation
from compliance.wiring import Services, open_services
from tests.compliance.browsing import file
from tests.compliance.conftest import Clock


def _failed(services: Services, text: str) -> list[str]:
    """The steps that fail with the desk's own published log as the copy."""
    found = receipt.verify(text, services.policy_text(), log=services.publisher.folder)
    return [f"{one.name}: {one.why}" for one in found.steps if not one.ok]


def test_a_receipt_outlives_its_key(services: Services, clock: Clock) -> None:
    """After a rotation the old copy still holds, and a new one, signed by the new key, says the same."""
    filed = file(services)
    old = json.dumps(services.receipt(filed.request.id))
    services.publish()
    clock.advance(hours=1)
    rotation.rotate(services, "receipt")
    again = open_services(services.settings, clock=clock)
    new = json.dumps(again.receipt(filed.request.id))
    again.publish()

    assert json.loads(old)["keyEntry"] != json.loads(new)["keyEntry"]
    assert json.loads(old)["envelope"]["payload"] == json.loads(new)["envelope"]["payload"]
    assert (_failed(again, old), _failed(again, new)) == ([], [])
    again.database.dispose()


def test_a_stolen_key_signs_no_new_receipts(services: Services, clock: Clock) -> None:
    """A receipt over a checkpoint that comes after the revocation of its key is refused, whoever holds the key."""
    thief = services.signers["receipt"]
    stolen = file(services).request
    rotation.rotate(services, "receipt")
    services.publish()
    honest = open_services(services.settings, clock=clock)
    genuine = honest.receipt(file(honest).request.id)
    value = receipt.parse(_payload(genuine))
    forged = receipt.issue(
        receipt.build(
            request_id=stolen.id,
            commitment=value["commitment"],
            regime=value["regime"],
            scope=value["scope"],
            received_at=value["receivedAt"],
            respond_by=value["respondBy"],
            checkpoint=value["checkpoint"],
            include_by=value["includeBy"],
        ),
        signer=thief,
        key_entry=honest.published().entry(2),
        key_proof=honest.published().proof(2),
    )
    honest.publish()

    assert next(one.partition(":")[0] for one in _failed(honest, forged)) == "key validity"
    assert _failed(honest, json.dumps(genuine)) == []
    honest.database.dispose()


def test_a_receipt_does_not_need_the_published_files(services: Services) -> None:
    """Without tiles, and without the checkpoint, the receipt of a stored request is given all the same."""
    filed = file(services)
    shutil.rmtree(services.publisher.folder / "tile")
    damaged = json.dumps(services.receipt(filed.request.id))
    shutil.rmtree(services.publisher.folder)
    missing = json.dumps(services.receipt(filed.request.id))

    for text in (damaged, missing):
        assert receipt.verify(text, services.policy_text()).ok
    assert _failed(services, missing) == []


def _payload(value: dict[str, Any]) -> bytes:
    return base64.b64decode(value["envelope"]["payload"])
