"""`expunge witness serve` as a process: the protocol on the wire, and a log that tells two people two stories."""

import fcntl
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from audits import log, note, policy, witness
from audits.errors import VerificationError
from compliance.witnesses import Witnesses
from tests.audits.bundles import ORIGIN, signing_key
from tests.compliance.test_witness_folder import FORKED, KEY, VKEY, WHOLE, body
from tests.compliance.witnesses import Running, running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("witness")]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    """A witness of the log, started."""
    with running(tmp_path / "witness", VKEY) as one:
        yield one


def now() -> datetime:
    """The witness's time, for it has the machine's."""
    return datetime.now(UTC)


def post(served: Running, content: bytes) -> httpx.Response:
    """One request."""
    return httpx.post(f"{served.url}/add-checkpoint", content=content, trust_env=False)


def test_the_protocol_on_the_wire(served: Running) -> None:
    """Each status with its body and type, the newest checkpoint for monitors, and refusals of what is no request."""
    assert (served.folder / "witness.pem").stat().st_mode & 0o777 == 0o600
    first = post(served, body(3))
    assert (first.status_code, first.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert note.open_note(WHOLE.checkpoint(KEY, 3) + first.text, [served.as_witness().key]).verified
    stale = post(served, body(8, old=2))
    assert (stale.status_code, stale.text, stale.headers["content-type"]) == (409, "3\n", "text/x.tlog.size")
    other = log.checkpoint_of([b"x"], origin="other.example", signer=KEY)
    stranger = log.checkpoint_of([b"x"], origin=ORIGIN, signer=signing_key("log", 9))
    for content, status in (
        (b"nonsense", 400),
        (body(3, old=8), 400),
        (f"old 0\n\n{other}".encode(), 404),
        (f"old 0\n\n{stranger}".encode(), 403),
        (body(8, old=3, of=FORKED), 422),
        (b"x" * (witness.MAX_REQUEST + 1), 413),
        (body(8, old=3), 200),
        (body(8, old=8), 200),
    ):
        answer = post(served, content)
        assert answer.status_code == status
        assert "server" not in answer.headers
    place = f"{served.url}/{(served.folder / 'x').parent.name}"
    assert httpx.get(f"{place}/checkpoint", trust_env=False).status_code == 404
    (mine,) = [path.parent.name for path in served.folder.glob("*/checkpoint")]
    newest = httpx.get(f"{served.url}/{mine}/checkpoint", trust_env=False).text
    assert len(note.open_note(newest, [served.as_witness().key, note.parse_vkey(VKEY)]).verified) == 2
    assert httpx.get(f"{served.url}/add-checkpoint", trust_env=False).status_code == 405


def test_two_logs_for_two_people_are_noticed(served: Running) -> None:
    """The operator, who holds the log's key, shows one person one history and another person another.

    Only one of them gets the witness's line; the other is refused by everybody whose policy asks for it, and the
    witness keeps the proof.
    """
    trust = policy.parse(policy.format_policy(log_vkey=VKEY, witnesses=[("w1", served.printed["vkey"], served.url)]))
    operator = Witnesses([served.as_witness()], clock=now)
    common = operator.cosign(WHOLE.checkpoint(KEY, 2), lambda size: WHOLE.consistency_proof(size, 2))
    with capture_logs() as logs:
        mine = operator.cosign(WHOLE.checkpoint(KEY, 8), WHOLE.consistency_proof)
        yours = operator.cosign(FORKED.checkpoint(KEY, 8), FORKED.consistency_proof)
        fresh = Witnesses([served.as_witness()], clock=now).cosign(FORKED.checkpoint(KEY, 5), lambda _: [])

    assert policy.evaluate(trust, common).level == policy.evaluate(trust, mine).level == "witnessed"
    for signed in (yours, fresh):
        with pytest.raises(VerificationError, match="quorum"):
            policy.evaluate(trust, signed)
    assert "status 422" in json.dumps(logs)
    assert "larger log" in json.dumps(logs)
    assert list(served.folder.glob("*/fork"))


def test_the_lock_holds_between_processes(served: Running) -> None:
    """While another process is comparing and storing, a request waits."""
    post(served, body(2))
    (place,) = [path.parent for path in served.folder.glob("*/checkpoint")]
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(post(served, body(8, old=2)).status_code))

    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asking.start()
        asking.join(0.3)
        assert asking.is_alive()
    asking.join()

    assert answers == [200]


def test_a_killed_witness_goes_on_where_it_was(tmp_path: Path) -> None:
    """Same key after a kill and a start without --log, and the history before it still binds."""
    with running(tmp_path / "witness", VKEY) as before:
        assert post(before, body(3)).status_code == 200
        before.process.kill()
    with running(tmp_path / "witness") as after:
        assert after.printed["vkey"] == before.printed["vkey"]
        assert post(after, body(8)).status_code == 409
        assert post(after, body(8, old=3)).status_code == 200
