"""Plans for models of domains: whole ones leave, and what left earlier is asked about no more."""

from compliance import registry
from compliance.execution.workspace import open_workspace
from compliance.ledger.views import BatchView, Subject
from compliance.wiring import Services
from engine.corpus import read_records
from tests.compliance.builders import DIGEST, claimed, plan, publish, write_lines
from tests.compliance.conftest import verified_request
from tests.engine import styled

POLICY = """
name = "bars"
task = "vision-language"
ladder = ["adu", "retrain"]
[[gate]]
metric = "for"
direction = "at_least"
"""


def given(desk: Services, name: str, domains: tuple[str, ...], start: int) -> None:
    """A data set of four pictures in each domain."""
    lines = [
        {"record_id": one.record_id, "image": one.image, "label": one.label, "domain": one.domain}
        for one in styled.records(range(start, start + 4), domains)
    ]
    path = write_lines(desk.settings.workdir / f"{name}.jsonl", lines)
    with desk.transaction() as ledger:
        registry.add_dataset(
            ledger, desk.store, desk.vault, dataset_id=name, name=name,
            lines=registry.read_lines(path, subject_field=""), subject_field="", now=desk.clock(),
        )  # fmt: skip


def planned(desk: Services, subject: Subject, scope: str) -> BatchView:
    """The batch of one request to a model whose data set has two of the three domains that its holdout set has."""
    given(desk, "bars", styled.DOMAINS[:2], 0)
    given(desk, "strangers", styled.DOMAINS, 100)
    with desk.transaction() as ledger:
        ledger.add_model(
            model_id="m1", name="m1", dataset_id="bars", holdout_id="strangers", policy=POLICY, start="",
            start_digest=DIGEST, now=desk.clock(),
        )  # fmt: skip
        publish(desk, ledger)
    verified_request(desk, subject=subject, scope=scope)
    desk.verified("r1")
    with desk.transaction() as ledger:
        ledger.approve_request(request_id="r1", actor="operator", now=desk.clock())
    batch = plan(desk)
    assert batch is not None
    return batch


def test_a_domain_that_left_earlier_is_asked_about_no_more(services: Services) -> None:
    """The holdout set keeps its pictures, and the run gets those of the domains that are still in one of the sets."""
    leaving, stays = styled.DOMAINS[:2]
    batch = planned(services, Subject(name="A Person", email="a@example.test", target=leaving), "domain")
    with services.read() as ledger:
        model = ledger.model("m1")
        space = open_workspace(ledger, services.store, claim=claimed(services, batch.run_id), batch=batch, model=model)

    sets = {
        name: {one.domain for one in read_records(getattr(space, name))} for name in ("forget", "retain", "holdout")
    }
    assert [one["refused"] for one in batch.plan["rungs"]] == [None, None]
    assert sets == {"forget": {leaving}, "retain": {stays}, "holdout": {leaving, stays}}
    assert len(services.store.records("strangers")) == 12


def test_a_part_of_a_domain_is_refused_in_the_plan(services: Services) -> None:
    """The suite measures whole domains; one picture of one could be forgotten and never shown to be."""
    subject = Subject(name="A Person", email="a@example.test", identifiers=("photo-0",))

    batch = planned(services, subject, "records")

    refused = {one["rung"]: one["refused"] or "" for one in batch.plan["rungs"]}
    assert all("some pictures of a domain" in why for why in refused.values())
