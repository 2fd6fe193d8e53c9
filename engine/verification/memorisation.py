"""How much of a text a model still has by heart, from which of its labels were the likeliest. Pure numpy.

Both are shares of the labels of one text under teacher forcing: an answer given its question, a continuation given
its beginning. Exact memorisation (Tirumala et al. 2022, arXiv 2205.10770): how many labels were the likeliest.
Extraction strength (Carlini et al. 2021, arXiv 2012.07805): 1 - k / L, where the L - k last labels all were; so it is
0, and not 1 / L, when not even the last was. Greedy generation after a prefix of k labels then writes the rest.
"""

import math

import numpy as np
from numpy.typing import NDArray


def extraction_strength(hits: NDArray[np.bool_]) -> float:
    """The share of a text that greedy generation completes from some prefix of it; NaN without labels."""
    missed = np.flatnonzero(~hits)
    known = len(hits) - 1 - int(missed[-1]) if len(missed) else len(hits)
    return known / len(hits) if len(hits) else math.nan


def exact_memorisation(hits: NDArray[np.bool_]) -> float:
    """The share of labels that were the likeliest; NaN without labels."""
    return float(hits.mean()) if len(hits) else math.nan
