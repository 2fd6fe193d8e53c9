"""The suites of an evaluation by name. A new suite is one line in `SUITES` and one name in `engine.options.SUITES`.

`records` draws its items from the job's records; `muse` reads them from a folder in MUSE's published layout;
`membership` asks texts alone; `restor` and `tofu` are those benchmarks in their own layouts; `attacks` tries to bring
the forgotten back; `image` asks classifiers, and `domain` a CLIP about domains.
"""

from collections.abc import Callable

from engine.errors import EngineError
from engine.verification import domain_suite, image_suite, restor, tofu_suite
from engine.verification.attacks import suite as attacks
from engine.verification.evaluation import SUITE_VERSION, Evaluation, Folders, Found, Records
from engine.verification.findings import findings
from engine.verification.items import Items, draw, membership_texts
from engine.verification.layouts import read_muse
from engine.verification.measure import Measurements, measure

__all__ = ["SUITES", "SUITE_VERSION", "Evaluation", "Folders", "Found", "Records", "evaluate"]

Suite = Callable[[Evaluation, Records], Found]
MEASURED = {"language": "language models", "image": "image classifiers", "vision-language": "CLIPs"}
PICTURED = {"image": "image", "domain": "vision-language"}  # suites that are not for language models, and their task


def evaluate(asked: Evaluation, records: Records) -> Found:
    """Measure every model of the job and compare them; `records` reads one of the job's files."""
    suite = SUITES.get(asked.options.suite)
    if suite is None:
        raise EngineError("bad_options", f"the suite {asked.options.suite!r} is not part of this engine")
    return suite(asked, records)


def refuse_other(suite: str, task: str, name: str) -> None:
    """Refuse a model of another family than the suite measures; `name` is what the sentence calls the model."""
    wanted = PICTURED.get(suite, "language")
    if suite in SUITES and task != wanted:
        raise EngineError("bad_model", f"the suite {suite!r} measures {MEASURED[wanted]}, and {name} is none")


def _records(asked: Evaluation, records: Records) -> Found:
    forget, retain, holdout = records("forget"), records("retain"), records("holdout")
    items = draw(forget=forget, retain=retain, holdout=holdout, options=asked.options, seed=asked.seed)
    return _compared(asked, items)


def _muse(asked: Evaluation, _records: Records) -> Found:
    return _compared(asked, read_muse(asked.needed()))


def _membership(asked: Evaluation, records: Records) -> Found:
    forget, holdout = membership_texts(records("forget")), membership_texts(records("holdout"))
    return _compared(asked, Items(forget_texts=forget, holdout_texts=holdout))


def _restor(asked: Evaluation, _records: Records) -> Found:
    return restor.evaluate(asked)


def _compared(asked: Evaluation, items: Items) -> Found:
    digest = items.digest()
    measured = {
        role: Measurements(
            **asked.numbers(
                role, digest, lambda model, tokenizer, report: measure(model, tokenizer, items, asked.options, report)
            )
        )
        for role in asked.folders
    }
    found = findings(measured, items, resamples=asked.options.resamples, seed=asked.seed)
    return Found(findings=found, items_digest=digest)


SUITES: dict[str, Suite] = {
    "records": _records,
    "muse": _muse,
    "membership": _membership,
    "restor": _restor,
    "tofu": tofu_suite.evaluate,
    "attacks": attacks.evaluate,
    "image": image_suite.evaluate,
    "domain": domain_suite.evaluate,
}
