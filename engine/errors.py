"""The one way the engine says no: a code for programs and a sentence for people, without a word of anybody's data."""

from typing import Literal, get_args

Code = Literal[
    "bad_job",  # the job itself cannot be read or asks for something that does not exist
    "bad_options",  # an option is unknown, of the wrong type or out of range
    "bad_data",  # a data file is missing, broken or too small for what was asked
    "bad_model",  # a model folder is incomplete, or of a kind this task cannot work with
    "pickle_refused",  # a model folder holds a pickle; nothing of it was loaded
    "not_finite",  # a loss or a gradient became NaN or infinite; the step was not taken
    "internal",  # a fault of the engine; the traceback went to standard error
]
CODES: tuple[str, ...] = get_args(Code)


class EngineError(Exception):
    """A job that could not be done. `message` says what to change; neither part may hold personal data."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
