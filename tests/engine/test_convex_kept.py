"""Convex methods that keep a secret state: what is kept, when it goes on and when not, and that it never shows."""

import importlib
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from audits import mechanisms
from engine.catalogue import KEEPING, check_options, method
from engine.contract import Evidence
from engine.corpus import Record
from engine.errors import EngineError
from engine.guarantees.convex import KeptSteps, kept, record, steepest
from engine.heads.one_vs_rest import Lane
from engine.heads.stacked import Stack
from engine.heads.steps import newton, onward
from engine.heads.weights import Internal
from engine.methods import Setting, convex, convex_begun, convex_kept, convex_newton, convex_state, secret
from engine.training import Fitted
from tests.engine import painted
from tests.engine.convex import KEPT, QUICK, SECRET, layer, setting
from tests.engine.jobs import do
from tests.engine.test_convex import problem

EVERYBODY, STAY = painted.records(range(24)), painted.records(range(3, 24))
GONE = painted.records(range(3))


def ran(name: str, told: Setting[Any]) -> Fitted:
    """The method, by the catalogue's function."""
    module = importlib.import_module(method(name).module)
    fitted: Fitted = getattr(module, name.replace("-", "_"))(told)
    return fitted


def asked(cache: Path, name: str, **changes: Any) -> Setting[Any]:  # noqa: ANN401 - fields and options
    """A setting whose cache outlives the run, with the noise of the quick settings."""
    return setting(name, **{"cache": cache, "durable": True, "sigma": 0.05, "retain": EVERYBODY, **changes})


def states(cache: Path) -> list[Path]:
    """The files of all states."""
    return sorted(cache.glob("*/*"))


def first(cache: Path, name: str, **changes: Any) -> str:  # noqa: ANN401 - fields and options
    """Train on everybody; the digest of the model that was made."""
    assert ran(name, asked(cache, name, **changes)).details["because"] == convex_state.NO_STATE
    return states(cache)[-1].stem


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that knows nothing."""
    folder = tmp_path_factory.mktemp("kept")
    shape = {"labels": list(painted.LABELS), "architecture": "gabor", "size": painted.SIDE}
    do(folder, "initialise", task="image", out="start", options=shape)
    return folder


def job(folder: Path, name: str, out: str, model: str, retain: tuple[Record, ...], **more: Any) -> Evidence:  # noqa: ANN401
    """One request as the desk sends it."""
    told = {"task": "image", "method": name, "cache": f"{name}-cache", "forget": GONE, **more}
    options = {**QUICK[name], "sigma": 0.05}
    return do(folder, "unlearn", out=f"{name}-{out}", model=model, retain=retain, options=options, **told)


@pytest.mark.parametrize("name", KEPT)
def test_a_request_goes_on_from_the_state_of_the_last_and_a_redelivered_one_repeats_it(start: Path, name: str) -> None:
    """Under the digest of the published folder; told twice, a job makes the same model bit for bit, and one state."""
    cache = start / f"{name}-cache"
    anew = job(start, name, "first", "start", EVERYBODY, forget=painted.records([90]))
    [path] = states(cache)
    before = path.read_bytes()
    made = [job(start, name, f"second-{i}", f"{name}-first", STAY) for i in range(2)]
    kept_files = {one.name: one.read_bytes() for one in states(cache)}

    assert anew.training is not None
    assert made[0].training is not None
    assert (anew.training["state"], made[0].training["state"], made[0].training["removed"]) == ("anew", "kept", 3)
    assert made[0].model_files == made[1].model_files != anew.model_files
    assert made[0].seed_commitment == made[1].seed_commitment
    assert kept_files[path.name] == before  # what was read is neither spent nor freed
    assert len(kept_files) == 2
    assert made[0].accountant == record(check_options("unlearn", name, {**QUICK[name], "sigma": 0.05}, "image"))


@pytest.mark.parametrize("name", KEPT)
def test_no_secret_of_a_state_is_in_what_is_told_or_published(start: Path, name: str) -> None:
    """Neither key, un-noised numbers nor tags stand in evidence or model; ids stand nowhere; nobody else reads it."""
    evidence = job(start, name, "third", "start", STAY, cache=f"{name}-other")
    [path] = states(start / f"{name}-other")
    arrays = load(path.read_bytes())
    published = b"".join(one.read_bytes() for one in (start / f"{name}-third").iterdir())
    told = published + evidence.to_json().encode()
    hidden = [arrays["key"].tobytes(), arrays["tags"].tobytes()[:32]]
    hidden += [one.hex().encode() for one in hidden]
    if name != "newton-removal":  # its heads are what is published, with the perturbation inside
        hidden += [arrays[one].tobytes()[:32] for one in ("heads", "checkpoint") if one in arrays]

    assert path.stat().st_mode & 0o777 == 0o600
    assert not [one for one in hidden if one in told]
    assert b"picture-" not in path.read_bytes()
    assert b"person-" not in path.read_bytes()


@pytest.mark.parametrize("name", KEPT)
def test_without_a_cache_every_run_is_anew_and_says_so(tmp_path: Path, name: str) -> None:
    """Nothing is written where nothing can be kept."""
    fitted = ran(name, asked(tmp_path, name, durable=False))

    assert fitted.details == {"state": "anew", "because": convex_state.NO_CACHE}
    assert not states(tmp_path)


@pytest.mark.parametrize("name", KEPT)
def test_a_state_that_cannot_go_on_is_not_used(tmp_path: Path, name: str) -> None:
    """Other settings, a record it never saw, nobody who left, another model, a broken file: anew, with the reason."""
    digest = first(tmp_path, name)
    changed = (painted.records(range(30, 34))[0], *STAY)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"penalty": 0.02, "retain": STAY}, convex_state.OTHER_OPTIONS),
        ({"retain": changed}, convex_state.ADDED),
        ({}, convex_state.NOBODY),
        ({"digest": "imported", "retain": STAY}, convex_state.NO_STATE),
    ]
    told = {because: ran(name, asked(tmp_path, name, **{"digest": digest, **more})) for more, because in cases[:3]}
    (tmp_path / name / f"{digest}.safetensors").write_bytes(b"broken")
    told[convex_state.UNREADABLE] = ran(name, asked(tmp_path, name, digest=digest, retain=STAY))
    told[convex_state.NO_STATE] = ran(name, asked(tmp_path, name, **cases[3][0]))

    assert [fitted.details["because"] for fitted in told.values()] == list(told)


def test_states_of_other_versions_are_removed_and_those_of_other_models_stay(tmp_path: Path) -> None:
    """At the start of the following run, whichever of the methods it is of; a model of other classes is another."""
    digest = first(tmp_path, "rewind")
    other = tmp_path / "descent-to-delete" / "someone.safetensors"
    other.parent.mkdir()
    arrays = load((tmp_path / "rewind" / f"{digest}.safetensors").read_bytes())
    other.write_bytes(save({**arrays, "line": np.zeros(32, dtype=np.uint8)}))
    (other.parent / "torn.partial-1").write_bytes(b"half")
    second = asked(tmp_path, "rewind", digest=digest, retain=STAY)
    assert ran("rewind", second).details["state"] == "kept"
    [newer] = [one.stem for one in (tmp_path / "rewind").iterdir() if one.stem != digest]
    ran("newton-removal", asked(tmp_path, "newton-removal", digest=newer, retain=STAY[3:]))

    assert {one.stem for one in states(tmp_path)} >= {newer, "someone"}
    assert not (tmp_path / "rewind" / f"{digest}.safetensors").exists()
    assert not (other.parent / "torn.partial-1").exists()


def test_newton_heads_are_within_the_budget_by_autograd(tmp_path: Path) -> None:
    """The gradient on all that stay with the perturbation of the key, in the sum form, after each of two removals."""
    digest, options = first(tmp_path, "newton-removal"), asked(tmp_path, "newton-removal").options
    for stay in (STAY, STAY[2:]):
        told = asked(tmp_path, "newton-removal", digest=digest, retain=stay, forget=EVERYBODY[: 24 - len(stay)])
        assert ran("newton-removal", told).details["state"] == "kept"
        [path] = [one for one in states(tmp_path) if one.stem != digest]
        digest, arrays, (given_, _) = path.stem, load(path.read_bytes()), convex.posed(told)
        for k in range(4):
            lane = Lane(noise=partial(secret.gaussians, arrays["key"].tobytes()), lane=k, lanes=4)
            b = options.sigma * lane(round_=0, count=given_.shape[1])
            w = torch.from_numpy(arrays["heads"][k].copy()).requires_grad_()
            margins = torch.from_numpy(given_.signs[:, k] * 1.0) * (torch.from_numpy(given_.x) @ w)
            loss = torch.nn.functional.softplus(-margins).sum() + options.penalty * len(stay) / 2 * w @ w
            (slope,) = torch.autograd.grad(loss + torch.from_numpy(b) @ w, w)
            assert float(slope.norm()) <= options.residual
        assert arrays["curvatures"].shape == (4, len(stay))


def test_newton_removal_does_without_the_records_that_left(tmp_path: Path) -> None:
    """Where they are not given the kept inverse steers as it is, and the residual is measured all the same."""
    digest = first(tmp_path, "newton-removal")
    told = asked(tmp_path, "newton-removal", digest=digest, retain=STAY, forget=())

    assert ran("newton-removal", told).details == {"state": "kept", "removed": 3}


def test_a_spent_newton_budget_trains_anew_with_a_fresh_perturbation(tmp_path: Path) -> None:
    """The evidence says so, the key is another, and the same job draws the same again."""
    short = {"residual": 1e-7, "head_steps": 1}
    digest = first(tmp_path, "newton-removal", **short)
    told = [asked(tmp_path, "newton-removal", digest=digest, retain=STAY, **short) for _ in range(2)]
    fitted = [ran("newton-removal", one) for one in told]

    assert fitted[0].details == {"state": "anew", "because": convex_newton.SPENT}
    assert fitted[0].seed_commitment == fitted[1].seed_commitment != secret.commitment(SECRET)
    assert torch.equal(layer(told[0].model), layer(told[1].model))


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 4), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_a_kept_state_ends_within_the_sensitivity_of_training_anew(
    seed: int, steps: int, rounds: int, many: int
) -> None:
    """Whatever left in however many requests, a single record or several: never farther than the noise is made for."""
    whole, _ = problem(seed, rows=60, classes=3, lam=0.05)
    told, rng, left = told_steps(steps, points=60, penalty=0.05), np.random.default_rng(seed), np.arange(60)
    error = told.reach * told.contraction ** told.learning_steps()
    state, given_ = onward(whole, Internal(np.zeros(whole.shape)), told, steps=told.learning_steps()), whole
    for gone in [many] * min(rounds, 30 // many):
        left = rng.permutation(left)[gone:]
        given_ = Stack(x=whole.x[left], signs=whole.signs[left], lam=whole.lam)
        state = onward(given_, state, told, steps=gone * steps)
        error = told.after(error, gone=gone, stay=len(left))
    best = newton(given_, np.zeros(given_.shape), residual=1e-11, limit=60).unnoised
    run = mechanisms._kept(told.to_mapping())

    assert float(np.linalg.norm(state.unnoised - best)) <= error + 1e-7
    assert error <= told.allowed * (1 + 1e-12)
    assert 2 * error <= run.mu(noise=1.0)


def told_steps(steps: int, *, points: int, penalty: float) -> KeptSteps:
    """Descent-to-Delete of three heads."""
    given_ = {"sigma": 1.0, "classes": 3, "points": points, "penalty": penalty, "head_steps": steps}
    options: Any = check_options("unlearn", "descent-to-delete", given_, "image")
    return kept(options)


def test_learning_takes_the_steps_after_which_the_theorem_holds() -> None:
    """No more than one too many, and M is that of K losses with their penalty."""
    told = told_steps(20, points=500, penalty=0.01)
    steps = told.learning_steps()

    assert told.reach * told.contraction**steps <= told.allowed < told.reach * told.contraction ** (steps - 2)
    assert told.slope == steepest(3) == pytest.approx(2 * math.sqrt(3))


@pytest.mark.parametrize(
    ("more", "because"),
    [
        ({"retain": EVERYBODY[13:]}, convex_kept.TOO_FEW),
        ({"retain": STAY, "points": 43}, convex_kept.TOO_FEW),
        ({"retain": STAY, "points": 42}, ""),
    ],
)
def test_descent_trains_anew_where_fewer_than_half_stay(tmp_path: Path, more: dict[str, Any], because: str) -> None:
    """Of those that it was trained on, and of those that the noise is made for."""
    digest = first(tmp_path, "descent-to-delete", points=24)
    fitted = ran("descent-to-delete", asked(tmp_path, "descent-to-delete", digest=digest, **{"points": 24, **more}))

    assert fitted.details.get("because", "") == because
    assert fitted.steps == (3 * 40 if not because else fitted.steps)


def test_a_state_that_lies_too_far_from_the_minimum_is_not_gone_on_from(tmp_path: Path) -> None:
    """The error that the theorem bounds is kept with the state and checked against the noise."""
    digest = first(tmp_path, "descent-to-delete")
    path = tmp_path / "descent-to-delete" / f"{digest}.safetensors"
    arrays = load(path.read_bytes())
    about = {**json.loads(arrays["about"].tobytes()), "error": 1e9}
    path.write_bytes(save({**arrays, "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}))
    fitted = ran("descent-to-delete", asked(tmp_path, "descent-to-delete", digest=digest, retain=STAY))

    assert fitted.details["because"] == convex_kept.TOO_FAR


def test_rewinding_takes_the_last_steps_again_and_trains_anew_where_too_many_left(tmp_path: Path) -> None:
    """Those that left in earlier requests count as well, because the checkpoint still holds them."""
    digest = first(tmp_path, "rewind")
    told = asked(tmp_path, "rewind", digest=digest, retain=STAY)
    fitted = ran("rewind", told)
    [path] = [one for one in states(tmp_path) if one.stem != digest]
    again = ran("rewind", asked(tmp_path, "rewind", digest=path.stem, retain=STAY[2:]))

    assert (fitted.steps, fitted.details) == (6, {"state": "kept", "removed": 3})
    assert again.details == {"state": "anew", "because": convex_kept.TOO_MANY}


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("rewind", {"smoothness": 0.02}, "larger ones were seen"),
        ("rewind", {"slope": 0.1}, "larger ones were seen"),
        ("rewind", {"rewound": 8}, "a step before the checkpoint"),
        ("rewind", {"rate": 4.0}, "a rate of at most"),
        ("descent-to-delete", {"classes": 3}, "computed for 3 classes"),
        ("newton-removal", {"retain": painted.records([0, 1, 2])}, "one of each class"),
    ],
)
def test_a_run_that_its_theorem_does_not_cover_is_refused(
    tmp_path: Path, name: str, changes: dict[str, Any], sentence: str
) -> None:
    """Constants that samples exceed, steps too long, noise for other classes, a class that nobody is left of."""
    with pytest.raises(EngineError, match=sentence):
        ran(name, asked(tmp_path, name, **changes))
    assert not states(tmp_path)


def test_keys_and_numbers_of_a_state_do_not_show() -> None:
    """Neither in what a state says of itself nor in what a run says of its start."""
    state = convex_state.State(key=b"k" * 32, tags=(b"t" * 32,), numbers={"heads": np.ones(3)}, about={"learned": 1})
    begun = convex_begun.Begun(found=None, because="x", settings={}, key=b"k" * 32)

    assert repr(state) == "State(about={'learned': 1})"
    assert "kkk" not in repr(begun)
    assert set(KEPT) == set(KEEPING)
