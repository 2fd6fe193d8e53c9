"""What the unlearners of image classifiers can be told. Standard library only.

Rates are those of AdamW on the engine's small networks; `optimiser` = `sgd` takes momentum .9 and rates as published.
"""

from dataclasses import dataclass, field

from engine.options import SparseOptions, above, at_least, one_of

OPTIMISERS = ("adamw", "sgd")


def share(default: float) -> float:
    """A fraction above 0 and up to 1."""
    found: float = field(default=default, metadata={"above": 0, "high": 1})
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageUnlearnOptions(SparseOptions):
    """Steps from the deployed classifier, pruned first where `sparsity` says so.

    What pruning cost is won back on the retain set, `recovery_epochs` at `recovery_rate` after each round.
    """

    learning_rate: float = above(0, 1e-3)
    epochs: int = at_least(1, 5)
    optimiser: str = one_of(*OPTIMISERS)
    recovery_epochs: int = at_least(0, 1)
    recovery_rate: float = above(0, 1e-3)
