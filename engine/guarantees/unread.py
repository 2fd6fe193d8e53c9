"""The forget set, for methods whose guarantee is that they do not read it (docs/guarantees.md, sections 3 and 5 to 8).

The job reads it once, to refuse records that are to be forgotten and kept at the same time. The method gets this in
its place, and a method that asks it for anything, even for its length, ends the job.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from engine.errors import EngineError


class Unread(Sequence[Any]):
    """Records that cannot be looked at."""

    def __init__(self, method: str) -> None:
        """For the method of this name."""
        self._method = method

    def __getitem__(self, _index: object) -> NoReturn:
        raise self._refused()

    def __len__(self) -> int:
        raise self._refused()

    def __iter__(self) -> Iterator[Any]:
        raise self._refused()

    def _refused(self) -> EngineError:
        return EngineError(
            "internal",
            f"the method {self._method!r} touched the forget set: its theorem is about a model that depends on the "
            "records that stay alone",
        )
