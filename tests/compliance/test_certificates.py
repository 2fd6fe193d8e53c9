"""The certificates of convex heads: what a report says of them, and reports that claim more than they may."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from audits import mechanisms, verify
from audits.predicate import Predicate
from audits.protocol import Verification
from audits.render import words
from compliance import policy as policies
from compliance.certification.guarantee import PUBLIC_FEATURES, guarantee_of
from compliance.errors import InvalidInputError
from compliance.ledger.lifecycle import AttemptOutcome, RunState
from compliance.ledger.views import AttemptView, BatchView
from engine import catalogue
from engine.catalogue import check_options
from engine.guarantees.convex import record
from tests.audits.bundles import Desk, hex_digest, write

KEPT = ("newton-removal", "descent-to-delete", "rewind")
GIVEN = {
    "newton-removal": "classes = 10",
    "descent-to-delete": "classes = 10\npoints = 400",
    "rewind": "classes = 10",
}
NOW = datetime(2026, 11, 20, tzinfo=UTC)
METHODS = ("newton-noise", "descent-noise", "langevin")
POLICY = """
name = "heads"
task = "image"
ladder = ["{method}", "retrain"]
[budget]
epsilon_limit = 2.0
delta = 1e-4
[[gate]]
metric = "ra"
direction = "at_least"
"""


def policy(method: str, more: str = "") -> policies.Policy:
    """A ladder for pictures whose first rung is the method."""
    table = f"[methods.{method}]\n{GIVEN[method]}\n" if method in GIVEN else ""
    return policies.parse(POLICY.format(method=method) + table + more)


def guarantee(method: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any option
    """What is claimed for a batch of three people."""
    told, state = policy(method), changes.pop("state", {})
    options = check_options("unlearn", method, {**told.methods[method], **changes}, "image")
    made = {"accountant": record(options), "seedCommitment": hex_digest("a secret")}
    attempt = AttemptView(
        id="a",
        run_id="r",
        epoch=1,
        rung=method,
        outcome=AttemptOutcome.PUBLISHED,
        record={"class": catalogue.method(method).guarantee.value, "mechanism": made, "state": state},
        log_index=None,
        started_at=NOW,
        finished_at=None,
    )
    batch = BatchView(
        id="b",
        model_id="m",
        plan={"subjects": 3, "population": 400},
        plan_digest="0",
        plan_index=1,
        planned_at=NOW,
        challenge_ends=None,
        run_id="r",
        run_state=RunState.CLAIMED,
        progress={},
    )
    return guarantee_of([attempt], policy=told, base=None, batch=batch)


def verdict(folder: Path, told: dict[str, Any], method: str) -> Verification:
    """Of a report that claims this, signed and logged like any other."""
    desk = Desk()
    value = cast("dict[str, Any]", desk.certified())
    value["guarantee"] = told
    value["method"] |= {"rung": method, "name": method}
    value["policy"]["ladder"] = ["ga", "npo", method]
    value["attempts"][-1]["rung"] = method
    if told["class"] == "conditional":  # its evidence has to hold
        held = [i for i, one in enumerate(value["gates"]) if one["outcome"] == "held"]
        for place in (value, value["policy"], value["attempts"][-1]):
            place["gates"] = [place["gates"][i] for i in held]
    path = write(folder, desk.files(cast("Predicate", value), raw=True))
    return verify.verify(path, desk.policy())


@pytest.mark.parametrize("method", KEPT)
def test_a_rung_that_keeps_a_state_says_so_and_its_report_verifies(tmp_path: Path, method: str) -> None:
    """The class is the catalogue's, the state is not covered, and the page says what a larger batch is met by."""
    told = guarantee(method, state={"state": "kept", "because": None})
    certificate, found = told["certificate"], verdict(tmp_path, told, method)

    assert found.ok, [one.why for one in found.steps if not one.ok]
    assert told["class"] == ("certified" if method == "descent-to-delete" else "conditional")
    assert 1.99 < certificate["epsilon"] <= 2.0
    assert certificate["internalStateCovered"] is False
    assert (certificate["unitsLeft"], certificate["seedCommitment"]) == (None, hex_digest("a secret"))
    assert ("estimated" in {one["held"] for one in certificate["constants"]}) is (method == "rewind")
    assert any("state that is kept for later requests" in one for one in told["conditions"])
    assert "training anew" in words.left(certificate)
    assert "deleted with this batch" in words.bound(certificate)
    assert "anew on the remaining" not in told["statement"]


def test_a_report_says_that_and_why_a_model_was_trained_anew() -> None:
    """Where a kept state could not go on."""
    told = guarantee("newton-removal", state={"state": "anew", "because": "the budget did not suffice"})

    assert told["statement"].endswith("It was trained anew on the remaining data: the budget did not suffice.")


@pytest.mark.parametrize("method", METHODS)
def test_a_rung_keeps_the_budget_and_its_report_verifies(tmp_path: Path, method: str) -> None:
    """Noise follows from the policy; theorem, constants and conditions are there, and the bound is recomputed."""
    told = guarantee(method)
    certificate = told["certificate"]
    found = verdict(tmp_path, told, method)

    assert found.ok, [one.why for one in found.steps if not one.ok]
    assert 1.99 < certificate["epsilon"] <= 2.0
    assert certificate["singleEpsilon"] == certificate["epsilon"]
    assert (certificate["points"], certificate["unitsDeletedSinceBase"]) == (400, 3)
    assert {one["held"] for one in certificate["constants"]} == {"enforced", "proved"}
    assert certificate["internalStateCovered"] is True
    assert "No budget is used up" in told["statement"]
    assert PUBLIC_FEATURES not in told["conditions"]


def test_features_that_the_operator_calls_public_are_a_condition() -> None:
    """Nothing here can check it, and the certificate says so."""
    assert PUBLIC_FEATURES in guarantee("newton-noise", features="public")["conditions"]


Edit = Callable[[dict[str, Any]], None]
CHEATS: list[tuple[str, str, Edit, int]] = [
    ("an epsilon below what follows", "newton-noise", lambda one: one.update(epsilon=1.0), 12),
    ("a single epsilon below what follows", "langevin", lambda one: one.update(singleEpsilon=0.5), 12),
    ("constants that are not the mechanism's", "newton-noise", lambda one: one["accountant"].update(noise=9.0), 8),
    ("a constant that is called enforced", "langevin", lambda one: one["constants"][1].update(held="enforced"), 8),
    ("features of a third kind", "newton-noise", lambda one: one["accountant"].update(features="frozen"), 8),
    ("no word on features", "descent-noise", lambda one: one["accountant"].pop("features"), 8),
    ("a condition that is not proved", "newton-removal", lambda one: one.update(certified=True), 8),
    ("constants that were estimated", "rewind", lambda one: one.update(certified=True), 8),
    ("a state that is said to be covered", "descent-to-delete", lambda one: one.update(internalStateCovered=True), 8),
    ("fewer heads", "newton-removal", lambda one: one["accountant"].update(problems=1), 8),
    ("more records than there were", "descent-to-delete", lambda one: one["accountant"].update(points=10**6), 8),
    ("a budget for others", "descent-to-delete", lambda one: one.update(unitsLeft=3), 12),
    ("delta above one in the number of points", "langevin", lambda one: one.update(points=20_000), 12),
]


@pytest.mark.parametrize(("method", "edit", "step"), [pytest.param(*one[1:], id=one[0]) for one in CHEATS])
def test_a_report_that_claims_more_is_refused(tmp_path: Path, method: str, edit: Edit, step: int) -> None:
    """By the step of the verifier that is named."""
    told = guarantee(method)
    edit(told["certificate"])
    if told["certificate"].pop("certified", False):
        told["class"] = "certified"
    found = verdict(tmp_path, told, method)

    assert next(one.n for one in found.steps if not one.ok) == step


@pytest.mark.parametrize("method", ["descent-noise", "langevin"])
def test_a_loss_that_is_smoother_than_a_logistic_one_is_refused(tmp_path: Path, method: str) -> None:
    """A smaller L would shrink distances faster than the heads do, and the epsilon with them."""
    told = guarantee(method)
    smooth = {**told["certificate"]["accountant"], "smoothness": 0.1}
    told["certificate"] |= {"accountant": smooth, "constants": mechanisms.constants(smooth), "epsilon": 0.1}
    found = verdict(tmp_path, told, method)

    assert next(one.why for one in found.steps if not one.ok).endswith("no smoother than its curvature and a quarter.")


@pytest.mark.parametrize(
    ("method", "more", "sentence"),
    [
        ("newton-noise", "[methods.newton-noise]\nsigma = 3.0\n", "the noise follows from the budget"),
        ("langevin", "[methods.langevin]\npenalty = 0\n", "penalty must be above 0"),
        ("descent-noise", "[methods.descent-noise]\nresidual = 1\n", "unknown key 'residual'"),
    ],
)
def test_a_policy_that_would_void_the_bound_cannot_be_written(method: str, more: str, sentence: str) -> None:
    """In one sentence that names it."""
    with pytest.raises(InvalidInputError, match=sentence):
        policy(method, more)


def test_a_policy_that_does_not_say_what_the_noise_depends_on_cannot_be_written() -> None:
    """How many classes, and how many records."""
    with pytest.raises(InvalidInputError, match="classes"):
        policies.parse(POLICY.format(method="newton-removal"))


def test_heads_are_for_pictures() -> None:
    """A ladder for text does not know them."""
    with pytest.raises(InvalidInputError, match="'newton-noise' is unknown"):
        policies.parse(POLICY.format(method="newton-noise").replace('"image"', '"language"'))
