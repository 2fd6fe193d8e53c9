"""Requests: filing, identity, matching, decisions, notices and erasure.

Every method that changes a request's meaning goes through `_move` or appends its own entry.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime

from sqlalchemy import delete, select, update

from audits import opening
from compliance.errors import ConflictError, NotFoundError
from compliance.ledger import tables
from compliance.ledger.entries import EntryKind, rfc3339
from compliance.ledger.keys import Keys
from compliance.ledger.lifecycle import (
    FINAL,
    ItemState,
    RequestState,
    check_item,
    check_request,
    derived_state,
)
from compliance.ledger.views import (
    CodeAttempt,
    HistoryView,
    IdempotentAnswer,
    ItemView,
    MatchView,
    NoticeView,
    RequestView,
    Subject,
)


class Requests(Keys):
    """What a data subject, an agent and an operator do to a request."""

    def find_idempotent(self, *, key_digest: str) -> IdempotentAnswer | None:
        """What this Idempotency-Key led to, or None."""
        row = self._session.get(tables.IdempotencyKey, key_digest)
        if row is None:
            return None
        return IdempotentAnswer(body_digest=row.body_digest, request_ids=tuple(row.request_ids["ids"]))

    def record_idempotent(
        self, *, key_digest: str, body_digest: str, request_ids: Sequence[str], now: datetime
    ) -> None:
        """Bind an Idempotency-Key to the requests it made."""
        row = tables.IdempotencyKey(
            key_digest=key_digest,
            body_digest=body_digest,
            request_ids={"ids": list(request_ids)},
            recorded_at=now,
        )
        self._session.add(row)

    def prepare_subject(self, *, request_id: str, subject: Subject) -> tuple[str, bytes, bytes]:
        """Commitment, wrapped key and ciphertext for a request about to be created."""
        key, wrapped = self._vault.new_key(request_id)
        ciphertext = self._vault.seal(key, f"{request_id}/subject", subject.canonical())
        return self._vault.commitment(key, subject.canonical()), wrapped, ciphertext

    def create_request(  # noqa: PLR0913 - a request has that many facts
        self,
        *,
        request_id: str,
        regime: str,
        scope: str,
        door: str,
        received_at: datetime,
        acknowledge_by: date | None,
        respond_by: date,
        subject: Subject,
        status_digest: str,
        include_by: datetime,
        agent: str | None = None,
        country: str = "",
        subdivision: str = "",
        test: bool = False,
    ) -> RequestView:
        """Record a request in state `received`, its subject encrypted under a fresh key.

        `include_by` is the promise the receipt makes: in the log by then. What the receipt says is kept,
        so that it reads the same whenever it is asked for again.
        """
        commitment, wrapped, ciphertext = self.prepare_subject(request_id=request_id, subject=subject)
        row = tables.Request(
            id=request_id,
            state=RequestState.RECEIVED,
            regime=regime,
            scope=scope,
            door=door,
            agent=agent,
            country=country,
            subdivision=subdivision,
            test=test,
            received_at=received_at,
            acknowledge_by=acknowledge_by,
            respond_by=respond_by,
            extended=False,
            commitment=commitment,
            status_digest=status_digest,
            receipt={
                "respondBy": respond_by.isoformat(),
                "includeBy": rfc3339(include_by),
                "checkpoint": self.head().checkpoint,
            },
        )
        self._session.add(row)
        self._session.flush()
        self._session.add(tables.RequestKey(request_id=request_id, wrapped=wrapped))
        self._session.add(tables.PersonalData(request_id=request_id, purpose="subject", ciphertext=ciphertext))
        data = {
            "requestId": request_id,
            "commitment": commitment,
            "regime": regime,
            "scope": scope,
            "door": door,
            "respondBy": respond_by.isoformat(),
            "test": test,
        }
        self._append(EntryKind.REQUEST_RECEIVED, data, received_at)
        return _request(row)

    def request(self, request_id: str) -> RequestView:
        """One request; NotFoundError."""
        return _request(self._get(tables.Request, request_id, "request"))

    def request_by_status(self, status_digest: str) -> RequestView:
        """The request whose status token has this digest; NotFoundError."""
        row = self._session.scalar(select(tables.Request).where(tables.Request.status_digest == status_digest))
        if row is None:
            message = "there is no such request; check the link in your receipt"
            raise NotFoundError(message, code="no-such-request")
        return _request(row)

    def requests(
        self,
        *,
        state: RequestState | None = None,
        agent: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[RequestView]:
        """Requests in order of arrival, after the request `after`."""
        query = select(tables.Request).order_by(tables.Request.received_at, tables.Request.id).limit(limit)
        if state is not None:
            query = query.where(tables.Request.state == state)
        if agent is not None:
            query = query.where(tables.Request.agent == agent)
        if after is not None:
            last = self._get(tables.Request, after, "request")
            later = (tables.Request.received_at > last.received_at) | (
                (tables.Request.received_at == last.received_at) & (tables.Request.id > last.id)
            )
            query = query.where(later)
        return [_request(row) for row in self._session.scalars(query)]

    def open_subject(self, request_id: str) -> Subject:
        """Decrypt who filed the request; NotFoundError once it has been erased."""
        return Subject.parse(self.open_secret(request_id=request_id, purpose="subject"))

    def open_commitment(self, request_id: str) -> str:
        """The opening of the request's commitment (`audits.opening`): for the person alone, and never logged.

        NotFoundError once the request has been erased.
        """
        key, subject = self._request_key(request_id), self.open_subject(request_id)
        return opening.build(request_id=request_id, key=key, identifiers=json.loads(subject.canonical()))

    def keep_secret(self, *, request_id: str, purpose: str, plaintext: bytes) -> None:
        """Encrypt something under the request's key, replacing what had the same purpose."""
        ciphertext = self._vault.seal(self._request_key(request_id), f"{request_id}/{purpose}", plaintext)
        self._session.merge(tables.PersonalData(request_id=request_id, purpose=purpose, ciphertext=ciphertext))

    def open_secret(self, *, request_id: str, purpose: str) -> bytes:
        """Decrypt what `keep_secret` kept; NotFoundError once it has been erased."""
        row = self._get(tables.PersonalData, (request_id, purpose), "personal data")
        return self._vault.open(self._request_key(request_id), f"{request_id}/{purpose}", row.ciphertext)

    def drop_secret(self, *, request_id: str, purpose: str) -> None:
        """Forget what `keep_secret` kept."""
        match = (tables.PersonalData.request_id == request_id) & (tables.PersonalData.purpose == purpose)
        self._session.execute(delete(tables.PersonalData).where(match))

    def _request_key(self, request_id: str) -> bytes:
        row = self._get(tables.RequestKey, request_id, "request key")
        return self._vault.unwrap(request_id, row.wrapped)

    def erase_personal_data(self, *, request_id: str, now: datetime) -> None:
        """Destroy the request's key and everything under it, and log that it happened; NotFoundError when it has."""
        self._get(tables.RequestKey, request_id, "request key")
        self._session.execute(delete(tables.PersonalData).where(tables.PersonalData.request_id == request_id))
        self._session.execute(delete(tables.IdentityCode).where(tables.IdentityCode.request_id == request_id))
        self._session.execute(delete(tables.RequestKey).where(tables.RequestKey.request_id == request_id))
        self._append(EntryKind.REQUEST_ERASED, {"requestId": request_id}, now)

    def closed_with_data(self, *, before: datetime) -> list[str]:
        """Requests closed before this time whose personal data still exist and have nothing left to tell."""
        open_notice = select(tables.Notice.id).where(
            tables.Notice.request_id == tables.Request.id, tables.Notice.sent_at.is_(None)
        )
        query = (
            select(tables.Request.id)
            .join(tables.RequestKey, tables.RequestKey.request_id == tables.Request.id)
            .where(tables.Request.closed_at <= before, ~open_notice.exists())
        )
        return list(self._session.scalars(query))

    def issue_code(self, *, request_id: str, digest: str, expires_at: datetime, attempts: int, now: datetime) -> None:
        """Set a new identity code; the first one moves the request to `identity_pending`."""
        before = self._session.get(tables.IdentityCode, request_id)
        issued = 1 if before is None else before.issued + 1
        code = tables.IdentityCode(
            request_id=request_id, digest=digest, expires_at=expires_at, attempts_left=attempts, issued=issued
        )
        self._session.merge(code)
        row = self._get(tables.Request, request_id, "request")
        if row.state == RequestState.RECEIVED:
            self._move(row, RequestState.IDENTITY_PENDING, now)

    def take_attempt(self, *, request_id: str) -> CodeAttempt | None:
        """Spend one attempt at the code atomically; None when there is no code or none is left.

        The caller commits this before it compares: a wrong guess must stay spent.
        """
        code = tables.IdentityCode
        spend = (
            update(code)
            .where(code.request_id == request_id, code.attempts_left > 0)
            .values(attempts_left=code.attempts_left - 1)
            .returning(code.digest, code.expires_at, code.attempts_left, code.issued)
        )
        row = self._session.execute(spend).one_or_none()
        if row is None:
            return None
        return CodeAttempt(
            digest=row.digest, expires_at=row.expires_at, attempts_left=row.attempts_left, issued=row.issued
        )

    def codes_issued(self, request_id: str) -> int:
        """How many codes were ever issued for the request."""
        row = self._session.get(tables.IdentityCode, request_id)
        return 0 if row is None else row.issued

    def confirm_identity(self, *, request_id: str, now: datetime) -> RequestView:
        """The person proved the address; the code is used up."""
        row = self._get(tables.Request, request_id, "request")
        self._move(row, RequestState.VERIFIED, now)
        self._session.execute(delete(tables.IdentityCode).where(tables.IdentityCode.request_id == request_id))
        return _request(row)

    def record_matches(
        self,
        *,
        request_id: str,
        matches: Sequence[MatchView],
        items: Sequence[tuple[str, str, str]],
        now: datetime,
    ) -> RequestView:
        """Record which training records a verified request concerns; none makes it `no_match`.

        `items` are (item id, model id, data set id).
        """
        row = self._get(tables.Request, request_id, "request")
        for match in matches:
            self._session.add(
                tables.Match(
                    request_id=request_id,
                    dataset_id=match.dataset_id,
                    record_id=match.record_id,
                    reason=match.reason,
                )
            )
        for item_id, model_id, dataset_id in items:
            self._session.add(
                tables.Item(
                    id=item_id,
                    request_id=request_id,
                    model_id=model_id,
                    dataset_id=dataset_id,
                    state=ItemState.PROPOSED,
                )
            )
        records = len({(m.dataset_id, m.record_id) for m in matches})
        state = RequestState.MATCHED if items else RequestState.NO_MATCH
        self._move(row, state, now, records=records, items=len(items))
        return _request(row)

    def approve_request(
        self, *, request_id: str, actor: str, now: datetime, approval: Mapping[str, str] | None = None
    ) -> RequestView:
        """Agree; every proposed item becomes part of the next batch.

        `approval` is what an approver signed (`audits.approval`), logged before the new state. ForbiddenError
        without one while an approver's key is in force. ConflictError for a request that is on hold: a signed approval
        is public once it was used, and sent again by anybody it must not undo what an operator set aside.
        """
        row = self._get(tables.Request, request_id, "request")
        if row.resume_state is not None:
            message = "this request is on hold; release it first"
            raise ConflictError(message, code="on-hold")
        check_request(RequestState(row.state), RequestState.APPROVED)
        self._record_approval(row, approval, now)
        self._move(row, RequestState.APPROVED, now, actor=actor)
        for item in self._items(request_id):
            if item.state == ItemState.PROPOSED:
                self._move_item(item, ItemState.APPROVED, now)
        return _request(row)

    def deny_request(self, *, request_id: str, actor: str, code: str, now: datetime) -> RequestView:
        """An operator refuses with a coded reason; items not yet queued end with it."""
        row = self._get(tables.Request, request_id, "request")
        self._end_items(request_id, ItemState.DENIED, now, code)
        row.denial_code = code
        self._move(row, RequestState.DENIED, now, actor=actor, code=code)
        return _request(row)

    def withdraw_request(self, *, request_id: str, now: datetime) -> RequestView:
        """The person takes it back; ConflictError once an item is in a batch."""
        row = self._get(tables.Request, request_id, "request")
        self._end_items(request_id, ItemState.WITHDRAWN, now, None)
        self._move(row, RequestState.WITHDRAWN, now)
        return _request(row)

    def extend_request(self, *, request_id: str, actor: str, code: str, respond_by: date, now: datetime) -> RequestView:
        """Move the due date once, with a coded reason; ConflictError when extended or ended."""
        row = self._get(tables.Request, request_id, "request")
        if row.extended or RequestState(row.state) in FINAL:
            message = "a request can be extended once, and only while it is open"
            raise ConflictError(message, code="cannot-extend")
        row.extended, row.respond_by = True, respond_by
        data = {"requestId": request_id, "actor": actor, "code": code, "respondBy": respond_by.isoformat()}
        self._append(EntryKind.REQUEST_EXTENDED, data, now)
        return _request(row)

    def expire_request(self, *, request_id: str, now: datetime) -> RequestView:
        """Nobody proved the address in time."""
        row = self._get(tables.Request, request_id, "request")
        self._move(row, RequestState.EXPIRED, now)
        return _request(row)

    def hold_request(self, *, request_id: str, actor: str, code: str, now: datetime) -> RequestView:
        """Put a request on hold; `release_request` returns it to where it was. The clock goes on."""
        row = self._get(tables.Request, request_id, "request")
        self._refuse_if_in_batch(request_id)
        row.resume_state = row.state
        self._move(row, RequestState.ON_HOLD, now, actor=actor, code=code)
        return _request(row)

    def release_request(self, *, request_id: str, actor: str, now: datetime) -> RequestView:
        """Undo `hold_request`."""
        row = self._get(tables.Request, request_id, "request")
        if row.resume_state is None:
            message = "this request is not on hold"
            raise ConflictError(message, code="not-on-hold")
        self._move(row, RequestState(row.resume_state), now, actor=actor)
        row.resume_state = None
        return _request(row)

    def items(self, request_id: str) -> tuple[ItemView, ...]:
        """The request's items."""
        query = (
            select(tables.Item, tables.Model.name)
            .join(tables.Model, tables.Model.id == tables.Item.model_id)
            .where(tables.Item.request_id == request_id)
            .order_by(tables.Item.id)
        )
        return tuple(_item(row, name) for row, name in self._session.execute(query))

    def history(self, request_id: str) -> tuple[HistoryView, ...]:
        """What the log says about a request, oldest first."""
        query = select(tables.LogEntry).where(tables.LogEntry.request_id == request_id).order_by(tables.LogEntry.seq)
        return tuple(_history(row) for row in self._session.scalars(query))

    def matches(self, request_id: str) -> tuple[MatchView, ...]:
        """The records the request concerns, each with its reasons."""
        query = (
            select(tables.Match)
            .where(tables.Match.request_id == request_id)
            .order_by(tables.Match.dataset_id, tables.Match.record_id, tables.Match.reason)
        )
        return tuple(
            MatchView(dataset_id=m.dataset_id, record_id=m.record_id, reason=m.reason)
            for m in self._session.scalars(query)
        )

    def enqueue_notice(self, *, notice_id: str, request_id: str, kind: str, now: datetime) -> None:
        """Put something to be told into the outbox."""
        self._session.add(tables.Notice(id=notice_id, request_id=request_id, kind=kind, created_at=now))

    def pending_notices(self, *, limit: int = 100) -> list[NoticeView]:
        """What has not been told yet, oldest first."""
        query = (
            select(tables.Notice)
            .where(tables.Notice.sent_at.is_(None))
            .order_by(tables.Notice.created_at, tables.Notice.id)
            .limit(limit)
        )
        rows = self._session.scalars(query)
        return [NoticeView(id=row.id, request_id=row.request_id, kind=row.kind) for row in rows]

    def notice_sent(self, *, notice_id: str, now: datetime) -> None:
        """It has been told."""
        self._get(tables.Notice, notice_id, "notice").sent_at = now

    def _items(self, request_id: str) -> list[tables.Item]:
        return list(self._session.scalars(select(tables.Item).where(tables.Item.request_id == request_id)))

    def _refuse_if_in_batch(self, request_id: str) -> None:
        if any(item.batch_id is not None for item in self._items(request_id)):
            message = "an item of this request is already in a batch; wait until that has ended"
            raise ConflictError(message, code="in-batch")

    def _end_items(self, request_id: str, state: ItemState, now: datetime, code: str | None) -> None:
        self._refuse_if_in_batch(request_id)
        for item in self._items(request_id):
            item.denial_code = code
            self._move_item(item, state, now)

    def _move(self, row: tables.Request, state: RequestState, now: datetime, **data: str | int) -> None:
        check_request(RequestState(row.state), state)
        row.state = state
        if state in FINAL:
            row.closed_at = now
        self._append(EntryKind.REQUEST_STATE, {"requestId": row.id, "state": state.value, **data}, now)

    def _move_item(self, item: tables.Item, state: ItemState, now: datetime) -> None:
        check_item(ItemState(item.state), state)
        item.state = state
        data = {"itemId": item.id, "requestId": item.request_id, "state": state.value}
        if item.batch_id is not None:
            data["batchId"] = item.batch_id
        if item.denial_code is not None:
            data["code"] = item.denial_code
        self._append(EntryKind.ITEM_STATE, data, now)

    def fulfil_forgotten(self, *, item_id: str, now: datetime) -> RequestState:
        """End an approved item whose records an earlier batch has already forgotten; the request's state then."""
        item = self._get(tables.Item, item_id, "item")
        self._move_item(item, ItemState.FULFILLED, now)
        self._settle(item.request_id, now)
        return self.request(item.request_id).state

    def _settle(self, request_id: str, now: datetime) -> None:
        """Derive the state of an approved request from its items, once they have all ended."""
        row = self._get(tables.Request, request_id, "request")
        self._session.flush()
        state = derived_state(ItemState(item.state) for item in self._items(request_id))
        if state is not RequestState.APPROVED and row.state == RequestState.APPROVED:
            self._move(row, state, now)


def _request(row: tables.Request) -> RequestView:
    return RequestView(
        id=row.id,
        state=RequestState(row.state),
        regime=row.regime,
        scope=row.scope,
        door=row.door,
        agent=row.agent,
        country=row.country,
        subdivision=row.subdivision,
        test=row.test,
        received_at=row.received_at,
        acknowledge_by=row.acknowledge_by,
        respond_by=row.respond_by,
        extended=row.extended,
        closed_at=row.closed_at,
        denial_code=row.denial_code,
        commitment=row.commitment,
        receipt=row.receipt,
    )


def _history(row: tables.LogEntry) -> HistoryView:
    data = json.loads(row.payload)["data"]
    return HistoryView(index=row.seq, at=row.recorded_at, kind=row.kind, state=data.get("state"), code=data.get("code"))


def _item(row: tables.Item, model_name: str) -> ItemView:
    return ItemView(
        id=row.id,
        request_id=row.request_id,
        model_id=row.model_id,
        model_name=model_name,
        dataset_id=row.dataset_id,
        state=ItemState(row.state),
        batch_id=row.batch_id,
        denial_code=row.denial_code,
    )
