"""The one error of this package, and the one-line way to raise it.

Two audiences, two roots:

* `VerificationError`: what came from outside (a bundle, a log, a key, a note) is malformed, hostile or wrong.
  Its text is one sentence for people and holds no personal data.
* `ValueError`: our own caller asked for something that makes no sense.

No function of this package lets another exception out because of the *content* of what it reads.
"""


class VerificationError(Exception):
    """Something that was to be verified does not hold."""


def require(condition: object, sentence: str) -> None:
    """Raise `VerificationError(sentence)` unless `condition` is true."""
    if not condition:
        raise VerificationError(sentence)


def expect(condition: object, sentence: str) -> None:
    """Raise `ValueError(sentence)` unless `condition` is true: the caller's mistake, not the input's."""
    if not condition:
        raise ValueError(sentence)
