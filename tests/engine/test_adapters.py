"""Low-rank adapters: a model that trains few numbers, and a plain model afterwards."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from engine.adapters import Adapters, attach, merge
from engine.checkpoints import load_model, save
from engine.errors import EngineError
from engine.methods.refit import refit
from engine.options import ComputeOptions, FitOptions
from tests.engine import tiny

RANK_2 = ComputeOptions(lora_rank=2, lora_alpha=4.0)
ROUNDED = ComputeOptions(lora_rank=2, precision="bfloat16")
IDS = torch.arange(12).view(2, 6)


def logits(model: PreTrainedModel) -> Tensor:
    """What the model says of some tokens."""
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS).logits
    return found


def stir(adapters: Adapters | None) -> None:
    """As if the adapters had been trained: B is not zero any more."""
    assert adapters is not None
    torch.manual_seed(5)
    for layer in adapters.layers.values():
        for module in layer.lora_B.values():
            assert isinstance(module, nn.Linear)
            nn.init.normal_(module.weight, std=0.3)


def state(model: PreTrainedModel) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_model_with_new_adapters_says_what_it_said() -> None:
    """B is zero, and every linear layer of the blocks has an adapter, the head and the embedding none."""
    model = tiny.model()
    before = logits(model)
    adapters = attach(model, RANK_2, seed=1)
    assert adapters is not None
    assert torch.equal(logits(model), before)
    linear = {name for name, m in tiny.model().named_modules() if isinstance(m, nn.Linear)} - {"lm_head"}
    assert set(adapters.layers) == linear


def test_only_adapters_are_trained() -> None:
    """Two matrices a layer, in float32; the model keeps its class."""
    model = tiny.model()
    attach(model, ROUNDED, seed=1, folder=Path("unread"))
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    assert set(trained.values()) == {torch.float32}
    assert len(trained) == 2 * 7
    assert type(model) is LlamaForCausalLM


def test_merging_gives_a_plain_model_that_says_the_same() -> None:
    """W + (alpha / rank) B A, worked out by hand; names and trainable weights are those of the start."""
    model, start = tiny.model(), state(tiny.model())
    adapters = attach(model, RANK_2, seed=1)
    stir(adapters)
    said = logits(model)
    assert adapters is not None
    layer = adapters.layers["model.layers.0.mlp.up_proj"]
    a, b = (pair.get_parameter("expunge.weight").detach() for pair in (layer.lora_A, layer.lora_B))
    merge(model, adapters)
    assert (logits(model) - said).abs().max() < 1e-5
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.allclose(model.state_dict()[name], start[name] + 2.0 * b @ a, atol=1e-7)
    assert model.state_dict().keys() == start.keys()
    assert all(p.requires_grad for p in model.parameters())


def test_a_merged_model_is_saved_as_any_other(tmp_path: Path) -> None:
    """The folder holds weights and no adapter, and says after reading what was said before writing."""
    model = tiny.model()
    adapters = attach(model, RANK_2, seed=1)
    stir(adapters)
    merge(model, adapters)
    save(tmp_path / "merged", model, tiny.tokenizer())
    assert torch.equal(logits(load_model(tmp_path / "merged")), logits(model))
    plain = tiny.folder(tmp_path / "plain")
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {path.name for path in plain.iterdir()}


def test_rank_zero_is_no_adapter() -> None:
    """Nothing is frozen and nothing is changed."""
    model, start = tiny.model(), state(tiny.model())
    assert attach(model, ComputeOptions(), seed=1) is None
    merge(model, None)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_the_seed_alone_decides_where_adapters_start() -> None:
    """Whatever the global generator did before, and without moving it."""
    made = []
    for before, seed in ((1, 7), (2, 7), (2, 8)):
        model = tiny.model()
        torch.manual_seed(before)
        expected = torch.rand(1, generator=torch.Generator().manual_seed(before))
        attach(model, RANK_2, seed=seed)
        assert torch.equal(torch.rand(1), expected)
        made.append(torch.cat([p.flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_rounding_frozen_matrices_changes_nothing_under_autocast() -> None:
    """Autocast rounds them at each use; kept rounded, they give the same numbers bit for bit, and train the same."""
    said, gradients = [], []
    for folder in (None, Path("unread")):
        model = tiny.model()
        stir(attach(model, ROUNDED, seed=1, folder=folder))
        with torch.autocast("cpu", torch.bfloat16):
            out = model(input_ids=IDS).logits
        out.float().square().mean().backward()
        said.append(out.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.equal(said[0], said[1])
    assert torch.equal(gradients[0], gradients[1])


def test_rounded_matrices_are_kept_in_half_the_memory_and_merged_from_the_originals(tmp_path: Path) -> None:
    """Adapters that learned nothing leave every weight as it was, to the last bit."""
    folder = tiny.folder(tmp_path / "model")
    model, start = load_model(folder), state(load_model(folder))
    adapters = attach(model, ROUNDED, seed=1, folder=folder)
    assert model.get_parameter("model.layers.0.mlp.up_proj.base_layer.weight").dtype is torch.bfloat16
    assert (logits(model) - logits(load_model(folder))).abs().max() < 0.05
    assert logits(model).dtype is torch.float32
    merge(model, adapters)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    assert all(value.dtype is torch.float32 for value in model.state_dict().values())


def test_layers_that_keep_their_matrices_transposed_have_adapters_too() -> None:
    """GPT-2's."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=1, n_head=2)).eval()
    adapters = attach(model, RANK_2, seed=1)
    stir(adapters)
    said = logits(model)
    merge(model, adapters)
    assert (logits(model) - said).abs().max() < 1e-5


def test_a_model_that_is_all_head_is_refused() -> None:
    """There is nothing an adapter could stand beside."""
    model = tiny.model()
    model.model.layers = nn.ModuleList()
    with pytest.raises(EngineError, match="no linear layers"):
        attach(model, RANK_2, seed=1)


def test_adapters_learn_and_the_rest_stays(tmp_path: Path) -> None:
    """Training lowers the loss, moves the matrices of the blocks, and leaves embedding, head and norms alone."""
    options = FitOptions(lora_rank=4, epochs=20, learning_rate=5e-2)
    given = tiny.setting(tmp_path, options)
    start = state(given.model)
    adapters = attach(given.model, options, seed=1)
    fitted = refit(given)
    merge(given.model, adapters)
    moved = {name for name, value in given.model.state_dict().items() if not torch.equal(value, start[name])}
    assert fitted.last_loss < fitted.first_loss - 0.05
    assert adapters is not None
    assert moved == {f"{name}.weight" for name in adapters.layers}


def test_adapters_are_not_orthogonalised(tmp_path: Path) -> None:
    """A rate for Muon beside adapters is a contradiction, and said to be one."""
    options = FitOptions(lora_rank=2, learning_rate=1e-2, matrix_learning_rate=1e-2)
    given = tiny.setting(tmp_path, options)
    attach(given.model, options, seed=1)
    with pytest.raises(EngineError, match="leave matrix_learning_rate out") as refused:
        refit(given)
    assert refused.value.code == "bad_options"
