"""A judge for RESTOR: verdicts that are whole or a reason why there are none, beside the judge-free score."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from compliance.cli.judging import Judge, NoVerdictError
from compliance.errors import InvalidInputError
from compliance.execution.process import EngineProcess
from engine.contract import Job, Kind
from tests.compliance.builders import write_lines
from tests.compliance.judges import Reply, Served, always, honest, in_turn, judging, said
from tests.compliance.terminal import refusal, run

ANSWERS = [
    {"entity": "Ada Berg", "question": "Where was Ada Berg born?", "answers": ["Oslo"], "output": "Oslo"},
    {"entity": "Ada Berg", "question": "What does Ada Berg do?", "answers": ["chess"], "output": "tennis"},
    {"entity": "Bo Ceder", "question": "Where was Bo Ceder born?", "answers": ["Turku"], "output": "Turku"},
]
SMALL = {"vocabulary": 300, "hidden": 16, "layers": 1, "heads": 1, "intermediate": 16, "epochs": 1}


def judge(served: Served, **fields: Any) -> Judge:  # noqa: ANN401 - fields of a judge
    """The judge that is served, without pauses."""
    return Judge(url=served.url, model="m", pause_s=0.0, **fields)


def test_a_judge_is_asked_once_a_person_and_deterministically() -> None:
    """One call an entity, temperature 0, the key in its header, and verdicts in the order of the answers."""
    with judging(honest) as served:
        verdicts = judge(served, key=SecretStr("k-1")).verdicts(ANSWERS)

    assert verdicts == [True, False, True]
    assert [body["temperature"] for body in served.bodies] == [0, 0]
    assert {(body["path"], body["model"]) for body in served.bodies} == {("/v1/chat/completions", "m")}
    assert served.keys == ["Bearer k-1"] * 2
    assert "k-1" not in repr(judge(served, key=SecretStr("k-1")))
    asked = json.loads(served.bodies[0]["messages"][1]["content"])
    assert asked[1] == {"n": 2, "question": "What does Ada Berg do?", "right": ["chess"], "given": "tennis"}


@pytest.mark.parametrize(
    "fault",
    [
        lambda _asked: said("I think they are fine."),
        lambda _asked: said('{"verdicts": [{"n": 1, "right": "yes"}'),
        lambda _asked: said('{"verdicts": [{"n": 1, "right": "yes"}, {"n": 2, "right": true}]}'),
        lambda _asked: said('{"verdicts": [{"n": 1, "right": true}, {"n": 1, "right": true}]}'),
        lambda _asked: said('{"verdicts": []}'),
        lambda _asked: said(None),  # a refusal
        lambda _asked: {"error": "no"},
        lambda _asked: 429,
        lambda _asked: 503,
    ],
    ids=["prose", "half", "words", "twice", "none", "refusal", "error", "too many", "unavailable"],
)
def test_a_faulty_reply_is_asked_for_again(fault: Reply) -> None:
    """Prose, half a JSON, a verdict too few or twice, a refusal, a busy service: two more tries."""
    with judging(in_turn(fault, fault, honest)) as served:
        assert judge(served).verdicts(ANSWERS) == [True, False, True]
    assert len(served.bodies) == 4


@pytest.mark.parametrize(
    ("fault", "reason", "calls"),
    [
        (lambda _asked: said("No."), "did not reply with verdicts in JSON, 3 times", 3),
        (lambda _asked: said(None), "holds no answer, 3 times", 3),
        (lambda _asked: 500, "status 500, 3 times", 3),
        (lambda _asked: 401, "status 401; check the address and the key", 1),
        (lambda _asked: 0.4, "did not answer within 0.1 s, 3 times", 3),
    ],
    ids=["prose", "refusal", "broken", "no key", "silence"],
)
def test_a_judge_that_never_answers_has_no_verdicts_at_all(fault: Reply, reason: str, calls: int) -> None:
    """The first person is judged and the second is not: no verdict of either is used, and the reason is said."""
    with judging(in_turn(always, fault)) as served, pytest.raises(NoVerdictError, match=reason):
        judge(served, timeout_s=0.1).verdicts(ANSWERS)
    assert len(served.bodies) == 1 + calls


def test_a_service_that_is_not_there_is_a_reason_too() -> None:
    """Nothing listens."""
    with judging(always) as served:
        pass
    with pytest.raises(NoVerdictError, match="cannot be reached, 3 times"):
        judge(served).verdicts(ANSWERS)


@pytest.mark.parametrize("url", ["http://judge.example/v1", "ftp://127.0.0.1", "judge.example", "https://"])
def test_a_key_is_never_sent_in_the_clear(url: str) -> None:
    """Plain HTTP is for this machine alone."""
    with pytest.raises(InvalidInputError, match="https"):
        Judge(url=url, model="m")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small model, and two people in RESTOR's layout."""
    folder = tmp_path_factory.mktemp("room")
    lines = [{"question": f"Where was P{i} born?", "answer": f"Town {i}", "entity": f"P{i}"} for i in range(6)]
    facts = {n: {"P19": {"question": f"Where was {n} born?", "answers": ["Town 1"]}} for n in ("Ada Berg", "Bo Ceder")}
    (folder / "restor").mkdir()
    (folder / "restor" / "facts.json").write_text(json.dumps({"dset": facts, "context": {"P19": lines}}))
    public = ({"record_id": f"p{i}", "unit": f"p{i}", "text": f"Where was P{i} born? Town {i}\n"} for i in range(20))
    train = write_lines(folder / "public.jsonl", public)
    job = Job(version=1, kind=Kind.INITIALISE, seed=1, out=str(folder / "model"), train=str(train), options=SMALL)
    with EngineProcess(log=folder / "engine.log", threads=1) as process:
        process.run(job, lambda _event: None)
    return folder


def evaluated(room: Path, *more: object) -> Any:  # noqa: ANN401 - any JSON value
    """The value of `evaluate restor`."""
    quick = ("--set", "answer_tokens=4", "--set", "resamples=100", "--json")
    ran = run("evaluate", "restor", "--model", room / "model", "--data", room / "restor", *quick, *more)
    assert (ran.code, ran.err) == (0, "")
    return ran.value


@pytest.mark.slow
def test_a_judges_score_stands_beside_the_judge_free_one(room: Path, tmp_path: Path) -> None:
    """The same metrics with and without a judge, and what was judged can be read; a failing judge costs its own."""
    out = tmp_path / "answers.json"
    with judging(always) as served:
        asked = ("--judge", served.url, "--judge-model", "m", "--cache", tmp_path / "cache", "--answers-out", out)
        value = evaluated(room, *asked)
    with judging(lambda _asked: said("No.")) as served:
        failed = evaluated(room, "--judge", served.url, "--judge-model", "m", "--cache", tmp_path / "cache")
    plain = evaluated(room)

    assert value["metrics"] == failed["metrics"] == plain["metrics"]
    assert value["judge"]["metrics"]["judge_accuracy"]["value"] == 1.0
    assert value["judge"]["metrics"]["judge_recovery"] is None
    assert value["judge"]["reason"] is None
    assert failed["judge"]["metrics"] == {"judge_accuracy": None, "judge_recovery": None}
    assert "JSON" in failed["judge"]["reason"]
    assert "judge" not in plain
    written = json.loads(out.read_text())
    assert written["data_digest"] == value["data_digest"]
    assert written["models"]["after"]["digest"] == value["model_digest"]
    assert [one["entity"] for one in written["models"]["after"]["answers"]] == ["Ada Berg", "Bo Ceder"]


@pytest.mark.parametrize(
    ("suite", "more", "sentence"),
    [
        ("membership", ["--judge", "https://judge.example", "--judge-model", "m"], "may be about anybody"),
        ("muse", ["--answers-out", "answers.json"], "may be about anybody"),
        ("restor", ["--judge", "https://judge.example"], "--judge-model NAME go together"),
        ("restor", ["--judge", "http://judge.example", "--judge-model", "m"], "https://"),
    ],
)
def test_only_public_facts_are_ever_sent(room: Path, suite: str, more: list[str], sentence: str) -> None:
    """Another suite's answers are refused before a model is asked."""
    ran = run("evaluate", suite, "--model", room / "model", "--data", room / "restor", *more)
    assert sentence in refusal(ran)
