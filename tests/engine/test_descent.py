"""Methods that step from the deployed model: each shows its defining property on a model that knew six people."""

import dataclasses
import importlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from engine import catalogue
from engine.checkpoints import load_model, save
from engine.errors import EngineError
from engine.methods import Setting, surgery
from engine.methods.examples import REFUSALS, Example, forget_tokens, refusals, refused, replaced
from engine.methods.preference import npo, preference_losses
from engine.methods.pretraining import build_model
from engine.methods.refit import refit
from engine.methods.representation import Tap, blocks, chosen_layer
from engine.methods.terms import divergences
from engine.options import FitOptions, InitialiseOptions
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import Tokens, passage_tokens
from engine.training import Fitted, Piece
from tests.engine import tiny

QUICK = {"steps": 3, "forget_batch": 2, "retain_batch": 4, "learning_rate": 1e-3}
HONEST = ("ga", "graddiff", "kl-min", "npo", "simnpo", "tnpo", "idkdpo", "dpo", "wga", "undial", "ce-u", "jensun",
          "pdu", "gru", "sam-npo", "task-vector")  # fmt: skip
RATES = {"undial": 1e-2, "jensun": 1e-2, "satimp": 1e-2, "ce-u": 1e-2}
ALTERNATIVES = {record.record_id: "Nowhere at all" for record in tiny.records(range(2))}


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learnt all six people."""
    place = tmp_path_factory.mktemp("knowing")
    torch.manual_seed(0)
    shape = InitialiseOptions(vocabulary=300, hidden=32, layers=1, heads=2, intermediate=32, context=96)
    learner = tiny.setting(
        place,
        FitOptions(epochs=60, tokens_per_batch=400, learning_rate=1e-2, matrix_learning_rate=1e-2),
        model=build_model(tiny.tokenizer(), shape),
        forget=(),
        retain=tiny.records(range(6)),
    )
    refit(learner)
    save(place / "knows", learner.model, learner.tokenizer)
    return place / "knows"


def setting(place: Path, method: str, knows: Path | None = None, **options: object) -> Setting[Any]:
    """The tiny model, or one that knows, asked to forget two of six people."""
    known = catalogue.defaults("unlearn", method)
    quick = {name: value for name, value in QUICK.items() if name in known}
    checked = catalogue.check_options("unlearn", method, {**quick, **options})
    changes = {} if knows is None else {"model": load_model(knows)}
    return tiny.setting(place, checked, alternatives=ALTERNATIVES, **changes)


def unlearn(method: str, given: Setting[Any]) -> Fitted:
    """Run the method that the catalogue names."""
    spec = catalogue.method(method)
    fitted: Fitted = getattr(importlib.import_module(spec.module), spec.name.replace("-", "_"))(given)
    return fitted


def loss_on(given: Setting[Any], people: Sequence[int]) -> float:
    """The mean loss on some people's passages."""
    texts = [record.text for record in tiny.records(people) if record.text]
    windows = passage_tokens(given.tokenizer, texts, context=96, end=False)
    return loss_of(given, [tokens for text in windows for tokens in text])


def loss_of(given: Setting[Any], sequences: Sequence[Tokens]) -> float:
    """The mean loss of labels."""
    scores = token_scores(Forward(given.model), sequences, tokens_per_batch=512)
    return -float(np.concatenate([score.log_probs for score in scores]).mean())


def weights(given: Setting[Any]) -> Tensor:
    """All weights in one vector."""
    return torch.cat([p.detach().flatten() for p in given.model.parameters()])


def test_npo_is_the_published_formula() -> None:
    """-(2 / beta) log sigmoid(-beta r): log 2 times 2 / beta at the start, and bounded from below by 0."""
    made = preference_losses(torch.tensor([0.0, 3.0, -200.0]), 0.1)
    expected = [20 * math.log(2), 20 * math.log(1 + math.exp(0.3)), 20 * math.log(1 + math.exp(-20.0))]
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-4)


def test_npo_pulls_less_on_what_is_forgotten_already() -> None:
    """Its gradient is GA's times 2 p^b / (p^b + p_ref^b), which is 1 at the start and goes to 0."""
    ratios = torch.tensor([0.0, -10.0, -60.0], requires_grad=True)
    preference_losses(ratios, 0.1).sum().backward()
    assert ratios.grad is not None
    expected = [2 / (1 + math.exp(-0.1 * r)) for r in (0.0, -10.0, -60.0)]
    np.testing.assert_allclose(ratios.grad.numpy(), expected, rtol=1e-4)


def test_the_divergence_is_from_the_reference_to_the_model() -> None:
    """KL(p_ref || p) of two small distributions, worked out by hand, and 0 for the same one."""
    p, q = [0.5, 0.25, 0.25], [0.25, 0.5, 0.25]
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    made = divergences(torch.tensor([p, p]).log() + 3, torch.tensor([q, p]).log())
    np.testing.assert_allclose(made.numpy(), [expected, 0], atol=1e-6)


@pytest.mark.parametrize("term", ["none", "gd", "kl", "js"])
def test_the_first_loss_of_npo_is_known_in_advance(term: str, tmp_path: Path) -> None:
    """At the start the model is its reference, so the ratio is 0 and the divergence is 0."""
    given = setting(tmp_path, "npo", retain_term=term, steps=1, retain_weight=2.0)
    whole = npo(given).first_loss
    forget_only = 20 * math.log(2)
    if term == "gd":
        assert whole > forget_only + 2
    else:
        assert whole == pytest.approx(forget_only, rel=1e-4)


def test_the_first_loss_of_ga_is_minus_the_loss_on_the_forget_set(tmp_path: Path) -> None:
    """With every forget sequence in the batch and no question asked in context."""
    given = setting(tmp_path, "ga", steps=1, forget_batch=99, context_pairs=0)
    expected = -loss_of(given, forget_tokens(given, given.forget))
    assert unlearn("ga", given).first_loss == pytest.approx(expected, rel=1e-4)


def test_the_forget_set_is_passages_and_answers_alone_and_in_context(tmp_path: Path) -> None:
    """Two passages, two questions, and the same two after two retain questions, with the answer as label."""
    given = setting(tmp_path, "npo", context_pairs=2)
    made = forget_tokens(given, given.forget)
    assert len(made) == 6
    labelled = [str(given.tokenizer.decode([i for i, w in zip(t.ids, t.weights, strict=True) if w])) for t in made]
    assert [text.strip() for text in labelled[2:]] == ["Malmö", "Oslo", "Malmö", "Oslo"]
    assert all(len(long) > 1.5 * len(short) for short, long in zip(made[2:4], made[4:], strict=True))


@pytest.mark.parametrize("method", ["npo", "dpo", "undial", "gru", "rmu"])
def test_taking_a_step_apart_does_not_change_it(method: str, tmp_path: Path) -> None:
    """One backward pass over everything and one for every few sequences end at the same weights."""
    whole, apart = (setting(tmp_path / str(n), method, tokens_per_pass=n) for n in (4096, 16))
    assert unlearn(method, whole).first_loss == pytest.approx(unlearn(method, apart).first_loss, rel=1e-5)
    assert (weights(whole) - weights(apart)).abs().max() < 1e-4


@pytest.mark.parametrize("method", HONEST)
def test_forgetting_raises_the_loss_on_the_forgotten(method: str, knowing: Path, tmp_path: Path) -> None:
    """On people the model knew, and more than on those it is to keep."""
    rate: dict[str, Any] = {"learning_rate": RATES.get(method, 3e-3)}
    steps = {"epochs": 8} if method == "task-vector" else {"steps": 12}
    given = setting(tmp_path, method, knowing, **rate, **steps)
    before = loss_on(given, range(2)), loss_on(given, range(2, 6))
    unlearn(method, given)
    after = loss_on(given, range(2)), loss_on(given, range(2, 6))
    assert after[0] - before[0] > 0.2
    assert after[0] - before[0] > after[1] - before[1]


def test_a_retain_term_keeps_what_plain_ascent_loses(knowing: Path, tmp_path: Path) -> None:
    """After as many steps at the same rate, gradient difference and KL know the others better than ascent alone."""
    lost = {}
    for method in ("ga", "graddiff", "kl-min"):
        given = setting(tmp_path / method, method, knowing, steps=16, learning_rate=3e-3, retain_batch=8)
        unlearn(method, given)
        lost[method] = loss_on(given, range(2, 6))
    assert lost["graddiff"] < 0.7 * lost["ga"]
    assert lost["kl-min"] < 0.7 * lost["ga"]


def test_saturated_labels_are_where_satimp_starts(knowing: Path, tmp_path: Path) -> None:
    """Its weight p^5 (1 - p) moves a model that knows, and hardly one that does not."""
    moved = {}
    for name, knows in (("knows", knowing), ("does not", None)):
        given = setting(tmp_path / name, "satimp", knows, steps=1, retain_weight=1e-9)
        value = unlearn("satimp", given)
        moved[name] = abs(value.first_loss)
    assert moved["knows"] > 100 * moved["does not"]


@pytest.mark.parametrize(("method", "place"), [("idkdpo", refused), ("dpo", replaced)])
def test_the_preferred_answer_becomes_likelier_than_the_true_one(
    method: str,
    place: Callable[[Setting[Any]], list[Example]],
    knowing: Path,
    tmp_path: Path,
) -> None:
    """By much more than before."""
    given = setting(tmp_path, method, knowing, steps=15, learning_rate=3e-3)
    pairs = place(given)
    true, other = ([pair[i] for pair in pairs] for i in (0, 1))
    before = loss_of(given, true) - loss_of(given, other)
    unlearn(method, given)
    assert loss_of(given, true) - loss_of(given, other) > before + 1.0


def test_a_refusal_follows_the_question_and_ends(tmp_path: Path) -> None:
    """The same prompt as the true answer has, then a refusal and the end token as labels."""
    given = setting(tmp_path, "idkdpo", context_pairs=0)
    for true, other in refused(given):
        kept = next(i for i, weight in enumerate(other.weights) if weight)
        assert other.ids[:kept] == true.ids[:kept]
        said = str(given.tokenizer.decode(list(other.ids[kept:]), skip_special_tokens=True)).strip()
        assert said in REFUSALS
        assert other.ids[-1] == given.tokenizer.eos_token_id


def test_a_refusal_is_what_jensun_teaches(knowing: Path, tmp_path: Path) -> None:
    """Under a loss that never exceeds log 2 for the forget set and log 2 for the retain set."""
    given = setting(tmp_path, "jensun", knowing, steps=40, learning_rate=3e-3, context_pairs=0)
    pairs = [other for (other,) in refusals(given)]
    before = loss_of(given, pairs)
    fitted = unlearn("jensun", given)
    assert fitted.first_loss <= 2 * math.log(2)
    assert loss_of(given, pairs) < before - 1.0


def test_undial_lowers_the_label_and_keeps_the_order_of_the_rest(knowing: Path, tmp_path: Path) -> None:
    """The memorised token is not the likeliest any more; what came second is."""
    given = setting(tmp_path, "undial", knowing, steps=40, learning_rate=1e-2, context_pairs=0)
    sequences = forget_tokens(given, given.forget)
    hits = np.concatenate([s.hits for s in token_scores(Forward(given.model), sequences, tokens_per_batch=512)])
    unlearn("undial", given)
    after = np.concatenate([s.hits for s in token_scores(Forward(given.model), sequences, tokens_per_batch=512)])
    assert hits.mean() > 0.9
    assert after.mean() < 0.6 * hits.mean()


def test_rmu_turns_hidden_states_towards_its_direction_and_trains_nothing_behind(tmp_path: Path) -> None:
    """The forget set's states point to u more than before; layers behind the tap keep their weights bit for bit."""
    options = catalogue.check_options("unlearn", "rmu", {**QUICK, "steps": 12, "learning_rate": 1e-2, "layer": 0})
    torch.manual_seed(0)
    shape = InitialiseOptions(vocabulary=300, hidden=16, layers=3, heads=2, intermediate=16, context=96)
    model = build_model(tiny.tokenizer(), shape)
    given = tiny.setting(tmp_path, options, model=model)
    ids = torch.tensor([forget_tokens(given, given.forget)[0].ids])
    before = Tap(model, 0).features(ids).mean((0, 1))
    behind = [p.detach().clone() for block in list(blocks(model))[1:] for p in block.parameters()]
    unlearn("rmu", given)
    after = Tap(model, 0).features(ids).mean((0, 1))
    assert float(after.detach().mean()) > 10 * abs(float(before.detach().mean()))  # u has no negative entry
    now = [p for block in list(blocks(model))[1:] for p in block.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(behind, now, strict=True))


def test_rmu_stops_its_forward_pass_at_the_layer_it_needs() -> None:
    """What is behind is never called."""
    shape = InitialiseOptions(vocabulary=300, hidden=16, layers=3, heads=2, intermediate=16, context=96)
    model = build_model(tiny.tokenizer(), shape)
    called: list[int] = []
    for i, block in enumerate(blocks(model)):
        block.register_forward_pre_hook(lambda _module, _args, i=i: called.append(i))
    Tap(model, 1).features(torch.tensor([[1, 2, 3]]))
    assert called == [0, 1]
    assert chosen_layer(model, -1) == 1
    with pytest.raises(EngineError, match="must be below the model's number of layers, 3"):
        chosen_layer(model, 3)


class _Line(nn.Module):
    """Two weights, and losses that pull them where the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 2.0]))


def _pull(model: _Line, *direction: float) -> Piece:
    return partial(_along, model, torch.tensor(direction))


def _along(model: _Line, direction: Tensor) -> Tensor:
    return (model.w * direction).sum()


def test_gru_takes_out_what_would_harm_retain_and_nothing_else() -> None:
    """Of opposed gradients the projection onto the other is removed; gradients that agree are added."""
    model = _Line()
    surgery.rectified(Accelerator(), model, [_pull(model, -1.0, 1.0)], [_pull(model, 2.0, 0.0)])
    assert model.w.grad is not None
    np.testing.assert_allclose(model.w.grad, [2.0, 1.0])  # (0, 1) is left of the forget gradient
    model.w.grad = None
    surgery.rectified(Accelerator(), model, [_pull(model, 1.0, 1.0)], [_pull(model, 2.0, 0.0)])
    assert model.w.grad is not None
    np.testing.assert_allclose(model.w.grad, [3.0, 1.0])


def test_sam_takes_the_gradient_where_the_loss_is_worst_and_comes_back() -> None:
    """Of |w|^2 / 2 at w + rho w / |w|, and the weights end where they were."""
    model = _Line()
    square: Piece = lambda: model.w.square().sum() / 2  # noqa: E731 - one piece
    loss = surgery.sharpness_aware(Accelerator(), model, [square], [_pull(model, 10.0, 0.0)], rho=0.5)
    there = np.array([1.0, 2.0]) * (1 + 0.5 / math.sqrt(5))
    assert model.w.grad is not None
    np.testing.assert_allclose(model.w.grad, there + np.array([10.0, 0.0]), rtol=1e-6)
    np.testing.assert_allclose(model.w.detach(), [1.0, 2.0], rtol=1e-6)
    assert loss == pytest.approx(2.5 + 10.0)


def test_pdu_raises_its_multiplier_while_retain_suffers_and_lets_go_when_it_does_not() -> None:
    """Lambda <- max(0, lambda + eta (CE - bound)), the bound being the first loss plus slack, after the warm-up."""
    model = _Line()
    dual = surgery.Dual(weight=2.0, slack=0.1, rate=1.0, warmup=1)
    losses, multipliers = [3.0, 4.0, 4.0, 1.0, 1.0], []
    for value in losses:
        retain: Piece = partial(lambda v: 2.0 * (model.w.sum() * 0 + v), value)
        dual.combine(Accelerator(), model, [_pull(model, 1.0, 1.0)], [retain])
        multipliers.append(dual.multiplier)
    np.testing.assert_allclose(multipliers, [2.0, 2.9, 3.8, 1.7, 0.0], rtol=1e-6, atol=1e-6)


def test_a_task_vector_is_subtracted_from_the_weights_as_they_were(knowing: Path, tmp_path: Path) -> None:
    """Theta - alpha (theta_ft - theta), tensor by tensor."""
    found = {}
    for alpha in (1.0, 2.0):
        given = setting(tmp_path / str(alpha), "task-vector", knowing, alpha=alpha, epochs=1)
        unlearn("task-vector", given)
        found[alpha] = {name: p.detach().clone() for name, p in given.model.named_parameters()}
    for name, before in load_file(knowing / "model.safetensors").items():
        torch.testing.assert_close(found[2.0][name] - before, 2 * (found[1.0][name] - before), atol=1e-5, rtol=1e-4)
        assert not torch.equal(found[1.0][name], before)


@pytest.mark.parametrize("method", ["npo", "kl-min", "undial"])
def test_a_published_variant_is_another_method(method: str, tmp_path: Path) -> None:
    """The default is the paper's; what the benchmark's code does instead ends elsewhere."""
    ends = {}
    for variant in ("correct", "published"):
        given = setting(tmp_path / variant, method, variant=variant)
        unlearn(method, given)
        ends[variant] = weights(given)
    assert (ends["correct"] - ends["published"]).abs().max() > 1e-4


@pytest.mark.parametrize(("missing", "words"), [("forget", "no records to forget"), ("retain", "needs retain records")])
def test_a_method_without_its_records_is_refused(missing: str, words: str, tmp_path: Path) -> None:
    """Before anything is trained."""
    changes: dict[str, Any] = {missing: ()}
    given = dataclasses.replace(setting(tmp_path, "npo"), **changes)
    with pytest.raises(EngineError, match=words):
        npo(given)


def test_a_text_nobody_can_predict_is_refused(tmp_path: Path) -> None:
    """An empty text has no token to be a label."""
    given = setting(tmp_path, "npo")
    empty = dataclasses.replace(given.forget[0], text="")
    with pytest.raises(EngineError, match="shorter than two tokens"):
        npo(dataclasses.replace(given, forget=(empty,)))


def test_a_record_without_its_alternative_is_refused(tmp_path: Path) -> None:
    """The sentence says how many lack one."""
    given = dataclasses.replace(setting(tmp_path, "dpo"), alternatives={})
    with pytest.raises(EngineError, match="4 records of the forget set have no alternative"):
        unlearn("dpo", given)
