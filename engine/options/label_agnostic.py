"""What label-agnostic forgetting can be told. Standard library only."""

from dataclasses import dataclass, field

from engine.options import PRECISIONS, Options, above, at_least, one_of

RATE = {"above": 0, "high": 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class LafOptions(Options):
    """Autoencoders of representations, then `epochs` over the shorter of forget and retain set, two steps a batch.

    `extractor_rate` is that of the steps away from the forget set, `alignment_rate` that of the steps back to the
    representations as they were, at `temperature`; both are four times the published ones, which are for 256 numbers
    a representation and thousands of pictures. `decoder`: linear on standardised representations (`fixed`), or ended
    by a sigmoid on raw ones, as published (`faithful`), which cannot give back a number above 1.
    """

    epochs: int = at_least(1, 20)
    batch: int = at_least(1, 32)
    extractor_rate: float = field(default=2e-4, metadata=RATE)
    alignment_rate: float = field(default=4e-4, metadata=RATE)
    temperature: float = above(0, 20.0)
    decoder: str = one_of("fixed", "faithful")
    latent: int = at_least(1, 8)
    vae_epochs: int = at_least(1, 10)
    vae_rate: float = field(default=1e-3, metadata=RATE)
    vae_kl: float = at_least(0, 0.025)
    precision: str = one_of(*PRECISIONS)
    rows_per_pass: int = at_least(1, 512)


@dataclass(frozen=True, kw_only=True, slots=True)
class LafRepairOptions(LafOptions):
    """The same, then the head alone for `repair_epochs` on pictures and labels of those who stay."""

    repair_epochs: int = at_least(1, 1)
    repair_rate: float = field(default=1e-3, metadata=RATE)
