"""Approximate domain unlearning: golden losses, a guard that comes off without a trace, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engine import checkpoints, guards
from engine.catalogue import check_options
from engine.contract import VERSION, Evidence, Guarantee, Job, Kind
from engine.corpus import Record, write_records
from engine.digests import model_files
from engine.errors import EngineError
from engine.guards.prompting import NOWHERE, Parameters, Prompting, Prompts
from engine.methods import Setting
from engine.methods.domains import few, parameters_of, plan, told_apart, tuned
from engine.methods.domains_losses import discrepancy, kernel, to_uniform
from engine.options.domains import AduOptions
from engine.presets import PUBLISHED, SMALL, resolved
from engine.run import run
from engine.tasks.vision_language import Labelled, all_features, clip_of
from tests.engine import styled, tiny

QUICK = {"epochs": 2, "shots": 2, "batch": 4, "prompts": 2}
LEAVES = styled.DOMAINS[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights, records of three domains, and what two methods made of them."""
    folder = tmp_path_factory.mktemp("domains")
    checkpoints.save(folder / "before", *styled.network())
    write_records(folder / "forget.jsonl", styled.records(domains=(LEAVES,)))
    write_records(folder / "retain.jsonl", styled.records(domains=(styled.DOMAINS[0], styled.DOMAINS[2])))
    write_records(folder / "holdout.jsonl", styled.records(range(100, 112)))
    unlearn(folder, "adu", out="guarded", **QUICK)
    return folder


def unlearn(folder: Path, method: str, *, out: str, **options: Any) -> Evidence:  # noqa: ANN401 - any option
    """One job of a method on the domain that leaves."""
    sets: dict[str, Any] = {"forget": "forget.jsonl", "retain": "retain.jsonl"}
    job = Job(
        version=VERSION, kind=Kind.UNLEARN, seed=3, task="vision-language", method=method, model="before", out=out,
        options=options, **sets,
    )  # fmt: skip
    return run(job, folder, tiny.quiet)


def setting(forget: Any, retain: Any, **options: Any) -> Setting[Any]:  # noqa: ANN401 - records, any option
    """The tiny CLIP with some records."""
    model, reader = styled.network()
    return Setting(
        model=model,
        reader=reader,
        forget=forget,
        retain=retain,
        options=check_options("unlearn", "adu", options, "vision-language"),
        seed=3,
        progress=tiny.quiet,
        folder=Path(),
        digest="",
        cache=Path(),
    )


def pictures() -> Labelled:
    """Two noisy pictures."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 12, 12), dtype=np.uint8))
    return Labelled(images=images, classes=torch.tensor([0, 1]), domains=torch.tensor([0, 1]))


def test_golden_losses() -> None:
    """Worked by hand: logits (ln 3, 0), p = (3/4, 1/4); the mixture at distance 1; the mean of both terms."""
    scores = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    uniform = -(math.log(0.75) + math.log(0.25)) / 2
    step = Labelled(images=torch.zeros(2), classes=torch.tensor([0, 0]), domains=torch.tensor([0, 1]))
    points = torch.tensor([[0.0], [1.0]])
    mixture = (math.exp(-8.0) + math.exp(-2.0) + math.exp(-0.5) + math.exp(-0.125)) / 4

    assert to_uniform(scores)[0].item() == pytest.approx(uniform)
    assert told_apart(scores, step, 1, 0.5).item() == pytest.approx(-math.log(0.75) + 0.5 * uniform)
    assert kernel(points)[0, 1].item() == pytest.approx(mixture, rel=1e-5)
    assert discrepancy(points, torch.tensor([4, 7])).item() == pytest.approx(2 - 2 * mixture, rel=1e-5)
    assert discrepancy(points, torch.tensor([4, 4])).item() == 0.0


def test_a_step_without_a_kind_of_rows_counts_the_other_alone() -> None:
    """No division by 0 where all stay."""
    scores = torch.zeros(2, 4)
    step = Labelled(images=torch.zeros(2), classes=torch.tensor([0, 1]), domains=torch.tensor([0, 0]))

    assert told_apart(scores, step, 1, 1.0).item() == pytest.approx(math.log(4))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.floats(0.0, 3.0))
def test_the_discrepancy_is_bounded_and_blind_to_names(seed: int, domains: int, shift: float) -> None:
    """Between 0 and 2, whatever the domains are called, and 0 for one domain; uniform is never below ln classes."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(12, 3, generator=generator)
    owners = torch.arange(12) % domains
    points = torch.nn.functional.normalize(points + shift * owners[:, None], dim=-1)
    value = discrepancy(points, owners)

    assert -1e-6 <= value.item() <= 2.0
    assert torch.allclose(value, discrepancy(points, 10 - owners), atol=1e-6)
    assert (to_uniform(points) >= math.log(3) - 1e-6).all()


def test_prompts_come_off_without_a_trace(place: Path) -> None:
    """The weights are untouched, one call loads the guarded model, and without its folder it answers bit for bit."""
    before, after = (model_files(place / name) for name in ("before", "guarded"))
    plain, reader = styled.loaded(place / "before")
    guarded = clip_of(guards.load(place / "guarded"))
    images = pictures().images
    asked = [all_features(model, reader, images, rows_per_pass=2) for model in (plain, guarded)]
    guard = guards.of(guarded)
    assert isinstance(guard, Prompting)
    guard.remove()

    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"guard/guard.json", "guard/guard.safetensors"}
    assert not torch.equal(*asked)
    assert torch.equal(asked[0], all_features(guarded, reader, images, rows_per_pass=2))
    assert guards.of(guarded) is None
    with pytest.raises(EngineError, match="this model is guarded and cannot be trained"):
        guards.refuse(place / "guarded")


def test_the_evidence_says_suppression(place: Path) -> None:
    """The class is the catalogue's; the same seed gives the same guard, and a switch takes its tensors away."""
    again = unlearn(place, "adu", out="again", **QUICK)
    switched = unlearn(place, "adu", out="switched", instance="off", disentangle="off", **{**QUICK, "epochs": 1})
    names = ("guard/guard.safetensors", "model.safetensors")
    first, second = (model_files(place / name) for name in ("guarded", "again"))

    assert again.guarantee is Guarantee.SUPPRESSION
    assert [first[name] for name in names] == [second[name] for name in names]
    assert switched.model_files[names[1]] == first[names[1]]
    assert set(load_file(place / "switched" / names[0])) == {"tokens"}
    assert set(load_file(place / "guarded" / names[0])) == {
        "tokens",
        *(f"attention.{m}" for m in ("query", "key", "value", "out")),
    }
    assert {name: again.parameters[name] for name in SMALL} == SMALL


def test_clip_fit_moves_biases_and_norms_alone(place: Path) -> None:
    """Everything else is bit for bit as it was, and its class is empirical."""
    evidence = unlearn(place, "clip-fit", out="fitted", epochs=1, shots=2, batch=4)
    before, after = (load_file(place / name / "model.safetensors") for name in ("before", "fitted"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}

    assert evidence.guarantee is Guarantee.EMPIRICAL
    assert moved
    assert all(tuned(name) for name in moved)
    assert any(name.startswith("text_model.") for name in moved)


def test_instance_prompts_begin_as_plain_ones() -> None:
    """Wo is 0 at the start; once it is not, prompts differ from picture to picture, before that block alone."""
    prompts = Prompts(Parameters(count=2, depth=2, instance=1), 16)
    prompts.draw(5)
    patches = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(1))
    plain = prompts.at(1, patches)
    with torch.no_grad():
        prompts.attention["out"].fill_diagonal_(1.0)

    assert torch.equal(plain, prompts.tokens[1].expand(3, -1, -1))
    assert not torch.allclose(prompts.at(1, patches)[0], prompts.at(1, patches)[1])
    assert torch.equal(prompts.at(0, patches), prompts.tokens[0].expand(3, -1, -1))


def test_the_shape_follows_the_paper_where_it_is_open() -> None:
    """Three quarters of the blocks, 9 of 12; InstaPG before the middle one, the earlier of two, unless one is named."""
    model, _ = styled.network()

    assert parameters_of(AduOptions(), model) == Parameters(count=8, depth=1, instance=0)
    assert parameters_of(AduOptions(depth=2, instance="off"), model).instance == NOWHERE
    assert parameters_of(AduOptions(depth=2, block=1), model).instance == 1
    assert [parameters_of(AduOptions(depth=depth), model).instance for depth in (1, 2, 3, 9)] == [0, 0, 1, 4]
    small, large = resolved(AduOptions(), None, 10**5), resolved(AduOptions(gamma=0.0), None, 10**8)
    assert {name: getattr(small, name) for name in SMALL} == SMALL
    assert {name: getattr(large, name) for name in PUBLISHED} == {**PUBLISHED, "gamma": 0.0}


def test_a_step_holds_each_domain_alike() -> None:
    """`batch` pictures of each domain, a small one begun again, and of each class and domain at most `shots`."""
    asked = setting(
        styled.records(range(4), domains=(LEAVES,)), styled.records(range(8), domains=("photo", "tinted")),
        epochs=1, batch=3, shots=0,
    )  # fmt: skip
    found = plan(asked)
    shots = few(replace(asked, options=replace(asked.options, shots=1)), [*asked.retain, *asked.forget])

    assert found.domains == ("photo", "tinted", LEAVES)
    assert found.kept == 2
    assert [torch.bincount(step.domains, minlength=3).tolist() for step in found.steps] == [[3] * 3, [3] * 3, [2] * 3]
    assert len(shots) == 12
    assert len({(one.domain, one.label) for one in shots}) == 12


@pytest.mark.parametrize(
    ("forget", "retain", "sentence"),
    [
        (styled.records(), styled.records(domains=("photo",)), "the domain 'photo' is in the forget and the"),
        (styled.records(domains=("photo",)), (), "domains to forget and domains to remember are both needed"),
        (
            (Record(record_id="a", unit="a", image="x", label="top"),), styled.records(), "record 1 has no domain",
        ),
    ],
)  # fmt: skip
def test_sets_that_name_no_domain_are_refused(forget: Any, retain: Any, sentence: str) -> None:  # noqa: ANN401 - records
    """One sentence says what to change, and never what a record holds."""
    with pytest.raises(EngineError, match=sentence):
        plan(setting(forget, retain))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"depth": 3}, "prompts need a depth from 1 to 2"),
        ({"depth": 2, "block": 2}, "instance must be a block with prompts, 0 to 1"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(place: Path, change: dict[str, Any], sentence: str) -> None:
    """Before the first step, and with nothing left behind."""
    with pytest.raises(EngineError, match=sentence):
        unlearn(place, "adu", out="none", **{**QUICK, **change})
    assert not (place / "none").exists()


def test_a_damaged_guard_is_refused(place: Path) -> None:
    """A guard whose tensors do not fit is no guard."""
    copy = place / "damaged"
    unlearn(place, "adu", out="damaged", instance="off", **{**QUICK, "epochs": 1})
    save_file({"tokens": torch.zeros(1, 2, 3)}, copy / "guard" / "guard.safetensors")

    with pytest.raises(EngineError, match="the prompts of this guard do not fit its model; write it again"):
        guards.load(copy)
