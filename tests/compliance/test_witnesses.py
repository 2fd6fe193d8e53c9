"""Asking witnesses: what they may do to us, and what a publication makes of it."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from audits import log, note, policy, witness
from audits.keys import SigningKey
from compliance.witnesses import MAX_ANSWER, Witness, Witnesses
from tests.audits.bundles import AT, ORIGIN, signing_key

KEY, OWN, STRANGER = signing_key("log", 1), signing_key("witness", 21), signing_key("witness", 22)
NAME = "witness.example/w1"
TIME = 1_795_000_000
MADE = [log.entry(type="test.made", at=AT, salt="0" * 32, data={"n": n}) for n in range(8)]
WHOLE = log.Log(origin=ORIGIN, entries=MADE)
SIGNED = WHOLE.checkpoint(KEY)


def now() -> datetime:
    """Our time, a minute from the simulated witness's."""
    return datetime.fromtimestamp(TIME + 60, UTC)


@dataclass(slots=True)
class Reply:
    """What a simulated witness answers."""

    status: int = 200
    body: bytes = b""
    kind: str = "text/plain"
    location: str = ""
    wait: float = 0.0


@dataclass(slots=True)
class Simulator:
    """A witness that answers as it is told; `asked` has what it was sent."""

    answer: Callable[[witness.Request], Reply]
    url: str = ""
    asked: list[witness.Request] = field(default_factory=list)

    def as_witness(self, name: str = "w1") -> Witness:
        """As the settings have it."""
        return Witness(name=name, key=witness.parse_vkey(witness.vkey(NAME, OWN.public_key)), url=self.url)


@contextmanager
def serving(answer: Callable[[witness.Request], Reply], *, tls: ssl.SSLContext | None = None) -> Iterator[Simulator]:
    """A simulated witness on loopback."""
    simulator = Simulator(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            simulator.asked.append(witness.parse_request(raw))
            reply = simulator.answer(simulator.asked[-1])
            self.send_response(reply.status)
            self.send_header("content-type", reply.kind)
            if reply.location:
                self.send_header("location", reply.location)
            self.end_headers()
            try:
                for byte in reply.body if reply.wait else ():
                    self.wfile.write(bytes([byte]))
                    time.sleep(reply.wait)
                if not reply.wait:
                    self.wfile.write(reply.body)
            except OSError:  # the client had enough
                pass

        def log_message(self, *_: object) -> None:
            """Quietly."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    simulator.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/prefix/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield simulator
    server.shutdown()
    thread.join()
    server.server_close()


def line(signed: str = SIGNED, *, signer: SigningKey = OWN) -> bytes:
    """A cosignature."""
    return witness.cosign(signed, name=NAME, signer=signer, time=TIME).encode()


def cosigned(
    answer: Callable[[witness.Request], Reply], *, seconds: float = 5.0, clock: Callable[[], datetime] = now
) -> tuple[str, Simulator, str]:
    """What comes of asking one witness: the note, the witness, and what the program's log says."""
    with serving(answer) as simulator, capture_logs() as logs:
        mine = Witnesses([simulator.as_witness()], clock=clock, seconds=seconds)
        signed = mine.cosign(SIGNED, WHOLE.consistency_proof)
    return signed, simulator, json.dumps(logs)


def test_a_line_that_holds_is_added() -> None:
    """The policy that names the witness accepts the checkpoint, and the log stays silent."""
    signed, simulator, told = cosigned(lambda one: Reply(body=line(one.checkpoint)))

    assert [one.old for one in simulator.asked] == [0]
    trusted = policy.parse(
        policy.format_policy(
            log_vkey=log.vkey(ORIGIN, KEY.public_key), witnesses=[("w1", witness.vkey(NAME, OWN.public_key))]
        )
    )
    assert policy.evaluate(trusted, signed).level == "witnessed"
    assert told == "[]"


def test_a_witness_that_is_further_is_asked_again_from_there() -> None:
    """409 names the size, and the second request has the proof from it; the size is remembered."""

    def answer(one: witness.Request) -> Reply:
        if one.old not in (5, 8):
            return Reply(status=409, body=b"5\n", kind="text/x.tlog.size")
        return Reply(body=line(one.checkpoint))

    with serving(answer) as simulator, capture_logs() as logs:
        mine = Witnesses([simulator.as_witness()], clock=now)
        signed = mine.cosign(SIGNED, WHOLE.consistency_proof)
        again = mine.cosign(signed, WHOLE.consistency_proof)
        mine.cosign(SIGNED, WHOLE.consistency_proof)

    assert again == signed != SIGNED
    assert [one.old for one in simulator.asked] == [0, 5, 8]
    assert list(simulator.asked[1].proof) == WHOLE.consistency_proof(5)
    assert logs == []


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(body=line(signer=STRANGER)), "no line of its key"),
        (Reply(body=line(WHOLE.checkpoint(KEY, 3))), "is wrong"),
        (Reply(body=b"<html>"), "malformed"),
        (Reply(body=b"\xff"), "UTF-8"),
        (Reply(body=line() + b"x" * MAX_ANSWER), "larger"),
        (Reply(status=500, body=line()), "status 500"),
        (Reply(status=302, location="http://127.0.0.1:1/"), "status 302"),
        (Reply(status=422), "status 422"),
        (Reply(status=409, body=b"5\n"), "named no size"),
        (Reply(status=409, body=b"05\n", kind="text/x.tlog.size"), "one form"),
        (Reply(status=409, body=b"5\n", kind="text/x.tlog.size"), "another size each time"),
        (Reply(status=409, body=b"9\n", kind="text/x.tlog.size"), "larger log"),
    ],
)
def test_a_witness_that_misbehaves_adds_nothing(reply: Reply, why: str) -> None:
    """Wrong signer, wrong checkpoint, no note, too much, a refusal, a redirect, a size that makes no sense."""
    signed, simulator, told = cosigned(lambda _: reply)

    assert signed == SIGNED
    assert len(simulator.asked) <= 2
    assert why in told


def test_a_clock_that_differs_from_a_witness_is_told() -> None:
    """The line counts all the same; which of the two clocks was moved is for people to find out."""
    signed, _, told = cosigned(
        lambda one: Reply(body=line(one.checkpoint)), clock=lambda: now() + timedelta(minutes=-7)
    )

    assert signed != SIGNED
    assert "clock" in told
    assert '"seconds": 360' in told


def test_a_slow_witness_has_one_deadline() -> None:
    """An answer that comes byte by byte is not waited for, however often a byte comes."""
    begun = time.monotonic()
    signed, _, told = cosigned(lambda one: Reply(body=line(one.checkpoint), wait=0.05), seconds=0.3)

    assert signed == SIGNED
    assert time.monotonic() - begun < 2
    assert "TimeoutError" in told


def test_one_that_is_down_does_not_keep_the_others_from_cosigning() -> None:
    """Nobody listens at the first address, and the second's line is there."""
    with serving(lambda one: Reply(body=line(one.checkpoint))) as simulator, capture_logs() as logs:
        gone = Witness(
            name="w0", key=witness.parse_vkey(witness.vkey(NAME, STRANGER.public_key)), url="http://127.0.0.1:1"
        )
        signed = Witnesses([gone, simulator.as_witness()], clock=now).cosign(SIGNED, WHOLE.consistency_proof)

    assert len(note.parse(signed).signatures) == 2
    assert [(one["witness"], one["why"]) for one in logs] == [("w0", "It did not answer (ConnectError).")]


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server that proves itself by a certificate which no authority signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = (
        made.serial_number(1).not_valid_before(now() - timedelta(days=1)).not_valid_after(now() + timedelta(days=9999))
    )
    pem = made.sign(key, SHA256()).public_bytes(Encoding.PEM)
    (folder / "tls.pem").write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem")
    return context


def test_an_address_that_can_not_prove_itself_is_sent_nothing(tmp_path: Path) -> None:
    """An https witness needs a certificate of an authority."""
    with serving(lambda one: Reply(body=line(one.checkpoint)), tls=self_signed(tmp_path)) as simulator:
        signed = Witnesses([simulator.as_witness()], clock=now).cosign(SIGNED, WHOLE.consistency_proof)

    assert (signed, simulator.asked) == (SIGNED, [])
