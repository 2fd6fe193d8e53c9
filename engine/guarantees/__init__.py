"""Pure records and mathematics of (epsilon, delta): what a mechanism did, and whether its result learned anything. No torch, no opacus.

The accountant itself, which turns a `Mechanism` into an epsilon, lives in `audits`, because a verifier must be able to repeat it.
"""
