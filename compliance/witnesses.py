"""Asking witnesses for their cosignatures (c2sp.org/tlog-witness, the log's side).

Rules:

* A witness that is down, slow, or answers nonsense never fails a publication: its line is missing, and the program's
  log says why. Whether the others are enough is the policy's quorum, which our own verifier asks for.
* A line is added only after it was verified with the witness's key from the settings. A note with a wrong line of a
  known key is refused as a whole by every verifier, so one bad answer must not get in.
* One deadline for everything that a witness does, no redirects, no proxies from the environment, and a limit on what is
  read: whoever answers at a witness's address is not trusted before its signature is.
* A witness's time is a second clock beside ours: where they differ by more than `MAX_SKEW`, the log says so.
* A witness that cosigned a *larger* log than ours has seen another history, or our database is an old copy: that is
  told as an error, and nothing is sent to it.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import httpx
import structlog

from audits import checkpoint, merkle, note, witness
from audits.errors import VerificationError, require
from audits.strict import decode_decimal

MAX_ANSWER = 64 * 1024
SECONDS = 5.0
MAX_SKEW = timedelta(minutes=5)
SIZE_TYPE = "text/x.tlog.size"
_ROUNDS = 2  # with the size that we believe the witness is at, and with the one that it then names
_log = structlog.get_logger("expunge.witnesses")


@dataclass(frozen=True, kw_only=True, slots=True)
class Witness:
    """Somebody else's witness: what we call it, its key, and below which address it takes checkpoints."""

    name: str
    key: note.VerifierKey
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    status: int
    content_type: str
    body: bytes


class Witnesses:
    """The witnesses of the settings, as the publisher's cosigner."""

    def __init__(
        self, witnesses: Iterable[Witness], *, clock: Callable[[], datetime], seconds: float = SECONDS
    ) -> None:
        """Ask these; `clock` is ours, and `seconds` is all the time that each of them has for one request."""
        self._witnesses = tuple(witnesses)
        self._clock = clock
        self._seconds = seconds
        self._sizes: dict[str, int] = {}  # by URL: what each cosigned last, as far as this process knows; a hint

    def cosign(self, signed: str, consistency: Callable[[int], list[bytes]]) -> str:
        """The checkpoint `signed` with the cosignatures that could be had; those it has already are kept.

        `consistency(size)` proves that the log of the checkpoint extends the one of that size.
        """
        sizes = {one: self._sizes.get(one.url, 0) for one in self._witnesses if _is_missing(signed, one)}
        for _ in range(_ROUNDS):
            bodies = {one: _request(signed, one, size, consistency) for one, size in sizes.items()}
            signed, sizes = self._take(signed, self._post({one: body for one, body in bodies.items() if body}))
        for one in sizes:
            _tell(one, "It names another size each time.")
        return signed

    def _take(self, signed: str, answers: Mapping[Witness, _Answer | None]) -> tuple[str, dict[Witness, int]]:
        """The note with what came, and the sizes from which others are to be asked again."""
        again: dict[Witness, int] = {}
        for one, answer in answers.items():
            try:
                if answer is None:
                    continue
                if answer.status == witness.STALE:
                    again[one] = _size(answer)
                    continue
                require(answer.status == httpx.codes.OK, f"It answered with the status {answer.status}.")
                signed = witness.answered(signed, answer.body, one.key)
                self._sizes[one.url] = checkpoint.peek(signed).size
                self._compare_clocks(signed, one)
            except VerificationError as fault:
                _tell(one, str(fault))
        return signed, again

    def _compare_clocks(self, signed: str, one: Witness) -> None:
        (theirs,) = note.open_note(signed, [one.key]).verified
        skew = abs(self._clock().timestamp() - (theirs.time or 0))
        if skew > MAX_SKEW.total_seconds():
            _log.error("a witness's clock and ours differ: one of them is wrong", witness=one.name, seconds=round(skew))

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The authorities that an https address is believed by; where no address is one, there are none.

        Reading them takes longer than a cosignature, so it is done once.
        """
        needed = any(one.url.startswith("https:") for one in self._witnesses)
        return httpx.create_ssl_context(trust_env=False) if needed else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def _post(self, bodies: Mapping[Witness, str]) -> dict[Witness, _Answer | None]:
        """Ask all of them at once; in a thread of its own, because the caller may be inside an event loop."""
        if not bodies:
            return {}
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(asyncio.run, self._ask_all(bodies)).result()

    async def _ask_all(self, bodies: Mapping[Witness, str]) -> dict[Witness, _Answer | None]:
        async with httpx.AsyncClient(
            verify=self._tls, timeout=self._seconds, follow_redirects=False, trust_env=False
        ) as client:
            answers = await asyncio.gather(*(self._ask(client, one, body) for one, body in bodies.items()))
        return dict(zip(bodies, answers, strict=True))

    async def _ask(self, client: httpx.AsyncClient, one: Witness, body: str) -> _Answer | None:
        try:
            async with asyncio.timeout(self._seconds):
                return await _ask(client, one, body)
        except VerificationError as fault:
            _tell(one, str(fault))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:  # its text may quote what was answered
            _tell(one, f"It did not answer ({type(error).__name__}).")
        return None


async def _ask(client: httpx.AsyncClient, one: Witness, body: str) -> _Answer:
    # Not decoded: a compressed answer can be a thousand times what was read.
    headers = {"content-type": "text/plain; charset=utf-8", "accept-encoding": "identity"}
    url = f"{one.url.rstrip('/')}/add-checkpoint"
    received = bytearray()
    async with client.stream("POST", url, content=body.encode(), headers=headers) as response:
        async for chunk in response.aiter_raw():
            received += chunk
            require(len(received) <= MAX_ANSWER, f"Its answer is larger than {MAX_ANSWER} bytes.")
        content_type = response.headers.get("content-type", "")
        return _Answer(status=response.status_code, content_type=content_type, body=bytes(received))


def _request(signed: str, one: Witness, size: int, consistency: Callable[[int], list[bytes]]) -> str | None:
    """The request that goes on from `size`; None where the witness is ahead of the log."""
    mine = checkpoint.peek(signed).size
    if size > mine:
        _log.error(
            "a witness cosigned a larger log than this one: the database is an old copy, or the log was forked",
            witness=one.name,
            size=size,
            ours=mine,
        )
        return None
    proof = consistency(size) if 0 < size < mine else []
    return witness.Request(old=size, proof=tuple(proof), checkpoint=signed).format()


def _size(answer: _Answer) -> int:
    """The size that a witness says it cosigned last (409)."""
    require(answer.content_type.partition(";")[0].strip() == SIZE_TYPE, "It refused the checkpoint and named no size.")
    text = answer.body.decode("ascii", "replace")
    return decode_decimal(text.removesuffix("\n"), "The size that it named", merkle.MAX_SIZE)


def _is_missing(signed: str, one: Witness) -> bool:
    try:
        return not witness.cosigned(signed, one.key)
    except VerificationError as fault:
        _tell(one, str(fault))
        return False


def _tell(one: Witness, why: str) -> None:
    _log.warning("no cosignature", witness=one.name, why=why)
