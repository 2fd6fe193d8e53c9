"""The engine: it trains, unlearns and measures, and knows nothing of people, databases or signatures.

One door: `engine.run.run(job, workdir, progress)`, or the same as a process, `python -m engine`. The border:
`contract`, `catalogue`, `corpus` and `guarantees` import the standard library only, so that a desk can read and
check them without loading torch.
"""
