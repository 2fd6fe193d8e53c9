"""RFC 3161 timestamps: a third party's word that these bytes existed by then. Optional, and never a wrong one.

Rules:

* The authority is pinned by its certificate, not by a name: certificates in a response are the sender's choice, and a
  name can stand in any of them. The file of the settings holds the authority's certificate first, then its issuers; a
  request asks for none in the response. (Some authorities send several in an order that strict DER readers refuse.)
* A response is verified before it is kept: the signature, the chain, the nonce of our own request, the digest of our
  bytes, and that its time is about ours. A stamp that is an hour off helps nobody who has to prove a deadline.
* An authority that does not answer, or not rightly, costs the stamp and nothing else: the program's log says why.
* One deadline for the whole exchange, no redirects, no proxies from the environment, and a limit on what is read.

The client library makes the nonce with the system's randomness; it is the one value here that is no argument.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import rfc3161_client
import structlog
from cryptography import x509
from cryptography.x509 import Certificate
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, VerifierBuilder

from audits.errors import VerificationError, require
from compliance.errors import InvalidInputError

MAX_ANSWER = 64 * 1024
SECONDS = 10.0
SKEW = timedelta(minutes=10)
_QUERY, _REPLY = "application/timestamp-query", "application/timestamp-reply"
_log = structlog.get_logger("expunge.timestamps")


@dataclass(frozen=True, kw_only=True, slots=True)
class Authority:
    """A timestamping authority: where it answers, and its certificate with those of its issuers, its own first."""

    url: str
    chain: tuple[Certificate, ...]


def load_chain(path: Path) -> tuple[Certificate, ...]:
    """The certificates in a PEM file, the authority's own first; InvalidInputError when there is none."""
    try:
        chain = tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as fault:
        message = (
            f"{path} holds no certificates in PEM; set EXPUNGE_TSA_CERTIFICATE to the authority's chain, its own first"
        )
        raise InvalidInputError(message, code="tsa-certificate") from fault
    return chain


def stamp(authority: Authority, message: bytes, *, now: datetime, seconds: float = SECONDS) -> bytes | None:
    """The verified response (DER) over `message`, or None where none was to be had; `now` is aware."""
    builder = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256)
    request = builder.cert_request(cert_request=False).build()
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:  # a thread of its own: the caller may be inside an event loop
            raw = pool.submit(asyncio.run, _ask(authority.url, request.as_bytes(), seconds)).result()
        at = verify(raw, message, authority.chain, nonce=request.nonce)
        require(
            abs(at - now) <= SKEW, f"Its time is off by more than {SKEW.seconds // 60} minutes from this machine's."
        )
    except VerificationError as fault:
        _log.warning("the report goes out without a timestamp", why=str(fault))
        return None
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:  # its text may quote what was answered
        _log.warning("the report goes out without a timestamp", why=f"It did not answer ({type(error).__name__}).")
        return None
    return raw


def verify(raw: bytes, message: bytes, chain: tuple[Certificate, ...], *, nonce: int | None = None) -> datetime:
    """The time in a response over `message` by exactly the authority of `chain`; VerificationError."""
    require(chain, "No timestamping authority is trusted.")
    leaf, *issuers = chain
    builder = VerifierBuilder(nonce=nonce, tsa_certificate=leaf, roots=[chain[-1]], intermediates=issuers[:-1])
    try:
        response = rfc3161_client.decode_timestamp_response(raw)
        builder.build().verify_message(response, message)
    except (rfc3161_client.VerificationError, ValueError) as fault:
        raise VerificationError(f"The timestamp does not hold: {str(fault).rstrip('.')}.") from fault
    return response.tst_info.gen_time


async def _ask(url: str, request: bytes, seconds: float) -> bytes:
    # Not decoded: a compressed answer can be a thousand times what was read.
    headers = {"content-type": _QUERY, "accept": _REPLY, "accept-encoding": "identity"}
    received = bytearray()
    client = httpx.AsyncClient(timeout=httpx.Timeout(seconds), follow_redirects=False, trust_env=False)
    async with asyncio.timeout(seconds), client, client.stream("POST", url, content=request, headers=headers) as answer:
        require(answer.status_code == httpx.codes.OK, f"It answered with the status {answer.status_code}.")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        require(kind == _REPLY, "It answered with something else than a timestamp.")
        async for chunk in answer.aiter_raw():
            received += chunk
            require(len(received) <= MAX_ANSWER, f"It answered with more than {MAX_ANSWER} bytes.")
    return bytes(received)
