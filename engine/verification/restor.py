r"""RESTOR (arXiv 2411.00204): does an unlearned model answer again as it did before it was corrupted?

`restor_facts` reads the published files, `restor_replies` asks the models, `restor_matching` says when an answer is
right, `restor_options` what the corrupted options are, `restor_scores` compares the models. Numbers need no judge;
verdicts of one (see `restor_replies`) are scored beside them and never instead of them.
"""

from engine.verification.evaluation import Evaluation, Found
from engine.verification.restor_facts import read
from engine.verification.restor_replies import replies, verdicts
from engine.verification.restor_scores import score


def evaluate(asked: Evaluation) -> Found:
    """Ask every model, score and compare; resampled by person."""
    benchmark = read(asked.needed())
    digest = benchmark.digest()
    said = {role: replies(asked, benchmark.facts, digest, role) for role in asked.folders}
    judged = {role: verdicts(asked, benchmark.facts, digest, role) for role in said} if asked.options.judged else {}
    found = score(benchmark.facts, said, judged=judged, resamples=asked.options.resamples, seed=asked.seed)
    return Found(findings=found, items_digest=digest)
