"""Population attacks on a classifier: whom would somebody take for a stranger who may fit on those who stayed?

A support vector machine (C = 3, a radial kernel of width `auto`) is fitted on one feature of as many pictures that
stayed as of strangers' pictures, and asked about the forget set, none of which it was fitted on. A score is the share
that it takes for strangers' (Jia et al. 2023, arXiv 2304.04934). Read it as a gap to the reference: a larger share is
not better, for a picture that stands out as forgotten stands out. Where members and strangers are alike the share is a
half on average over many fits, and in a single one it can be far from that, most of all by correctness, whose answer
is one for all that are right.

    mia_efficacy      confidence, the probability of the own class, which is the number the authors report
    mia_correctness   whether the own class is the likeliest
    mia_entropy       entropy of the prediction
    mia_m_entropy     entropy modified by the label (`image_answers`)
    mia_prob          the whole vector of probabilities
"""

from collections.abc import Mapping

import numpy as np
from sklearn.svm import SVC

from engine.seeds import derive
from engine.verification.statistics import Floats, Ints

PENALTY = 3.0  # of the published attack
MOST = 2000  # pictures of either kind that an attack is fitted on; its cost grows with their square
METRICS = {
    "mia_efficacy": "confidence",
    "mia_correctness": "hits",
    "mia_entropy": "entropy",
    "mia_m_entropy": "m_entropy",
    "mia_prob": "probs",
}


def taken_for_strangers(metric: str, told: Mapping[str, Floats], strangers: Ints, *, seed: int) -> Floats | None:
    """1 for each forgotten picture that the attack says was not trained on; None where the feature cannot be had.

    `strangers` are the rows of the holdout set that the attack may learn from. The same pictures are drawn for every
    model and feature. A model that is equally sure of everything gives one point to learn from and one answer for all.
    """
    stayed, others, forgotten = (_feature(told, name, METRICS[metric]) for name in ("retain", "holdout", "forget"))
    if not len(forgotten) or not all(np.isfinite(values).all() for values in (stayed, others, forgotten)):
        return None
    size = min(len(stayed), len(strangers), MOST)
    rng = np.random.default_rng(derive(seed, "mia"))
    members = stayed[rng.choice(len(stayed), size, replace=False)]
    known = np.concatenate([members, others[strangers][rng.choice(len(strangers), size, replace=False)]])
    attack = SVC(C=PENALTY, gamma="auto").fit(known, np.repeat([1, 0], size))
    taken: Floats = (attack.predict(forgotten) == 0).astype(np.float64)
    return taken


def _feature(told: Mapping[str, Floats], name: str, kind: str) -> Floats:
    """One set's feature (rows x width)."""
    if kind == "confidence":
        return np.exp(told[f"{name}_log_probs"])[:, None]
    values = told[f"{name}_{kind}"]
    return values.reshape(len(told[f"{name}_hits"]), -1) if len(values) else np.zeros((0, 1))
