"""MUSE's four scores of a tiny model against the published procedure, followed step by step, one item at a time."""

from collections.abc import Sequence
from itertools import product

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from engine.options import EvaluateOptions
from engine.verification.findings import by_metric, findings
from engine.verification.items import Items, Passage, Question, Text
from engine.verification.measure import Measurements, measure
from tests.engine import tiny

OPTIONS = EvaluateOptions(continuation_tokens=12, answer_tokens=8, prompt_space="published", resamples=100)
EXAMPLES = (("Who?", "Ada"), ("Where?", "Oslo"))
PASSAGES = ("A note about Ada Berg: the person", "moved to Oslo and likes", "number 3 very much.")


def greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, limit: int) -> str:
    """Step 2 and 3: tokenise with specials, the likeliest token at a time, decode the new ones without specials."""
    ids = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    start = len(ids)
    while len(ids) < start + limit:
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True))


def first_ids(tokenizer: PreTrainedTokenizerFast, text: str, limit: int) -> str:
    """Step 4: the first ids with specials, so one fewer of the text."""
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]][:limit]
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def f1(truth: str, generated: str) -> float:
    """Step 5."""
    return float(RougeScorer(["rougeL"], use_stemmer=False).score(truth, generated)["rougeL"].fmeasure)


def cut(text: str) -> str:
    """KnowMem, step 4."""
    for end in ("\n\n", "\nQuestion", "Question:"):
        text = text.split(end, maxsplit=1)[0]
    return text


def lowest(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, text: str) -> float:
    """PrivLeak, step 2: mean of the int(0.4 T) lowest log-probabilities of tokens 1 .. T."""
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    logs = model(input_ids=torch.tensor([ids])).logits[0].detach().double().log_softmax(-1)
    scores = sorted(float(logs[i - 1, ids[i]]) for i in range(1, len(ids)))
    kept = scores[: int(0.4 * len(scores))]
    return sum(kept) / len(kept)


def items(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Items:
    """Passages and questions whose truth is in part what the model says, so that scores differ from 0 and 1."""
    said = [greedy(model, tokenizer, prompt, 12) for prompt in PASSAGES]
    truths = [said[0], f"{said[1][: len(said[1]) // 2]} moved to Oslo and likes number 3", "Malmö " * 20]
    asked = tuple(
        Question(unit=f"q{i}", question=f"Where does {name} live?", answers=(said[i],))
        for i, name in enumerate(tiny.NAMES[:3])
    )
    records = [record.text for record in tiny.records() if record.text]
    return Items(
        passages=tuple(
            Passage(unit=f"p{i}", prompt=p, truth=t) for i, (p, t) in enumerate(zip(PASSAGES, truths, strict=True))
        ),
        forget_questions=asked,
        forget_examples=EXAMPLES,
        retain_questions=asked[:2],
        retain_examples=EXAMPLES[:1],
        forget_texts=tuple(Text(unit=f"f{i}", text=text) for i, text in enumerate(records[:4])),
        holdout_texts=tuple(Text(unit=f"h{i}", text=text) for i, text in enumerate(records[4:])),
    )


def knowmem(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    asked: Sequence[Question],
    shown: Sequence[tuple[str, str]],
) -> list[float]:
    """The published prompt, the greedy answer, the cut, the score."""
    context = "".join(f"Question: {q}\nAnswer: {a}\n\n" for q, a in shown)
    return [
        f1(one.answers[0], cut(greedy(model, tokenizer, f"{context}Question: {one.question}\nAnswer: ", 8)))
        for one in asked
    ]


def test_the_four_scores_are_those_of_the_published_procedure() -> None:
    """VerbMem, KnowMem on both sets, and the AUC of Min-40 %: item by item where there are items."""
    model, tokenizer = tiny.model(seed=3), tiny.tokenizer()
    asked = items(model, tokenizer)
    said = measure(model, tokenizer, asked, OPTIONS, lambda _: None)
    verbatim = [
        f1(first_ids(tokenizer, one.truth, 12), greedy(model, tokenizer, one.prompt, 12)) for one in asked.passages
    ]
    assert said["verbmem"] == pytest.approx(verbatim)
    assert 0 < sum(verbatim) < 3
    assert said["knowmem_f"] == pytest.approx(knowmem(model, tokenizer, asked.forget_questions, EXAMPLES))
    assert said["knowmem_r"] == pytest.approx(knowmem(model, tokenizer, asked.retain_questions, EXAMPLES[:1]))
    forget, holdout = (
        [lowest(model, tokenizer, t.text) for t in texts] for texts in (asked.forget_texts, asked.holdout_texts)
    )
    won = sum(h > f for f, h in product(forget, holdout)) / (len(forget) * len(holdout))
    found = by_metric(findings({"after": Measurements(**said)}, asked, resamples=100, seed=1))["privleak_auc"]
    assert found.after is not None
    assert found.after.value == pytest.approx(won)


def test_the_start_token_is_one_of_the_truths_ids() -> None:
    """A model that says the truth to its last token is compared with one token fewer: its F1 is below 1."""
    model, tokenizer = tiny.model(seed=3), tiny.tokenizer()
    truth = greedy(model, tokenizer, PASSAGES[0], 12)
    assert first_ids(tokenizer, truth, 12) == tokenizer.decode(
        tokenizer(truth, add_special_tokens=False)["input_ids"][:11]
    )
