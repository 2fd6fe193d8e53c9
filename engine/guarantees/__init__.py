"""What a mechanism did, and whether its result learned anything: pure records, no torch, no opacus.

The accountant itself, which turns a `Mechanism` into an epsilon, lives in `audits`, because a verifier must be able
to repeat it.
"""
