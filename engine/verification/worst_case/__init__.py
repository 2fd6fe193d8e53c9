"""Which records would be hardest to forget? A stress test of unlearning: the worst forget set of a given size.

`simplex` projects on the weights that are allowed, `selection` is the outer loop over weights and pure numpy, `lower`
is the inner one, a model stepped by the sign of its gradient, and `search` drives both for a job and writes the sets.
Fan et al. 2024, arXiv 2403.07362. What is found is hard for the lower level that was used; that another set may be
harder, for another method, is not excluded.
"""
