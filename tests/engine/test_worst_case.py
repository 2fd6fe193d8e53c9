"""Worst-case forget sets: the projection, the weights that move, and a search from a job to two files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import ResNetConfig, ResNetForImageClassification

from engine.catalogue import check_options
from engine.checkpoints import save
from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import Record, digest, read_records, write_records
from engine.digests import file_digest
from engine.errors import EngineError
from engine.methods import Setting
from engine.run import run
from engine.verification.worst_case.lower import Lower, Signed
from engine.verification.worst_case.selection import Rule, begun, in_ranks, mean_by, overlap, travelled
from engine.verification.worst_case.simplex import Floats, project
from tests.engine import painted, tiny

NUMBERS = st.floats(-1e3, 1e3) | st.sampled_from([0.0, 0.5, 1.0])
VECTORS = arrays(np.float64, st.integers(1, 12), elements=NUMBERS)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Floats, float]:
    """Values, and a sum that their projection can have."""
    values = draw(VECTORS)
    return values, draw(st.integers(0, len(values)) | st.floats(0, len(values)))


@given(problems())
def test_a_projection_is_allowed(problem: tuple[Floats, float]) -> None:
    """Its entries lie in [0, 1] and add up to what was asked for."""
    values, total = problem
    made = project(values, total)

    assert (made >= 0).all()
    assert (made <= 1).all()
    assert made.sum() == pytest.approx(total, abs=1e-9)


@given(problems())
def test_a_projection_is_the_nearest_allowed_point(problem: tuple[Floats, float]) -> None:
    """The conditions of Karush, Kuhn and Tucker hold, which for this quadratic program are sufficient.

    With the slope s_i = a_i - w_i one mu is at least s_i where w_i = 0, at most where w_i = 1, and equal in between.
    """
    values, total = problem
    made = project(values, total)
    slopes = values - made
    at_least = slopes[made < 1]  # could grow: mu is no smaller
    at_most = slopes[made > 0]  # could shrink: mu is no larger
    if len(at_least) and len(at_most):
        assert at_least.max() <= at_most.min() + 1e-9


@given(problems())
def test_a_projection_stays_where_it_is(problem: tuple[Floats, float]) -> None:
    """Projecting twice is projecting once."""
    made = project(*problem)

    assert np.allclose(project(made, float(made.sum())), made, atol=1e-9)


@given(problems())
def test_a_projection_keeps_the_order(problem: tuple[Floats, float]) -> None:
    """What was larger is no smaller afterwards, and equal stays equal."""
    values, total = problem
    order = np.argsort(values, kind="stable")
    made = project(values, total)

    assert (np.diff(made[order]) >= -1e-12).all()
    assert all(len(set(made[values == value])) == 1 for value in values)


def test_projections_by_hand() -> None:
    """Between the caps all lose the same; at a cap, the others share what is left."""
    assert project(np.array([0.5, 0.7, 0.9]), 1.5) == pytest.approx([0.3, 0.5, 0.7])
    assert project(np.array([3.0, 0.2, 0.4]), 2.0) == pytest.approx([1.0, 0.4, 0.6])
    assert project(np.array([5.0, -5.0, 0.0]), 1.0) == pytest.approx([1.0, 0.0, 0.0])
    assert project(np.full(4, 1e17), 1.0) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize(
    ("values", "total", "sentence"),
    [
        ([0.1, 0.2], 3.0, "2 entries cannot have the sum 3"),
        ([0.1, 0.2], float("nan"), "cannot have the sum nan"),
        ([0.1, float("nan")], 1.0, "are not finite"),
        ([0.1, float("inf")], 1.0, "are not finite"),
    ],
)
def test_what_cannot_be_projected_is_refused(values: list[float], total: float, sentence: str) -> None:
    """In one sentence; NaN never passes."""
    with pytest.raises(EngineError, match=sentence):
        project(np.array(values), total)


def simulated(step: float, *, ranked: bool, rounds: int = 20) -> float:
    """The overlap with a random binary start after rounds on fixed losses of 4,500 records, a tenth of them chosen."""
    rng = np.random.default_rng(0)
    losses = rng.exponential(0.15, 4500)
    drawn = rng.choice(4500, 450, replace=False)
    weights = begun(4500, drawn, binary=True)
    rule = Rule(count=450, step=step, ranked=ranked)
    for _ in range(rounds):
        weights = rule.moved(weights, losses)
    return overlap(rule.chosen(weights, losses), drawn)


def test_the_published_step_does_not_leave_its_random_start() -> None:
    """At 10^-3 on losses the set that comes out is the one that went in; on ranks a step of 1 does move."""
    assert simulated(1e-3, ranked=False) == 1.0
    assert simulated(1e-2, ranked=False) == 1.0
    assert simulated(1.0, ranked=True) < 0.2


def test_the_upper_level_finds_the_smallest_losses() -> None:
    """On losses that do not depend on the weights the answer is known; the easiest set is the other end."""
    losses = np.random.default_rng(1).permutation(50).astype(float)
    for easiest in (False, True):
        rule = Rule(count=5, step=1.0, easiest=easiest)
        weights = begun(50, np.arange(5), binary=True)
        for _ in range(20):
            weights = rule.moved(weights, losses)
        assert sorted(losses[rule.chosen(weights, losses)]) == ([45, 46, 47, 48, 49] if easiest else [0, 1, 2, 3, 4])


def test_a_step_by_hand() -> None:
    """Ranks 0, 1/2, 1 and gamma = 1/4 lead from (1, 0, 0) to (1/2, -1/2, -1), and from (0, 0, 1) to (0, -1/2, -1/2)."""
    rule = Rule(count=1, step=1.0, penalty=0.25)

    assert rule.moved(np.array([1.0, 0.0, 0.0]), np.array([0.1, 7.0, 9.0])) == pytest.approx([1.0, 0.0, 0.0])
    assert rule.moved(np.array([0.0, 0.0, 1.0]), np.array([0.1, 7.0, 9.0])) == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_ranks_overlaps_and_means_by_hand() -> None:
    """Ties share a rank; one record is at 0; what moved is counted once."""
    assert in_ranks(np.array([3.0, 1.0, 3.0])) == pytest.approx([0.75, 0.0, 0.75])
    assert in_ranks(np.array([3.0])) == pytest.approx([0.0])
    assert overlap(np.array([1, 2]), np.array([2, 5])) == 0.5
    assert travelled(np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0])) == 0.5
    assert mean_by(np.array([0, 1, 0]), np.array([1.0, 5.0, 2.0])) == pytest.approx([1.5, 5.0])


def test_losses_that_are_not_finite_move_nothing() -> None:
    """NaN has no rank."""
    with pytest.raises(EngineError, match="not finite"):
        Rule(count=1, step=1.0).moved(np.array([0.5, 0.5]), np.array([1.0, float("nan")]))


def test_a_sign_step_by_hand() -> None:
    """Every coordinate with a gradient moves by the rate, whatever the gradient's size."""
    parameter = torch.nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
    parameter.grad = torch.tensor([1e-9, -5.0, 0.0])
    Signed([parameter], 0.25).step()

    assert parameter.tolist() == [0.75, 1.25, 1.0]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that has learned forty pictures, of which four have another class's label."""
    folder = tmp_path_factory.mktemp("chosen")
    records = list(painted.records(range(40), a_unit=2))
    for i in (3, 14, 21, 36):
        wrong = painted.LABELS[(i + 1) % len(painted.LABELS)]
        records[i] = Record(record_id=f"wrong-{i}", unit=f"other-{i}", image=records[i].image, label=wrong)
    write_records(folder / "all.jsonl", records)
    save(folder / "start", *painted.network())
    fit = {"epochs": 6, "batch": 8}
    run(
        Job(
            version=VERSION,
            kind=Kind.TRAIN,
            seed=3,
            task="image",
            model="start",
            train="all.jsonl",
            out="m",
            options=fit,
        ),
        folder,
        tiny.quiet,
    )
    return folder


def select(folder: Path, out: str, **options: Any) -> Evidence:  # noqa: ANN401 - any option
    """A search for eight records, with what a test changes."""
    told = {"count": 8, "rounds": 4, "epochs": 1, "batch": 16, "start": "random", **options}
    job = Job(
        version=VERSION, kind=Kind.WORST_CASE, seed=5, task="image", model="m", train="all.jsonl", out=out, options=told
    )
    return run(job, folder, tiny.quiet)


def names(folder: Path, out: str, which: str = "forget") -> set[str]:
    """The ids of one of the sets that a search wrote."""
    return {record.record_id for record in read_records(folder / out / f"{which}.jsonl")}


def test_a_search_leaves_two_sets_and_no_id_in_its_evidence(place: Path) -> None:
    """Chosen and others make up the records; what is told are numbers and digests, and the start was left."""
    evidence = select(place, "worst", rounds=10)
    known = {record.record_id for record in read_records(place / "all.jsonl")}
    told = evidence.training or {}

    assert len(names(place, "worst")) == 8
    assert names(place, "worst") | names(place, "worst", "retain") == known
    assert evidence.model_files["forget.jsonl"].sha256 == file_digest(place / "worst" / "forget.jsonl")
    assert evidence.data_digests["forget"] == digest(read_records(place / "worst" / "forget.jsonl"))
    assert not any(name in evidence.to_json() for name in known)
    assert (told["candidates"], told["chosen"]) == (40, 8)
    assert told["overlap"] < 0.5
    assert told["moved"] > 0.5
    assert told["loss_chosen"] < told["loss_all"]
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_what_has_a_wrong_label_is_hard_to_keep_and_easy_to_forget(place: Path) -> None:
    """None of them is in the worst set, and most are in the easiest."""
    wrong = {f"wrong-{i}" for i in (3, 14, 21, 36)}
    evidence = select(place, "easiest", reverse=True, rounds=8)
    select(place, "hardest", rounds=8)
    told = evidence.training or {}

    assert len(names(place, "easiest") & wrong) >= 3
    assert not names(place, "hardest") & wrong
    assert told["loss_chosen"] > told["loss_all"]


def test_one_seed_gives_one_set(place: Path) -> None:
    """Byte for byte, and the model is read back for each round."""
    for out in ("once", "twice"):
        select(place, out, lower="ascent", start="uniform")

    assert (place / "once" / "forget.jsonl").read_bytes() == (place / "twice" / "forget.jsonl").read_bytes()


def test_classes_and_data_subjects_are_chosen_whole(place: Path) -> None:
    """One weight for what is forgotten together."""
    select(place, "class", by="class", count=1)
    select(place, "unit", by="unit", count=3)
    classes = [{r.label for r in read_records(place / "class" / f"{name}.jsonl")} for name in ("forget", "retain")]
    units = [{r.unit for r in read_records(place / "unit" / f"{name}.jsonl")} for name in ("forget", "retain")]

    assert [len(one) for one in classes] == [1, 3]
    assert not classes[0] & classes[1]
    assert len(units[0]) == 3
    assert not units[0] & units[1]


def test_a_round_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    """A network with batch normalisation is asked twice and gives the same losses, and others for other weights."""
    names = dict(enumerate(painted.LABELS))
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[8], depths=[1])
    config.id2label, config.label2id = names, {name: i for i, name in names.items()}
    model, (_, pixels) = ResNetForImageClassification(config), painted.network()
    save(tmp_path / "m", model, pixels)
    options: Any = check_options("worst_case", None, {"count": 2, "epochs": 1, "batch": 8}, "image")
    rest: dict[str, Any] = {"seed": 1, "progress": tiny.quiet, "digest": "x", "cache": tmp_path, "forget": ()}
    records = painted.records(range(16))
    lower = Lower(Setting(model=model, reader=pixels, retain=records, options=options, folder=tmp_path / "m", **rest))
    asked = [lower.losses(weights, 0) for weights in (np.zeros(16), np.eye(16)[3], np.zeros(16))]

    assert np.array_equal(asked[0], asked[2])
    assert not np.array_equal(asked[0], asked[1])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"count": 40}, "below the number of records, which is 40"),
        ({"count": 4, "by": "class"}, "below the number of classes, which is 4"),
        ({"count": 99, "by": "unit"}, "below the number of data subjects, which is"),
        ({"count": 0}, "options.count must be at least 1"),
        ({"rate": 1e30}, "not finite"),
        ({"by": "person"}, "must be one of: record, unit, class"),
    ],
)
def test_a_search_that_cannot_be_done_is_refused(place: Path, options: dict[str, Any], sentence: str) -> None:
    """In one sentence, and nothing is left behind."""
    with pytest.raises(EngineError, match=sentence):
        select(place, "no", **options)
    assert not (place / "no").exists()
    assert not list(place.glob(".no*"))


def test_a_search_is_for_pictures(place: Path) -> None:
    """A language model has no such job yet."""
    job = Job(
        version=VERSION, kind=Kind.WORST_CASE, seed=5, model="m", train="all.jsonl", out="no", options={"count": 1}
    )
    with pytest.raises(EngineError, match="there are no options for kind"):
        run(job, place, tiny.quiet)
