"""The desk: people, deadlines, database, queue and web. It knows everything and is thin.

No module of this package imports torch. Models are trained and measured by `python -m engine`, which
the worker spawns; reports are built and checked by `audits`.
"""
