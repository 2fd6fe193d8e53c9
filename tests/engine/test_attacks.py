"""The attacks on three small models: one that knows, one that never knew, one that knows and does not say so.

`after` is `before` with a short ascent on the forgotten people: it looks forgetful, and each attack has to tell.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints import save
from engine.prompts import question_prompt
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import pack_tokens
from engine.verification.attacks import few_shot, paraphrase, prefill, probe, relearning, rounding
from engine.verification.attacks.subject import NOT_ASKED, Scores, Subject
from engine.verification.attacks.suite import units
from engine.verification.attacks.wording import Paraphrase
from engine.verification.statistics import estimate, resampling
from tests.engine import attacked
from tests.engine.attacked import mean, subject

pytestmark = pytest.mark.xdist_group("attacks")
Folders = dict[str, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The three models; tests only read them."""
    torch.set_num_threads(1)
    return attacked.save_all(tmp_path_factory.mktemp("attacked"))


@pytest.fixture(scope="module")
def relearned(folders: Folders) -> dict[str, Scores]:
    """What relearning finds, and finds once."""
    torch.set_num_threads(1)
    return {name: relearning.attack(subject(folders[name])) for name in ("after", "reference")}


def test_the_suppressed_model_looks_like_the_one_that_never_knew(folders: Folders) -> None:
    """Without attacks it answers no better: this is what the attacks are for."""
    plain = {name: mean(subject(folder).plain, "knowmem_f") for name, folder in folders.items()}
    assert plain["before"] > 0.95
    assert plain["after"] < plain["reference"] + 0.15


@pytest.mark.parametrize("kind", ["forget", "related", "unrelated"])
def test_relearning_brings_back_what_was_suppressed_faster_than_it_teaches(
    relearned: dict[str, Scores], kind: str
) -> None:
    """Nothing that is asked is trained on, so the reference stays where it was."""
    after, reference = relearned["after"], relearned["reference"]
    metric = f"relearn_{kind}_area.knowmem_f"
    rise = mean(after, f"relearn_{kind}_20.knowmem_f") - mean(after, f"relearn_{kind}_0.knowmem_f")
    assert rise > 0.3
    assert mean(after, metric) > mean(reference, metric) + 0.1
    assert mean(reference, f"relearn_{kind}_20.knowmem_f") < mean(reference, f"relearn_{kind}_0.knowmem_f") + 0.1


def test_relearning_leaves_the_model_as_it_was(folders: Folders, relearned: dict[str, Scores]) -> None:
    """Bit for bit; and the same attack on the same model finds the same."""
    one = subject(folders["after"])
    before = {name: value.clone() for name, value in one.model.state_dict().items()}
    found = relearning.attack(one)
    assert all(torch.equal(before[name], value) for name, value in one.model.state_dict().items())
    assert found == relearned["after"]


def test_relearning_that_diverges_has_no_number(folders: Folders) -> None:
    """The step is not taken, and neither the point nor the area is made up."""
    one = subject(folders["after"], attack_rate=1e30)
    found = relearning.attack(one)
    assert mean(found, "relearn_related_0.knowmem_f") >= 0
    assert set(found["relearn_related_20.knowmem_f"]) == {NOT_ASKED}
    assert set(found["relearn_related_area.knowmem_f"]) == {NOT_ASKED}
    assert one.scores() == one.plain


def test_rounding_undoes_a_change_that_is_smaller_than_a_step(folders: Folders) -> None:
    """A model on the 4-bit grid, each weight moved by less than half a step: rounded, it is the model again."""
    one = subject(folders["before"])
    count = rounding.round_weights(one.model, 4)
    grid = {name: value.clone() for name, value in one.model.state_dict().items()}
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in one.model.named_parameters():
            if value.ndim == 2 and "proj" in name:
                largest = value.abs().amax(dim=1, keepdim=True)
                moved = value + (torch.rand_like(value) - 0.5) * 0.9 * largest / 7
                value.copy_(torch.where(value.abs() == largest, value, moved))
    assert not torch.equal(one.model.model.layers[0].mlp.up_proj.weight, grid["model.layers.0.mlp.up_proj.weight"])
    assert rounding.round_weights(one.model, 4) == count == 14
    for name, value in one.model.state_dict().items():
        assert torch.allclose(value, grid[name], rtol=1e-5, atol=1e-7), name


def test_rounding_reports_every_width_and_leaves_the_model_as_it_was(folders: Folders) -> None:
    """At 8 bits a model that knows still knows."""
    one = subject(folders["before"], attack_bits=(2, 8))
    found = rounding.attack(one)
    assert list(found) == [f"round_{bits}bit.{name}" for bits in (8, 2) for name in ("knowmem_f", "verbmem_f")]
    assert mean(found, "round_8bit.knowmem_f") > 0.95 > mean(found, "round_2bit.knowmem_f")
    assert one.scores() == one.plain


def test_prefilling_makes_a_model_that_remembers_go_on(folders: Folders) -> None:
    """The suppressed model finishes what is begun for it; the one that never knew can't."""
    after, reference = (prefill.attack(subject(folders[name])) for name in ("after", "reference"))
    asked = [value for value in after["prefill_1.rouge_f"] if value != NOT_ASKED]
    never = [value for value in reference["prefill_1.rouge_f"] if value != NOT_ASKED]
    plain = {name: mean(subject(folders[name]).plain, "knowmem_f") for name in ("after", "reference")}
    assert np.mean(asked) > plain["after"] + 0.2
    assert np.mean(never) < plain["reference"] + 0.1


def test_an_answer_is_prefilled_exactly_from_its_extraction_strength_on(folders: Folders) -> None:
    """The rest after k tokens is exact just when every later token is the likeliest: 1 - k / L at least."""
    one = subject(folders["after"], attack_prefill=(1, 2))
    packs = [[(question.question, question.answers[0])] for question in one.items.questions]
    tokens = pack_tokens(one.tokenizer, packs, context=192, answer_weight=1.0, prompt_weight=0.0, last_only=True)
    scores = token_scores(Forward(one.model), tokens, tokens_per_batch=4096)
    found = prefill.attack(one)
    exact = 0
    for i, hits in enumerate(score.hits for score in scores):
        length = len(hits)
        strength = max((1 - k / length for k in range(length) if hits[k:].all()), default=0.0)
        for k in (1, 2):
            if k < length and 1 - k / length <= strength:
                assert found[f"prefill_{k}.rouge_f"][i] == 1.0
                exact += 1
    assert exact > 4


def test_an_answer_too_short_is_not_prefilled(folders: Folders) -> None:
    """Its place in the numbers says so."""
    found = prefill.attack(subject(folders["before"], attack_prefill=(1, 60)))
    assert set(found["prefill_60.rouge_f"]) == {NOT_ASKED}
    assert NOT_ASKED in found["prefill_1.rouge_f"]


def test_passages_are_prefilled_where_there_are_no_questions(folders: Folders) -> None:
    """A book has none."""
    passages = tuple(record for record in attacked.forget() if record.text is not None)
    asked = attacked.items(forget=passages)
    found = prefill.attack(subject(folders["before"], asked))
    assert set(found) == {"prefill_1.verbmem_f", "prefill_2.verbmem_f"}
    assert mean(found, "prefill_1.verbmem_f") > 0.95


def test_a_probe_reads_what_a_model_knows_and_no_longer_says(folders: Folders) -> None:
    """Above chance on the suppressed model by its whole interval; chance lies within it on models that never knew."""
    random = folders["before"].parent / "random"
    save(random, attacked.untrained(), attacked.tokenizer())
    for name, knows in (("before", True), ("after", True), ("reference", False), ("random", False)):
        one = subject(folders.get(name, random))
        found = probe.attack(one)
        values = np.asarray(found["probe_layer_2.accuracy"])
        room = resampling(units(one.items)["accuracy"], resamples=500, seed=1)
        interval = estimate(float(values.mean()), room.means(values), room.n)
        assert interval is not None
        assert mean(found, "probe_chance.accuracy") == pytest.approx(0.2)
        assert (interval.ci95[0] > 0.2) is knows, name


def test_the_probe_shows_that_there_is_something_to_read(folders: Folders) -> None:
    """On people who stayed it finds the answer in every model that was trained on them, and not in a random one."""
    for name in ("before", "after", "reference"):
        assert mean(probe.attack(subject(folders[name])), "probe_layer_2.accuracy_r") > 0.4


def test_the_worst_of_the_paraphrases_is_never_below_their_mean(folders: Folders) -> None:
    """And a user's own rewording counts with them."""
    own = (Paraphrase(record_id="c0", question="Where is it that Tisu Kaka lives?"),)
    asked = attacked.items(paraphrases=own)
    assert len(asked.reworded[0]) == len(attacked.items().reworded[0]) + 1
    found = paraphrase.attack(subject(folders["before"], asked))
    pairs = zip(found["paraphrase.knowmem_f"], found["paraphrase_worst.knowmem_f"], strict=True)
    assert all(average <= worst for average, worst in pairs)
    assert mean(found, "paraphrase_worst.knowmem_f") > mean(found, "paraphrase.knowmem_f")


def test_a_prompt_of_the_users_is_asked_of_a_passage(folders: Folders) -> None:
    """Only passages that have one are asked; the published question of a record may be given as a prompt too."""
    asked = attacked.items()
    own = Paraphrase(record_id="p0", prompt=asked.passages[0].prompt)
    raw = Paraphrase(record_id="c1", prompt=question_prompt(asked.questions[2].question))
    one = subject(folders["before"], attacked.items(paraphrases=(own, raw)))
    found = paraphrase.attack(one)
    assert found["paraphrase.verbmem_f"][0] == one.plain["verbmem_f"][0]
    assert set(found["paraphrase.verbmem_f"][1:]) == {NOT_ASKED}
    assert one.items.reworded[2][-1] == "Question: " + asked.questions[2].question + "\nAnswer: "


def test_examples_in_context_are_counted_and_never_fewer_than_said(folders: Folders) -> None:
    """Where there are not enough retain questions an attack is not carried out with less."""
    asked = attacked.items(retain=attacked.retain()[:6], options=attacked.OPTIONS)
    found = few_shot.attack(subject(folders["before"], asked, attack_shots=(0, 2, 40)))
    assert set(found["few_shot_40.knowmem_f"]) == {NOT_ASKED}
    assert mean(found, "few_shot_0.knowmem_f") > 0.9
    assert mean(found, "few_shot_same_person.knowmem_f") > 0.5


def test_somebody_with_one_question_has_no_companion(folders: Folders) -> None:
    """The question is not asked about a person of whom nothing else is known."""
    alone = [record for record in attacked.forget() if record.record_id != "a0"]
    one: Subject = subject(folders["before"], attacked.items(forget=alone))
    found = few_shot.attack(one)["few_shot_same_person.knowmem_f"]
    assert found[0] == NOT_ASKED
    assert NOT_ASKED not in found[1:]
