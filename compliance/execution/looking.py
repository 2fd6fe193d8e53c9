"""What a start is asked about every picture before anything is trained, so that a broken one is found by its position.

The engine's suites do the asking. That of classifiers takes a data set as the forget set. That of domains takes it as
the holdout set, in its own order, beside blank pictures that stand for the domain to be forgotten and for the others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from compliance.errors import InvalidInputError
from compliance.ledger.views import DataSetView
from compliance.store import Store
from engine.corpus import Record, write_records

BLANK = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="  # a grey pixel


@contextmanager
def blank_sets(records: Sequence[Record], folder: Path) -> Iterator[tuple[Path, Path]]:
    """Files of blank pictures, below `folder` while the block lasts: the first domain to forget, and all others."""
    label, names = records[0].label or "", domains(records)
    made = [
        Record(record_id=f"blank-{number}", unit=f"blank-{number}", image=BLANK, label=label, domain=name)
        for number, name in enumerate(names)
    ]
    with TemporaryDirectory(dir=folder) as place:
        paths = Path(place) / "forget.jsonl", Path(place) / "retain.jsonl"
        for path, chosen in zip(paths, (made[:1], made[1:]), strict=True):
            write_records(path, chosen)
        yield paths


def check_domains(store: Store, dataset: DataSetView, holdout: DataSetView) -> None:
    """InvalidInputError unless there are two domains or more, and pictures that no model has seen of each of them."""
    known, held = (domains(store.records(one.id)) for one in (dataset, holdout))
    if len(known) < 2:  # noqa: PLR2004 - one to forget and one that stays
        message = f"the data set '{dataset.name}' has one domain; a model of domains needs two or more"
        raise InvalidInputError(message, code="one-domain")
    if known != held:
        message = (
            f"the data sets '{dataset.name}' and '{holdout.name}' have other domains ({len(known)} and {len(held)}); "
            "what is forgotten is measured on pictures of each domain that no model has seen"
        )
        raise InvalidInputError(message, code="other-domains")


def domains(records: Sequence[Record]) -> list[str]:
    """The domains of records, sorted."""
    return sorted({record.domain for record in records if record.domain is not None})
