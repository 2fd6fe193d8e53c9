"""TOFU's metrics as functions of per-sample numbers (Maini et al. 2024, arXiv 2401.06121, section 2.2). No model.

With l(a) the mean cross-entropy of the tokens of answer a given its question, in nats:

    probability    exp(-l(answer)); real authors and world facts: that of the answer among all options, each exp(-l)
    ROUGE          ROUGE-L recall of the greedy answer, with stemmer
    truth ratio    R = exp(l(paraphrase) - mean over the wrong answers of l(wrong)): the geometric mean of the
                   probabilities of wrong answers over that of a right one. Forget set: min(R, 1 / R);
                   elsewhere max(0, 1 - R). Where there is no paraphrase the answer stands in for it.
    model utility  harmonic mean of the means of all three on retain set, real authors and world facts; 0 if one is 0
    forget quality p-value of the two-sample Kolmogorov-Smirnov test between the R of the forget set of a model and
                   of the reference, which was retrained without it

Conformance. The logs that the authors published hold, for each sample, l of every answer, the R, the ROUGE and for
options -log of the probability among them; the tests recompute the last three from the first and from the texts, and
utility and forget quality from all, along another path in float64. They agree to 1e-6 (R was logged in float32).
The logs hold no aggregates: utility .522, .532 and .519 for their full, retain90 and retain99 models and a forget
quality of 2.2e-16 for full against retain90 are derived from them.

Where the published code does otherwise. Its l also counts the tag "Answer:" and the end token, which raises every
probability; we count the answer, as the paper has it. Its ROUGE reads on to the last generated token; we cut where an
answer ends, at a blank line. A p-value depends on the number of samples: compare forget qualities of one split only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import ks_2samp

from engine.verification.statistics import Floats

UTILITY = ("retain", "real_authors", "world_facts")
OPTIONAL = ("real_authors", "world_facts")  # whose wrong answers are options
COMPONENTS = ("probability", "rouge", "truth_ratio")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a model said about n questions: l of answer and paraphrase (n,), of wrong answers (n x k), ROUGE (n,)."""

    loss: Floats
    paraphrase: Floats
    wrong: Floats
    rouge: Floats


def rouge_recall(truth: str, generated: str) -> float:
    """ROUGE-L recall between 0 and 1, with Porter's stemmer."""
    return float(_scorer().score(truth, generated)["rougeL"].recall)


@cache
def _scorer() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=True)


def truth_ratio(answers: Answers) -> Floats:
    """R of each question (n,)."""
    ratio: Floats = np.exp(answers.paraphrase - answers.wrong.mean(axis=1))
    return ratio


def probability(answers: Answers, *, among_options: bool) -> Floats:
    """The probability of each answer a token, or among the options (n,)."""
    right: Floats = np.exp(-answers.loss)
    return right / (right + np.exp(-answers.wrong).sum(axis=1)) if among_options else right


def components(said: Mapping[str, Answers]) -> dict[str, Floats]:
    """The nine per-sample terms of model utility by name, `retain_probability` to `world_facts_truth_ratio`."""
    terms = {}
    for group in UTILITY:
        answers = said[group]
        terms[f"{group}_probability"] = probability(answers, among_options=group in OPTIONAL)
        terms[f"{group}_rouge"] = answers.rouge
        terms[f"{group}_truth_ratio"] = np.maximum(0.0, 1.0 - truth_ratio(answers))
    return terms


def model_utility(means: Floats) -> Floats:
    """The harmonic mean over the first axis of nine means (9 x anything); 0 where one of them is 0."""
    with np.errstate(divide="ignore"):
        utility: Floats = len(means) / (1.0 / means).sum(axis=0)
    return utility


def forgotten_truth_ratio(ratio: Floats) -> Floats:
    """Of the forget set: 1 where a wrong answer is as likely as a right one, lower the surer the model is (n,)."""
    nearest: Floats = np.minimum(ratio, 1.0 / ratio)
    return nearest


def forget_quality(ratio: Floats, reference: Floats) -> float:
    """The p-value of the test that both samples of R come from one distribution; exact for up to 10,000 samples."""
    return float(ks_2samp(ratio, reference).pvalue)
