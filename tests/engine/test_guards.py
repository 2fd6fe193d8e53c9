"""Guard folders: written beside an untouched model, loaded by one call, and gone when they are removed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from engine import guards
from engine.checkpoints import load_model, save
from engine.digests import model_digest, model_files
from engine.errors import EngineError
from engine.guards.contrast import ContrastGuard, Parameters, contrasted
from engine.tasks.generation import generate, stop_at_end
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import Tokens
from tests.engine import tiny

ALPHA = 2.0
IDS = torch.arange(40, 58).view(2, 9)


def changed(seed: int = 4) -> dict[str, Tensor]:
    """Another model's blocks: what training changed."""
    return {name: p.detach() for name, p in tiny.model(seed).named_parameters() if "layers" in name}


def guarded_folder(path: Path) -> Path:
    """The tiny model, guarded by contrast with another one."""
    guard = ContrastGuard(parameters=Parameters(alpha=ALPHA), tensors=changed())
    guards.Beside(source=tiny.folder(path / "model", seed=3), guard=guard).save(path / "guarded")
    return path / "guarded"


def second() -> LlamaForCausalLM:
    """The reinforced model, put together by hand."""
    model = tiny.model(seed=3)
    model.load_state_dict({**model.state_dict(), **changed()})
    return model


@torch.no_grad()
def uncached(ids: Tensor, steps: int) -> Tensor:
    """Greedy contrast of two models that read everything again for every token."""
    first, other = tiny.model(seed=3), second()
    for _ in range(steps):
        z, reinforced = (model(ids, use_cache=False).logits[:, -1].double() for model in (first, other))
        best = (z - ALPHA * (reinforced - z).clamp(min=0)).argmax(-1, keepdim=True)
        ids = torch.cat([ids, best], dim=1)
    return ids


def test_the_contrast_is_the_published_formula() -> None:
    """z_b - alpha relu(z_r - z_b): what the reinforced model raised is lowered, what it lowered stays."""
    made = contrasted(torch.tensor([1.0, 2.0, -3.0]), torch.tensor([2.5, 1.0, -3.0]), 4.0)
    assert made.tolist() == [1.0 - 4 * 1.5, 2.0, -3.0]


def test_a_guarded_model_generates_the_contrast_token_by_token(tmp_path: Path) -> None:
    """By the library's own loop, by beams of one row and by ours, with a cache for both models."""
    model: Any = guards.load(guarded_folder(tmp_path))
    expected = uncached(IDS, 8)
    assert torch.equal(model.generate(IDS, max_new_tokens=8, do_sample=False), expected)
    prompts = [[*IDS[0].tolist()], [*IDS[0, :5].tolist(), 70, 71]]
    ours = generate(model, prompts, limits=[8, 6], stop=stop_at_end(tiny.tokenizer()))
    alone = [uncached(torch.tensor([prompt]), 8)[0, len(prompt) :].tolist() for prompt in prompts]
    assert ours == [alone[0], alone[1][:6]]


def test_beams_that_are_reordered_reorder_the_cache_of_both_models(tmp_path: Path) -> None:
    """With and without a cache the same beams win."""
    model: Any = guards.load(guarded_folder(tmp_path))
    beams: dict[str, Any] = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False}
    assert torch.equal(model.generate(IDS, **beams), model.generate(IDS, **beams, use_cache=False))


def test_teacher_forced_scores_are_those_of_the_contrast(tmp_path: Path) -> None:
    """Each label's log-probability in float64, also where sequences share a beginning."""
    forward = Forward(guards.load(guarded_folder(tmp_path)))
    rows = [tuple(IDS[0].tolist()), (*IDS[0, :7].tolist(), 80, 81)]
    scores = token_scores(forward, [Tokens(ids=ids, weights=(1.0,) * 9) for ids in rows], tokens_per_batch=64)
    with torch.no_grad():
        z, reinforced = (model(torch.tensor(rows)).logits.double() for model in (tiny.model(seed=3), second()))
    expected = (z - ALPHA * (reinforced - z).clamp(min=0)).log_softmax(-1)
    for row, score in enumerate(scores):
        taken = [float(expected[row, i, token]) for i, token in enumerate(rows[row][1:])]
        np.testing.assert_allclose(score.log_probs, taken, rtol=1e-4)


@torch.no_grad()
def test_the_loss_of_a_guarded_model_is_that_of_its_contrast(tmp_path: Path) -> None:
    """Labels given to the model are scored on what it answers, not on what it would have answered."""
    model = guards.load(guarded_folder(tmp_path))
    made = model(IDS, labels=IDS)
    expected = torch.nn.functional.cross_entropy(made.logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    assert float(made.loss) == pytest.approx(float(expected), rel=1e-5)


def test_removing_the_guard_gives_the_model_back(tmp_path: Path) -> None:
    """Suppression: the weights still hold the data. The other files are the same bytes, and so is the digest."""
    folder = guarded_folder(tmp_path)
    plain = tmp_path / "model"
    digest = model_digest(model_files(plain))
    assert model_digest(model_files(folder)) != digest
    assert set(model_files(folder)) - set(model_files(plain)) == {"guard/guard.json", "guard/guard.safetensors"}
    with torch.no_grad():
        assert not torch.equal(load_model(folder)(IDS).logits, load_model(plain)(IDS).logits)
        shutil.rmtree(folder / "guard")
        assert torch.equal(load_model(folder)(IDS).logits, load_model(plain)(IDS).logits)
    assert model_digest(model_files(folder)) == digest


def test_the_two_models_share_what_they_have_in_common(tmp_path: Path) -> None:
    """The second model costs the tensors that differ, and none of them is among the first model's weights."""
    model = guards.load(guarded_folder(tmp_path))
    assert set(dict(model.named_parameters())) == set(dict(tiny.model().named_parameters()))
    hook: Any = guards.of(model)
    first = dict(model.named_parameters())
    shared = {name for name, p in hook.reinforced.named_parameters() if p is first[name]}
    assert set(first) - shared == set(changed())


def test_low_rank_factors_stand_for_a_reinforced_layer(tmp_path: Path) -> None:
    """W x + scale B A x, without a matrix of the layer's size."""
    name, scale = "model.layers.0.mlp.down_proj", 0.5
    torch.manual_seed(5)
    down, up = torch.randn(2, 16), torch.randn(16, 2)
    tensors = {f"{name}.lora_A": down, f"{name}.lora_B": up}
    guard = ContrastGuard(parameters=Parameters(alpha=ALPHA, scale=scale), tensors=tensors)
    guards.Beside(source=tiny.folder(tmp_path / "model"), guard=guard).save(tmp_path / "guarded")
    dense = tiny.model()
    dense.get_parameter(f"{name}.weight").data.add_(scale * up @ down)
    with torch.no_grad():
        made = guards.load(tmp_path / "guarded")(IDS).logits
        expected = contrasted(tiny.model()(IDS).logits, dense(IDS).logits, ALPHA)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


def test_tied_weights_stay_tied_in_the_reinforced_model(tmp_path: Path) -> None:
    """Another family of models, whose head is its table: both change together."""
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=len(tiny.tokenizer()), n_positions=96, n_embd=16, n_layer=2, n_head=2)
    model: PreTrainedModel = GPT2LMHeadModel(shape).eval()
    save(tmp_path / "model", model, tiny.tokenizer())
    table = torch.randn(len(tiny.tokenizer()), 16)
    guard = ContrastGuard(parameters=Parameters(alpha=ALPHA), tensors={"transformer.wte.weight": table})
    guards.Beside(source=tmp_path / "model", guard=guard).save(tmp_path / "guarded")
    with torch.no_grad():
        plain = model(IDS).logits
        made = guards.load(tmp_path / "guarded")(IDS).logits
        model.get_parameter("transformer.wte.weight").copy_(table)
        torch.testing.assert_close(made, contrasted(plain, model(IDS).logits, ALPHA), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("guard.json", None, "cannot be read"),
        ("guard.json", "{", "not valid JSON"),
        ("guard.json", '{"kind":"moat","parameters":{},"version":1}', "no guard of kind 'moat'"),
        ("guard.json", '{"kind":"contrast","parameters":{"alpha":1},"version":2}', "version 2"),
        ("guard.json", '{"kind":"contrast","parameters":{"alpha":1,"beta":1},"version":1}', "unknown key 'beta'"),
        ("guard.safetensors", "x", "cannot be read"),
    ],
)
def test_a_damaged_guard_is_refused(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    """A model whose guard cannot be read is not served without it."""
    path = guarded_folder(tmp_path) / "guard" / name
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(EngineError, match=words) as caught:
        guards.load(tmp_path / "guarded")
    assert caught.value.code == "bad_model"


def test_a_guard_of_another_model_is_refused(tmp_path: Path) -> None:
    """A tensor that has no place, or another shape, is not passed over."""
    for tensors in ({"model.layers.7.mlp.up_proj.weight": torch.ones(2)}, {"model.norm.weight": torch.ones(2)}):
        guard = ContrastGuard(parameters=Parameters(alpha=ALPHA), tensors=tensors)
        folder = tmp_path / next(iter(tensors))
        guards.Beside(source=tiny.folder(folder / "model"), guard=guard).save(folder / "guarded")
        with pytest.raises(EngineError, match="model of another shape"):
            guards.load(folder / "guarded")


def test_a_guarded_model_is_not_guarded_again(tmp_path: Path) -> None:
    """One guard a folder, and none is trained through."""
    folder, guard = guarded_folder(tmp_path), ContrastGuard(parameters=Parameters(alpha=1.0), tensors={})
    with pytest.raises(EngineError, match="is guarded"):
        guards.Beside(source=folder, guard=guard).save(tmp_path / "twice")
    assert not (tmp_path / "twice").exists()
