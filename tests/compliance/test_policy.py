"""Method policies: what may be written down, and the sentence for what may not."""

import inspect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance import policy as policies
from compliance.errors import InvalidInputError
from engine import catalogue
from tests.house.source import ROOT

SHIPPED = sorted((ROOT / "compliance").rglob("*.toml"))
GATE = '\n[[gate]]\nmetric = "verbmem_f"\ndirection = "at_most"\n'
HEAD = 'name = "x"\nladder = ["npo", "retrain"]\n'
VALUES = st.recursive(
    st.one_of(st.integers(-5, 5), st.floats(allow_nan=False), st.booleans(), st.text("ab{}'#\n"), st.none()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["npo", "steps", "delta"]), inner),
    max_leaves=4,
)


def _toml(value: Any) -> str:  # noqa: ANN401 - any value TOML can write
    """An inline TOML value; None becomes the float that is not a number."""
    if value is None:
        return "nan"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return str(value)
    return json.dumps(value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_policies_are_valid(path: Any) -> None:  # noqa: ANN401 - a path
    """Every policy in the tree can be read."""
    assert policies.parse(path.read_text()).gates


def test_the_documented_example_is_valid() -> None:
    """The policy in the module's own words can be read."""
    documented = [line[4:] for line in (inspect.getdoc(policies) or "").splitlines() if line.startswith("    ")]

    assert policies.parse("\n".join(documented)).name == "records"


def test_defaults_are_those_of_the_design() -> None:
    """A policy that says little gets 30 days, margins of 0.05 for text and 0.15 for an AUC with ten subjects."""
    auc = '\n[[gate]]\nmetric = "privleak_auc"\ndirection = "within"\n'

    policy = policies.parse(HEAD + GATE + auc)

    assert (policy.reference, policy.challenge_days, policy.minimum_subjects) == ("retrained", 30, 1)
    assert [(gate.margin, gate.minimum_n) for gate in policy.gates] == [(0.05, 1), (0.15, 10)]


def test_every_method_that_unlearns_with_what_a_batch_has_may_stand_on_the_ladder() -> None:
    """The ladder knows the engine's methods by name; no batch has a dictionary or other answers."""
    base = "\n[base]\nepsilon = 8\nsample_rate = 0.25\nsteps = 40\n"
    kept_out = {"whp", "dpo"}
    names = [spec.name for spec in catalogue.METHODS if spec.name not in kept_out and "language" in spec.tasks]
    assert kept_out.isdisjoint(policies.METHODS["language"])

    assert policies.parse(f'name = "x"\nladder = {json.dumps(names)}\n{base}{GATE}').ladder == tuple(names)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = ", "not valid TOML"),
        ('ladder = ["npo"]' + GATE, "'name' must be a text"),
        ('name = ""\nladder = ["npo"]' + GATE, "'name' must be a text"),
        ('name = "x"' + GATE, "'ladder' must list"),
        ('name = "x"\nladder = []' + GATE, "'ladder' must list"),
        ('name = "x"\nladder = ["npo", "npo"]' + GATE, "twice"),
        ('name = "x"\nladder = ["npo", "eco"]' + GATE, "'ladder' ends with 'eco', which removes nothing; let a method"),
        ('name = "x"\nladder = ["adu", "retrain"]' + GATE, "'adu' is unknown"),
        ('name = "x"\nladder = ["magic"]' + GATE, "'magic' is unknown; use one of retrain"),
        ('name = "x"\nladder = ["dp2"]' + GATE, r"needs a \[base\]"),
        ('reference = "none"\n' + HEAD + GATE, "reference 'none' is unknown; use one of retrained"),
        ("ladders = 1\n" + HEAD + GATE, "unknown key 'ladders'; allowed are base"),
        ("minimum_subjects = 0\n" + HEAD + GATE, "'minimum_subjects' must be a whole number"),
        ("challenge_days = 1.5\n" + HEAD + GATE, "'challenge_days' must be a whole number"),
        (HEAD, "at least one"),
        ("gate = [1]\n" + HEAD, "at least one"),
        (HEAD + '[[gate]]\nmetric = "beauty"\ndirection = "at_most"', "'beauty' is unknown; use one of accuracy_f"),
        (HEAD + '[[gate]]\nmetric = "recovery"\ndirection = "up"', "'up' is unknown; use one of at_most"),
        (HEAD + '[[gate]]\nmetric = "recovery"', "gate direction None is unknown"),
        (HEAD + GATE + "margin = -1", "'margin' must be a positive number"),
        (HEAD + GATE + "margin = nan", "'margin' must be a positive number"),
        (HEAD + GATE + "margin = inf", "'margin' must be a positive number"),
        (HEAD + GATE + "tolerance = 1", "unknown key 'tolerance'"),
        (HEAD + GATE + GATE, "two gates have the same metric"),
        (HEAD + '[[gate]]\nmetric = "privleak_auc"\ndirection = "within"\nminimum_n = 9', "at least 10"),
        (HEAD + "[budget]\ndelta = 1.0" + GATE, "'delta' must be a positive number below 1"),
        (HEAD + "[budget]\nepsilon_limit = 0" + GATE, "'epsilon_limit' must be a positive number"),
        ("budget = 3\n" + HEAD + GATE, "'budget' must be a table"),
        ("training = 5\n" + HEAD + GATE, "'training' must be a table"),
        (HEAD + "[methods]\nnpo = 3" + GATE, "'npo' must be a table"),
        (HEAD + "[methods.magic]\nsteps = 3" + GATE, "'magic' is unknown"),
        (HEAD + "[methods.npo]\nstepz = 3" + GATE, "stepz"),
        (HEAD + '[training]\nepochs = "many"' + GATE, "epochs"),
        (HEAD + "[base]\nepsilon = 8" + GATE, "lacks 'sample_rate'"),
        (HEAD + "[base]\nepsilon = 8\nsample_rate = 2\nsteps = 3" + GATE, "sample_rate"),
        (HEAD + "[base]\nepsilon = -1\nsample_rate = 0.5\nsteps = 3" + GATE, "'epsilon' must be a positive number"),
        (HEAD + "[base]\nepsilon = 8\nsample_rate = 0.5\nsteps = 3\nsigma = 9" + GATE, "sigma"),
        (
            HEAD + "[base]\nepsilon = 8\nsample_rate = 0.5\nsteps = 3\npoisson_sampling = false" + GATE,
            "poisson_sampling",
        ),
    ],
)
def test_what_is_wrong_gets_one_sentence(text: str, sentence: str) -> None:
    """An unsound policy is refused in a sentence that names the fault and what would be right."""
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        policies.parse(text)

    assert caught.value.code == "bad-policy"


@given(key=st.sampled_from(sorted(policies.KEYS)), value=VALUES)
def test_no_value_breaks_the_reader(key: str, value: object) -> None:
    """Whatever stands in the place of a setting, the answer is a policy or a sentence, never a crash."""
    known = {"name": '"x"', "ladder": '["npo"]', "gate": '[{metric = "recovery", direction = "at_most"}]'}
    text = "\n".join(f"{name} = {one}" for name, one in (known | {key: _toml(value)}).items())

    try:
        policy = policies.parse(text)
    except InvalidInputError as error:
        assert "\n" not in str(error)
    else:
        assert len(policy.digest) == 64


def test_digest_is_of_the_meaning() -> None:
    """Layout and comments don't change a policy's digest; every setting does."""
    policy = policies.parse(HEAD + GATE)

    assert policy.digest == policies.parse("# the same\n\n" + HEAD + GATE + "margin = 0.05\n").digest
    changed = {
        HEAD + GATE + "margin = 0.06\n",
        "challenge_days = 31\n" + HEAD + GATE,
        HEAD + "[budget]\ndelta = 1e-6" + GATE,
    }
    assert policy.digest not in {policies.parse(text).digest for text in changed}


def test_policy_survives_as_json() -> None:
    """What plans and reports carry is JSON, the same each time."""
    policy = policies.parse(HEAD + GATE)

    assert json.loads(json.dumps(policy.to_json())) == policy.to_json()
