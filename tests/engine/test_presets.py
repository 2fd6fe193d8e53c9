"""Learning rates that nobody gave follow the model's size."""

import pytest

from engine import catalogue
from engine.options import DescentOptions, FitOptions, InitialiseOptions
from engine.presets import fit_rate, resolved

SEVEN_THOUSAND_MILLION = 7_000_000_000


@pytest.mark.parametrize("name", ["npo", "sam-npo", "tnpo"])
def test_the_preset_leads_from_small_models_to_the_published_rate(name: str) -> None:
    """At 7 B within a factor of two of the papers' 1e-5; ten times as high with adapters."""
    spec = catalogue.method(name)
    for rank, published in ((0, 1e-5), (8, 1e-4)):
        found = resolved(
            catalogue.check_options("unlearn", name, {"lora_rank": rank}), spec.rate, SEVEN_THOUSAND_MILLION
        )
        assert isinstance(found, DescentOptions)
        assert found.learning_rate is not None
        assert published / 2 < found.learning_rate < published * 2


def test_a_rate_that_was_given_stays() -> None:
    """Presets replace nothing that somebody chose."""
    given = catalogue.check_options("unlearn", "npo", {"learning_rate": 3e-4})
    assert resolved(given, 1.0, 1_000) is given
    fit = FitOptions(learning_rate=3e-4)
    assert resolved(fit, None, 1_000) is fit


def test_small_models_get_muon_and_pretrained_ones_do_not() -> None:
    """Up to twenty million parameters on full weights; above, and on adapters, AdamW steps everything."""
    small, large, adapters = (
        resolved(FitOptions(lora_rank=rank), None, n) for n, rank in ((10**6, 0), (10**9, 0), (10**6, 4))
    )
    assert isinstance(small, FitOptions)
    assert (small.learning_rate, small.matrix_learning_rate) == (1e-2, 1e-2)
    assert isinstance(large, FitOptions)
    assert large.matrix_learning_rate is None
    assert large.learning_rate == pytest.approx(5.62e-5)
    assert isinstance(adapters, FitOptions)
    assert adapters.matrix_learning_rate is None
    assert fit_rate(SEVEN_THOUSAND_MILLION, adapters=False) == pytest.approx(1.31e-5)


def test_options_without_a_rate_are_left_alone() -> None:
    """A start from nothing says its own rates."""
    options = InitialiseOptions()
    assert resolved(options, None, 1) is options
