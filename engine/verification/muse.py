"""MUSE criteria 1, 2 and 4 as published (arXiv 2407.06460; `metrics/verbmem.py`, `metrics/knowmem.py`).

VerbMem: ROUGE-L F1 between the greedy continuation of a passage's beginning, at most 128 tokens decoded without
specials, and the first 128 ids of its true continuation, of which the start token is one. KnowMem: ROUGE-L F1 between
the greedy answer, at most 32 tokens and cut as published, and the true one. No stemmer. Utility is KnowMem on retain
questions. PrivLeak is in `membership`: every token of a text is scored, the first given the start token; K = 40 %.

Three departures, and what they change. A prompt that does not fit the context loses its beginning, where the
published code fails. A text longer than the context is scored in windows that do not overlap, each after a start
token; the published models' context holds every text. The space that ends a KnowMem prompt is left to the model to
write, as it was in training: `prompt_space=published` puts it into the prompt instead.
"""

import re
import string
from functools import cache

from rouge_score.rouge_scorer import RougeScorer

ARTICLES = re.compile(r"\b(a|an|the)\b")


@cache
def _scorer() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=False)


def rouge_l(truth: str, generated: str) -> float:
    """ROUGE-L F1 between 0 and 1."""
    return float(_scorer().score(truth, generated)["rougeL"].fmeasure)


def normalised(answer: str) -> str:
    """An answer for exact comparison: lower case, no punctuation, no articles, single spaces (the SQuAD rule).

    Where nothing would be left ("A" as a blood type), the article or the sign is the answer and stays.
    """
    plain = answer.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(ARTICLES.sub(" ", plain).split()) or " ".join(plain.split()) or answer.lower().strip()
