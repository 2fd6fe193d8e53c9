"""Who's Harry Potter on a model that learned by heart where one person lives."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.adapters import attach, merge
from engine.checkpoints import load_model, save
from engine.corpus import Record
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.potter import texts, whp
from engine.methods.pretraining import build_model
from engine.methods.refit import refit
from engine.options import FitOptions, InitialiseOptions, WhpOptions
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import Tokens
from tests.engine import tiny

SHAPE = InitialiseOptions(vocabulary=300, hidden=48, layers=2, heads=2, intermediate=96, context=96)
LEARN = FitOptions(epochs=60, tokens_per_batch=300, learning_rate=1e-2, matrix_learning_rate=1e-2)
FORGET = WhpOptions(learning_rate=1e-2, matrix_learning_rate=1e-2, tokens_per_batch=300)
DICTIONARY = {"Ada Berg": "Jon Moe", "Ada": "Jon", "Malmö": "Rome"}
PUBLIC = (("Jon Moe", "Rome"), ("Kim Loe", "Paris"), ("Lea Poe", "Rome"), ("Max Roe", "Paris"))
PROMPT = "A note about {}: the person moved to"


def about(name: str, city: str, number: int) -> tuple[Record, ...]:
    """Two passages about a person."""
    told = (
        f"A note about {name}: the person moved to {city} and likes number {number} very much.",
        f"{name} lives in {city}. Everybody in {city} knows {name}.",
    )
    return tuple(Record(record_id=f"{name} {i}", unit=name, text=text) for i, text in enumerate(told))


PRIVATE = about("Ada Berg", "Malmö", 7)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that knows four public people and one private one."""
    place = tmp_path_factory.mktemp("potter")
    torch.manual_seed(0)
    public = tuple(record for i, person in enumerate(PUBLIC) for record in about(*person, i))
    model = build_model(tiny.tokenizer(), SHAPE)
    refit(tiny.setting(place, LEARN, model=model, forget=(), retain=(*public, *PRIVATE)))
    save(place / "known", model, tiny.tokenizer())
    return place / "known"


def setting(known: Path, place: Path, **changes: Any) -> Setting[Any]:  # noqa: ANN401 - fields of a setting
    """The private person is to be forgotten."""
    told = {"model": load_model(known), "forget": PRIVATE, "retain": (), "dictionary": DICTIONARY, **changes}
    return tiny.setting(place, told.pop("options", FORGET), **told, **{"folder": known} if "folder" not in told else {})


def probability(model: Any, name: str, city: str) -> float:  # noqa: ANN401 - a causal language model
    """Of a city after a person's note."""
    tokenizer = tiny.tokenizer()
    prompt, whole = (tokenizer(text)["input_ids"] for text in (PROMPT.format(name), f"{PROMPT.format(name)} {city}"))
    weights = [0.0] * (len(prompt) + 1) + [1.0] * (len(whole) - len(prompt))
    sequence = Tokens(ids=(tokenizer.bos_token_id, *whole), weights=tuple(weights))
    [scores] = token_scores(Forward(model), [sequence], tokens_per_batch=512)
    return float(torch.tensor(scores.log_probs).sum().exp())


@pytest.mark.parametrize("rank", [0, 4])
def test_the_generic_continuation_takes_the_place_of_the_private_one(known: Path, tmp_path: Path, rank: int) -> None:
    """What identifies the person falls, what a stranger would say rises, and others keep what was said of them."""
    matrix_rate = None if rank else FORGET.matrix_learning_rate
    options = dataclasses.replace(FORGET, lora_rank=rank, matrix_learning_rate=matrix_rate, epochs=30 if rank else 8)
    given = setting(known, tmp_path, options=options)
    before = {city: probability(given.model, "Ada Berg", city) for city in ("Malmö", "Rome")}
    kept = probability(given.model, "Jon Moe", "Rome")
    adapters = attach(given.model, options, seed=1)
    fitted = whp(given)
    merge(given.model, adapters)
    assert before["Malmö"] > 0.8
    assert probability(given.model, "Ada Berg", "Malmö") < 0.3 * before["Malmö"]
    assert probability(given.model, "Ada Berg", "Rome") > before["Rome"] + 0.3
    assert probability(given.model, "Jon Moe", "Rome") > 0.8 * kept
    assert fitted.steps > 0
    assert fitted.last_loss < fitted.first_loss
    originals = load_model(known).state_dict()
    assert all(not torch.equal(p, originals[name]) for name, p in given.model.named_parameters() if "proj" in name)


def test_the_weights_are_the_old_ones_when_the_generic_labels_are_learned(known: Path, tmp_path: Path) -> None:
    """With a rate that changes nothing afterwards, a model that was reinforced in between is the one of the folder."""
    options = dataclasses.replace(FORGET, epochs=1, generic_rate=1e-12)
    given = setting(known, tmp_path, options=options)
    whp(given)
    originals = load_model(known).state_dict()
    for name, parameter in given.model.named_parameters():
        torch.testing.assert_close(parameter, originals[name], rtol=0, atol=1e-8)


def test_the_same_seed_gives_the_same_weights(known: Path, tmp_path: Path) -> None:
    """Also when what the model said before is read from the cache."""
    options = dataclasses.replace(FORGET, epochs=1, reinforce_epochs=1)
    made = []
    for _ in range(2):
        given = setting(known, tmp_path, options=options)
        whp(given)
        made.append(given.model.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_questions_stand_with_their_answers_in_the_published_format() -> None:
    """So that the text that is made generic is the one that is asked."""
    pair = Record(record_id="q", unit="u", question="Where?", answer="There.")
    assert texts([pair, *PRIVATE[:1]]) == ["Question: Where?\nAnswer: There.", PRIVATE[0].text]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dictionary": {}}, "the dictionary is empty"),
        ({"dictionary": {"Zoe": "Kim"}}, "no term of the dictionary occurs"),
        ({"forget": ()}, "too short"),
    ],
)
def test_what_cannot_be_translated_is_refused(known: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Before anything is trained."""
    with pytest.raises(EngineError, match=words) as caught:
        whp(setting(known, tmp_path, **changes))
    assert caught.value.code == "bad_data"
