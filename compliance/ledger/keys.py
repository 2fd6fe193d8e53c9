"""Keys and the approvals signed with them: registered, revoked, and asked for where they must be in force.

A key is registered once and revoked at most once; both are log entries, so that an auditor judges a signature by its
place in the log (`audits.register`). Only public keys are here. While an approver's key is in force, no request is
approved without a signature by one: the operator's token alone does not do (four eyes).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select

from audits import approval as approvals
from audits import log, register
from audits.errors import VerificationError
from audits.keys import Role
from compliance.errors import ConflictError, ForbiddenError, InvalidInputError, UnavailableError
from compliance.ledger import tables
from compliance.ledger.core import LedgerCore
from compliance.ledger.entries import EntryKind
from compliance.ledger.views import ReportView, ServiceKeyView


class Keys(LedgerCore):
    """Which public keys the log knows, and what their owners signed."""

    def register_key(self, *, key_id: str, role: str, public_key: bytes, data: dict[str, Any], now: datetime) -> int:
        """Log and remember a public key; one that is in force keeps its first entry.

        ConflictError for a revoked key, which never comes back, and for a key of another role.
        """
        known = self._session.get(tables.ServiceKey, key_id)
        if known is None:
            index = self._append(EntryKind.KEY_REGISTERED, data, now)
            row = tables.ServiceKey(key_id=key_id, role=role, public_key=public_key, log_index=index)
            row.algorithm = data.get("algorithm", "ed25519")
            self._session.add(row)
            self._session.flush()
            return index
        if known.role != role:
            message = f"this key is registered as a {known.role} key already; make another one for the role {role}"
            raise ConflictError(message, code="key-of-another-role")
        if known.revoked_index is not None:
            message = f"the {role} key was revoked by log entry {known.revoked_index} and stays so; make a new one"
            raise ConflictError(message, code="key-revoked")
        return known.log_index

    def revoke_key(self, *, key_id: str, reason: register.Reason, now: datetime) -> int:
        """Log that a key is given up from here on; the entry's index. ConflictError when it was before."""
        row = self._get(tables.ServiceKey, key_id, "key")
        if row.revoked_index is not None:
            message = f"this key was revoked already, by log entry {row.revoked_index}"
            raise ConflictError(message, code="key-revoked")
        role: Any = row.role
        data = register.revocation(key_id=key_id, role=role, reason=reason)
        row.revoked_index, row.revoked_reason = self._append(EntryKind.KEY_REVOKED, dict(data), now), reason
        self._session.flush()
        return row.revoked_index

    def service_key(self, key_id: str) -> ServiceKeyView:
        """One registered key, in force or not; NotFoundError."""
        return _key(self._get(tables.ServiceKey, key_id, "key"))

    def service_keys(self) -> list[ServiceKeyView]:
        """Every key that was ever registered, in the order of the log."""
        return [_key(row) for row in self._session.scalars(select(tables.ServiceKey).order_by(_INDEX))]

    def keys_in_force(self, role: Role) -> list[ServiceKeyView]:
        """The keys of a role that were registered and not revoked, in the order of the log."""
        key = tables.ServiceKey
        query = select(key).where(key.role == role, key.revoked_index.is_(None)).order_by(_INDEX)
        return [_key(row) for row in self._session.scalars(query)]

    def key_in_force(self, key_id: str) -> ServiceKeyView:
        """The key, when what it signs now will be believed; UnavailableError, before anything is signed in vain."""
        row = self._session.get(tables.ServiceKey, key_id)
        if row is None:
            message = "a signing key of this desk is not registered in its log; run 'expunge db upgrade'"
            raise UnavailableError(message, code="key-unregistered")
        if row.revoked_index is not None:
            message = f"the {row.role} key was revoked by log entry {row.revoked_index}; run 'expunge keys rotate'"
            raise UnavailableError(message, code="key-revoked")
        return _key(row)

    def report_key(self, report: ReportView) -> ServiceKeyView:
        """The key that a report's own log entry names, whatever became of it since."""
        (raw,) = self.entries(report.log_index, report.log_index + 1)
        return self.service_key(log.parse_entry(raw).data["keyId"])

    def _record_approval(self, request: tables.Request, approval: Mapping[str, Any] | None, now: datetime) -> None:
        """Append an approver's signed word for a request; without one, only a desk without approvers goes on."""
        known = {key.key_id: key for key in self.keys_in_force("approver")}
        if approval is None:
            if known:
                message = "approvals are signed here: approve with an approver's key ('--key FILE')"
                raise ForbiddenError(message, code="approval-unsigned")
            return
        key = known.get(str(approval.get("keyId")))
        if key is None:
            message = "the approval is not by an approver's key in force; register the key, or sign with another one"
            raise ForbiddenError(message, code="unknown-approver")
        try:
            approvals.verify(approval, key.public_key, request_id=request.id, commitment=request.commitment)
        except VerificationError as fault:
            words = str(fault).rstrip(".")
            message = f"{words[:1].lower()}{words[1:]}; sign this request's own statement again"
            raise InvalidInputError(message, code="bad-approval") from fault
        self._append(EntryKind.REQUEST_APPROVED, dict(approval), now)


_INDEX = tables.ServiceKey.log_index


def _key(row: tables.ServiceKey) -> ServiceKeyView:
    return ServiceKeyView(
        key_id=row.key_id,
        role=row.role,
        algorithm=row.algorithm,
        public_key=row.public_key,
        log_index=row.log_index,
        revoked_index=row.revoked_index,
        revoked_reason=row.revoked_reason,
    )
