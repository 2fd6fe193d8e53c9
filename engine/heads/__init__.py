"""Removal from strongly convex heads: linear classifiers on fixed features, where deleting a row has a theorem.

`newton`    Guo et al. 2020: objective perturbation, Newton steps, a residual against a budget
`descent`   Neel et al. 2021: gradient descent, noise at publication
`langevin`  projected noisy gradient descent, noise in every step
`rewind`    Mu and Klabjan 2025: back to a checkpoint; its constants are estimated, so its class is `conditional`

Border: numpy and scipy in double precision, no torch. Nothing here computes an epsilon; the records say what an
accountant needs. A noise source is an argument (`weights.Noise`), and its secret never stands in a record or a repr.

What no theorem here covers: features that were fitted on the rows (a normalisation by statistics of the data
counts), a penalty or a noise level chosen on them, and requests that were chosen after looking at published weights.
Rows are therefore scaled one by one, without looking at the others, to a norm of at most 1.
"""
