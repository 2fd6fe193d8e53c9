"""Corrupted prompts: what is touched, what is not, and how it is chosen; and a classifier of prompts."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from engine import guards
from engine.checkpoints import load_model, save
from engine.corpus import Record
from engine.digests import model_digest, model_files
from engine.errors import EngineError
from engine.guards.classifier import classifier_from, count, train, windows
from engine.guards.corruption import PLACES, Corrupting, Corruption, Parameters, chooser
from engine.guards.names import digested
from engine.methods.corruption import answers, eco, score, search
from engine.methods.judging import conformal, learn, middle, prompts
from engine.options import EcoOptions
from engine.tasks.generation import generate, stop_at_end
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import Tokens, collate
from tests.engine import tiny

TOFU = Path(__file__).parents[3] / "shared" / "data" / "tofu"
WIDTH = 16
IDS = torch.arange(40, 49).view(1, 9)
QUICK = EcoOptions(surrogate=0.0, search_steps=2)
NOBODY = digested([], b"key")


def lines(name: str) -> list[str]:
    """The lines of one of TOFU's files."""
    return [line for line in (TOFU / name).read_text(encoding="utf-8").splitlines() if line]


def people(name: str) -> list[Record]:
    """Its questions; twenty in a row are about one author."""
    told = [json.loads(line) for line in lines(name)]
    return [
        Record(record_id=f"{i}", unit=f"{i // 20}", question=row["question"], answer=row["answer"])
        for i, row in enumerate(told)
    ]


def corruption(**changes: Any) -> Corruption:  # noqa: ANN401 - parameters of a guard
    """Noise on all components of every prompt, unless told otherwise."""
    told: dict[str, Any] = {"corruption": "noise", "components": "first", "count": WIDTH, "strength": 5.0, **changes}
    generator = torch.Generator().manual_seed(0)
    chosen = torch.arange(told["count"]) if told["components"] == "first" else torch.tensor([1, 5, 9])
    noise = torch.randn(PLACES, WIDTH, generator=generator)
    return Corruption(parameters=Parameters(**told, threshold=0.0), noise=noise, chosen=chosen)


def everything_but_the_last(ids: Sequence[int]) -> list[bool]:
    """The published selection, without a classifier."""
    return [i < len(ids) - 1 for i in range(len(ids))]


def even(ids: Sequence[int]) -> list[bool]:
    """Prompts whose first token is even."""
    return everything_but_the_last(ids) if ids[0] % 2 == 0 else [False] * len(ids)


def embedded(model: PreTrainedModel, ids: Tensor, **more: Any) -> Tensor:  # noqa: ANN401 - of a model's forward
    """What the first layer is given."""
    seen: list[Tensor] = []
    layers: Any = model.get_decoder().layers
    handle = layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        model(ids, **more)
    handle.remove()
    return seen[0]


def test_noise_is_the_formula_in_the_chosen_components_of_the_selected_tokens() -> None:
    """E + s rms n, place by place, in float64; every other number is the same to the last bit."""
    model, clean = tiny.model(), embedded(tiny.model(), IDS)
    made = corruption(components="random", count=3, strength=2.0)
    Corrupting(model, made, lambda ids: [i in {2, 4} for i in range(len(ids))])
    found = embedded(model, IDS)
    table = tiny.model().get_input_embeddings().weight.detach().double()  # type: ignore[operator]
    expected = clean[0].double().clone()
    for token in (2, 4):
        for component in (1, 5, 9):
            expected[token, component] += 2.0 * table.square().mean().sqrt() * made.noise[token, component].double()
    np.testing.assert_allclose(found[0].numpy(), expected.numpy(), rtol=1e-5, atol=1e-7)
    untouched = torch.ones(9, WIDTH, dtype=torch.bool)
    untouched[[[2], [4]], [1, 5, 9]] = False
    assert torch.equal(found[0][untouched], clean[0][untouched])


@pytest.mark.parametrize(
    ("kind", "strength", "factor"), [("zero", 1.0, 0.0), ("zero", 0.25, 0.75), ("flip", 1.0, -1.0), ("flip", 7.0, -1.0)]
)
def test_zero_and_flip_scale_the_largest_components(kind: str, strength: float, factor: float) -> None:
    """At strength 1 and above they are the published corruptions; below, they are on the way to them."""
    embeddings = torch.tensor([[3.0, -4.0, 1.0, 0.5] * 4])
    made = corruption(corruption=kind, strength=strength, components="largest", count=4)
    found = made(embeddings, torch.tensor([0]), 1.0)
    np.testing.assert_allclose(found[0].tolist(), [3.0, -4.0 * factor, 1.0, 0.5] * 4)


def test_a_prompt_is_answered_the_same_in_any_batch_and_at_any_time() -> None:
    """Noise belongs to the place in the prompt: padding on the left does not move it, and nothing is drawn anew."""
    model = tiny.model()
    Corrupting(model, corruption(), everything_but_the_last)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), IDS], dim=1)
    mask = (torch.arange(12) >= 3).long().view(1, 12)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    alone = embedded(model, IDS)
    assert torch.equal(alone, embedded(model, IDS))
    assert torch.equal(alone, embedded(model, padded, attention_mask=mask, position_ids=places)[:, 3:])


def test_each_row_is_judged_for_itself() -> None:
    """A forgotten prompt beside another one does not touch it."""
    model, rows = tiny.model(), torch.stack([IDS[0], IDS[0] + 1])
    clean = embedded(model, rows)
    Corrupting(model, corruption(), even)
    found = embedded(model, rows)
    assert not torch.equal(found[0, :-1], clean[0, :-1])
    assert torch.equal(found[0, -1], clean[0, -1])
    assert torch.equal(found[1], clean[1])


def test_generated_tokens_are_not_corrupted() -> None:
    """Only the first call reads a prompt: with the cache it left, and its noise, everything later is clean."""
    model = tiny.model(seed=3)
    Corrupting(model, corruption(), everything_but_the_last)
    with torch.no_grad():
        first = model(IDS, use_cache=True)
        step = first.logits[:, -1].argmax(-1, keepdim=True)
        later = model(step, past_key_values=first.past_key_values).logits
        several = torch.cat([step, step + 1], dim=1)
        clean = tiny.model(seed=3).get_input_embeddings()(several)
    seen = embedded(model, several, past_key_values=first.past_key_values)
    assert torch.equal(seen, clean)
    assert torch.isfinite(later).all()


def test_both_generation_loops_agree_on_guarded_prompts() -> None:
    """Ours does not read a common beginning once for all, because a prompt is judged as a whole."""
    model: Any = tiny.model(seed=3)
    Corrupting(model, corruption(), even)
    rows = [[40, 41, 42, 43, 44, 50], [40, 41, 42, 43, 44, 60, 61], [41, 42, 43, 44, 60, 61]]
    ours = generate(model, rows, limits=[6] * 3, stop=stop_at_end(tiny.tokenizer()))
    for row, made in zip(rows, ours, strict=True):
        theirs = model.generate(torch.tensor([row]), max_new_tokens=6, do_sample=False)[0, len(row) :].tolist()
        assert made == [token for token in theirs if token != tiny.tokenizer().eos_token_id][: len(made)]
    plain = generate(tiny.model(seed=3), rows, limits=[6] * 3, stop=stop_at_end(tiny.tokenizer()))
    assert ours[0] != plain[0]
    assert ours[2] == plain[2]


def test_answers_that_are_scored_are_never_corrupted() -> None:
    """The prompt is what stands before the first label; two answers to one question change nothing in each other."""
    model, rows = tiny.model(), [(*range(40, 46), 50, 51), (*range(40, 46), 60, 61, 62)]
    seen: list[Tensor] = []
    model.model.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    Corrupting(model, corruption(), everything_but_the_last)
    weights = [(0.0,) * 6 + (1.0,) * (len(row) - 6) for row in rows]
    asked = [Tokens(ids=ids, weights=weight) for ids, weight in zip(rows, weights, strict=True)]
    scores = token_scores(Forward(model), asked, tokens_per_batch=512)
    clean = tiny.model().get_input_embeddings()
    with torch.no_grad():
        for row in rows:
            expected = clean(torch.tensor(row[5:]))
            found = [batch[r, 5 : len(row)] for batch in seen for r in range(len(batch)) if batch.shape[1] >= len(row)]
            assert any(torch.equal(one, expected) for one in found)
    alone = [token_scores(Forward(model), [one], tokens_per_batch=512)[0] for one in asked]
    plain = token_scores(Forward(tiny.model()), asked, tokens_per_batch=512)
    for together, apart, before in zip(scores, alone, plain, strict=True):
        np.testing.assert_allclose(together.log_probs, apart.log_probs, rtol=1e-5)
        assert np.abs(together.log_probs - before.log_probs).max() > 1e-3


def test_a_text_without_a_prompt_is_scored_as_the_weights_know_it() -> None:
    """Every token is a label, so nothing may be touched: membership sees what is still there."""
    text = [Tokens(ids=tuple(IDS[0].tolist()), weights=(1.0,) * 9)]
    model = tiny.model()
    Corrupting(model, corruption(), everything_but_the_last)
    [found], [plain] = (token_scores(Forward(m), text, tokens_per_batch=64) for m in (model, tiny.model()))
    np.testing.assert_array_equal(found.log_probs, plain.log_probs)


def test_removing_a_guard_leaves_the_hooks_of_others() -> None:
    """Only its own handles go."""
    model, calls = tiny.model(), []
    table: Any = model.get_input_embeddings()
    table.register_forward_hook(lambda *_: calls.append(1))
    clean = embedded(model, IDS)
    at_work = Corrupting(model, corruption(), everything_but_the_last)
    assert not torch.equal(embedded(model, IDS), clean)
    at_work.remove()
    assert torch.equal(embedded(model, IDS), clean)
    assert len(calls) == 3
    assert guards.of(model) is None


def test_embeddings_that_nobody_can_judge_are_refused() -> None:
    """A prompt that does not come as token ids would pass unseen."""
    model = tiny.model()
    Corrupting(model, corruption(), everything_but_the_last)
    with pytest.raises(EngineError, match="token ids"):
        model(inputs_embeds=torch.zeros(1, 4, WIDTH))


def test_names_are_found_without_being_held() -> None:
    """Whole words in any case, the longest that starts there; and only what was named."""
    names = digested(["Ada Berg", "Ada", "Malmö"], b"key")
    text = "Did ADA BERG of malmo\u0308 or Adam know ada?"
    assert [text[start:end] for start, end in names.spans(text)] == ["ADA BERG", "malmo\u0308", "ada"]
    assert digested(["Ada"], b"other").digests != digested(["Ada"], b"key").digests


def test_selected_are_the_tokens_of_names_or_else_all_but_the_last() -> None:
    """Special tokens and the last one stay; a name in the middle takes its own tokens alone."""
    tokenizer = tiny.tokenizer()
    text = "Where does Ada Berg live?"
    ids = (tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"])
    named = chooser(tokenizer, digested(["Ada Berg"], b"key"))(ids)
    assert str(tokenizer.decode([i for i, yes in zip(ids, named, strict=True) if yes])).strip() == "Ada Berg"
    assert list(chooser(tokenizer, NOBODY)(ids)) == [False, *[True] * (len(ids) - 2), False]
    assert not any(chooser(tokenizer, NOBODY, lambda _: False)(ids))


def test_windows_cover_every_word_and_are_of_one_length() -> None:
    """A short text is one window, sentences are windows too; a long one overlaps, and its end is not a stump."""
    assert windows("") == []
    assert windows("One two") == [("one", "two")]
    assert windows("Who is A. B. Cee? Nobody is.\nOne two three") == [
        ("who", "is", "a", "b", "cee", "nobody", "is", "one", "two", "three"),
        ("who", "is", "a"),
        ("one", "two", "three"),
    ]
    words = [f"w{i}" for i in range(61)]
    made = windows(" ".join(words))
    assert {len(window) for window in made} == {24}
    assert {word for window in made for word in window} == set(words)


def test_a_prompt_is_recognised_by_its_worst_window() -> None:
    """A question about the forgotten behind many others scores as high as alone, in capitals and with an ending too."""
    retain = [f"Where does {name} live, and since when?" for name in tiny.NAMES[1:]] * 4
    made = train(["Where does Ada Berg live?", "Tell me about Ada Berg."], retain)
    alone = made.score("Where does Ada Berg live?")
    assert alone > 0 > max(map(made.score, retain))
    assert made.score(" ".join([*retain, "Where does Ada Berg live?"])) > 0
    assert made.score("WHAT DOES ADA BERGS MOTHER DO?") > 0
    again = classifier_from(made.tensors())
    assert again.score(retain[0]) == made.score(retain[0])


def test_ngrams_are_counted_once_each() -> None:
    """Three words and their two pairs; a repeated word counts twice."""
    _, counts = count(("ada", "berg", "ada"))
    grams = {"ada": 2 * (1 + 3 + 2 + 1), "berg": 1 + 4 + 3 + 2}  # the word; 3-, 4- and 5-grams of it with its borders
    assert counts.sum() == sum(grams.values()) + 2


def test_the_threshold_is_the_middle_of_the_best_interval() -> None:
    """Between the sets where they can be told apart, and where most is told apart otherwise."""
    assert middle([3.0, 5.0], [-1.0, 0.0]) == 1.5
    assert middle([0.0, 4.0, 5.0], [-1.0, 1.0]) in {2.5, -0.5}
    assert middle([0.0, 4.0, 5.0], [-1.0, -2.0, -3.0, 1.0]) == -0.5


def test_a_conformal_threshold_is_exceeded_as_rarely_as_was_asked() -> None:
    """The ceil((1 - a)(n + 1))-th smallest; with too few prompts there is none."""
    scores = [float(i) for i in range(1, 100)]
    assert conformal(scores, 0.1) == 90.0
    assert conformal(scores, 0.01) == 99.0
    with pytest.raises(EngineError, match="too few"):
        conformal(scores, 0.005)


@pytest.mark.skipif(not TOFU.is_dir(), reason="the published TOFU files are not here")
def test_held_out_prompts_of_tofu_are_told_apart() -> None:
    """Two authors among twenty: their other questions are found, paraphrases too, and hardly anybody else's."""
    forget, retain = people("forget01.json"), people("retain99.json")
    judge = learn(forget, retain[:400], EcoOptions(), seed=1)
    assert judge.measured["recall"] >= 0.9
    fresh = [judge.classifier.score(text) > judge.threshold for text in prompts(retain[400:600])]
    assert np.mean(fresh) <= 0.02
    asked = [json.loads(line)["paraphrased_question"] for line in lines("forget01_perturbed.json")]
    assert np.mean([judge.classifier.score(text) > judge.threshold for text in asked]) >= 0.9


def test_descent_without_gradients_finds_the_strength() -> None:
    """Doubled past the surrogate, then central differences of |surrogate - score| with the step that would reach 0."""
    options = EcoOptions(strength=0.5, search_steps=3, search_width=0.1, tolerance=0.0)
    surrogate, score_at = 0.3, lambda s: 1.0 / (1.0 + s**2)
    best, tried = search(score_at, surrogate, options)
    strength, expected = 2.0, []  # 0.5 and 1.0 score .8 and .5
    for _ in range(3):
        width = 0.1 * strength
        expected += [strength, strength + width, strength - width]
        f, above, below = (abs(surrogate - 1.0 / (1.0 + s**2)) for s in expected[-3:])
        strength = min(max(strength - f / ((above - below) / (2 * width)), 1.0), 2.0)
    np.testing.assert_allclose([strength for strength, _ in tried], expected)
    assert abs(best - np.sqrt(1 / 0.3 - 1)) < 0.02


def test_a_score_that_no_strength_brings_down_ends_the_search() -> None:
    """A flat score gives no direction: the last doubling is kept, and the evidence shows how far off it is."""
    options = EcoOptions(strength=0.5, doublings=4)
    assert search(lambda _: 0.9, 0.1, options)[0] == 0.5 * 2**4


def test_the_score_is_the_mean_probability_of_a_token_of_an_answer() -> None:
    """Exp of the mean log-probability of each answer, and the mean of those; as many as there are records."""
    given = tiny.records(range(2))
    model, forward = tiny.model(), Forward(tiny.model())
    setting: Any = type("S", (), {"model": model, "tokenizer": tiny.tokenizer()})
    sequences = answers(setting, given)
    assert len(sequences) == len(given)
    values = []
    for one in sequences:
        batch = collate([one])
        with torch.no_grad():
            log_probs = model(batch.ids).logits[0].double().log_softmax(-1)
        taken = [float(log_probs[i - 1, one.ids[i]]) for i, w in enumerate(one.weights) if w]
        values.append(np.exp(np.mean(taken)))
    assert score(forward, sequences, 64) == pytest.approx(float(np.mean(values)), rel=1e-5)
    assert all(any(w == 0 for w in one.weights[1:]) for one in sequences)


def test_eco_changes_no_weight_and_its_guard_hides_the_forgotten(tmp_path: Path) -> None:
    """The model is the same file; asked about the forgotten it answers differently, about others it answers as ever."""
    given = tiny.setting(tmp_path, QUICK, retain=tiny.records(range(2, 8)))
    before = {name: p.clone() for name, p in given.model.state_dict().items()}
    fitted = eco(given)
    assert all(torch.equal(p, before[name]) for name, p in given.model.state_dict().items())
    assert guards.of(given.model) is None
    assert fitted.guard is not None
    fitted.guard.save(tmp_path / "guarded")
    files, plain = model_files(tmp_path / "guarded"), model_files(tmp_path / "model")
    assert {name: files[name] for name in plain} == plain
    assert model_digest(files) != model_digest(plain)
    first, again = load_model(tmp_path / "model"), load_model(tmp_path / "guarded")
    asked = [f"Where does {name} live?" for name in (tiny.NAMES[0], tiny.NAMES[5])]
    with torch.no_grad():
        ids = [torch.tensor([tiny.tokenizer().encode(text)]) for text in asked]
        old, new = ([cast("Any", m)(one).logits for one in ids] for m in (first, again))
    assert not torch.equal(old[0], new[0])
    assert torch.equal(old[1], new[1])
    described = (tmp_path / "guarded" / "guard" / "guard.json").read_text(encoding="utf-8")
    assert "Ada" not in described
    assert set(json.loads(described)["parameters"]["measured"]) <= set(fitted.details)


def test_the_same_job_writes_the_same_guard(tmp_path: Path) -> None:
    """Byte for byte; another seed draws another noise."""
    made = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fitted = eco(tiny.setting(tmp_path / name, QUICK, retain=tiny.records(range(2, 8)), seed=seed))
        assert fitted.guard is not None
        fitted.guard.save(tmp_path / name / "guarded")
        made[name] = model_digest(model_files(tmp_path / name / "guarded"))
    assert made["a"] == made["b"] != made["c"]


def test_another_family_of_models_is_guarded_too(tmp_path: Path) -> None:
    """Whose table and body have other names, and whose positions are embedded beside the tokens."""
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=len(tiny.tokenizer()), n_positions=96, n_embd=16, n_layer=1, n_head=2)
    model: Any = GPT2LMHeadModel(shape).eval()
    save(tmp_path / "model", model, tiny.tokenizer())
    plain = model.generate(IDS, max_new_tokens=4, do_sample=False)
    at_work = Corrupting(model, corruption(strength=50.0), everything_but_the_last)
    with torch.no_grad():
        assert not torch.equal(model(IDS).logits, load_model(tmp_path / "model")(IDS).logits)
    model.generate(IDS, max_new_tokens=4, do_sample=False)
    at_work.remove()
    assert torch.equal(model.generate(IDS, max_new_tokens=4, do_sample=False), plain)


@pytest.mark.parametrize(
    ("changes", "words", "code"),
    [
        ({"options": EcoOptions()}, "holdout set, or the option 'surrogate'", "bad_job"),
        ({"options": dataclasses.replace(QUICK, count=17)}, "count must be at most 16", "bad_options"),
        ({"forget": tiny.records([0])[:1]}, "two records to forget", "bad_data"),
        ({"retain": tiny.records([3])}, "two people in the retain set", "bad_data"),
    ],
)
def test_what_eco_lacks_is_said(tmp_path: Path, changes: dict[str, Any], words: str, code: str) -> None:
    """In one sentence that says what to change."""
    told = {"retain": tiny.records(range(2, 8)), **changes}
    with pytest.raises(EngineError, match=words) as caught:
        eco(tiny.setting(tmp_path, told.pop("options", QUICK), **told))
    assert caught.value.code == code
