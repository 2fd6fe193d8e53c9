"""`Ledger`: the one writer (invariant 1), assembled from its rooms."""

from compliance.ledger.batches import Batches
from compliance.ledger.training import Training


class Ledger(Batches, Training):
    """Every query and every write of the desk, over one session and so in one transaction."""
