"""What letters say, and how they leave the desk."""

import socketserver
import threading
from collections.abc import Iterator
from datetime import date
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from compliance import intake
from compliance.errors import InvalidInputError, UnavailableError
from compliance.notices import Delivered, Facts, FolderMailer, SmtpMailer, compose, deliver, mailer
from compliance.notices.mailers import RefusedError
from compliance.regimes import CCPA, GDPR
from compliance.wiring import Services

KINDS = [
    "identity_code", "denied", "extended", "no_match", "approved", "withdrawn", "expired", "fulfilled",
    "fulfilled_in_part",
]  # fmt: skip
FACTS = Facts(
    organisation="Example Organisation",
    desk_url="https://privacy.example.org",
    request_id="a" * 32,
    regime=GDPR,
    received_on=date(2026, 11, 21),
    respond_by=date(2026, 12, 21),
    status_token="b" * 64,
    code="ABCD2345",
    denial_code="gdpr.17.3.e",
    reason="We are in court.",
)


class Server(socketserver.StreamRequestHandler):
    """As much of a mail server as a client needs; `answer` is what it says to a recipient."""

    answer = b"250 ok"
    received: list[bytes]

    def handle(self) -> None:
        """Speak SMTP."""
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            command = line[:4].upper()
            if command == b"DATA":
                self.wfile.write(b"354 go\r\n")
                self.received.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                self.wfile.write(b"250 ok\r\n")
            elif command == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write((self.answer if command == b"RCPT" else b"250 ok") + b"\r\n")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a mail server and what it received."""
    received: list[bytes] = []
    answer = getattr(request, "param", b"250 ok")
    handler = type("Handler", (Server,), {"received": received, "answer": answer})
    with socketserver.TCPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"smtp://127.0.0.1:{listening.server_address[1]}", received
        listening.shutdown()


def letter(kind: str = "identity_code") -> EmailMessage:
    """A letter ready to be sent."""
    message = EmailMessage()
    message["To"], message["From"], message["Subject"] = "ada@example.org", "desk@example.org", kind
    message["X-Expunge-Notice"] = "n1"
    message.set_content("Hello")
    return message


def file(services: Services) -> intake.Filed:
    """A request with its code in the outbox."""
    one = intake.submission(regime="gdpr", name="Quillon Vandermeer", email="quillon@example.org")
    return intake.file(services, [one], caller=intake.Caller(door="web"))[0]


def mails(services: Services) -> list[EmailMessage]:
    """What lies in the outbox folder."""
    files = sorted(services.settings.outbox.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
    return [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regime", [GDPR, CCPA], ids=["gdpr", "ccpa"])
def test_every_letter_leads_to_the_status_and_fits_a_mail(kind: str, regime: object) -> None:
    """A subject line, short lines, the link and the request's number."""
    facts = Facts(**{name: getattr(FACTS, name) for name in FACTS.__slots__} | {"regime": regime})

    composed = compose(kind, facts)

    assert composed is not None
    assert composed.subject
    assert "\n" not in composed.subject
    assert f"https://privacy.example.org/status/{'b' * 64}" in composed.body
    assert FACTS.request_id in composed.body
    assert all(len(line) <= 110 for line in composed.body.splitlines())


def test_the_first_letter_acknowledges_and_explains_as_the_law_asks() -> None:
    """Receipt, how we verify, when to expect the answer, and what to do if it was not you (11 CCR 7021(a))."""
    composed = compose("identity_code", FACTS)

    assert composed is not None
    words = " ".join(composed.body.split())
    assert "We received this on Saturday, 21 November 2026" in words
    assert "ABCD-2345" in words
    assert "expect our answer by Monday, 21 December 2026" in words
    assert "Was this not you? Then do nothing." in words


def test_a_refusal_gives_the_reason_in_law_our_words_and_the_remedies() -> None:
    """GDPR Art 12(4)."""
    composed = compose("denied", FACTS)

    assert composed is not None
    words = " ".join(composed.body.split())
    assert "legal claims (GDPR Art 17(3)(e))" in words
    assert "We are in court." in words
    assert all(remedy in words for remedy in GDPR.remedies)


def test_the_end_of_a_batch_is_told_by_how_the_request_ended() -> None:
    """`completed` is fulfilled or fulfilled in part, and never a claim that data are gone."""
    ended = {name: getattr(FACTS, name) for name in FACTS.__slots__}

    whole = compose("completed", Facts(**ended | {"state": "fulfilled"}))
    part = compose("completed", Facts(**ended | {"state": "fulfilled_in_part"}))

    assert whole is not None
    assert part is not None
    assert "nobody can prove from a model alone" in " ".join(whole.body.split())
    assert part.subject == "Part of your request is done"
    assert compose("unheard-of", FACTS) is None


def test_a_letter_names_the_address_in_its_header_alone(services: Services) -> None:
    """Neither the name nor the address is in the body, nor in any other header."""
    file(services)
    deliver(services, mailer(services.settings))

    (mail,) = mails(services)

    assert mail["To"] == "quillon@example.org"
    others = [str(value) for name, value in mail.items() if name != "To"]
    for text in (mail.get_content(), *others):
        assert "quillon" not in text.lower()
        assert "Vandermeer" not in text


def test_a_letter_is_sent_once_and_its_code_forgotten(services: Services) -> None:
    """After sending, the outbox is empty and the vault has no code any more."""
    filed = file(services)

    first, second = (deliver(services, mailer(services.settings)) for _ in "ab")

    assert (first, second) == (Delivered(sent=1, dropped=0), Delivered(sent=0, dropped=0))
    with services.read() as ledger, pytest.raises(Exception, match="no such personal data"):
        ledger.open_secret(request_id=filed.request.id, purpose="code")


def test_a_code_asked_for_during_the_sending_still_arrives(services: Services) -> None:
    """The letter on its way does not take the newer code with it."""
    filed = file(services)

    class Slow:
        def send(self, _message: EmailMessage) -> None:
            intake.new_code(services, request_id=filed.request.id)

    deliver(services, Slow())
    deliver(services, mailer(services.settings))

    (mail,) = mails(services)
    code = next(line.strip() for line in mail.get_content().splitlines() if line.startswith("    "))
    assert intake.confirm(services, request_id=filed.request.id, code=code).id == filed.request.id


def test_a_letter_that_could_not_be_sent_stays(services: Services) -> None:
    """The mail server is down: an error for the operator, and the letter goes out later."""
    file(services)

    with pytest.raises(UnavailableError, match="stays in the outbox"):
        deliver(services, SmtpMailer("smtp://127.0.0.1:1"))

    assert deliver(services, mailer(services.settings)).sent == 1


def test_a_letter_to_an_erased_person_is_dropped(services: Services) -> None:
    """Nobody is left to tell, and nothing is stuck."""
    filed = file(services)
    with services.transaction() as ledger:
        ledger.erase_personal_data(request_id=filed.request.id, now=services.clock())

    assert deliver(services, mailer(services.settings)) == Delivered(sent=0, dropped=1)


def test_the_outbox_is_private(services: Services) -> None:
    """Folder 0700, files 0600: a mail has an address and a code in it."""
    file(services)
    deliver(services, mailer(services.settings))

    outbox = services.settings.outbox
    assert outbox.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in outbox.iterdir()} == {0o600}


def test_a_mail_server_gets_the_letter(server: tuple[str, list[bytes]]) -> None:
    """The whole message arrives over SMTP."""
    url, received = server

    SmtpMailer(url).send(letter())

    assert b"To: ada@example.org" in received[0]


@pytest.mark.parametrize("server", [b"550 no such user"], indirect=True)
def test_an_address_refused_for_good_blocks_nobody_else(server: tuple[str, list[bytes]], services: Services) -> None:
    """The letter is dropped instead of being tried for ever; the sentence repeats no address."""
    with pytest.raises(RefusedError) as caught:
        SmtpMailer(server[0]).send(letter())
    file(services)

    assert "ada" not in str(caught.value)
    assert deliver(services, SmtpMailer(server[0])) == Delivered(sent=0, dropped=1)


@pytest.mark.parametrize("server", [b"451 later"], indirect=True)
def test_an_address_refused_for_now_is_tried_again(server: tuple[str, list[bytes]]) -> None:
    """Greylisting is no refusal."""
    with pytest.raises(UnavailableError, match="tried again"):
        SmtpMailer(server[0]).send(letter())


def test_a_password_never_travels_in_clear(server: tuple[str, list[bytes]]) -> None:
    """A server without STARTTLS gets no letter when the settings have a password."""
    with pytest.raises(UnavailableError):
        SmtpMailer(server[0].replace("smtp://", "smtp://user:secret@")).send(letter())

    assert server[1] == []


def test_a_mail_server_has_to_be_named_properly() -> None:
    """A typing error in the settings is one sentence, at once."""
    with pytest.raises(InvalidInputError, match="EXPUNGE_SMTP_URL"):
        SmtpMailer("mail.example.org")


def test_a_folder_gets_a_file_a_letter(services: Services) -> None:
    """The same notice again replaces its file."""
    folder = FolderMailer(services.settings.outbox)

    folder.send(letter())
    folder.send(letter())

    assert [path.name for path in services.settings.outbox.iterdir()] == ["n1.eml"]
