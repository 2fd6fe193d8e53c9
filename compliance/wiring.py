"""The composition root: settings in, everything the doors need out. Nothing below reads settings itself."""

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from audits import log, policy, receipt, tiles, witness
from audits.errors import VerificationError
from audits.keys import RoleSigner
from compliance.errors import UnavailableError
from compliance.keyring import ring, rotation
from compliance.ledger.database import open_database, read_only, upgrade
from compliance.ledger.entries import rfc3339
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import RequestState
from compliance.ledger.publication import Cosigner, Published, Publisher
from compliance.ledger.vault import Vault
from compliance.matching import match_request
from compliance.settings import Settings
from compliance.store import Store


def system_clock() -> datetime:
    """Now, aware, in UTC."""
    return datetime.now(UTC)


def random_id() -> str:
    """A random UUID in hex."""
    return uuid.uuid4().hex


@dataclass(frozen=True, kw_only=True)
class Services:
    """What a door holds on to. Frozen: two processes with the same settings have the same services."""

    settings: Settings
    database: Engine
    vault: Vault
    store: Store
    publisher: Publisher
    signers: Mapping[str, RoleSigner] = field(repr=False)
    clock: Callable[[], datetime]
    ids: Callable[[], str]
    secrets: Callable[[int], bytes]

    @contextmanager
    def transaction(self) -> Iterator[Ledger]:
        """A ledger whose writes commit together when the block ends, and not at all when it raises."""
        with Session(self.database, expire_on_commit=False) as session, session.begin():
            ledger = Ledger(session, vault=self.vault, secrets=self.secrets)
            ledger.serialise()
            yield ledger

    @contextmanager
    def read(self) -> Iterator[Ledger]:
        """A ledger over one consistent state, without waiting for writers; writes fail."""
        with Session(self.database, expire_on_commit=False) as session:
            session.connection(execution_options=read_only(self.database))
            yield Ledger(session, vault=self.vault, secrets=self.secrets)

    def verified(self, request_id: str) -> None:
        """Match a request whose person has proved who they are. The sweep repeats what fails here."""
        with self.transaction() as ledger:
            now = self.clock()
            view = match_request(ledger, self.store, self.vault, request_id=request_id, ids=self.ids, now=now)
            if view.state is RequestState.NO_MATCH:
                ledger.enqueue_notice(notice_id=self.ids(), request_id=request_id, kind="no_match", now=now)

    def publish(self) -> Published:
        """Sign and write out the log as it is now."""
        self._signer("log")
        return self.publisher.publish(self)

    def _signer(self, role: str) -> RoleSigner:
        """The role's signer, whose key is in force; UnavailableError.

        A rotation changes the file a moment before it commits: who comes in between waits for the commit.
        """
        signer = self.signers[role]
        try:
            with self.read() as ledger:
                ledger.key_in_force(signer.key_id)
        except UnavailableError:
            with self.transaction() as ledger:
                signer = self.signers[role]
                ledger.key_in_force(signer.key_id)
        return signer

    def published(self) -> Published:
        """The log as anybody can fetch it, with what its witnesses added; signed anew only where it is not there."""
        try:
            return self.publisher.published(tiles.read_checkpoint(self.publisher.folder))
        except VerificationError:
            return self.publish()

    def receipt(self, request_id: str) -> dict[str, Any]:
        """The signed receipt of a committed request; it says the same whenever it is asked for.

        After a rotation the newer key signs it, over the same checkpoint and promise: copies of the old one stay good.
        """
        signer = self._signer("receipt")
        with self.read() as ledger:
            request = ledger.request(request_id)
            index = ledger.key_in_force(signer.key_id).log_index
            (entry,) = ledger.entries(index, index + 1)
        payload = receipt.build(
            request_id=request.id,
            commitment=request.commitment,
            regime=request.regime,
            scope=request.scope,
            received_at=rfc3339(request.received_at),
            respond_by=f"{request.receipt['respondBy']}T23:59:59Z",
            checkpoint=request.receipt["checkpoint"],
            include_by=request.receipt["includeBy"],
        )
        text = receipt.issue(payload, signer=signer, key_entry=entry, key_proof=self._proof(index))
        parsed: dict[str, Any] = json.loads(text)
        return parsed

    def _proof(self, index: int) -> str:
        """The proof of an entry; from the database's entries when the published files are damaged."""
        try:
            published = self.published()
            return (published if index < published.size else self.publish()).proof(index)
        except UnavailableError:
            with self.read() as ledger:
                head = ledger.head()
                return log.proof_of(ledger.entries(0, head.checkpoint_size), index, head.checkpoint)

    def witnessed(self, signed: str) -> bool:
        """Whether as many witnesses cosigned a checkpoint of the log as the policy asks for; it may ask for none."""
        try:
            policy.evaluate(policy.parse(self.policy_text()), signed)
        except VerificationError:
            return False
        return True

    def policy_text(self) -> str:
        """The tlog-policy an auditor pins: hand it over by another way than a bundle."""
        own = self.signers["log"].public_key
        with self.read() as ledger:
            known = [key for key in ledger.service_keys() if key.role == "log" and key.algorithm == "ed25519"]
            older = [key.public_key for key in known if key.retired]
        return policy.format_policy(
            log_vkey=log.vkey(self.settings.origin, own),
            older=[log.vkey(self.settings.origin, one) for one in older if one != own],
            witnesses=[(one.name, one.vkey, one.url) for one in self.settings.witnesses],
            quorum=self.settings.quorum,
        )


def open_services(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = system_clock,
    ids: Callable[[], str] = random_id,
    secrets: Callable[[int], bytes] = os.urandom,
) -> Services:
    """Open the desk of `settings`; UnavailableError when it was never prepared (`expunge db upgrade`)."""
    signers = ring.open_ring(settings)
    vault = Vault(
        master_key=settings.master_key.get_secret_value(),
        matching_key=settings.matching_key.get_secret_value(),
        secrets=secrets,
    )
    return Services(
        settings=settings,
        database=open_database(settings.database_url),
        vault=vault,
        store=Store(settings.workdir / "store"),
        publisher=Publisher(
            settings.origin,
            ring.Current(signers, "log"),
            settings.workdir / "log",
            _cosigner(settings, clock),
            second=ring.second_key(settings),
        ),
        signers=signers,
        clock=clock,
        ids=ids,
        secrets=secrets,
    )


def prepare(settings: Settings, *, clock: Callable[[], datetime] = system_clock) -> None:
    """Bring a work folder up to date: keys, migrations, registered keys, a first checkpoint. Repeatable."""
    ring.make_missing(settings)
    services = open_services(settings, clock=clock)
    upgrade(services.database)
    with services.transaction() as ledger:
        rotation.enrol(ledger, services.signers, now=services.clock(), second=services.publisher.second)
    services.publish()
    services.database.dispose()


def _cosigner(settings: Settings, clock: Callable[[], datetime]) -> Cosigner | None:
    """Who asks the witnesses of the settings; None where there are none."""
    if not settings.witnesses:
        return None
    from compliance.witnesses import Witness, Witnesses  # noqa: PLC0415 - HTTP, which a desk without witnesses never loads

    named = [(one.name, witness.parse_vkey(one.vkey), one.url) for one in settings.witnesses]
    return Witnesses((Witness(name=name, key=key, url=url) for name, key, url in named), clock=clock)
