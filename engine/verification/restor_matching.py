r"""Is an answer to one of RESTOR's questions right? A verdict without a judge model, on words alone. Standard library.

An answer is compared after folding: lower case, accents dropped, dashes and slashes as spaces, no other punctuation,
no articles. It is right when

1. it, or what stands before its first comma, bracket or semicolon ("Newark, New Jersey"), equals an accepted answer; or
2. it shares most words with one (token F1 of .6), has the same numbers, and shares more words with it than with any
   *other* answer that the published facts know for the same relation ("University of Cambridge" has a token F1 of .67
   with "University of Oxford", and "January 6" one of .5 to 1 with "January 5"; both are other answers).

The published code asks a chat model, which is more lenient; ours is the same for every model, so differences count.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

ACCEPTED_F1 = 0.6

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_DASHES = str.maketrans(dict.fromkeys("-/\u2010\u2011\u2012\u2013\u2014\u2015\u2212", " "))
_SIGNS = str.maketrans("", "", string.punctuation + "\u2018\u2019\u201c\u201d\u00ab\u00bb")
_HEAD = re.compile(r"[,;(\[]")


@lru_cache(maxsize=1 << 15)
def folded(answer: str) -> str:
    """An answer for comparison; where nothing would be left ("A" as a blood type) the article or sign stays."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", answer) if not unicodedata.combining(c)).casefold()
    plain = bare.translate(_DASHES).translate(_SIGNS)
    return " ".join(_ARTICLES.sub(" ", plain).split()) or " ".join(plain.split()) or bare.strip()


def accepts(answers: Sequence[str], answer: str, *, rivals: Iterable[str] = ()) -> bool:
    """Whether `answer` is one of `answers`; `rivals` are other answers that the relation is known to have."""
    given, truths = folded(answer), {folded(truth) for truth in answers}
    others = {folded(rival) for rival in rivals} - truths
    if not given:
        return False
    if given in truths:
        return True
    if given in others:
        return False
    return folded(_HEAD.split(answer, maxsplit=1)[0]) in truths or _nearest(given, truths, others)


def token_f1(given: str, truth: str) -> float:
    """F1 over the bags of words of two folded answers, between 0 and 1."""
    left, right = given.split(), truth.split()
    same = sum((Counter(left) & Counter(right)).values())
    return 2 * same / (len(left) + len(right)) if same else 0.0


def _nearest(given: str, truths: Iterable[str], others: Iterable[str]) -> bool:
    near = max((token_f1(given, truth) for truth in truths if _numbers(given) == _numbers(truth)), default=0.0)
    return near >= ACCEPTED_F1 and all(token_f1(given, other) < near for other in others)


def _numbers(text: str) -> list[str]:
    return [word for word in text.split() if any(sign.isdigit() for sign in word)]
