"""The one error tree of the desk. It knows no HTTP and no exit codes; the doors map it.

ComplianceError
├── InvalidInputError    the caller can mend it; the sentence says how
├── NotFoundError        no such request, model, batch, …
├── ConflictError        true input at the wrong moment (a state that does not allow it, a replay)
├── ForbiddenError       who asks may not
├── NotAllowedError      the policy or the guarantee forbids it
└── UnavailableError     something the desk depends on did not answer; trying again may help

A message is one sentence for a person, without personal data, because it ends up in logs and answers.
"""


class ComplianceError(Exception):
    """Anything the desk refuses or fails to do, with a stable kebab-case `code`."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class InvalidInputError(ComplianceError):
    """The input is wrong; nothing was changed."""


class NotFoundError(ComplianceError):
    """What was named does not exist."""


class ConflictError(ComplianceError):
    """The input is fine, but the present state does not allow it."""


class ForbiddenError(ComplianceError):
    """Whoever asks is not allowed to."""


class NotAllowedError(ComplianceError):
    """A policy, a budget or a guarantee forbids it."""


class UnavailableError(ComplianceError):
    """A part the desk needs did not answer."""
