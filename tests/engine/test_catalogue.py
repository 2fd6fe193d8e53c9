"""The catalogue: what each method may claim, and that looking it up costs no torch."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from engine import catalogue
from engine.catalogue import METHODS, defaults, permitted
from engine.contract import Guarantee, Job, MethodSpec
from engine.errors import EngineError

ROOT = Path(__file__).parents[2]
HEADS = {"newton-noise", "descent-noise", "langevin", "descent-to-delete"}  # certified convex heads, for pictures alone


def test_each_method_claims_what_the_design_allows() -> None:
    """Retraining is exact, a DP base certifies, weights that stay are suppression, and the rest has evidence alone."""
    claims = {guarantee: {s.name for s in METHODS if s.guarantee is guarantee} for guarantee in Guarantee}
    assert claims[Guarantee.EXACT] == {"retrain", "sisa"}
    assert claims[Guarantee.CERTIFIED] == {"dp2", "noisy-ft", *HEADS}
    assert claims[Guarantee.CONDITIONAL] == {"newton-removal", "rewind"}
    assert claims[Guarantee.SUPPRESSION] == {"eco", "whp-muse", "adu"}
    assert claims[Guarantee.EMPIRICAL] == {
        "npo", "simnpo", "tnpo", "dpo", "idkdpo", "ga", "graddiff", "kl-min", "wga", "satimp", "undial", "ce-u",
        "jensun", "rmu", "pdu", "gru", "sam-npo", "task-vector", "whp", "finetune", "l1-sparse",
        "cf-k", "eu-k", "fisher", "influence", "random-labels", "salun", "boundary-shrink", "boundary-expand", "scrub",
        "bad-teacher",
        "laf", "laf-r",
        "clip-fit",
    }  # fmt: skip


def test_an_imported_model_is_offered_only_what_its_owner_can_give() -> None:
    """Without a public start nothing is retrained; without a retain set only what asks for none is left."""
    names = {spec.name for spec in permitted(frozenset({"model", "forget", "retain"}))}
    assert {"npo", "rmu", "eco"} <= names
    assert not names & {"retrain", "dp2", "sisa", "dpo", "whp"}
    assert {spec.name for spec in permitted(frozenset({"model", "forget"}))} == {"task-vector", "whp-muse"}
    assert permitted(frozenset()) == ()


@pytest.mark.parametrize("spec", METHODS, ids=lambda spec: spec.name)
def test_an_entry_can_be_kept(spec: MethodSpec) -> None:
    """The module has the function, the needs are fields of a job, and the options exist."""
    for task in spec.tasks:
        assert callable(getattr(importlib.import_module(spec.form(task).module), spec.name.replace("-", "_")))
    assert spec.tasks[1:] == tuple(spec.others)
    assert set(spec.needs) <= set(Job.__dataclass_fields__)
    assert defaults("unlearn", spec.name, spec.tasks[0])
    assert {"records", "work", "domain"} & set(spec.scopes)
    assert spec.source
    assert catalogue.method(spec.name) is spec


def test_exact_and_certified_methods_do_not_need_the_forget_set() -> None:
    """What is claimed to be independent of the forget set is not given it; rewinding has no use for it either."""
    for spec in METHODS:
        claims = spec.guarantee in {Guarantee.EXACT, Guarantee.CERTIFIED}
        assert ("forget" in spec.needs) is not (claims or spec.name == "rewind")
        hidden = spec.name in {"noisy-ft", *HEADS}  # whose noise hides where they came from
        assert ("base" in spec.needs) is (claims and not hidden)


def test_names_are_unique() -> None:
    """No two entries share a name."""
    assert len({spec.name for spec in METHODS}) == len(METHODS)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    """The sentence names what there is."""
    with pytest.raises(
        EngineError, match="there is no method 'fly'; methods are: retrain, dp2, noisy-ft, newton-noise, "
    ) as caught:
        catalogue.method("fly")
    assert caught.value.code == "bad_job"


def test_the_vocabulary_needs_the_standard_library_only() -> None:
    """The desk imports contract, catalogue, corpus and guarantees in a process that loads nothing else."""
    modules = ("contract", "catalogue", "corpus", "guarantees.mechanism", "guarantees.learned")
    code = (
        f"import sys; {'; '.join(f'import engine.{name}' for name in modules)};"
        "print(sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - set(old)))"
    )
    script = f"import sys; old = {{name.split('.')[0] for name in sys.modules}}; {code}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['engine']"
