"""Attacks that try to refute: can a membership attack, canaries or a probe find what should not be there?

`signals` turns logits into one number an example; `shadows` decides which shadow model holds which unit; `lira`,
`rmia` and `unlearnt` turn the numbers of the target and the shadows into one score an example (higher: looks more
like a member); `performance` turns scores into findings. `per_example` drives them: `assignment` says who is asked
about and who is in which shadow, `trials` makes the shadows by engine jobs (side by side in a `crew`), `asking` asks,
and `scoring` lets every attack guess. `canaries` is the one-run audit up to its counts, `probe` measures noise,
clipping and sampling on the running mechanism. `running`, `asking`, `trials` and `per_example` speak to torch; the
rest is numpy and scipy.

None of it proves anything: an attack that finds nothing may be a weak attack. Scores of single examples stay inside
the engine; only findings and counts leave.
"""
