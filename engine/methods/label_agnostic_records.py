"""Records of which nothing is left but the picture: what a method is given that must not be able to read labels.

The id goes too, because that of a picture from a folder begins with its class, and so does the unit. Standard library
only.
"""

from collections.abc import Sequence

from engine.corpus import Record

NOTHING = ""  # a label that says nothing; a record of a picture has one


def pictures_alone(records: Sequence[Record]) -> tuple[Record, ...]:
    """The same pictures in the same order, numbered, without label, id and unit."""
    return tuple(
        Record(record_id=str(i), unit=str(i), image=record.image, label=NOTHING) for i, record in enumerate(records)
    )
