"""RFC 3161 timestamps: the published vectors, a real authority behind a real server, and authorities that misbehave."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import rfc3161_client
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from audits.errors import VerificationError
from compliance import timestamps
from compliance.errors import InvalidInputError
from tests.audits.bundles import VECTORS

RFC3161 = VECTORS / "rfc3161"
published = pytest.mark.skipif(not RFC3161.is_dir(), reason="the shared vectors are not here")
HELLO = b"hello"
GOOD = (
    "sigstage/response-sha256.tsr",
    "sigstage/response-sha384.tsr",
    "sigstage/response-sha512.tsr",
    "sigstage/response-no-embedded-cert.tsr",
    "test_tsa/response.tsr",
    "test_tsa/response-injected-certs.tsr",
)
Answer = Callable[[bytes], tuple[int, str, bytes]]


def chain_of(path: str) -> tuple[x509.Certificate, ...]:
    """The published chain beside a response, the authority's own certificate first."""
    return timestamps.load_chain((RFC3161 / path).parent / "ts_chain.pem")


@published
@pytest.mark.parametrize("path", GOOD)
def test_vector_responses_that_hold(path: str) -> None:
    """The published good responses hold over the published message, and over no other."""
    raw = (RFC3161 / path).read_bytes()

    assert timestamps.verify(raw, HELLO, chain_of(path)).year >= 2024
    with pytest.raises(VerificationError, match="Mismatch between messages"):
        timestamps.verify(raw, b"hullo", chain_of(path))


@published
def test_vector_of_a_broken_signature() -> None:
    """The published response with a broken signature is refused."""
    path = "sigstage/response-invalid-signature.tsr"

    with pytest.raises(VerificationError, match="does not hold"):
        timestamps.verify((RFC3161 / path).read_bytes(), HELLO, chain_of(path))


@published
def test_vector_of_another_request() -> None:
    """The published answer to another request is refused by the nonce, and the right one is accepted."""
    nonces = {}
    for name in ("request", "other_request"):
        text = subprocess.run(
            ["openssl", "ts", "-query", "-in", str(RFC3161 / "test_tsa" / f"{name}.der"), "-text"],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        nonces[name] = int(text.partition("Nonce: ")[2].split()[0], 16)
    mine, other = ((RFC3161 / "test_tsa" / name).read_bytes() for name in ("response.tsr", "other_response.tsr"))
    chain = chain_of("test_tsa/response.tsr")

    timestamps.verify(mine, HELLO, chain, nonce=nonces["request"])
    with pytest.raises(VerificationError):
        timestamps.verify(other, HELLO, chain, nonce=nonces["request"])
    with pytest.raises(VerificationError):
        timestamps.verify(mine, HELLO, chain, nonce=nonces["other_request"])


@published
def test_vector_of_injected_certificates() -> None:
    """A certificate "CN=Spoofed TSA" slipped into a response does not make it that authority's."""
    path = "test_tsa/response-injected-certs.tsr"
    raw, chain = (RFC3161 / path).read_bytes(), chain_of(path)
    inside = rfc3161_client.decode_timestamp_response(raw).signed_data.certificates
    certificates = [x509.load_der_x509_certificate(one) for one in inside]
    spoofed = next(one for one in certificates if one.subject.rfc4514_string() == "CN=Spoofed TSA")

    timestamps.verify(raw, HELLO, chain)
    with pytest.raises(VerificationError):
        timestamps.verify(raw, HELLO, (spoofed, *chain[1:]))
    with pytest.raises(VerificationError):
        timestamps.verify(raw, HELLO, (spoofed,))


@published
def test_vector_authorities_do_not_stand_for_each_other() -> None:
    """A response of one published authority is refused under the other's certificates."""
    with pytest.raises(VerificationError):
        timestamps.verify((RFC3161 / GOOD[0]).read_bytes(), HELLO, chain_of("test_tsa/response.tsr"))


@published
@given(st.data())
def test_changed_responses(data: st.DataObject) -> None:
    """A response with one byte changed is refused in a sentence or says the same time."""
    path = "test_tsa/response.tsr"
    raw, chain = (RFC3161 / path).read_bytes(), chain_of(path)
    at, change = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(1, 255))
    try:
        found = timestamps.verify(raw[:at] + bytes([raw[at] ^ change]) + raw[at + 1 :], HELLO, chain)
    except VerificationError:
        return
    assert found == timestamps.verify(raw, HELLO, chain)


CONFIGURATION = """
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
certs = {folder}/ca.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
[new]
distinguished_name = nobody
[nobody]
[ca]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[stamps]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real timestamping authority: OpenSSL's, with a root and a certificate of its own."""
    folder = tmp_path_factory.mktemp("tsa")
    (folder / "openssl.cnf").write_text(CONFIGURATION.format(folder=folder))
    (folder / "serial").write_text("01\n")
    new = ["req", "-new", "-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    run(folder, *new, "-x509", "-subj", "/CN=Test root", "-extensions", "ca", "-keyout", "ca.key", "-out", "ca.pem")
    run(folder, *new, "-subj", "/CN=Test TSA", "-keyout", "tsa.key", "-out", "tsa.csr")
    sign = ["x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"]
    run(folder, *sign, "-extfile", "openssl.cnf", "-extensions", "stamps", "-out", "tsa.pem")
    (folder / "chain.pem").write_bytes((folder / "tsa.pem").read_bytes() + (folder / "ca.pem").read_bytes())
    return folder


def run(folder: Path, *arguments: str) -> bytes:
    """Run OpenSSL in a folder."""
    return subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True).stdout


def reply(folder: Path, request: bytes) -> bytes:
    """What the authority answers."""
    (folder / "request.tsq").write_bytes(request)
    run(folder, "ts", "-reply", "-config", "openssl.cnf", "-queryfile", "request.tsq", "-out", "response.tsr")
    return (folder / "response.tsr").read_bytes()


@contextmanager
def served(answer: Answer) -> Iterator[str]:
    """The address of a small server that answers every POST with `answer` of its body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Answer once."""
            status, kind, body = answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("location", "http://127.0.0.1:9/")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # whoever asked may have hung up
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/tsr"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(folder: Path, answer: Answer, *, now: datetime | None = None, seconds: float = 5.0) -> bytes | None:
    """What the desk keeps of this answer to its own request."""
    with served(answer) as url:
        known = timestamps.Authority(url=url, chain=timestamps.load_chain(folder / "chain.pem"))
        return timestamps.stamp(known, HELLO, now=now or datetime.now(UTC), seconds=seconds)


def test_a_real_authority_stamps(authority: Path) -> None:
    """OpenSSL's answer over HTTP is kept, holds for us and for OpenSSL's own verifier."""
    raw = asked(authority, lambda request: (200, "application/timestamp-reply", reply(authority, request)))
    assert raw is not None
    at = timestamps.verify(raw, HELLO, timestamps.load_chain(authority / "chain.pem"))
    (authority / "kept.tsr").write_bytes(raw)
    (authority / "hello").write_bytes(HELLO)
    checked = run(
        authority, "ts", "-verify", "-in", "kept.tsr", "-data", "hello", "-CAfile", "ca.pem", "-untrusted", "tsa.pem"
    )

    assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)
    assert checked == b"" or b"OK" in checked


def test_a_stamp_of_another_time(authority: Path) -> None:
    """A stamp whose time is an hour from ours is not kept."""
    answer: Answer = lambda request: (200, "application/timestamp-reply", reply(authority, request))  # noqa: E731 - one answer

    assert asked(authority, answer, now=datetime.now(UTC) + timedelta(hours=1)) is None


def test_an_answer_to_an_earlier_request(authority: Path) -> None:
    """A stamp that was made for another request, over the same bytes, is not kept."""
    builder = rfc3161_client.TimestampRequestBuilder().data(HELLO).cert_request(cert_request=False)
    old = reply(authority, builder.hash_algorithm(rfc3161_client.HashAlgorithm.SHA256).build().as_bytes())

    assert asked(authority, lambda _: (200, "application/timestamp-reply", old)) is None


@pytest.mark.parametrize(
    "answer",
    [
        (500, "application/timestamp-reply", b""),
        (302, "application/timestamp-reply", b""),
        (200, "text/html", b"<html>"),
        (200, "application/timestamp-reply", b"nonsense"),
        (200, "application/timestamp-reply", bytes(timestamps.MAX_ANSWER + 1)),
    ],
    ids=["status", "redirect", "type", "nonsense", "size"],
)
def test_wrong_answers(authority: Path, answer: tuple[int, str, bytes]) -> None:
    """An answer that is no stamp leaves the report without one."""
    assert asked(authority, lambda _: answer) is None


def test_an_authority_that_is_silent(authority: Path) -> None:
    """An authority that takes too long, or is not there, leaves the report without a stamp."""

    def slow(_: bytes) -> tuple[int, str, bytes]:
        time.sleep(0.5)
        return 200, "application/timestamp-reply", b""

    chain = timestamps.load_chain(authority / "chain.pem")
    nobody = timestamps.Authority(url="http://127.0.0.1:9/", chain=chain)

    assert asked(authority, slow, seconds=0.1) is None
    assert timestamps.stamp(nobody, HELLO, now=datetime.now(UTC)) is None


def test_a_file_without_certificates(tmp_path: Path) -> None:
    """A chain that is none is named in a sentence."""
    (tmp_path / "chain.pem").write_text("nothing")

    with pytest.raises(InvalidInputError, match="EXPUNGE_TSA_CERTIFICATE"):
        timestamps.load_chain(tmp_path / "chain.pem")
