"""What a certificate's mechanism promises, and reports that claim more than it does."""

import math
from typing import Any

import pytest

from audits import canaries, contraction, gaussian, mechanisms
from audits.errors import VerificationError
from audits.verify import require_not_refuted
from tests.audits import bundles

NOISY: dict[str, Any] = {
    "mechanism": mechanisms.NOISY,
    "startRadius": 1.0,
    "clip": 2.0,
    "learningRate": 0.01,
    "weightDecay": 20.0,
    "noise": 1.5,
    "steps": 30,
    "projected": False,
}


def test_noisy_steps_are_a_gaussian_mechanism() -> None:
    """Shift by shift: rho^T 2 C0 + sum rho^k 2 eta C1, over the noise that is left of all steps."""
    rho = 1 - 0.01 * 20.0
    reach = rho**30 * 2 + sum(rho**k * 2 * 0.01 * 2.0 for k in range(30))
    mu = reach / (1.5 * math.sqrt(sum(rho ** (2 * k) for k in range(30))))

    assert mechanisms.epsilon(NOISY, delta=1e-5, group=1) == pytest.approx(
        gaussian.epsilon(delta=1e-5, mu=mu), rel=1e-6
    )


def test_noisy_steps_promise_the_same_for_any_group() -> None:
    """Nothing in them depends on how many left."""
    assert mechanisms.epsilon(NOISY, delta=1e-5, group=1) == mechanisms.epsilon(NOISY, delta=1e-5, group=500)


def test_projection_never_makes_the_bound_worse() -> None:
    """A projected run satisfies the conditions of both theorems."""
    for noise in (0.05, 0.5, 5.0):
        plain, projected = ({**NOISY, "noise": noise, "projected": one} for one in (False, True))
        assert mechanisms.epsilon(projected, delta=1e-5, group=1) <= mechanisms.epsilon(plain, delta=1e-5, group=1)


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("target", [0.5, 4.0])
def test_the_noise_for_a_target_keeps_it(target: float, projected: bool) -> None:  # noqa: FBT001 - a parameter
    """Rounded so that what is recomputed never exceeds what was asked."""
    record = {**NOISY, "projected": projected}
    noise = mechanisms.noise_for(record, epsilon=target, delta=1e-5)
    reached = mechanisms.epsilon({**record, "noise": noise}, delta=1e-5, group=1)

    assert 0.99 * target <= reached <= target


@pytest.mark.parametrize(
    "change", [{"mechanism": "trust_me"}, {"noise": 0.0}, {"noise": math.nan}, {"weightDecay": 100.0}, {"steps": 0}]
)
def test_a_record_without_meaning_has_no_epsilon(change: dict[str, Any]) -> None:
    """Another mechanism, no noise, weights that change sign at each step, no steps."""
    with pytest.raises(ValueError, match=r"\."):
        mechanisms.epsilon({**NOISY, **change}, delta=1e-5, group=1)


def test_every_mechanism_says_how_each_constant_is_held() -> None:
    """And whether what is kept between runs is covered."""
    assert set(mechanisms.CONSTANTS) == set(mechanisms.COVERS_STATE)
    assert {one["held"] for one in mechanisms.constants(NOISY)} == {"enforced"}


def audited(right: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any figure
    """A certificate with an audit of two hundred guesses, whose figures are those of its counts."""
    counts = {"canaries": 400, "guesses": 200, "significance": 0.05}
    told = {**counts, "delta": 1e-5}
    audit = {
        **counts,
        "correct": right,
        "lowerBound": canaries.lower_bound(correct=right, **told),  # type: ignore[arg-type]
        "ceiling": canaries.ceiling(**told),  # type: ignore[arg-type]
    }
    return {**bundles.certificate(), "audit": {**audit, **changes}}


def test_an_audit_below_the_certificate_is_let_through() -> None:
    """It could not refute it; nothing more is said."""
    require_not_refuted(audited(105))  # type: ignore[arg-type]


def test_an_audit_above_the_certificate_refutes_it() -> None:
    """Guesses that are nearly all right cannot come from a mechanism with so small an epsilon."""
    with pytest.raises(VerificationError, match="refutes the certificate"):
        require_not_refuted(audited(195))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"lowerBound": 0.0}, {"ceiling": 1.0}, {"correct": 100}])
def test_an_audit_that_reports_other_figures_is_refused(change: dict[str, Any]) -> None:
    """The bound follows from the counts, and so does the ceiling."""
    with pytest.raises(VerificationError, match="not what the report says"):
        require_not_refuted(audited(130, **change))  # type: ignore[arg-type]


def test_more_right_guesses_than_guesses_are_refused() -> None:
    """Counts that make no sense bound nothing."""
    with pytest.raises(VerificationError, match="make no sense"):
        require_not_refuted(audited(130, correct=201))  # type: ignore[arg-type]


def test_projected_and_plain_runs_are_those_of_the_contraction_module() -> None:
    """The record's names are read as the theorem's letters."""
    plain = contraction.Clipped(start_radius=1.0, clip=2.0, learning_rate=0.01, weight_decay=20.0, steps=30)
    expected = contraction.epsilon(plain, noise=1.5, delta=1e-6)

    assert mechanisms.epsilon(NOISY, delta=1e-6, group=3) == expected
