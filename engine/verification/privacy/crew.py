"""The same function on many things, in this process or in several side by side; they end when this one does.

Workers are fresh processes (spawned, so that none inherits half a torch). Each waits for the death of the process that
started it, however it dies, and dies too.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from typing import TypeVar

from engine.errors import Code, EngineError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Refused:
    """An `EngineError` on its way between processes."""

    code: Code
    message: str


def side_by_side(
    function: Callable[[Item], Result], items: Sequence[Item], *, processes: int
) -> Iterator[tuple[int, Result]]:
    """Position and result of each item, as they come; what one raises ends all, once those under way are done.

    `function` and items are sent to other processes: a function of a module, or a partial of one.
    """
    workers = min(processes, len(items))
    if workers < 2:  # noqa: PLR2004 - nobody beside this process
        yield from ((i, function(item)) for i, item in enumerate(items))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_die_with_the_parent) as pool:
        places = {pool.submit(partial(_caught, function), item): i for i, item in enumerate(items)}
        try:
            for future in as_completed(places):
                yield places[future], _result(future.result())
        except BrokenProcessPool as error:
            message = "a process of this job ended early; its log says why, or it ran out of memory"
            raise EngineError("internal", message) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _caught(function: Callable[[Item], Result], item: Item) -> Result | _Refused:
    try:
        return function(item)
    except EngineError as error:
        return _Refused(code=error.code, message=error.message)


def _result(made: Result | _Refused) -> Result:
    if isinstance(made, _Refused):
        raise EngineError(made.code, made.message)
    return made


def _die_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
