"""A numbered protocol of checks: each step has a number, a name, an outcome and a reason.

The first step that fails ends the protocol: what would come after rests on it, and is listed as not checked. A
reader can tick the steps off against the documentation, and a program can rely on their numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from audits.errors import VerificationError
from audits.policy import Level

Trust = Literal["none"] | Level
_LONGEST = 2000
_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One check and what came of it."""

    n: int
    name: str
    ok: bool
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """All checks of a protocol. `payload` is set, and may be believed, only when `ok`."""

    ok: bool
    trust: Trust
    steps: tuple[Step, ...]
    payload: bytes | None

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        steps = [{"n": one.n, "name": one.name, "ok": one.ok, "why": one.why} for one in self.steps]
        return {"ok": self.ok, "trust": self.trust, "steps": steps}


@dataclass(slots=True)
class Recorder:
    """Runs checks in order and writes down what came of each."""

    steps: list[Step] = field(default_factory=list)
    failed: int | None = None

    def run(self, name: str, check: Callable[[], str]) -> None:
        """Run the next step; `check` returns why it holds, or raises `VerificationError` with why it does not."""
        number = len(self.steps) + 1
        if self.failed is not None:
            ok, why = False, f"Not checked, because step {self.failed} failed."
        else:
            ok, why = _outcome(check)
        if not ok and self.failed is None:
            self.failed = number
        self.steps.append(Step(n=number, name=name, ok=ok, why=_harmless(why)))

    def verification(self, trust: Trust, payload: bytes | None) -> Verification:
        """The protocol's result; nothing is trusted that did not pass every step."""
        ok = self.failed is None and bool(self.steps)
        return Verification(ok=ok, trust=trust, steps=tuple(self.steps), payload=payload if ok else None)


def present(value: _Found | None) -> _Found:
    """What an earlier step left; steps run in order, so it is there unless this program is wrong."""
    if value is None:
        raise VerificationError("An earlier step left nothing to check.")
    return value


def _outcome(check: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, check()
    except VerificationError as fault:
        return False, str(fault)
    except Exception as fault:  # noqa: BLE001 - a verifier that dies on a hostile bundle has not verified it
        return False, f"The check could not be carried out ({type(fault).__name__})."


def _harmless(text: str) -> str:
    """Text for a terminal: what a stranger wrote must not move the cursor, colour the verdict or flood the screen."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean if len(clean) <= _LONGEST else clean[:_LONGEST] + " ..."
