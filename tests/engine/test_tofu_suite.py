"""The suite `tofu` on a tiny model: the published folder in, findings out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.contract import Evidence, Finding
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.prompts import question_prompt
from engine.verification import tofu_items, tofu_suite
from engine.verification.findings import by_metric
from engine.verification.tofu_items import Tofu
from tests.engine import tiny
from tests.engine.jobs import do

TOFU = Path(__file__).parents[3] / "shared" / "data" / "tofu"
ASK = {"suite": "tofu", "resamples": 100, "generated_tokens": 4}
published = pytest.mark.skipif(not TOFU.is_dir(), reason="TOFU's published data are not here")


def row(i: int, *, paraphrase: bool = True) -> dict[str, Any]:
    """A question about one of a few cities."""
    city, others = tiny.CITIES[i % 8], [tiny.CITIES[(i + k) % 8] for k in (1, 2, 3)]
    made = {"question": f"Where does number {i} live?", "answer": f"In {city}.", "perturbed_answer": others}
    return made | ({"paraphrased_answer": city} if paraphrase else {})


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """A file in the published format."""
    path.write_text("\n".join(json.dumps(one) for one in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """TOFU's layout, with two forgotten authors."""
    made = tmp_path / "tofu"
    made.mkdir()
    lines(made / "forget01_perturbed.json", [row(i) for i in range(40)])
    lines(made / "retain_perturbed.json", [row(i) for i in range(40, 80)])
    for name in ("real_authors", "world_facts"):
        lines(made / f"{name}_perturbed.json", [row(i, paraphrase=False) for i in range(6)])
    return made


def evaluated(where: Path, folders: dict[str, Path], **options: object) -> Evidence:
    """An evaluation of some models on the folder."""
    return do(where, "evaluate", models=folders, data="tofu", options={**ASK, **options})


def metric(evidence: Evidence, name: str) -> Finding:
    """One finding."""
    return by_metric(evidence.findings)[name]


@published
def test_the_published_folder_is_read_as_it_is() -> None:
    """The largest split with wrong answers; twenty rows are an author, and every fact is a unit."""
    items = tofu_items.read(TOFU)
    assert items.split == "forget05"
    counts = {group: (len(rows), len({one.unit for one in rows})) for group, rows in items.groups.items()}
    assert counts == {"forget": (200, 10), "retain": (400, 20), "real_authors": (100, 100), "world_facts": (117, 117)}
    assert {len(one.wrong) for one in items.groups["forget"]} == {5}
    assert items.groups["world_facts"][0].paraphrase == items.groups["world_facts"][0].answer == "Paris"
    assert len(tofu_items.read(TOFU, split="forget01", items=300).groups["forget"]) == 40


def test_utility_and_quality_have_intervals_and_their_parts(folder: Path, tiny_folder: Path) -> None:
    """Nine components, the forget set's three, and the p-value against the reference."""
    other = tiny.folder(folder.parent / "other", seed=5)
    evidence = evaluated(folder.parent, {"after": tiny_folder, "reference": other, "before": other})
    found = by_metric(evidence.findings)
    nine = {
        f"{g}_{c}" for g in ("retain", "real_authors", "world_facts") for c in ("probability", "rouge", "truth_ratio")
    }
    more = {"probability_f", "rouge_f", "truth_ratio_f", "model_utility", "forget_quality"}
    assert set(found) == nine | more | {"extraction_strength_f", "exact_memorisation_f", "forget_loss"}
    for one in found.values():
        assert one.after is not None
        assert one.after.ci95[0] <= one.after.value <= one.after.ci95[1]
    assert {one.metric: one.after.n for one in found.values() if one.after}["retain_rouge"] == 2
    same = found["forget_quality"]
    assert same.before is not None
    assert (same.before.value, same.reference) == (1.0, None)


def test_without_a_reference_there_is_no_forget_quality(folder: Path, tiny_folder: Path) -> None:
    """No default reference; the rest is there."""
    evidence = evaluated(folder.parent, {"after": tiny_folder})
    assert metric(evidence, "forget_quality").after is None
    assert metric(evidence, "model_utility").after is not None


def test_membership_is_asked_where_there_is_a_holdout(folder: Path, tiny_folder: Path) -> None:
    """Of the answers, given their questions."""
    lines(folder / "holdout01.json", [{k: row(i)[k] for k in ("question", "answer")} for i in range(80, 120)])
    evidence = evaluated(folder.parent, {"after": tiny_folder, "reference": tiny_folder})
    names = ("auc_loss", "auc_zlib", "privleak_auc", "auc_min_k_plus_plus", "auc_reference")
    values = {name: metric(evidence, name).after for name in names}
    assert all(value is not None for value in values.values())
    assert values["auc_reference"] is not None
    assert values["auc_reference"].value == 0.5  # a model gains nothing over itself


def test_the_likelihoods_are_those_of_the_answers_alone(folder: Path) -> None:
    """The cross-entropy a token of ` answer` after the question, recomputed one answer at a time in float64."""
    model, tokenizer, items = tiny.model(), tiny.tokenizer(), tofu_items.read(folder, items=3)
    said = tofu_suite.score(model, tokenizer, items, EvaluateOptions())

    def loss(question: str, answer: str) -> float:
        text = question_prompt(question) + answer
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = [tokenizer.bos_token_id, *encoded["input_ids"]]
        first = next(i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(text) - len(answer) - 1) + 1
        logs = model(input_ids=torch.tensor([ids])).logits[0].detach().double().log_softmax(-1)
        return -float(np.mean([float(logs[i - 1, ids[i]]) for i in range(first, len(ids))]))

    for group, rows in items.groups.items():
        np.testing.assert_allclose(said[f"{group}_loss"], [loss(r.question, r.answer) for r in rows], atol=1e-5)
        np.testing.assert_allclose(
            said[f"{group}_paraphrase"], [loss(r.question, r.paraphrase) for r in rows], atol=1e-5
        )
        wrong = [loss(r.question, text) for r in rows for text in r.wrong]
        np.testing.assert_allclose(said[f"{group}_wrong"], wrong, atol=1e-5)


def test_a_model_that_knows_the_forgotten_answers_is_told_from_the_reference() -> None:
    """Numbers as two such models give them: R near 0 against R near 1, and nothing known by heart."""
    knows = numbers(wrong=4.0)
    found = by_metric(
        tofu_suite.compare({"after": knows, "reference": numbers(wrong=1.0)}, drawn(), resamples=100, seed=1)
    )
    quality = found["forget_quality"].after
    assert quality is not None
    assert quality.value < 1e-6
    assert quality.ci95[1] < 0.01


def drawn() -> Tofu:
    """Two forgotten authors and a row of each other group."""
    asked = tuple(
        tofu_items.Asked(unit=f"forget-{i // 20}", question="q", answer="a", paraphrase="p", wrong=("w",))
        for i in range(40)
    )
    return Tofu(
        split="forget01",
        groups={"forget": asked, **dict.fromkeys(("retain", "real_authors", "world_facts"), asked[:20])},
    )


def numbers(*, wrong: float) -> dict[str, tuple[float, ...]]:
    """A model whose loss on wrong answers is `wrong`, give or take."""
    made: dict[str, tuple[float, ...]] = {}
    for group, count in (("forget", 40), ("retain", 20), ("real_authors", 20), ("world_facts", 20)):
        made |= {f"{group}_{name}": (1.0,) * count for name in ("loss", "paraphrase", "rouge")}
        made[f"{group}_wrong"] = tuple(wrong + 0.01 * i for i in range(count))
    return made | {"extraction_f": (0.0,) * 40, "exact_f": (0.0,) * 40, "forget_log_prob": (-1.0,) * 40}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("forget01_perturbed", None, "forgetNN_perturbed"),
        ("retain_perturbed", None, "retain_perturbed.json is missing"),
        ("retain_perturbed", "{", "not JSON lines"),
        ("retain_perturbed", "", "must hold questions"),
        ("retain_perturbed", '{"question": "q"}', "published fields"),
        ("retain_perturbed", '{"question": "q", "answer": ""}', "published fields"),
        ("retain_perturbed", '{"question": "q", "answer": "a"}', "wrong answers"),
    ],
)
def test_a_folder_of_another_layout_is_refused(folder: Path, name: str, content: str | None, sentence: str) -> None:
    """One sentence that names the file and quotes nothing."""
    path = folder / f"{name}.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(EngineError, match=sentence) as refused:
        tofu_items.read(folder)
    assert refused.value.code == "bad_data"


def test_an_answer_that_leaves_no_room_for_a_question_is_refused(folder: Path, tiny_folder: Path) -> None:
    """The context of the model is what decides."""
    with pytest.raises(EngineError, match="generated_tokens 200") as refused:
        evaluated(folder.parent, {"after": tiny_folder}, generated_tokens=200)
    assert refused.value.code == "bad_options"
