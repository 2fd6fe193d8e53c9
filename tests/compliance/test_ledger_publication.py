"""The published log on both databases: it grows from its own edge, heals its files, and never signs two histories."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import event, insert, text, update

from audits import checkpoint, log, merkle, tiles
from audits import policy as policies
from audits import proof as proofs
from compliance.errors import UnavailableError
from compliance.keyring import rotation
from compliance.ledger import tables
from compliance.ledger.entries import rfc3339
from compliance.ledger.fsck import fsck
from compliance.wiring import Services
from tests.compliance.conftest import both_databases

pytestmark = both_databases


def fill(desk: Services, number: int) -> None:
    """Append this many entries at once, as one transaction does one by one."""
    with desk.transaction() as ledger:
        first, now = ledger.head().size, desk.clock()
        rows = [
            {
                "seq": first + n,
                "kind": "dataset.changed",
                "payload": log.entry(type="dataset.changed", at=rfc3339(now), salt=f"{first + n:032x}", data={}),
                "recorded_at": now,
            }
            for n in range(number)
        ]
        ledger._session.execute(update(tables.LogHead).values(size=first + number))
        if rows:
            ledger._session.execute(insert(tables.LogEntry), rows)


def key_of(desk: Services) -> str:
    """The log's verifier key."""
    return log.vkey(desk.settings.origin, desk.signers["log"].public_key)


def raw_entries(desk: Services) -> list[bytes]:
    """What the database holds."""
    with desk.read() as ledger:
        return list(ledger.entries(0, ledger.head().size))


@contextmanager
def unguarded(desk: Services) -> Any:  # noqa: ANN401 - a context manager over a connection
    """A connection of somebody with every right: the triggers are off."""
    with desk.database.begin() as connection:
        if connection.dialect.name == "sqlite":
            for name in ("log_no_update", "log_no_delete"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS {name}"))
        else:
            connection.execute(text("ALTER TABLE log_entries DISABLE TRIGGER ALL"))
        yield connection


def rewrite(desk: Services, index: int) -> None:
    """Change one entry in the database."""
    other = log.entry(type="dataset.changed", at="2026-01-02T03:04:05Z", salt="0" * 32, data={})
    with unguarded(desk) as connection:
        connection.execute(text("UPDATE log_entries SET payload = :raw WHERE seq = :n"), {"raw": other, "n": index})


def test_every_size_is_the_log_of_its_entries(services: Services) -> None:
    """Published in steps across the borders of tiles, files and proofs are those of a log in memory."""
    for number in (0, 1, 252, 1, 30):
        fill(services, number)
        published = services.publish()
        entries = raw_entries(services)
        whole = log.Log(origin=services.settings.origin, entries=entries)

        assert (published.size, published.root) == (len(entries), whole.root())
        assert tiles.check_folder(services.publisher.folder, key_of(services)).size == published.size
        for index in (0, published.size // 2, published.size - 1):
            assert published.proof(index) == whole.proof(index, published.checkpoint)
            assert published.entry(index) == entries[index]
        assert published.consistency_proof(2) == whole.consistency_proof(2)
        merkle.verify_range(
            leaves=[merkle.leaf_hash(one) for one in published.entries(2, published.size)],
            start=2,
            size=published.size,
            proof=published.range_proof(2, published.size),
            root=published.root,
        )
    assert published.consistency_proof(0) == []


def test_only_what_is_new_is_read(services: Services) -> None:
    """A publication asks the database for the entries since the last full tile and for no other."""
    fill(services, 300)
    services.publish()
    fill(services, 3)
    asked: list[Any] = []

    def note_query(_c: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:  # noqa: ANN401
        if "log_entries" in statement:
            values = parameters.values() if isinstance(parameters, dict) else parameters
            asked.append(min(value for value in values if isinstance(value, int)))

    event.listen(services.database, "before_cursor_execute", note_query)
    services.publish()
    event.remove(services.database, "before_cursor_execute", note_query)

    assert asked
    assert min(asked) == 256


def test_damaged_files_of_the_edge_are_written_again(services: Services) -> None:
    """A file that is gone, cut or other than it was comes back from the entries, and nothing else changes."""
    fill(services, 300)
    before = services.publish()
    tail = before.size - 256
    edge = ("tile/1/000.p/1", f"tile/0/001.p/{tail}", f"tile/entries/001.p/{tail}", "checkpoint", ".durable")
    for path in (services.publisher.folder / name for name in edge):
        for content in (None, b"", b"\x00damage"):
            right = path.read_bytes()
            path.unlink() if content is None else path.write_bytes(content)
            assert services.publish().checkpoint == before.checkpoint
            assert path.name == ".durable" or path.read_bytes() == right

    assert tiles.check_folder(services.publisher.folder, key_of(services)).size == before.size


def test_another_boot_compares_what_a_power_cut_may_have_taken(services: Services) -> None:
    """Files since all was last forced to the disk are made whole once, and each time where no boot can be told."""

    def desk(boot: str, lag: int) -> Services:
        return replace(services, publisher=replace(services.publisher, boot=lambda: boot, lag=lag))

    fill(services, 600)
    desk("first", 10_000).publish()
    tile = services.publisher.folder / "tile/0/001"
    right = tile.read_bytes()
    for boot, mended in (("first", False), ("second", True), ("second", False), ("", True), ("", True)):
        tile.write_bytes(bytes(8192))
        desk(boot, 10_000).publish()
        assert (tile.read_bytes() == right) is mended

    fill(services, 1)
    published = desk("second", 256).publish()
    assert json.loads((services.publisher.folder / ".durable").read_bytes()) == {
        "size": published.size,
        "boot": "second",
    }


def test_rewritten_entries_are_never_signed(services: Services) -> None:
    """An entry changed behind the last tile stops the log; one before it is not believed over the tiles."""
    fill(services, 300)
    signed = services.publish()
    rewrite(services, 270)
    fill(services, 1)

    with pytest.raises(UnavailableError, match="rewritten since its last checkpoint"):
        services.publish()
    assert tiles.read_checkpoint(services.publisher.folder) == signed.checkpoint
    assert tiles.check_folder(services.publisher.folder, key_of(services)).size == signed.size


def test_old_entries_that_were_rewritten_change_nothing_that_is_published(services: Services) -> None:
    """What lies in full tiles is not read again: the log goes on from what it signed, and its files stay whole."""
    fill(services, 300)
    signed = services.publish()
    rewrite(services, 5)
    fill(services, 1)

    grown = services.publish()

    merkle.verify_consistency(
        size1=signed.size,
        size2=grown.size,
        root1=signed.root,
        root2=grown.root,
        proof=grown.consistency_proof(signed.size),
    )
    (services.publisher.folder / "tile/1/000.p/1").unlink()
    with pytest.raises(UnavailableError, match="rewritten since its last checkpoint"):
        services.publish()


def test_a_database_restored_from_a_backup_does_not_fork_the_log(services: Services) -> None:
    """The folder remembers a larger log: other entries in its place are refused, the same entries go on."""
    with services.read() as ledger:
        backup = ledger.head()
    fill(services, 3)
    signed = services.publish()
    with services.database.begin() as connection:
        values = {"text": backup.checkpoint, "size": backup.checkpoint_size}
        connection.execute(text("UPDATE log_head SET checkpoint = :text, checkpoint_size = :size"), values)

    assert services.publish().root == signed.root
    with unguarded(services) as connection:
        connection.execute(text("DELETE FROM log_entries WHERE seq = :last"), {"last": signed.size - 1})
        values["entries"] = signed.size - 1
        connection.execute(
            text("UPDATE log_head SET checkpoint = :text, checkpoint_size = :size, size = :entries"), values
        )
    with pytest.raises(UnavailableError, match="rewritten since its last checkpoint"):
        services.publish()


def test_a_new_key_makes_nobody_forget_what_the_older_one_signed(services: Services) -> None:
    """After a rotation, too, the folder's newest checkpoint is the log's own: a shorter history is not signed."""
    fill(services, 9)
    signed = services.publish()
    with unguarded(services) as connection:
        connection.execute(text("DELETE FROM log_entries WHERE seq >= :first"), {"first": signed.size - 8})
        values = {"size": signed.size - 8}
        connection.execute(text("UPDATE log_head SET checkpoint = '', checkpoint_size = 0, size = :size"), values)
    rotation.rotate(services, "log")

    with pytest.raises(UnavailableError, match="rewritten since its last checkpoint"):
        services.publish()
    assert tiles.read_checkpoint(services.publisher.folder) == signed.checkpoint


def test_a_log_whose_key_has_just_changed_is_sound(services: Services) -> None:
    """Before anything is signed with the new key, fsck believes what the older one signed."""
    fill(services, 3)
    services.publish()
    rotation.rotate(services, "log")

    with services.read() as ledger:
        found = fsck(ledger, services.publisher, repair=False, say=lambda _done, _size: None)

    assert found.ok, [step for step in found.steps if not step.ok]


def test_a_second_root_of_one_size_is_not_recorded(services: Services) -> None:
    """The database itself keeps what was signed, whoever comes with another root."""
    with services.read() as ledger:
        head = ledger.head()
    other = checkpoint.Checkpoint(origin=services.settings.origin, size=head.checkpoint_size, root=bytes(32))
    signed = checkpoint.sign(other, services.signers["log"])

    with pytest.raises(UnavailableError, match="another root at this size"), services.transaction() as ledger:
        ledger.record_checkpoint(checkpoint=signed, size=other.size)
    with services.read() as ledger:
        assert ledger.head() == head


@dataclass
class Friend:
    """A cosigner in the same process: says what it was shown, and adds what it was told to add."""

    line: str
    shown: list[tuple[str, list[bytes]]]

    def cosign(self, signed: str, consistency: Callable[[int], list[bytes]]) -> str:
        """The checkpoint with one more line."""
        self.shown.append((signed, consistency(2)))
        return signed if self.line in signed else signed + self.line


def test_cosignatures_are_recorded_and_published(services: Services) -> None:
    """What a witness adds lies in the database and in the file; one that changes the text is not listened to."""
    friend = Friend(f"— witness.example {'A' * 100}\n", [])
    desk = replace(services, publisher=replace(services.publisher, cosigner=friend))
    fill(desk, 2)

    published = desk.publish()

    assert published.checkpoint.endswith(friend.line)
    assert published.checkpoint == tiles.read_checkpoint(desk.publisher.folder)
    with desk.read() as ledger:
        assert ledger.head().checkpoint == published.checkpoint
    assert desk.publish().checkpoint == published.checkpoint
    signed, proof = friend.shown[0]
    assert signed + friend.line == published.checkpoint
    assert proof == published.consistency_proof(2)
    found, trust = proofs.verify(policies.parse(desk.policy_text()), published.proof(3), published.entry(3))
    assert (found.index, trust.checkpoint.size) == (3, published.size)

    class Forger(Friend):
        def cosign(self, signed: str, consistency: Callable[[int], list[bytes]]) -> str:
            """Another text altogether."""
            return super().cosign(signed, consistency).replace(str(published.size), "9")

    forged = replace(services, publisher=replace(services.publisher, cosigner=Forger("— x AAAA\n", [])))
    assert forged.publish().checkpoint == published.checkpoint


def test_a_damaged_tile_gives_no_proof(services: Services) -> None:
    """A proof is checked before it is handed out, and says what to do."""
    fill(services, 9)
    published = services.publish()
    (services.publisher.folder / f"tile/0/000.p/{published.size}").write_bytes(bytes(32 * published.size))

    with pytest.raises(UnavailableError, match="expunge log fsck"):
        published.proof(3)
    with pytest.raises(UnavailableError, match="expunge log fsck"):
        published.entry(3)
